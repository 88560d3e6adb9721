"""Every network against its golden facts, and against the key lists of the official checkpoints."""

from pathlib import Path

import pytest
import torch

from cnnport import registry
from cnnport.count import count
from cnnport.errors import ModelError, UnknownNameError
from cnnport.registry import ModelSpec

KEY_LISTS = Path(__file__).parent / "data" / "state_dicts"


def keys_of(spec: ModelSpec) -> list[str]:
    with torch.device("meta"):
        module = spec.build()
    shapes = {key: "x".join(map(str, value.shape)) or "scalar" for key, value in module.state_dict().items()}
    return [f"{key} {shape}" for key, shape in shapes.items()]


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_counts_equal_the_catalogue(spec: ModelSpec) -> None:
    with torch.device("meta"):
        module = spec.build()
    counts = count(module, spec.input_shape)
    assert (counts.params, counts.macs) == (spec.params, spec.macs)
    assert counts.output_shape == (1, spec.classes)
    assert (spec.preprocess.channels, *spec.preprocess.size) == spec.input_shape
    assert spec.labels is None or len(registry.labels(spec.labels)) == spec.classes


@pytest.mark.parametrize("path", sorted(KEY_LISTS.glob("*.txt")), ids=lambda path: path.stem)
def test_state_dict_equals_the_official_key_list(path: Path) -> None:
    assert keys_of(registry.get(path.stem)) == path.read_text().splitlines()


def test_every_torchvision_checkpoint_has_a_key_list() -> None:
    published = {
        spec.name for spec in registry.specs() if spec.weights and "pytorch.org" in spec.weights.location
    }
    assert published == {path.stem for path in KEY_LISTS.glob("*.txt")}


def test_a_wrong_definition_is_noticed() -> None:
    """The checks above can fail: one stride moved changes the MACs, one bias changes the parameters."""
    spec = registry.get("resnet18")
    with torch.device("meta"):
        strided, biased = spec.build(), spec.build()
    strided.layer2[0].conv1.stride = (1, 1)
    strided.layer2[0].conv2.stride = (2, 2)
    assert count(strided, spec.input_shape).macs != spec.macs
    biased.conv1.bias = torch.nn.Parameter(torch.empty(64, device="meta"))
    assert count(biased, spec.input_shape).params != spec.params


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_other_classes_and_channels(spec: ModelSpec) -> None:
    with torch.device("meta"):
        module = spec.build(num_classes=7, in_channels=2)
    assert count(module, (2, *spec.input_shape[1:])).output_shape == (1, 7)


def test_no_classes_or_channels_are_refused() -> None:
    for wrong in ({"num_classes": 0}, {"in_channels": 0}, {"num_classes": -3}):
        with pytest.raises(ModelError, match="at least 1"):
            registry.get("resnet18").build(**wrong)


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_gradients_reach_every_parameter(spec: ModelSpec) -> None:
    side = 32
    module = spec.build(num_classes=3)
    module(torch.rand(2, spec.input_shape[0], side, side)).square().sum().backward()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not without


def test_channel_shuffle_interleaves() -> None:
    from cnnport.layers import channel_shuffle

    features = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(features, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert channel_shuffle(features, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="resnet50"):
        registry.get("resnet-50")
    with pytest.raises(UnknownNameError, match="shufflenet_v2_x2_0"):
        registry.get("shufflenet_v2_x")
    with pytest.raises(UnknownNameError, match="see cnnport list"):
        registry.get("qqqq")


def test_the_documented_alias() -> None:
    assert registry.get("shufflenet_v2") is registry.get("shufflenet_v2_x1_0")


def test_registering_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(registry, "_registered", {})
    spec = replace(
        registry.get("resnet18"), name="mine", aliases=("my_net",), builder=registry.get("resnet18").build
    )
    registry.register(spec)
    assert registry.get("my_net") is spec
    assert "mine" in registry.names()
    with pytest.raises(ModelError, match="already registered"):
        registry.register(replace(spec, name="other", aliases=("resnet18",)))
    assert "other" not in registry.names()

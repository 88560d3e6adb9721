"""Every network against its golden facts, and against the key lists of the official checkpoints."""

from pathlib import Path

import pytest
import torch

from cnnport import registry
from cnnport.count import count
from cnnport.errors import ModelError, UnknownNameError
from cnnport.registry import ModelSpec

# These give distances between pictures, of which there are as many as there are.
DISTANCES = ("siamese_lenet", "triplet_cifar10", "triplet_mnist")

KEY_LISTS = Path(__file__).parent / "data" / "state_dicts"


def on_meta(spec: ModelSpec, **arguments: int) -> torch.nn.Module:
    with torch.device("meta"):
        return spec.build(**arguments)


def shapes_of(spec: ModelSpec) -> list[tuple[int, ...]]:
    return [spec.input_shape] * len(spec.input_names)


def keys_of(spec: ModelSpec) -> list[str]:
    state = on_meta(spec).state_dict()
    return [f"{key} {'x'.join(map(str, value.shape)) or 'scalar'}" for key, value in state.items()]


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_counts_equal_the_catalogue(spec: ModelSpec) -> None:
    counts = count(on_meta(spec), shapes_of(spec))
    assert (counts.params, counts.macs) == (spec.params, spec.macs)
    assert counts.output_shape == (1, *spec.output_shape)
    if spec.preprocess is not None:
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
    strided, biased = on_meta(spec), on_meta(spec)
    strided.layer2[0].conv1.stride = (1, 1)
    strided.layer2[0].conv2.stride = (2, 2)
    assert count(strided, shapes_of(spec)).macs != spec.macs
    biased.conv1.bias = torch.nn.Parameter(torch.empty(64, device="meta"))
    assert count(biased, shapes_of(spec)).params != spec.params


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_other_classes_and_channels(spec: ModelSpec) -> None:
    """What is asked for is what is built: the classes show in the output, the channels are taken."""
    classes = 7
    if spec.name in DISTANCES:
        with pytest.raises(ModelError, match="distance"):
            on_meta(spec, num_classes=7)
        classes = spec.classes
    module = on_meta(spec, num_classes=classes, in_channels=2)
    shapes = [(2, *spec.input_shape[1:])] * len(spec.input_names)
    assert count(module, shapes).output_shape == (1, classes, *spec.output_shape[1:])


def test_no_classes_or_channels_are_refused() -> None:
    for wrong in ({"num_classes": 0}, {"in_channels": 0}, {"num_classes": -3}):
        with pytest.raises(ModelError, match="at least 1"):
            registry.get("resnet18").build(**wrong)


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_gradients_reach_every_parameter(spec: ModelSpec) -> None:
    module = on_meta(spec).train()
    inputs = [torch.empty(2, *shape, device="meta") for shape in shapes_of(spec)]
    outputs = module(*inputs)
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(part.sum() for part in parts).backward()
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

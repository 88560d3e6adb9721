"""Fully convolutional forms: what they compute is the network in every window, and what has none is told why."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnport import dense, registry
from cnnport.checkpoint import load_state
from cnnport.classify import classify
from cnnport.cli import main
from cnnport.dense import dense_form
from cnnport.errors import CheckFailedError, ModelError, WeightsError
from cnnport.exporting import export
from cnnport.golden import seeded_input
from cnnport.layers import dense_classifier, linear_classifier
from cnnport.measuring.case import make_cases
from cnnport.metadata import at_native_size, labels_of, origin_of
from cnnport.models.convnext import ConvNeXt
from cnnport.onnxfile import load_model, read_artifact
from cnnport.random_weights import randomize
from cnnport.registry import ModelSpec
from cnnport.runtimes import Options, get_runtime
from cnnport.verifying import verify

# Every network of the zoo that has no such form, by the reason that it is given.
WITHOUT = {
    "its output is a map already": (
        *("alexnet_dense", "vgg16_dense", "fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16", "fcn_resnet50"),
        *("fcn_resnet101", "hdc_demo", "resnet101_hdc", "recurrent_conv_demo"),
    ),
    # Spatial pyramids join several grids: spp takes any size without.
    "it joins values of .* positions": ("spp_zf5", "prelu_net_a", "prelu_net_b", "prelu_net_c"),
    "it takes several images at once": ("siamese_koch", "siamese_lenet", "triplet_cifar10", "triplet_mnist"),
    # Capsules.
    "its maps end in unflatten": ("capsnet_mnist", "capsnet_mnist_norecon", "capsnet_cifar10"),
    # Kernels for each position, and kernels in turn.
    "it does not take larger images": ("local_cifar11", "lenet5_local", "lenet5_tiled2"),
    r"\(RadialBasis\), which has no counterpart": ("lenet5_1998",),
}
REASONS = {name: reason for reason, names in WITHOUT.items() for name in names}


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_every_network_has_one_or_a_reason(spec: ModelSpec) -> None:
    with torch.device("meta"):
        module = spec.build().eval()
    if spec.name in REASONS:
        with pytest.raises(ModelError, match=REASONS[spec.name]) as caught:
            dense_form(module, spec.input_shape)
        assert str(caught.value).count("\n") == 0
        return
    form = dense_form(module, spec.input_shape)
    channels, height, width = spec.input_shape
    with torch.no_grad():
        native = form(torch.empty(2, channels, height, width, device="meta"))
        # Not every size fits every network: in inception_v2 branches of 264 pixels do not meet again.
        larger = form(torch.empty(2, channels, height + 37, width + 69, device="meta"))
    assert list(native) == ["logits", "map"]
    assert native["logits"].shape == larger["logits"].shape == (2, spec.classes)
    assert native["map"].shape == (2, spec.classes, 1, 1)
    rows, columns = larger["map"].shape[2:]
    assert 1 < rows < columns


def network(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    spec = registry.get(name)
    module = spec.build()
    randomize(module, 0, spec.input_shape)
    return module.eval(), spec.input_shape


def images(shape: tuple[int, int, int], more: tuple[int, int]) -> Tensor:
    channels, height, width = shape
    return torch.randn(
        2, channels, height + more[0], width + more[1], generator=torch.Generator().manual_seed(1)
    )


def assert_windows(
    form: nn.Module,
    larger: Tensor,
    head: Callable[[Tensor], Tensor],
    maps: Tensor,
    side: tuple[int, int],
    step: int,
) -> None:
    """``form`` gives for ``larger`` what ``head`` gives for every window of ``maps``, and their average."""
    with torch.no_grad():
        result = form(larger)
        rows, columns = (range(0, maps.shape[2 + axis] - side[axis] + 1, step) for axis in (0, 1))
        windows = [
            maps[..., row : row + side[0], column : column + side[1]] for row in rows for column in columns
        ]
        expected = torch.stack([head(window) for window in windows], 2).unflatten(
            2, (len(rows), len(columns))
        )
    assert min(expected.shape[2:]) > 1
    torch.testing.assert_close(result["map"], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result["logits"], expected.mean((2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "step"), [("lenet5_caffe", 4), ("lenet5", 4), ("highway_mlp_10", 1)])
def test_without_padding_windows_are_those_of_the_image(name: str, step: int) -> None:
    module, shape = network(name)
    larger = images(shape, (8, 12) if step > 1 else (1, 2))
    assert_windows(dense_form(module, shape), larger, module, larger, shape[1:], step)


@pytest.mark.parametrize("name", ["hfs_branch_cifar10", "twn_lenet5", "maxout_cifar10", "nin_cifar10"])
def test_with_padding_windows_are_those_of_the_last_maps(name: str) -> None:
    module, shape = network(name)
    end = next(i for i, layer in enumerate(module) if isinstance(layer, nn.Flatten | nn.AdaptiveAvgPool2d))
    larger = images(shape, (8, 13))
    with torch.no_grad():
        side = module[:end](images(shape, (0, 0))).shape[2:]
        maps = module[:end](larger)
    assert_windows(dense_form(module, shape), larger, module[end:], maps, tuple(side), 1)


def test_pooling_in_a_forward() -> None:
    module, shape = network("resnet20_cifar10")
    form = dense_form(module, shape)
    larger, seen = images(shape, (9, 14)), []
    module.avgpool.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        module(larger)
    assert_windows(form, larger, lambda maps: module.fc(maps.mean((2, 3))), seen[0], (8, 8), 1)


def test_a_norm_of_each_position() -> None:
    module, shape = ConvNeXt(8, (1, 1, 1, 1), 0.0, num_classes=4, in_channels=3).eval(), (3, 64, 64)
    randomize(module, 0, shape)
    larger = images(shape, (32, 64))
    with torch.no_grad():
        maps = module.features(larger)
    head = lambda window: module.classifier(window.mean((2, 3)))  # noqa: E731
    assert_windows(dense_form(module, shape), larger, head, maps, (2, 2), 1)


class Gated(nn.Module):
    """An average over all maps that is not their end: it weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * 6 * 6, 3)

    def weighted(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return maps * torch.sigmoid(self.pool(maps))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.weighted(images), 1))


def test_a_gate_is_not_the_end_of_the_maps() -> None:
    module = Gated().eval()
    larger = images((1, 8, 8), (2, 3))
    with torch.no_grad():
        maps = module.weighted(larger)
    assert_windows(
        dense_form(module, (1, 8, 8)), larger, lambda window: module.fc(window.flatten(1)), maps, (6, 6), 1
    )


class Pair(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.fc(images.flatten(1))
        return scores, scores


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Pair(), "several outputs"),
        (nn.Sequential(nn.Flatten()), "no linear layer behind"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 2)), r"layer 1 \(BatchNorm1d\)"),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9, 2)),
            r"layer 0 \(AdaptiveAvgPool2d\) pools",
        ),
        (nn.Sequential(nn.Flatten(2), nn.Linear(64, 2)), r"layer 0 \(Flatten\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(63, 2)), "cannot run on 1x8x8"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Unflatten(1, (3, 3))), r"layer 2 \(Unflatten\)"),
    ],
)
def test_what_has_no_form(module: nn.Module, reason: str) -> None:
    with pytest.raises(ModelError, match=f"no fully convolutional form: .*{reason}"):
        dense_form(module.eval(), (1, 8, 8))


def test_exported(tmp_path: Path, digit_scans: list[Path]) -> None:
    path = tmp_path / "dense.onnx"
    artifact = export("lenet5", path, weights="default", dense=True).artifact
    assert [str(spec) for spec in artifact.inputs] == ["input:float32[batch,1,height,width]"]
    assert [str(spec) for spec in artifact.outputs] == [
        "logits:float32[batch,10]",
        "map:float32[batch,10,map_height,map_width]",
    ]
    assert {"Shape", "Gather", "Reshape"}.isdisjoint(node.op_type for node in load_model(path).graph.node)
    assert at_native_size(artifact).inputs[0].shape == ("batch", 1, 32, 32)
    assert labels_of(artifact) == tuple("0123456789")
    origin = origin_of(artifact)
    assert origin is not None
    assert origin.dense
    assert all(check.ok for check in verify(path))
    assert [case.misfit() for case in make_cases([artifact], ["ort-cpu", "torch-cpu"])] == [None, None]
    feeds = seeded_input(artifact.with_sizes({"height": 45, "width": 52}).inputs, 2, 5)
    with (
        get_runtime("torch-cpu").open(artifact, Options()) as torch_session,
        get_runtime("ort-cpu").open(artifact, Options()) as session,
    ):
        expected, answer = torch_session.run(feeds), session.run(feeds)
    assert answer["map"].shape == (2, 10, 4, 6)
    for name, values in expected.items():
        np.testing.assert_allclose(answer[name], values, atol=1e-4)
    assert [each.top[0].label for each in classify(artifact, digit_scans[:3])] == ["0", "1", "2"]
    again = export("lenet5", tmp_path / "again.onnx", weights="default", dense=True).artifact
    assert again.sha256 == artifact.sha256


def test_on_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    options = ["--weights", "random", "--dense", "--image-size", "36x32", "-o", str(path), "--json"]
    assert main(["export", "lenet5_caffe", *options]) == 0
    assert json.loads(capfd.readouterr().out)["dense"] is True
    # The one size is the image's; the window's stays the network's own.
    artifact = read_artifact(path)
    assert artifact.inputs[0].shape == ("batch", 1, 36, 32)
    assert [spec.shape for spec in artifact.outputs] == [("batch", 10), ("batch", 10, 3, 2)]
    assert all(check.ok for check in verify(path))
    for name, reason in (("hdc_demo", "any size as it is"), ("siamese_lenet", "several images")):
        assert main(["export", name, *options[:3], "-o", str(tmp_path / "none.onnx")]) == 2
        assert reason in capfd.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


def test_a_network_of_ones_own_is_told_its_native_size(tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))\n"
    )
    done = export(f"{tmp_path}/own_net.py:net", tmp_path / "m.onnx", image_size=(16, 16), dense=True)
    assert [spec.name for spec in done.artifact.outputs] == ["output", "map"]
    assert done.artifact.inputs[0].shape == ("batch", 3, "height", "width")


def test_a_kernel_of_another_order_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dense._convolution

    def permuted(layer: nn.Linear, side: tuple[int, int]) -> nn.Conv2d:
        conv = real(layer, side)
        conv.weight = nn.Parameter(conv.weight.transpose(2, 3), requires_grad=False)
        return conv

    monkeypatch.setattr(dense, "_convolution", permuted)
    with pytest.raises(CheckFailedError, match="its fully convolutional form does not compute"):
        export("lenet5_caffe", tmp_path / "m.onnx", weights="random", dense=True)
    assert list(tmp_path.iterdir()) == []


def test_linear_checkpoints_load_into_dense_networks() -> None:
    linear, form = (
        linear_classifier(3 * 2 * 2, 4, hidden=5).eval(),
        dense_classifier(3, 2, 4, hidden=5).eval(),
    )
    load_state(form, linear.state_dict(), "linear")
    features = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(form(features)[:, :, 0, 0], linear(features.flatten(1)))
    wide = linear_classifier(3 * 2 * 3, 4, hidden=5).state_dict()
    with pytest.raises(WeightsError, match=r"0\.weight \(5x18 instead of 5x3x2x2\)"):
        load_state(form, wide, "wide")


@pytest.mark.parametrize(("name", "linear"), [("vgg16_dense", "vgg16"), ("alexnet_dense", "alexnet")])
def test_their_checkpoints_have_the_same_names_and_rows(name: str, linear: str) -> None:
    with torch.device("meta"):
        states = [registry.get(each).build().state_dict() for each in (name, linear)]
    rows = [{key: (len(value), value.numel()) for key, value in state.items()} for state in states]
    assert rows[0] == rows[1]

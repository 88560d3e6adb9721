"""Inputs that do not fit a network: the layer is named, what is wrong with it, and the sizes that do fit."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnport import misfit, registry
from cnnport.cli import main
from cnnport.count import count
from cnnport.errors import ModelError
from cnnport.misfit import explain
from cnnport.random_weights import randomize
from cnnport.reference import Reference


class Head(nn.Module):
    """A convolution, a pooling, a head behind them that needs one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.head = nn.Linear(4 * 6 * 6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.stem(x)).flatten(1))


class Scales(nn.Module):
    """Adds two scales, which takes multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 3, 3, stride=8, padding=1)
        self.up = nn.Upsample(scale_factor=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + self.up(self.down(x))).mean((2, 3))


class Unlucky(nn.Module):
    """Fails for a reason that has nothing to do with its input, or with its layers."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.reason = reason

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_meta:
            raise RuntimeError(self.reason)
        return self.conv(x)


def pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def told(module: nn.Module, *shapes: tuple[int, int, int]) -> list[str]:
    """The message, with the claims that it makes about sizes checked against the network itself."""
    module.eval()
    inputs = [torch.zeros(1, *shape) for shape in shapes]
    with torch.no_grad(), pytest.raises(Exception) as caught:  # noqa: PT011 - whatever torch raises
        module(*inputs)
    before = [value.clone() for value in module.state_dict().values()]
    lines = str(explain(module, shapes, caught.value)).splitlines()
    assert all(map(torch.equal, before, module.state_dict().values()))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    assert 1 <= len(lines) <= 2
    for channels, side in re.findall(r"(\d+)x(\d+)x\2\b", lines[-1] if len(lines) == 2 else ""):
        with torch.no_grad():
            module(*[torch.zeros(1, int(channels), int(side), int(side)) for _ in shapes])
    return lines


@pytest.mark.parametrize(
    ("module", "shape", "reason", "advice"),
    [
        (
            pooled(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 7, stride=2, padding=1)),
            (3, 5, 5),
            "layer 1 (Conv2d) needs 5x5 pixels and gets 3x3",
            "the smallest square image that fits is 3x7x7: --image-size 7",
        ),
        (
            pooled(nn.MaxPool2d(2), nn.AvgPool2d(3), nn.Conv2d(3, 4, 1)),
            (3, 4, 40),
            "layer 1 (AvgPool2d) needs 3x3 pixels and gets 2x20",
            "the smallest square image that fits is 3x6x6: --image-size 6",
        ),
        (
            pooled(nn.Conv2d(3, 4, 3, dilation=4)),
            (3, 8, 8),
            "layer 0 (Conv2d) needs 9x9 pixels and gets 8x8",
            "the smallest square image that fits is 3x9x9: --image-size 9",
        ),
        (
            Head(),
            (3, 20, 20),
            "layer head (Linear) takes 144 values, not 256",
            "the square images that fit are 3x16x16 to 3x17x17",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 2)),
            (3, 8, 8),
            "layer 1 (Linear) takes 2352 values, not 192",
            "it takes 3x28x28 images only: --image-size 28",
        ),
        (
            # Of a size that nobody else uses.
            nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(3 * 43 * 43, 2)),
            (3, 8, 8),
            "layer 2 (Linear) takes 5547 values, not 12",
            "the square images that fit are 3x172x172 to 3x175x175",
        ),
        (
            pooled(nn.ReflectionPad2d((1, 2, 3, 0)), nn.Conv2d(3, 4, 3)),
            (3, 3, 3),
            "layer 0 (ReflectionPad2d) needs 4x3 pixels and gets 3x3",
            "the smallest square image that fits is 3x4x4: --image-size 4",
        ),
        (
            Scales(),
            (3, 20, 20),
            "The size of tensor a (20) must match the size of tensor b (24) at non-singleton dimension 3",
            "not every size fits; the smallest square image that was found to fit is 3x8x8",
        ),
        (
            Head(),
            (1, 16, 16),
            "layer stem (Conv2d) takes 3 channels, not 1",
            "it takes images of 3 channels: --in-channels 3",
        ),
    ],
)
def test_the_layer_and_the_sizes(
    module: nn.Module, shape: tuple[int, int, int], reason: str, advice: str
) -> None:
    size = "x".join(map(str, shape))
    assert told(module, shape) == [f"the network cannot run on {size} inputs: {reason}", advice]


def test_a_fault_inside_the_network_is_not_blamed_on_the_image() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(5))
    assert told(module, (3, 16, 16)) == [
        "the network cannot run on 3x16x16 inputs: layer 2 (BatchNorm2d) takes 5 channels, not 4"
    ]
    assert told(Unlucky("out of memory\nat length"), (3, 16, 16)) == [
        "the network cannot run on 3x16x16 inputs: out of memory"
    ]
    # A network for videos.
    (line,) = told(nn.Sequential(nn.Conv3d(3, 4, 3)), (3, 16, 16))
    assert line.startswith(
        "the network cannot run on 3x16x16 inputs: layer 0 (Conv3d): Given groups=1, weight"
    )
    (line,) = told(Unlucky("word " * 1000), (3, 16, 16))
    assert len(line) < 300
    # What meta tensors say of another size counts only if the network itself confirms it.
    assert len(told(nn.Sequential(Unlucky("no"), nn.MaxPool2d(40)), (3, 16, 16))) == 1


def test_the_search_is_bounded_and_its_failure_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = 0
    runs = misfit._runs

    def counted(*arguments: object) -> bool:
        nonlocal ran
        ran += 1
        return runs(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(misfit, "_runs", counted)
    shapes = [(3, 20, 20)]
    for module in (Head(), Scales()):
        ran = 0
        assert "\n" in str(explain(module, shapes, RuntimeError("x")))
        assert ran <= misfit._FORWARDS + 1
    monkeypatch.setattr(misfit, "_FORWARDS", 4)
    assert "\n" not in str(explain(Head(), shapes, RuntimeError("x")))
    monkeypatch.setattr(misfit.copy, "deepcopy", lambda *_: 1 / 0)
    assert "layer head (Linear)" in str(explain(Head(), shapes, RuntimeError("x")))


def test_each_way_to_run_a_network_says_the_same() -> None:
    spec = registry.get("lenet5")
    expected = (
        "the network cannot run on 1x8x8 inputs: layer 3 (Conv2d) needs 5x5 pixels and gets 2x2\n"
        "the square images that fit are 1x32x32 to 1x35x35"
    )
    with pytest.raises(ModelError) as counted:
        count(spec.build(), [(1, 8, 8)])
    with pytest.raises(ModelError) as randomized:
        randomize(spec.build(), 0, (1, 8, 8))
    assert str(counted.value) == str(randomized.value) == expected


NETS = """
from torch import nn

class Grey(nn.Sequential):
    def __init__(self, num_classes=4):
        super().__init__(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

def pooled():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))
"""


@pytest.mark.parametrize(
    ("arguments", "first", "second"),
    [
        (["lenet5", "--image-size", "8"], r"1x8x8 inputs: layer 3 \(Conv2d\)", "1x32x32 to 1x35x35"),
        (["nets.py:pooled", "--image-size", "4x9"], r"3x4x9 inputs: layer 2 \(MaxPool2d\)", "fits is 3x6x6"),
        (["lenet_300_100", "--image-size", "32"], "takes 784 values, not 1024", "1x28x28 images only"),
        (["nets.py:Grey"], r"layer 0 \(Conv2d\) takes 1 channels, not 3", "--in-channels 1"),
        (["nets.py:Grey", "--in-channels", "2"], "takes 1 channels, not 2", "--in-channels 1"),
        (["nets.py:Grey", "--num-classes", "0"], "at least 1", ""),
        (["lenet5", "--num-classes", "0"], "at least 1", ""),
        (["resnet20_cifar10", "--weights", "other.pth"], "of 116 tensors 60 unexpected", "layer"),
        (
            ["lenet5", "--num-classes", "7", "--weights", "same.pth"],
            "2 of another shape or",
            r"\(10x84 instead",
        ),
    ],
)
def test_bad_input_on_the_command_line(
    arguments: list[str],
    first: str,
    second: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    if "other.pth" in arguments:
        torch.save(registry.get("resnet32_cifar10").build().state_dict(), "other.pth")
    if "same.pth" in arguments:
        torch.save(registry.get("lenet5").build().state_dict(), "same.pth")
    there = set(tmp_path.iterdir())
    weights = [] if "--weights" in arguments else ["--weights", "random"]
    assert main(["export", *arguments, *weights]) == 2
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert (out, 1 <= len(lines) <= 2) == ("", True), err
    assert re.search(f"^error: .*{first}", lines[0]), err
    assert re.search(second, lines[-1]), err
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == there


def test_a_callable_whose_channels_are_its_own_is_told_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It takes no in_channels: then the option says what the input is."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    arguments = ["export", "nets.py:Grey", "--in-channels", "1", "--image-size", "12"]
    assert main(arguments) == 0, capfd.readouterr().err
    assert (tmp_path / "Grey.onnx").is_file()


def test_a_reference_says_it_too() -> None:
    with pytest.raises(
        ModelError, match=r"layer 3 \(Conv2d\) needs 5x5 pixels and gets 2x2\nthe square images"
    ):
        Reference(registry.get("lenet5").build().eval(), (1, 8, 8), output_name="y", batches=(1,), seeds=(0,))

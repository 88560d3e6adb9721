"""From a name or a callable to a network."""

from pathlib import Path

import pytest
import torch

from cnnport import registry
from cnnport.errors import ModelError, UnknownNameError
from cnnport.source import find_source

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3))

def fixed():
    return Net(2)
def number():
    return 3
def broken():
    raise KeyError("nothing\\nof this line")
class Holder:
    inner = Net
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "my_nets.py"
    path.write_text(NETS)
    return path


def test_a_file_and_a_callable(nets: Path) -> None:
    source = find_source(f"{nets}:Net")
    assert source.name == "my_nets.py:Net"
    assert source.spec is None
    assert source.build(7, None)(torch.zeros(1, 3, 8, 8)).shape == (1, 7)
    assert find_source(f"{nets}:Holder.inner").build(None, None)(torch.zeros(1, 3, 8, 8)).shape == (1, 4)


def test_channels_are_passed_to_a_callable_that_takes_them(nets: Path) -> None:
    nets.write_text(NETS + "\ndef asked(in_channels=3):\n    Net.asked = in_channels\n    return Net()\n")
    assert find_source(f"{nets}:asked").build(None, 2).asked == 2
    # One that does not is not refused: the number then says what its input is.
    assert find_source(f"{nets}:Net").build(None, 1).conv.in_channels == 3


def test_a_zoo_network_says_what_its_inputs_and_its_output_are_called() -> None:
    assert find_source("lenet5").input_names == ("input",)
    assert find_source("siamese_lenet").input_names == ("left", "right")
    assert find_source("siamese_lenet").output_name == "distance"
    others = {spec.name: spec.output_name for spec in registry.specs() if spec.output_name != "logits"}
    assert others == dict.fromkeys(
        ("capsnet_mnist", "capsnet_mnist_norecon", "capsnet_cifar10"), "lengths"
    ) | {
        "siamese_lenet": "distance",
        "triplet_cifar10": "distances",
        "triplet_mnist": "distances",
    }


def test_a_module_and_a_callable(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets.parent)
    source = find_source("my_nets:fixed")
    assert source.name == "my_nets:fixed"
    assert source.build(None, None)(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize(
    ("callable_", "arguments", "message"),
    [
        ("fixed", (3, None), "cannot be called with {'num_classes': 3}"),
        ("Net", (0, None), "at least 1"),
        ("Net", (None, 0), "at least 1"),
        ("number", (None, None), "returned int, not a torch.nn.Module"),
        ("broken", (None, None), "failed with KeyError"),
    ],
)
def test_a_callable_that_does_not_serve(nets: Path, callable_: str, arguments: tuple, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        find_source(f"{nets}:{callable_}").build(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("nowhere.py:net", ModelError, "no such file"),
        ("no_such_package_here:net", ModelError, "cannot import"),
        ("math:net", ModelError, "no callable 'net'"),
        ("math:pi", ModelError, "no callable 'pi'"),
        ("model.onnx", ModelError, "is an ONNX file"),
        ("resnet5", UnknownNameError, "did you mean resnet50"),
    ],
)
def test_what_cannot_be_found(model: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_source(model)


def test_a_file_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_package_here")
    with pytest.raises(ModelError, match=r"bad\.py does not import"):
        find_source(f"{tmp_path / 'bad.py'}:net")

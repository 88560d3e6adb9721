"""The functions that programs call: what they take, what they give, and that the commands are users of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cnnport
from cnnport import api
from cnnport.artifact import Artifact
from cnnport.errors import CnnportError, ModelError
from cnnport.exporting import default_path
from cnnport.metadata import labels_of, preprocess_of
from cnnport.preprocess import Preprocess

Run = Callable[..., tuple[int, str, str]]
PICTURES = Preprocess((12, 16), None, "bilinear", (0.5,), (0.25,))


class Small(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def test_every_name_is_there_and_no_other() -> None:
    for name in cnnport.__all__:
        assert getattr(cnnport, name) is not None
        assert name in dir(cnnport)
    with pytest.raises(AttributeError, match="has no attribute 'exprot'"):
        _ = cnnport.exprot  # type: ignore[attr-defined]
    assert cnnport.export is api.export


@pytest.mark.parametrize("heavy", ["torch", "onnx", "numpy", "onnxruntime"])
def test_the_functions_come_without_what_they_need(heavy: str) -> None:
    program = f"import sys, cnnport; cnnport.export, cnnport.bench; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_network_that_is_there_is_exported_as_it_is(tmp_path: Path) -> None:
    network = Small().train()
    done = cnnport.export(
        network, tmp_path / "small.onnx", labels=("a", "b", "c"), pictures=PICTURES, passes="none"
    )
    # What was given stays as it was, and has what it had.
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert done.artifact.model == f"{__name__}:Small"
    assert done.artifact.metadata["cnnport.weights"] == "own"
    assert labels_of(done.artifact) == ("a", "b", "c")
    assert preprocess_of(done.artifact) == PICTURES
    assert done.artifact.inputs[0].shape == ("batch", 1, 12, 16)
    images = np.random.default_rng(0).standard_normal((2, 1, 12, 16)).astype(np.float32)
    with cnnport.load(done.artifact, threads=1) as session:
        (answer,) = session.run({session.inputs[0].name: images}).values()
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_what_makes_a_network_takes_classes_and_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cnnport.export(Small, num_classes=5, in_channels=2, image_size=8, seed=1)
    assert done.artifact.path == Path("Small.onnx")
    assert done.artifact.inputs[0].shape == ("batch", 2, 8, 8)
    assert done.artifact.outputs[0].shape == ("batch", 5)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_page_measures_the_file_that_it_exports(page: str) -> None:
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    assert "cnnport export shufflenet_v2" in text
    assert f"cnnport bench {default_path('shufflenet_v2')}" in text


def test_names_of_the_zoo_are_not_taken_by_others(tmp_path: Path) -> None:
    def lenet5() -> nn.Module:
        return Small()

    made = cnnport.export(lenet5, tmp_path / "own.onnx", in_channels=1, image_size=8).artifact
    assert made.model == f"{__name__}:lenet5"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Small(), {"num_classes": 7}, "is built already"),
        (3, {}, "not int"),
        (lambda: 3, {}, "returned int, not a torch.nn.Module"),
        (
            "lenet5",
            {"pictures": Preprocess((8, 8), None, "bilinear", (0.5,), (0.5,))},
            "lenet5 takes 1x32x32",
        ),
    ],
)
def test_what_is_no_network_is_refused(
    model: object, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        cnnport.export(model, tmp_path / "x.onnx", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_files_are_optimised_quantized_verified_measured_and_compared(
    exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    file = exported("lenet5").path
    assert all(check.ok for check in cnnport.verify(file))
    faster = cnnport.optimize(file, tmp_path / "faster.onnx", target="ort")
    small = cnnport.quantize(file, tmp_path / "small.onnx", calibration="random:16", repair=False)
    assert small.artifact.precision == "int8"
    files = [faster.artifact, small.artifact.path]
    measured = cnnport.bench(files, runtimes=["null"], rounds=1, duration_s=0, warmup_s=0, threads=[1])
    assert [row.precision for row in measured.results] == ["fp32", "int8"]
    same = cnnport.parity([file, faster.artifact], runtimes=["ort-cpu"], samples=4, checks=False)
    assert same.ok
    # A check that cannot fail proves nothing.
    assert not cnnport.parity(
        [file, small.artifact], runtimes=["ort-cpu"], samples=4, checks=False, atol=1e-9
    ).ok


def test_a_runtime_that_is_not_here_is_an_error() -> None:
    with pytest.raises(CnnportError, match="no runtime is called 'cpu'"):
        cnnport.load("lenet5", "cpu")


@pytest.mark.parametrize(
    "command",
    [
        ("export", "lenet5"),
        ("optimize", "x.onnx"),
        ("quantize", "x.onnx", "--calibration", "digits"),
        ("bench", "lenet5"),
        ("parity", "lenet5"),
        ("evaluate", "lenet5", "--data", "digits"),
    ],
    ids=lambda command: command[0],
)
def test_the_command_is_a_user_of_the_function(
    command: tuple[str, ...], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise CnnportError("the function was called")

    monkeypatch.setattr(api, command[0], stop)
    code, _, err = cli(*command)
    assert (code, err.strip()) == (2, "error: the function was called")

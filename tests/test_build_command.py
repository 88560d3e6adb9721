"""``cnnport build``: its output, its exit codes, and engine files in the other commands."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from onnx import helper

from cnnport.cli.main import main
from trt_files import small

needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def unbuildable(folder: Path) -> Path:
    model = onnx.load(small(folder).path)
    model.graph.node[1].CopyFrom(
        helper.make_node("Frob", ["first.out"], ["act.out"], "act/Frob", domain="own")
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, folder / "bad.onnx")
    return folder / "bad.onnx"


@needs_rtx
def test_check_tells_what_comes_of_a_file(run: Run, tmp_path: Path) -> None:
    path = str(small(tmp_path).path)
    code, out, err = run("build", path, "--runtime", "trt-rtx", "--check", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert {"model", "runtime", "parsed", "built", "layers", "errors"} <= set(found)
    assert (found["parsed"], found["built"], found["errors"], found["path"]) == (True, True, [], None)
    assert found["layers"] == len(found["kernels"]) > found["fused"] > 0
    code, out, _ = run("build", path, "--runtime", "trt-rtx", "--check")
    assert code == 0
    assert "small for trt-rtx: built" in out
    assert "second/Conv" in out
    assert not list(tmp_path.glob("*.plan*"))


@needs_rtx
def test_a_check_that_fails_is_exit_code_1(run: Run, tmp_path: Path) -> None:
    path = str(unbuildable(tmp_path))
    code, out, err = run("build", path, "--runtime", "trt-rtx", "--check", "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert (found["parsed"], found["built"], found["layers"]) == (False, False, 0)
    assert found["errors"] == [{"node": "act/Frob", "message": "operator Frob is unknown to TensorRT"}]
    code, out, _ = run("build", path, "--runtime", "trt-rtx", "--check")
    assert code == 1
    assert "bad for trt-rtx: NOT parsed" in out
    assert "act/Frob" in out
    # Without --check the file is bad input.
    code, out, err = run("build", path, "--runtime", "trt-rtx")
    assert (code, out) == (2, "")
    assert "TensorRT-RTX cannot build" in err
    assert "act/Frob: operator Frob is unknown to TensorRT" in err
    assert not list(tmp_path.glob("*.plan*"))


@needs_rtx
def test_an_engine_file_in_other_commands(run: Run, tmp_path: Path) -> None:
    path = str(small(tmp_path).path)
    code, out, _ = run("build", path, "--runtime", "trt-rtx", "--json")
    assert code == 0
    assert json.loads(out)["path"] == "small.plan"
    assert json.loads((tmp_path / "small.plan.json").read_text())["settings"]["batch"] == "1:8:32"
    code, _, err = run("build", path, "--runtime", "trt-rtx")
    assert (code, "small.plan exists: pass --overwrite" in err) == (2, True)
    assert run("build", path, "--runtime", "trt-rtx", "--overwrite", "--batch", "1:2:4")[0] == 0
    assert json.loads((tmp_path / "small.plan.json").read_text())["settings"]["batch"] == "1:2:4"
    code, _, err = run("run", "small.plan", "picture.png")
    assert (code, "is an engine of trt-rtx: pass --runtime trt-rtx" in err) == (2, True)
    code, _, err = run("bench", "small.plan", "--runtime", "ort-cpu", "--duration", "0.01")
    assert (code, "is an engine of trt-rtx: pass --runtime trt-rtx" in err) == (2, True)
    code, _, err = run("build", "small.plan", "--runtime", "trt-rtx", "--overwrite")
    assert (code, "is an engine already" in err) == (2, True)


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runtime", "ort-cpu"], 2, "takes the .onnx file as it is: what is built is for trt, trt-rtx"),
        (["--runtime", "tensorrt"], 2, "no runtime is called 'tensorrt'"),
        (["--runtime", "trt"], 3, "runtime trt cannot build here: "),
        (["--runtime", "trt-rtx", "--check", "-o", "x.plan"], 2, "--check writes nothing"),
        (["--runtime", "trt-rtx", "-o", "no/such/x.plan"], 2, "there is no folder"),
        (["--runtime", "trt-rtx", "--set", "batch=0"], 2, "batch wants 1 <= MIN"),
        (["--runtime", "trt-rtx", "--batch", "4:2"], 2, "batch takes N or MIN:OPT:MAX"),
        (["--runtime", "trt-rtx", "--batch", "2", "--set", "batch=2"], 2, "names batch twice"),
        (["--runtime", "trt-rtx", "-o", "x.engine"], 2, "engines of trt-rtx are known by .plan"),
        (["--runtime", "trt-rtx", "--set", "hardware=none"], 2, "has no setting called 'hardware'"),
        (
            ["--runtime", "trt-rtx", "--set", "compute_capability=9.0"],
            2,
            "builds nothing for compute capability 9.0",
        ),
    ],
)
def test_what_is_refused(run: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    got, out, err = run("build", str(small(tmp_path).path), *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) <= 2
    assert not list(tmp_path.glob("*.plan*"))


@pytest.mark.parametrize("command", ["run", "bench"])
@pytest.mark.parametrize("runtime", ["trt", "trt-rtx"])
def test_a_runtime_that_is_not_here_is_exit_code_3(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, runtime: str
) -> None:
    def no_driver() -> object:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr("cnnport.runtimes.driver._load", no_driver)
    pictures = ["picture.png"] if command == "run" else []
    code, out, err = run(command, str(small(tmp_path).path), *pictures, "--runtime", runtime)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: runtime {runtime} is not available: ")

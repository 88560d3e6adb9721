"""``cnnport info`` on engines: all that stands beside them, without what built them; and engines that are none."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from cnnport.artifact import Artifact
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.build import Builds
from cnnport.runtimes.engine_file import EngineFacts, engine_facts, read_engine, sidecar_of, write_engine
from fake_tensorrt import FakeTensorRt, stand_in
from trt_files import small

__all__ = ["stand_in"]

Stand = Callable[..., FakeTensorRt]
Run = Callable[..., tuple[int, str, str]]
HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}


def stating(artifact: Artifact) -> Artifact:
    """With metadata as an exported file has it."""
    labels = json.dumps([f"class {number}" for number in range(1000)])
    return replace(artifact, metadata={"cnnport.weights": "default", "cnnport.labels": labels})


@pytest.fixture
def plan(stand_in: Stand, tmp_path: Path) -> Path:
    """An engine of TensorRT's stand-in."""
    stand_in()
    runtime = get_runtime("trt")
    assert isinstance(runtime, Builds)
    runtime.build(stating(small(tmp_path)), tmp_path / "small.plan", Options(settings={"batch": "1:2:4"}))
    return tmp_path / "small.plan"


def test_all_that_stands_beside_an_engine(plan: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_artifact(plan.with_name("small.onnx"))
    source.path.unlink()
    monkeypatch.delitem(sys.modules, "tensorrt")
    code, out, err = cli("info", plan, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert {name: facts[name] for name in ("model", "opset", "precision", "inputs", "outputs")} == {
        "model": "small",
        "opset": 20,
        "precision": "fp32",
        "inputs": ["input:float32[batch,3,8,8]"],
        "outputs": ["logits:float32[batch,4]"],
    }
    assert (facts["bytes"], facts["sha256"]) == (plan.stat().st_size, read_engine(plan).sha256)
    assert {"runtime", "cnnport", "package", "version", "gpu", "compute"} <= set(facts["engine"])
    assert (facts["engine"]["version"], facts["engine"]["gpu"]) == ("11.4.0.106", "Imaginary 4090")
    assert facts["built_from"] == {"sha256": source.sha256}
    assert facts["settings"]["batch"] == "1:2:4"
    assert facts["metadata"] == {"cnnport.weights": "default", "cnnport.labels": "1000 class names"}
    code, out, err = cli("info", plan)
    assert (code, err) == (0, "")
    for text in ("runtime: trt", "version: 11.4.0.106", "batch: 1:2:4", source.sha256, "Imaginary 4090"):
        assert text in out


def test_no_runtime_is_imported_for_it(plan: Path) -> None:
    program = f"""
import sys
from cnnport.cli.main import main
assert main(["info", {str(plan)!r}]) == 0
found = set(sys.modules) & {HEAVY}
# That one would be seen.
import onnx
assert set(sys.modules) & {HEAVY}
sys.exit(f"imported: {{found}}" if found else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_engine_of_openvino(tmp_path: Path, cli: Run) -> None:
    pytest.importorskip("openvino")
    runtime = get_runtime("openvino")
    assert isinstance(runtime, Builds)
    path = tmp_path / "small.blob"
    runtime.build(small(tmp_path), path, Options(settings={"batch": "2"}))
    code, out, err = cli("info", path, "--runtime", "openvino", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["inputs"] == ["input:float32[2,3,8,8]"]
    assert facts["settings"]["batch"] == "2"
    assert {"runtime", "version", "device", "device_name"} <= set(facts["engine"])
    assert len(out) < 3000
    (placed,) = facts["placement"].values()
    assert placed["Convolution"] == 2
    # What is for openvino alone is told by its length.
    runtime.build(small(tmp_path), path, Options())
    engine = json.loads(cli("info", path, "--json")[1])["engine"]
    assert engine["sizes"].endswith(" characters")


def test_where_its_layers_run(plan: Path, stand_in: Stand, cli: Run) -> None:
    code, out, _ = cli("info", plan, "--runtime", "trt", "--json")
    assert code == 0
    nodes = len(onnx.load(plan.with_name("small.onnx")).graph.node)
    assert json.loads(out)["placement"] == {"Imaginary 4090": {"correlation": nodes}}
    code, out, err = cli("info", plan, "--runtime", "trt", "--device", "7")
    assert (code, out, "runtime trt" in err, "7" in err) == (3, "", True, True)
    code, out, err = cli("info", plan, "--runtime", "trt", "--set", "batch=9")
    assert (code, out, "batch" in err) == (2, "", True)
    code, out, err = cli("info", plan, "--runtime", "ort-cpu")
    assert (code, out, "is an engine of trt: pass --runtime trt" in err) == (2, "", True)
    stand_in(driver=False)
    code, out, err = cli("info", plan, "--runtime", "trt")
    assert (code, out, "runtime trt is not available: no NVIDIA driver" in err) == (3, "", True)
    assert cli("info", plan)[0] == 0


def flipped(plan: Path) -> None:
    data = plan.read_bytes()
    plan.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


def other_sidecar(plan: Path) -> None:
    """Of another engine that was built on the same day for the same GPU."""
    artifact = read_artifact(plan.with_name("small.onnx"))
    write_engine(plan.with_name("other.plan"), b"another", artifact, EngineFacts("trt", artifact.sha256))
    sidecar_of(plan.with_name("other.plan")).replace(sidecar_of(plan))


def foreign_sidecar(plan: Path) -> None:
    sidecar_of(plan).write_text(json.dumps({"name": "small", "version": 3}))


def numbers_for_texts(plan: Path) -> None:
    held = json.loads(sidecar_of(plan).read_text())
    sidecar_of(plan).write_text(json.dumps({**held, "metadata": {"cnnport.labels": 3}}))


def folder_for_sidecar(plan: Path) -> None:
    sidecar_of(plan).unlink()
    sidecar_of(plan).mkdir()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (flipped, r"small.plan is not the engine that small.plan.json describes: build it again"),
        (other_sidecar, "small.plan is not the engine that small.plan.json describes: build it again"),
        (foreign_sidecar, "is damaged, or none of cnnport's: build the engine again with cnnport build"),
        (numbers_for_texts, "is damaged, or none of cnnport's"),
        (folder_for_sidecar, "small.plan.json cannot be read or is damaged: build the engine again"),
        (lambda plan: sidecar_of(plan).write_bytes(b"\xff\xfe"), "cannot be read or is damaged"),
        (lambda plan: sidecar_of(plan).unlink(), "small.plan.json does not lie beside it, which says what"),
        (lambda plan: plan.unlink(), "small.plan: no such file"),
    ],
)
def test_an_engine_that_is_none(plan: Path, cli: Run, fault: Callable[[Path], Any], message: str) -> None:
    assert cli("info", plan)[0] == 0
    fault(plan)
    for command in (["info", plan], ["bench", plan, "--runtime", "null"]):
        code, out, err = cli(*command)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.splitlines()) == 1


def test_a_file_that_says_it_is_an_engine_is_none(tmp_path: Path, cli: Run) -> None:
    """What an ONNX file says of itself is not what lies beside an engine."""
    path = small(tmp_path).path
    model = onnx.load(path)
    model.metadata_props.add(key="cnnport.engine", value="{")
    onnx.save(model, path)
    assert engine_facts(read_artifact(path)) is None
    assert cli("info", path, "--runtime", "ort-cpu")[0] == 0

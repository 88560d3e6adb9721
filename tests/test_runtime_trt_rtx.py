"""Real builds by TensorRT-RTX, which need no GPU: what the stand-in cannot show."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import Artifact
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, get_runtime
from cnnport.runtimes.build import Builds, Built
from cnnport.runtimes.trt import making
from cnnport.store import artifact_of
from trt_files import small

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


def check(artifact: Artifact, **settings: str) -> Built:
    runtime = get_runtime("trt-rtx")
    assert isinstance(runtime, Builds)
    return runtime.check(artifact, Options(settings=settings))


def file(folder: Path, nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray]) -> Artifact:
    """A file of one input and one output, not checked by anybody."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [value], [made], constants), opset_imports=opsets, ir_version=10
    )
    path = folder / "made.onnx"
    onnx.save(model, path)
    return read_artifact(path)


@pytest.mark.parametrize(
    ("precision", "kinds"),
    [("fp32", ("Float", "Float")), ("fp16", ("Half", "Half")), ("int8", ("Int8", "Float"))],
)
def test_engines_compute_in_the_types_of_the_file(
    tmp_path: Path, precision: str, kinds: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = small(tmp_path, precision)
    done = check(artifact)
    assert done.ok, done.errors
    assert (done.parsed, done.built) == (True, True)
    by_node = {node: layer for layer in reversed(done.layers) for node in layer.nodes if layer.kind != "kgen"}
    assert kinds[0] in by_node["second/Conv"].reads
    assert kinds[1] in by_node["fc/Gemm"].reads
    assert done.fused > 0
    # An engine that does not compute as it was asked to is found by the same listing.
    monkeypatch.setattr(making, "wanted_types", lambda model: {"second/Conv": "BFloat16"})
    (error,) = check(artifact).errors
    assert error.node == "second/Conv"
    assert "asked for in BFloat16, but layer second/Conv" in error.message


def test_nodes_without_names_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path, "int8").path
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, path)
    for settings in ({}, {"batch": "1,1:4:16"}):
        done = check(read_artifact(path), **settings)
        assert (done.ok, done.warnings) == (True, ())
    monkeypatch.setattr(making, "wanted_types", lambda model: {"node_of_second.out": "Half"})
    (error,) = check(read_artifact(path)).errors
    assert "node_of_second.out: asked for in Half, but layer node_of_second.out" in str(error)


def test_ranges_and_devices(tmp_path: Path) -> None:
    artifact = small(tmp_path)
    for settings in ({"batch": "1,1:4:16"}, {"compute_capability": "8.6,8.9"}, {"workspace_mb": "64"}):
        assert check(artifact, **settings).ok
    (error,) = check(artifact, compute_capability="7.5").errors
    assert (error.node, "not supported" in error.message) == ("fc/Gemm", True)


def test_what_is_not_parsed_is_named_by_node(tmp_path: Path) -> None:
    half = {"c": np.ones((1, 16, 1, 1), np.float16)}
    cases = {
        "own/Frob": (
            [helper.make_node("Frob", ["x"], ["y"], "own/Frob", domain="own")],
            {},
            "Frob is unknown",
        ),
        "blk/Add": ([helper.make_node("Add", ["x", "c"], ["y"], "blk/Add")], half, "types Float and Half"),
        "Frob number 1 (y)": (
            [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Frob", ["r"], ["y"], domain="own")],
            {},
            "Frob is unknown",
        ),
    }
    for node, (nodes, tensors, message) in cases.items():
        done = check(file(tmp_path, nodes, tensors))
        assert (done.parsed, done.built, done.layers) == (False, False, ())
        assert [error.node for error in done.errors] in ([node], ["node_of_y"])
        assert message in done.errors[0].message
        assert "\n" not in done.errors[0].message


def test_what_is_not_built_is_named_by_node(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "act"),
        helper.make_node("Reshape", ["r", "s"], ["y"], "rs/Reshape"),
    ]
    done = check(file(tmp_path, nodes, {"s": np.array([7, -1])}))
    assert (done.parsed, done.built) == (True, False)
    assert [error.node for error in done.errors] == ["rs/Reshape"]
    assert "Reshape dimension of -1 has no solution" in done.errors[0].message
    assert "/_src/" not in done.errors[0].message


def test_what_would_be_computed_wrongly_does_not_pass(tmp_path: Path) -> None:
    """It parses and builds: nothing but this check stands between the file and wrong numbers."""
    given = {"s": np.array(0.1, np.float32), "z": np.array(0, np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "x/Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "x/DQ"),
    ]
    done = check(file(tmp_path, nodes, given))
    assert done.parsed
    assert not done.ok
    assert [error.node for error in done.errors] == ["x/Q", "x/DQ"]


def locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_two_commands_of_which_one_is_killed(tmp_path: Path) -> None:
    """The first is stopped in the middle of its build until the second has come to wait for it, and then killed."""
    artifact = small(tmp_path)
    environment = {**os.environ, "CNNPORT_CACHE": str(tmp_path / "cache")}
    engines = tmp_path / "cache" / "engines"

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cnnport", "-q", "build", str(artifact.path), "--runtime", "trt-rtx"]
        return subprocess.Popen(
            [*command, "-o", str(tmp_path / name)], env=environment, stdout=subprocess.DEVNULL
        )

    first = start("one.plan")
    end = time.monotonic() + 60
    while not any(map(locked, engines.glob("*.lock"))):
        assert time.monotonic() < end
        assert first.poll() is None
    first.send_signal(signal.SIGSTOP)
    (lock,) = engines.glob("*.lock")
    assert locked(lock)
    assert not list(engines.glob("*.engine"))
    second = start("two.plan")
    # Alone it would have taken a second or two.
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=6)
    assert not (tmp_path / "two.plan").exists()
    first.kill()
    first.wait()
    assert second.wait(timeout=60) == 0
    assert not (tmp_path / "one.plan").exists()
    (entry,) = engines.glob("*.engine")
    assert {path.name for path in engines.iterdir()} == {entry.name, lock.name}
    assert (tmp_path / "two.plan").read_bytes() in entry.read_bytes()
    written = entry.stat().st_mtime_ns
    again = start("three.plan")
    assert again.wait(timeout=60) == 0
    # The entry is valid: it was taken, and nothing was built.
    assert entry.stat().st_mtime_ns == written
    assert (tmp_path / "three.plan").read_bytes() == (tmp_path / "two.plan").read_bytes()
    assert artifact_of(str(tmp_path / "three.plan")).inputs == artifact.inputs

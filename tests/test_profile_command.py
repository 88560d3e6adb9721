"""``cnnport profile``, and what it rests on: processes of real runtimes, and of TensorRT's stand-in."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from cnnport.artifact import Artifact
from cnnport.errors import CheckFailedError, CnnportError, RuntimeMissingError
from cnnport.measuring.case import make_cases
from cnnport.measuring.profiling import asking, profile, read_profile
from cnnport.measuring.profiling import run as profiling_run
from cnnport.measuring.profiling.asking import Told
from cnnport.measuring.profiling.kernels import Kernel, timed
from cnnport.measuring.profiling.probes import ort, trt
from cnnport.measuring.profiling.probes import torch as torch_probe
from cnnport.measuring.profiling.probes.probe import Wish
from cnnport.onnxfile import read_artifact
from fake_tensorrt import FakeTensorRt, stand_in
from quantize_graphs import model_of
from trt_files import small

__all__ = ["stand_in"]

Run = Callable[..., tuple[int, str, str]]
Stand = Callable[..., FakeTensorRt]
QUICK = ("--threads", "1", "--rounds", "1", "--duration", "0.04", "--warmup", "0", "--no-roofline")


def foreign(path: Path) -> Path:
    """A file without names, of nobody's export, a convolution of which takes nearly all of the time."""
    text = """g (float[N, 8, 32, 32] x) => (float[N, 8, 32, 32] y) {
        a = Conv <pads = [3, 3, 3, 3]> (x, aw)  b = Relu (a)  c = Add (b, x)  y = Sigmoid (c)
    }"""
    model = model_of(text, {"aw": (8, 8, 7, 7)})
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def lenet(exported: Callable[[str], Artifact]) -> Artifact:
    return exported("lenet5")


def asked(cli: Run, *arguments: object) -> dict:
    code, out, error = cli("profile", *arguments, *QUICK, "--json")
    assert code == 0, error
    return json.loads(out)


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino", "torch-cpu"])
def test_every_runtime_says_the_same_things(cli: Run, lenet: Artifact, runtime: str) -> None:
    package = {"ort-cpu": "onnxruntime", "torch-cpu": "torch"}.get(runtime, runtime)
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    found = asked(cli, lenet.path, "--runtime", runtime, "-o", "out.json", "--trace", "trace.json")
    assert found == json.loads(Path("out.json").read_text())
    assert (found["model"], found["runtime"], found["batch"], found["threads"]) == ("lenet5", runtime, 1, 1)
    assert found["sha256"] == lenet.sha256
    assert found["file"] == lenet.path.name
    assert found["command"].startswith(
        f"cnnport profile {lenet.path} --runtime {runtime} --batch 1 --threads 1"
    )
    assert all(row["modules"] for row in found["layers"])
    assert found["layers_ms"] == pytest.approx(sum(row["ms"] for row in found["layers"]), abs=1e-4)
    assert found["end_to_end_ms"] > 0
    assert found["profiled_ms"] > 0
    assert {node for row in found["layers"] for node in row["nodes"]} >= {"0/Conv", "3/Conv", "11/Gemm"}
    assert sum(row["flops"] or 0 for row in found["layers"]) == 853_604
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"X", "M"}
    assert read_profile(Path("out.json")).layers


def test_two_profiles_are_held_against_each_other(cli: Run, lenet: Artifact) -> None:
    pytest.importorskip("onnxruntime")
    found = asked(cli, lenet.path, "-o", "a.json")
    code, out, _ = cli("profile", "--diff", "a.json", "a.json", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["difference_ms"] == 0
    assert sum(row["before_ms"] or 0 for row in document["rows"]) == pytest.approx(
        found["layers_ms"], abs=1e-4
    )
    assert next(row for row in document["rows"] if "0/Conv" in row["original"])["modules"][0] == "0"
    code, out, _ = cli("profile", "--diff", "a.json", "a.json", "--top", "2")
    assert code == 0
    assert "run without the profiler" in out


def test_files_of_others_have_nodes_and_costs(cli: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = foreign(tmp_path / "foreign.onnx")
    found = asked(cli, path, "--batch", "2")
    assert not any(row["modules"] for row in found["layers"])
    assert {node for row in found["layers"] for node in row["nodes"]} == {"a", "b", "c", "y"}
    assert sum(row["flops"] or 0 for row in found["layers"]) == 2 * 2 * 8 * 1024 * (8 * 49) + 3 * 2 * 8 * 1024
    costliest = max(found["layers"], key=lambda row: row["ms"])
    assert "a" in costliest["nodes"]
    code, out, _ = cli("profile", path, *QUICK)
    assert code == 0
    assert "run without the profiler" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("FILE", "--runtime", "ort-cuda"), 3, "runtime ort-cuda is not available"),
        (("FILE", "--runtime", "trt"), 3, "runtime trt is not available"),
        (("FILE", "--runtime", "null"), 2, "null does not say how long its kernels take"),
        (("FILE", "--runtime", "ort"), 2, "no runtime is called 'ort'"),
        (("FILE", "--rounds", "0"), 2, "rounds must be at least 1"),
        (("FILE", "--runtime", "torch-cpu", "--set", "mode=compile"), 2, "leave out --set mode"),
        (("FILE", "-o", "FILE"), 2, "exists: pass --overwrite"),
        ((), 2, "name a MODEL"),
        (("FILE", "--diff", "a.json", "b.json"), 2, "--diff takes two saved profiles"),
        (("--diff", "a.json", "b.json"), 2, "cannot read a.json"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    cli: Run, lenet: Artifact, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, out, error = cli("profile", *(str(lenet.path) if each == "FILE" else each for each in arguments))
    assert (found, out) == (code, "")
    assert message in error
    assert len(error.strip().splitlines()) <= 2


def told(ms: float, name: str = "0/Conv", noting_ms: float = 0.0) -> Told:
    return Told((timed(Kernel((name,), "Conv", 0.0, "fp32"), [ms] * 4),), "onnxruntime 0", "CPU", noting_ms)


class _Process:
    """Both kinds of process: a run takes 4 ms, with the profiler 6."""

    answers: tuple[Told, ...] = ()

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, _question: object) -> dict:
        return {"p50_s": 0.004}

    def turn(self, _duration_s: float, *, most_runs: int) -> float:
        return 0.006

    def told(self) -> Told:
        first, type(self).answers = self.answers[0], self.answers[1:]
        return first


def stand_ins(monkeypatch: pytest.MonkeyPatch, *answers: Told) -> None:
    monkeypatch.setattr(_Process, "answers", answers)
    monkeypatch.setattr(profiling_run, "Conversation", _Process)
    monkeypatch.setattr(profiling_run, "Profiling", _Process)


def test_figures_are_medians_and_nothing_is_scaled(lenet: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    (case,) = make_cases([lenet], ["ort-cpu"], [1], [1])
    stand_ins(monkeypatch, told(1.0, noting_ms=0.5), told(9.0, noting_ms=0.75), told(3.0, noting_ms=0.6))
    found = profile(case, machine=False)
    assert (found.end_to_end_ms, found.profiled_ms, found.layers_ms) == (4.0, 6.0, 2.5)
    assert found.noting_ms == 0.5
    assert len(found.turns_ms) == 12
    assert any("nothing is scaled" in note for note in found.notes)
    assert any("costs 5e+02 µs" in note for note in found.notes)
    stand_ins(monkeypatch, told(1.0), told(1.0, "3/Conv"), told(1.0))
    with pytest.raises(CheckFailedError, match="same kernels in every process"):
        profile(case, machine=False)


def test_a_process_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    (case,) = make_cases([read_artifact(foreign(tmp_path / "a.onnx"))], ["ort-cpu"], [1], [1])
    monkeypatch.setattr(asking, "command_of", lambda _module: ("sh", "-c", "read x; echo gone >&2; exit 7"))
    with pytest.raises(
        CheckFailedError, match=r"a\.onnx: the process ended with status 7 and no answer: gone"
    ):
        asking.glance(case)
    monkeypatch.undo()
    changed = asking.glance
    case.artifact.path.write_bytes(b"")
    with pytest.raises(CnnportError, match="has changed since the profile began"):
        changed(case)


def test_tensorrt_is_asked_by_its_profiler(stand_in: Stand, tmp_path: Path) -> None:
    made = stand_in()
    probe = trt.open_probe(small(tmp_path), Wish("trt", 2, 1))
    probe()
    probe.wait()
    for _ in range(2):
        probe.begin()
        for _ in range(3):
            probe()
            probe.wait()
        probe.end()
    found = probe.kernels()
    assert [(each.kernel.names, each.turns_ms) for each in found[:2]] == [
        (("first/Conv",), (0.5, 0.5)),
        (("act/Relu",), (1.5, 1.5)),
    ]
    assert made.calls.count("report_to_profiler") == 7
    # A run of which a layer was not reported.
    probe.runs += 1
    with pytest.raises(CheckFailedError, match="7 times in 8 runs"):
        probe.kernels()
    probe.close()


def test_ort_cuda_waits_for_every_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple] = []
    monkeypatch.setattr(ort, "OrtProbe", lambda *given: made.append(given))
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "0")
    artifact = read_artifact(foreign(tmp_path / "a.onnx"))
    ort.open_cuda(artifact, Wish("ort-cuda", 1, 1, {"nhwc": "1"}))
    assert os.environ["CUDA_LAUNCH_BLOCKING"] == "1"
    ((_, _, providers, wrapped),) = made
    assert [providers[0][0], providers[0][1]["prefer_nhwc"], providers[1]] == [
        "CUDAExecutionProvider",
        "1",
        "CPUExecutionProvider",
    ]
    with pytest.raises(RuntimeMissingError, match="its provider did not load"):
        wrapped(artifact, SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]))
    (case,) = make_cases([artifact], ["ort-cuda"], settings={"ort-cuda": {"cuda_graph": "1"}})
    with pytest.raises(CnnportError, match="leave out --set cuda_graph=1"):
        asking.require_profiled(case)


def test_a_module_has_its_own_time_and_not_that_of_those_within(
    lenet: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    ticks = count()
    # A millisecond passes between any two looks at the clock.
    monkeypatch.setattr(torch_probe._Clock, "now", lambda _: next(ticks) * 10**6)
    probe = torch_probe.open_probe(lenet, Wish("torch-cpu", 1, 1))
    probe.begin()
    probe()
    probe.wait()
    probe.end()
    found = {each.kernel.name: each.kernel.ms for each in probe.kernels()}
    # Of the network itself: before, between and behind its 12 modules.
    assert found == {"(root)": 13.0, **{str(number): 1.0 for number in range(12)}}
    probe()
    probe.wait()
    probe.turns[0] = range(2)
    probe._runs_ms[1].pop("3")
    with pytest.raises(CheckFailedError, match="same modules in every run: 3"):
        probe.kernels()
    probe.close()

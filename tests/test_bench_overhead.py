"""The comparison of the harness with a bare loop."""

import json
import time
from statistics import median
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.errors import CheckFailedError, CnnportError
from cnnport.measuring import make_cases
from cnnport.measuring.studies import overhead, same_session
from cnnport.measuring.studies.overhead import Overhead, main, measure_overhead
from cnnport.measuring.studies.profiled import whole_runs_ns
from cnnport.onnxfile import read_artifact

pytest.importorskip("onnxruntime")


@pytest.fixture
def conv(tmp_path):
    weights = np.ones((16, 3, 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16, 30, 30])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "conv.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_ratio_is_the_median_of_pairs():
    measured = Overhead((1.0, 2.0, 9.0), (1.0, 1.9, 3.0))
    assert measured.ratio == 2.0 / 1.9
    assert measured.extra_s == pytest.approx(0.1)
    assert measured.to_json()["rounds"][2] == {"harness_p50_ms": 9000.0, "bare_p50_ms": 3000.0, "ratio": 3.0}
    assert measured.to_json()["bare_p50_ms"] == 1900.0


def test_sides_alternate(conv, monkeypatch):
    asked = []

    class Told:
        def __init__(self, command, **_):
            self.side = "bare" if command[-1].endswith("bare") else "harness"

        def ask(self, question):
            asked.append((self.side, "samples" in question))
            return {"samples_ns": [1e9 if self.side == "harness" else 2e9]}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(overhead, "Conversation", Told)
    (case,) = make_cases([read_artifact(conv)], ["ort-cpu"], [1], [1])
    assert measure_overhead(case, rounds=2, warmup_s=0, duration_s=0.12).ratio == 0.5
    first = ["harness", "bare"]
    assert [side for side, _ in asked] == [*first, *first, *first[::-1], *first[::-1], *first[::-1], *first]
    assert [is_slice for _, is_slice in asked] == [False, False, True, True, True, True] * 2


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino"])
@pytest.mark.parametrize("call", ["run", "bound", "same"])
def test_command(conv, capsys, runtime, call):
    pytest.importorskip({"ort-cpu": "onnxruntime"}.get(runtime, runtime))
    options = ["--threads", "1", "--rounds", "2", "--warmup", "0.05", "--duration", "0.1", "--batch", "4"]
    code = main([str(conv), "--runtime", runtime, "--call", call, *options])
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert code == 0
    assert [document[key] for key in ("model", "runtime", "batch", "threads", "call")] == [
        "conv",
        runtime,
        4,
        1,
        call,
    ]
    assert len(document["rounds"]) == 2
    # Not a check of the 2 % or the microseconds: that takes a quiet machine and longer runs.
    assert 0.2 < document["ratio"] < 5
    assert "bare loop" in err
    assert "batch 4" in err


def test_our_clock_against_the_runtimes_own(conv, capsys, tmp_path):
    record = tmp_path / "overhead.json"
    options = ["--threads", "1", "--rounds", "1", "--warmup", "0", "--duration", "0.05", "--call", "profile"]
    for batch in ("4", "2", "4"):
        assert main([str(conv), *options, "--batch", batch, "--out", str(record)]) == 0
    rows = json.loads(record.read_text())["rows"]
    assert [(row["batch"], row["call"]) for row in rows] == [(2, "profile"), (4, "profile")]
    # What Python adds is in our samples and not in theirs.
    assert all(row["extra_us"] > 0 for row in rows)
    with pytest.raises(SystemExit):
        main([str(conv), "--runtime", "openvino", "--call", "profile"])


def test_whole_runs_are_taken_from_the_profile_in_order():
    events = [
        {"name": "model_run", "dur": 3, "ts": 20},
        {"name": "conv_kernel_time", "dur": 1, "ts": 21},
        {"name": "model_run", "dur": 2.5, "ts": 10},
        {"name": "session_initialization", "dur": 9, "ts": 1},
    ]
    assert whole_runs_ns(events) == [2500, 3000]


def test_the_limit_decides_the_exit_code(conv, monkeypatch, capsys):
    monkeypatch.setattr(overhead, "measure_overhead", lambda *_, **__: Overhead((1.03,), (1.0,)))
    assert main([str(conv), "--limit", "0.04"]) == 0
    assert main([str(conv), "--limit", "0.02"]) == 1
    assert main([str(conv), "--limit-us", "30001"]) == 0
    assert main([str(conv), "--limit-us", "29999"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["extra_us"] == 30000


def test_bad_input(conv, capsys):
    assert main([str(conv), "--threads", "0"]) == 2
    assert "threads must be at least 1" in capsys.readouterr().err
    conv.write_bytes(b"junk")
    assert main([str(conv)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_side_that_fails_is_an_error(conv, tmp_path):
    (case,) = make_cases([read_artifact(conv)], ["ort-cpu"], [1], [1])
    with pytest.raises(CheckFailedError, match="the bare loop gave no result"):
        overhead._in_turn(case, tmp_path / "absent.npz", 0, 0, "run", is_first=False)
    conv.write_bytes(b"changed")
    with pytest.raises(CheckFailedError, match="the harness gave no result"):
        measure_overhead(case, rounds=1, warmup_s=0, duration_s=0)


def test_one_session_shows_what_stands_around_the_call(conv, monkeypatch):
    case = {"warmup_s": 0, "duration_s": 0.02, "turns": 2, "first": "bare"}

    class OrtLaunch:
        def __init__(self, slower_s):
            self._run, self._binding, self._slower_s = (lambda _: time.sleep(1e-3)), None, slower_s

        def __call__(self):
            time.sleep(self._slower_s)
            self._run(self._binding)

        def wait(self):
            pass

    def extra_s(slower_s):
        monkeypatch.setattr(
            same_session, "open_case", lambda _: SimpleNamespace(launches=(OrtLaunch(slower_s),))
        )
        answer = same_session.serve(case)
        return (median(answer["harness_ns"]) - median(answer["bare_ns"])) / 1e9

    assert extra_s(5e-3) > 4e-3
    assert extra_s(0) < 2e-3
    with pytest.raises(CnnportError, match="what int calls is not known"):
        same_session.bare_call(3)

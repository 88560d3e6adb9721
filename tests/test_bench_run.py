"""Cases in processes: what is measured, what is skipped, and that nothing is left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.answering import one_line
from cnnport.artifact import TensorSpec
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.measuring import bench, make_cases
from cnnport.measuring import run as run_module
from cnnport.measuring.case import artifact_from_json, artifact_to_json
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.run import Plan
from cnnport.measuring.worker import peak_memory_bytes
from cnnport.onnxfile import read_artifact
from cnnport.process import Failure, ask, command_of
from cnnport.runtimes.null import NullRuntime
from cnnport.runtimes.table import RUNTIMES

QUICK = {"rounds": 1, "warmup_s": 0.0, "duration_s": 0.0, "timeout_s": 60.0}

# A worker with runtimes that misbehave, each in its own way; it is the real one in everything else.
BAD_WORKER = """
import os, signal, subprocess, sys, time
from pathlib import Path
from cnnport.measuring import worker
from cnnport.errors import ArtifactError
from cnnport.runtimes.null import NullLaunch, NullRuntime, NullSession
from cnnport.runtimes.table import RUNTIMES

FOLDER = Path(__file__).parent


def segfault():
    os.write(2, b"about to\\n\\nfall over\\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def hang():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (FOLDER / "pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def print_junk():
    print('{"samples_ns": "from Python"}')
    os.write(1, b'{"samples_ns": "from C"}\\n' * 100_000)


def say_no():
    raise ArtifactError("this file\\n  is not for me")


def raise_anything():
    raise KeyError("surprise")


def exhaust_memory():
    raise MemoryError


def leave():
    sys.exit("I am off")


def second_time():
    seen = FOLDER / "seen"
    if seen.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    seen.touch()


def crash_at_exit():
    import atexit
    atexit.register(segfault)


def write_down():
    with (FOLDER / "order").open("a") as file:
        file.write("x")


class BadRuntime(NullRuntime):
    def __init__(self, act):
        self.act = act

    def open(self, artifact, options):
        self.act()
        return super().open(artifact, options)


ACTS = (segfault, hang, print_junk, say_no, raise_anything, exhaust_memory, leave, second_time, crash_at_exit)
for act in ACTS:
    RUNTIMES[act.__name__] = BadRuntime(act)

if __name__ == "__main__":
    worker.main()
"""


@pytest.fixture
def artifact(null_artifact):
    return null_artifact


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """Puts the misbehaving worker in the place of the real one; gives its folder."""
    script = tmp_path / "bad_worker.py"
    script.write_text(BAD_WORKER)
    monkeypatch.setattr(run_module, "command_of", lambda _: (sys.executable, "-P", str(script)))
    for line in BAD_WORKER.splitlines():
        if line.startswith("def "):
            monkeypatch.setitem(RUNTIMES, line[4:].partition("(")[0], NullRuntime())
    return tmp_path


def one(artifact, runtime, **settings):
    return bench(make_cases([artifact], [runtime], [1], [1]), **{**QUICK, **settings})


def reason_of(results):
    assert results.results == ()
    (row,) = results.skipped
    assert "\n" not in row.reason
    return row.reason, row.exit_code


def is_running(pid):
    try:
        # A zombie that init has not yet collected has ended too.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_null_runtime_end_to_end(artifact):
    results = bench(make_cases([artifact], ["null"], [4], [1]), rounds=2, warmup_s=0, duration_s=0)
    (row,) = results.results
    assert (row.model, row.runtime, row.precision, row.batch, row.threads) == ("none", "null", "fp32", 4, 1)
    assert (row.weights, row.sha256) == ("random", artifact.sha256)
    assert (row.runtime_version, row.device) == ("null", "none")
    assert [len(entry.samples_s) for entry in row.rounds] == [10, 10]
    # The instrument itself: the median of an empty run is far below any network's.
    assert 0 <= row.p50_s < 20e-6
    assert 0 < row.load_s < 0.1
    assert results.skipped == ()
    assert results.environment.load_average_end is not None
    assert (row.concurrency, row.clock, row.transfers, row.build_s) == (1, "wall", False, 0)
    assert all(entry.warmup.runs == 1 and entry.warmup.settled is None for entry in row.rounds)
    if sys.platform == "linux":
        assert 0 <= row.session_memory_bytes < 10 * 2**20
        assert len(row.cpus) == 1
        assert 5 * 2**20 < row.peak_memory_bytes < 200 * 2**20


def test_duration_is_per_case_and_split_over_rounds(artifact):
    begin = time.monotonic()
    results = bench(
        make_cases([artifact], ["null"], [1], [1]), rounds=2, warmup_s=0.1, duration_s=0.4, min_iterations=1
    )
    # A round of nothing may reach the most iterations before its time.
    assert time.monotonic() - begin > 0.4
    for entry in results.results[0].rounds:
        # The clock's own readings are not in it.
        assert 0.01 < sum(entry.samples_s) < 0.35


def test_cases_take_turns_in_an_order_drawn_by_seed(artifact, monkeypatch):
    asked = []

    def answer(command, question, *, threads, timeout_s):
        asked.append((question["runtime"], question["batch"], threads))
        assert question["duration_s"] == 2.0
        assert (question["warmup_s"], question["warmup_max_s"]) == (0.5, 2.0)
        assert timeout_s == 300 + 10 * (2.0 + 2.0)
        assert command == command_of("cnnport.measuring.worker")
        if question["batch"] == 2 and len(asked) > 3:
            return Failure("it broke", 1)
        return {
            "samples_ns": [1000 * len(asked)],
            "load_ns": 10**9,
            "peak_memory_bytes": 7,
            "cpus": [0],
            "runtime_version": "v",
            "device": "d",
        }

    monkeypatch.setattr(run_module, "ask", answer)
    steps = []
    results = bench(
        make_cases([artifact], ["null"], [1, 2, 3], [1]),
        rounds=3,
        warmup_s=0.5,
        duration_s=6.0,
        on_progress=lambda done, total, case: steps.append((done, total, case.batch)),
    )
    # Case 2 fails in the second round and is not asked again.
    assert [batch for _, batch, _ in asked] == [2, 3, 1, 3, 2, 1, 1, 3]
    assert steps == [(0, 9, 2), (1, 9, 3), (2, 9, 1), (3, 9, 3), (4, 9, 2), (5, 8, 1), (6, 8, 1), (7, 8, 3)]
    assert [row.batch for row in results.results] == [1, 3]
    assert results.results[0].samples_s == (3e-6, 6e-6, 7e-6)
    assert (results.method.seed, results.method.rounds, results.method.warmup_max_s) == (0, 3, 2.0)
    orders = {tuple(tuple(Plan(seed=seed).order(number, 3)) for number in (1, 2, 3)) for seed in range(20)}
    assert len(orders) > 10
    assert results.results[0].load_s == 1.0
    assert [(row.batch, row.reason) for row in results.skipped] == [(2, "it broke (round 2 of 3)")]


def test_missing_runtimes_and_batches_that_do_not_fit_start_no_process(artifact, monkeypatch):
    class Missing(NullRuntime):
        def missing(self):
            return "not installed: pip install it"

    monkeypatch.setitem(RUNTIMES, "trt", Missing())
    monkeypatch.setattr(run_module, "ask", lambda *_, **__: pytest.fail("a process was started"))
    fixed = replace(artifact, inputs=(TensorSpec("input", "float32", (1, 3, 8, 8)),))
    dynamic = replace(artifact, inputs=(TensorSpec("input", "float32", ("batch", 3, "height", 8)),))
    cases = (
        *make_cases([artifact], ["trt"], threads=[2]),
        *make_cases([fixed], ["null"], [8]),
        *make_cases([dynamic], ["null"]),
    )
    results = bench(cases, rounds=3, on_progress=lambda *_: pytest.fail("a process was announced"))
    assert results.results == ()
    assert [(row.runtime, row.reason, row.exit_code) for row in results.skipped] == [
        ("trt", "not installed: pip install it", 3),
        ("null", "the file's batch is fixed at 1: export it with --batch 8 or dynamic", 2),
        (
            "null",
            "dimension 2 of input:float32[batch,3,height,8] is dynamic: "
            "give the input's --shape, or export it with fixed sizes",
            2,
        ),
    ]
    first = results.skipped[0]
    assert (first.model, first.precision, first.batch, first.threads) == ("none", "fp32", 1, 2)
    assert first.weights == "random"


def test_no_cases():
    assert bench([]).results == ()


def test_numbers_out_of_range(artifact):
    cases = make_cases([artifact], ["null"])
    for wrong in ({"rounds": 0}, {"warmup_s": -1}, {"duration_s": float("nan")}, {"min_iterations": 0}):
        with pytest.raises(CnnportError, match="must be at least"):
            bench(cases, **wrong)
    with pytest.raises(UnknownNameError):
        bench(make_cases([artifact], ["nul"]))


def test_cases_are_the_product_in_order(artifact):
    fixed = replace(artifact, model="fixed", inputs=(TensorSpec("input", "float32", (5, 3)),))
    cases = make_cases([artifact, fixed], ["null", "ort-cpu"], None, [1, 2])
    assert [(case.artifact.model, case.runtime, case.batch, case.threads) for case in cases] == [
        (model, runtime, batch, threads)
        for model, batch in (("none", 1), ("fixed", 5))
        for runtime in ("null", "ort-cpu")
        for threads in (1, 2)
    ]
    assert [case.batch for case in make_cases([fixed], ["null"], [7, 3])] == [7, 3]
    assert make_cases([artifact], ["null"])[0].threads == default_threads()
    with pytest.raises(CnnportError, match="batch must be at least 1, not 0"):
        make_cases([artifact], ["null"], [1, 0])
    with pytest.raises(CnnportError, match="threads must be at least 1, not -2"):
        make_cases([artifact], ["null"], [1], [-2])


def test_an_artifact_survives_the_way_to_the_worker(artifact):
    assert artifact_from_json(json.loads(json.dumps(artifact_to_json(artifact)))) == artifact


def test_the_file_is_still_the_one_that_was_asked_for(artifact):
    artifact.path.write_bytes(b"another")
    reason, code = reason_of(one(artifact, "null"))
    assert "has changed since the benchmark began" in reason
    assert code == 2
    artifact.path.unlink()
    assert "No such file" in reason_of(one(artifact, "null"))[0]


@pytest.mark.parametrize(
    ("runtime", "reason", "code"),
    [
        ("segfault", "the process was killed by signal 11 (SIGSEGV): fall over", 1),
        ("say_no", "this file is not for me", 2),
        ("raise_anything", "KeyError: 'surprise'", 1),
        ("exhaust_memory", "memory ran out", 1),
        ("leave", "the process ended with status 1 and no answer: I am off", 1),
    ],
)
def test_a_case_that_fails_is_a_row_with_its_reason(artifact, bad, runtime, reason, code):
    assert reason_of(one(artifact, runtime)) == (reason, code)


def test_one_crash_costs_one_row(artifact, bad):
    results = bench(make_cases([artifact], ["null", "segfault", "null"], [1], [1]), **{**QUICK, "rounds": 2})
    assert [len(row.rounds) for row in results.results] == [2, 2]
    assert [row.runtime for row in results.skipped] == ["segfault"]


def test_a_failure_in_a_later_round_says_so(artifact, bad):
    reason, _ = reason_of(one(artifact, "second_time", rounds=3))
    assert reason == (
        "the process was killed by signal 9 (SIGKILL), which is what the kernel does when memory runs out "
        "(round 2 of 3)"
    )


def test_what_libraries_print_is_not_an_answer(artifact, bad):
    results = one(artifact, "print_junk")
    assert results.skipped == ()
    assert len(results.results[0].samples_s) == 10


def test_a_crash_after_the_measurement_does_not_take_it_back(artifact, bad):
    assert len(one(artifact, "crash_at_exit").results) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_hangs_is_stopped_with_its_children(artifact, bad):
    results = one(artifact, "hang", timeout_s=3.0)
    assert reason_of(results) == ("no answer within 3 s, so the process was stopped", 1)
    pids = [int(pid) for pid in (bad / "pids").read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_running, pids)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_an_interrupted_benchmark(artifact, bad, how):
    program = f"""
        import json, sys
        from pathlib import Path
        sys.path.insert(0, {str(bad)!r})
        import bad_worker
        from cnnport.measuring import bench, make_cases, run
        from cnnport.measuring.case import artifact_from_json
        run.command_of = lambda _: (sys.executable, "-P", bad_worker.__file__)
        artifact = artifact_from_json(json.loads({json.dumps(artifact_to_json(artifact))!r}))
        try:
            bench(make_cases([artifact], ["hang"], [1], [1]), rounds=1)
        except KeyboardInterrupt:
            sys.exit(130)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    pids = bad / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    worker, grandchild = map(int, pids.read_text().split())
    try:
        assert is_running(worker)
        parent.send_signal(how)
        assert parent.wait(20) == (130 if how == signal.SIGINT else -how)
        wait_until(lambda: not is_running(worker))
        if how == signal.SIGINT:
            wait_until(lambda: not is_running(grandchild))
    finally:
        for pid in (parent.pid, worker, grandchild):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        parent.wait()


def test_processes_get_threads_import_path_and_no_junk():
    program = """if True:
        import json, os, sys
        question = json.load(sys.stdin)
        sys.stderr.write("junk")
        threads = [os.environ[name + "_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")]
        print(json.dumps({"question": question, "threads": threads, "path": sys.path}))
    """
    answer = ask((sys.executable, "-c", program), {"x": 1}, threads=3, timeout_s=30)
    assert answer["question"] == {"x": 1, "parent": os.getpid()}
    assert answer["threads"] == ["3"] * 3
    assert set(filter(None, sys.path)) <= set(answer["path"])


@pytest.mark.parametrize("output", ["", "junk", "[1]", "3"])
def test_an_answer_that_is_none(output):
    answer = ask((sys.executable, "-c", f"print({output!r})"), {}, threads=1, timeout_s=30)
    assert answer == Failure("the process ended with status 0 and no answer")


def test_reasons_are_one_line_and_not_endless():
    assert one_line(ValueError("a\n\tb  c")) == "a b c"
    assert len(one_line(ValueError("x" * 10_000))) == 300


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_peak_memory_is_the_process_own():
    ballast = np.ones(300 * 2**20, np.uint8)
    program = "from cnnport.measuring.worker import *; print(peak_memory_bytes())"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(child.stdout) < 100 * 2**20 < ballast.nbytes < peak_memory_bytes()


@pytest.fixture
def conv(tmp_path):
    """A convolution with a dynamic batch, as a file."""
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 16, 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "conv.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_onnxruntime(conv):
    pytest.importorskip("onnxruntime")
    cases = make_cases([read_artifact(conv)], ["ort-cpu"], [1, 16], [1])
    results = bench(cases, rounds=2, warmup_s=0.02, duration_s=0.1)
    assert results.skipped == ()
    small, large = results.results
    assert small.runtime_version.startswith("onnxruntime 1")
    assert small.model == "conv"
    assert small.weights == "unknown"
    assert 0 < small.p50_s < large.p50_s < 0.1
    assert 0 < small.load_s < 10


def test_onnxruntime_refuses_a_damaged_file(conv):
    pytest.importorskip("onnxruntime")
    damaged = conv.with_name("damaged.onnx")
    damaged.write_bytes(conv.read_bytes()[:-60])
    artifact = replace(
        read_artifact(conv), path=damaged, sha256=hashlib.sha256(damaged.read_bytes()).hexdigest()
    )
    reason, code = reason_of(one(artifact, "ort-cpu"))
    assert reason.startswith("onnxruntime cannot load")
    assert code == 2

"""The loop that the harness is held against: what anyone would write around a runtime, and nothing of ours.

``python -m cnnport.measuring.studies.bare`` reads ``{"runtime", "path", "feeds", "call", "threads", "cpus",
"warmup_s"}`` as a line of JSON on standard input, warms up and answers with ``{}``; each further line asks for
``duration_s`` seconds of runs and is answered with ``{"samples_ns"}``. In between it sleeps, so that the harness gets
its turns on the same CPUs. Of the harness it shares the pinning, the threads, the precision and the values
of the input, because those are the conditions of the comparison; it shares neither the timing loop nor the runtime's
adapter.

``call`` is ``run``, which takes the feeds and fetches the outputs every time (``session.run`` of onnxruntime,
``request.infer(feeds)`` of openvino), or ``bound``, for which everything lies in place, as with the adapter, so that
only the harness differs (an ``IOBinding``, ``request.infer()``).
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

Call = Callable[[], object]


def main() -> None:
    """Time one call of a runtime's, as long as it is asked to, and write the samples."""
    case = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, case["cpus"])
    call, _held = RUNTIMES[case["runtime"]](case)

    stop = time.perf_counter() + case["warmup_s"]
    while time.perf_counter() < stop:
        call()
    print("{}", flush=True)  # noqa: T201

    for line in sys.stdin:
        # The first run after the other side's turn finds the caches cold.
        call()
        samples_ns: list[int] = []
        stop = time.perf_counter() + json.loads(line)["duration_s"]
        while not samples_ns or time.perf_counter() < stop:
            begin = time.perf_counter_ns()
            call()
            samples_ns.append(time.perf_counter_ns() - begin)
        print(json.dumps({"samples_ns": samples_ns}), flush=True)  # noqa: T201


def ort_cpu(case: dict[str, Any]) -> tuple[Call, object]:
    """A run of onnxruntime's, and what has to live as long as it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = case["threads"]
    session = ort.InferenceSession(case["path"], options, providers=["CPUExecutionProvider"])
    feeds = _feeds(case)
    if case["call"] == "run":
        return partial(session.run, None, feeds), feeds
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return partial(session.run_with_iobinding, binding), feeds


def openvino(case: dict[str, Any]) -> tuple[Call, object]:
    """A run of openvino's, and what has to live as long as it: its tensors do not hold the arrays under them."""
    # With it, openvino would report its use over the network.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino as ov

    conditions = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": case["threads"],
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }
    core = ov.Core()
    request = core.compile_model(core.read_model(case["path"]), "CPU", conditions).create_infer_request()
    feeds = _feeds(case)
    if case["call"] == "run":
        return partial(request.infer, feeds), feeds
    for name, array in feeds.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    return request.infer, feeds


RUNTIMES = {"ort-cpu": ort_cpu, "openvino": openvino}


def _feeds(case: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    with np.load(case["feeds"]) as stored:
        return dict(stored)


if __name__ == "__main__":
    main()

"""The loop that the harness is held against: what anyone would write around onnxruntime, and nothing of ours.

``python -m cnnport.bench.bare`` reads ``{"path", "feeds", "call", "threads", "cpus", "warmup_s",
"duration_s"}`` as JSON on standard input and answers with ``{"samples_ns"}``. Of the harness it shares the
pinning, the threads and the values of the input, because those are the conditions of the comparison; it
shares neither the timing loop nor the runtime's adapter.

``call`` is ``run`` (``session.run``, which converts the feeds and fetches the outputs every time: some
microseconds) or ``bound`` (an ``IOBinding``, as the adapter uses it, so that only the harness differs).
"""

import json
import os
import sys
import time


def main() -> None:
    """Time ``session.run`` and write the samples."""
    case = json.load(sys.stdin)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, case["cpus"])

    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = case["threads"]
    session = ort.InferenceSession(case["path"], options, providers=["CPUExecutionProvider"])
    with np.load(case["feeds"]) as stored:
        feeds = dict(stored)

    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)

    stop = time.perf_counter() + case["warmup_s"]
    while time.perf_counter() < stop:
        session.run(None, feeds)

    samples_ns = []
    stop = time.perf_counter() + case["duration_s"]
    # Two loops, because the question which call it is must not stand between the clock's readings.
    if case["call"] == "run":
        while time.perf_counter() < stop:
            begin = time.perf_counter_ns()
            session.run(None, feeds)
            samples_ns.append(time.perf_counter_ns() - begin)
    else:
        while time.perf_counter() < stop:
            begin = time.perf_counter_ns()
            session.run_with_iobinding(binding)
            samples_ns.append(time.perf_counter_ns() - begin)
    json.dump({"samples_ns": samples_ns}, sys.stdout)


if __name__ == "__main__":
    main()

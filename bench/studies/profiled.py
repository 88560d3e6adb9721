"""Our clock and onnxruntime's own, of the same runs: ``python -m cnnport.measuring.studies.profiled``.

It reads ``{"path", "feeds", "threads", "cpus", "warmup_s", "duration_s"}`` as JSON on standard input, as ``bare``
does, opens the file as the adapter does but with onnxruntime's profiling on, takes times with our loop, and answers
with ``{"samples_ns", "profiler_ns"}``: what our loop saw, and what the profile says of the same runs (its
``model_run`` events, which are whole runs). Both are slowed down by the profiling, and alike.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from cnnport.answering import answer_with
from cnnport.measuring.measure import MAX_ITERATIONS, measure
from cnnport.measuring.record import Json
from cnnport.measuring.worker import pin

# The profile keeps about a million events and then says no more: of a network with two hundred kernels, 5,000 runs.
_MOST_RUNS = 1_000


def serve(case: Json) -> Json:
    """Measure. Raises whatever onnxruntime does."""
    pin(case["cpus"])
    import numpy as np

    from cnnport.onnxfile import read_artifact
    from cnnport.runtimes import Options
    from cnnport.runtimes.ort import CPU, OrtSession, load, session_options

    artifact = read_artifact(Path(case["path"]))
    settings = session_options(Options(threads=case["threads"]))
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder, np.load(case["feeds"]) as feeds:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = load(artifact, settings, [CPU])
        launch = OrtSession(artifact, session).bind(dict(feeds))
        # The profile is of bounded size, so it is warmed up by runs and not by time.
        samples = measure(
            launch,
            warmup_s=0.0,
            duration_s=case["warmup_s"] + case["duration_s"],
            max_iterations=min(_MOST_RUNS, MAX_ITERATIONS),
        )
        found = whole_runs_ns(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))
    # The first run of all is not among the samples; of the others the first half is warm-up.
    behind = len(samples) // 2
    return {"samples_ns": samples[behind:], "profiler_ns": found[-len(samples) :][behind:]}


def whole_runs_ns(events: list[dict[str, Any]]) -> list[int]:
    """How long each whole run took, in order, of onnxruntime's events in microseconds."""
    runs = [event for event in events if event.get("name") == "model_run"]
    return [round(event["dur"] * 1e3) for event in sorted(runs, key=lambda event: float(event["ts"]))]


if __name__ == "__main__":
    answer_with(serve)

"""One case under its runtime's profiler, a turn at a time: ``python -m cnnport.measuring.profiling.worker``.

The first line of standard input is a case as ``bench.worker`` takes it. Each further one asks for a turn
(``duration_s``, ``least_runs``, ``most_runs``), or for what the turns so far say of kernels (``kernels``), after
which nothing runs; with ``noting`` what taking note of a kernel costs is measured too.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cnnport.answering import answer_all_with
from cnnport.errors import ArtifactError
from cnnport.measuring.case import artifact_from_json
from cnnport.measuring.fields import Json
from cnnport.measuring.measure import measure
from cnnport.measuring.profiling.noting import noting_ms
from cnnport.measuring.profiling.probes import PROBES, Probe, Wish
from cnnport.measuring.worker import pin

# What others left in the caches slows a run of so many seconds down by nothing that shows.
_LONG_S = 0.05


@dataclass(frozen=True)
class _Facts:
    runtime_version: str
    device: str
    cpus: tuple[int, ...]


def begin(case: Json) -> Callable[[Json], Json]:
    """Open the file with the profiler, and warm up. Raises as ``bench.worker.open_case``, and as ``PROBES``."""
    cpus = pin(case["cpus"])

    from cnnport.files import sha256_of
    from cnnport.runtimes import require_runtime

    artifact = artifact_from_json(case["artifact"])
    try:
        if sha256_of(artifact.path) != artifact.sha256:
            raise ArtifactError(f"{artifact.path} has changed since the profile began")
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact.path}: {error.strerror or error}") from error
    runtime = require_runtime(case["runtime"])
    wish = Wish(
        case["runtime"],
        case["batch"],
        case["threads"],
        case["settings"],
        case["device"],
        case["deterministic"],
    )
    probe = PROBES[case["runtime"]](artifact, wish)
    samples = measure(probe, warmup_s=case["warmup_s"], duration_s=0, min_iterations=1)
    is_long = samples[-1] / 1e9 > _LONG_S
    facts = _Facts(runtime.version(), runtime.device(), cpus)

    def serve(question: Json) -> Json:
        if "kernels" in question:
            return _kernels(probe, facts, wish, noting=question["noting"])
        return _turn(probe, question, is_long=is_long)

    return serve


def _turn(probe: Probe, question: Json, *, is_long: bool) -> Json:
    if not is_long:
        measure(probe, warmup_s=None, duration_s=0, min_iterations=1)
    probe.begin()
    samples = measure(
        probe,
        warmup_s=None,
        duration_s=question["duration_s"],
        min_iterations=question["least_runs"],
        max_iterations=max(question["least_runs"], question["most_runs"]),
    )
    probe.end()
    return {"p50_s": median(samples) / 1e9, "samples": len(samples)}


def _kernels(probe: Probe, facts: _Facts, wish: Wish, *, noting: bool) -> Json:
    found = [each.to_json() for each in probe.kernels()]
    probe.close()
    return {
        "kernels": found,
        "noting_ms": _noting_ms(wish) if noting else 0.0,
        "runtime_version": facts.runtime_version,
        "device": facts.device,
        "cpus": facts.cpus,
    }


def _noting_ms(wish: Wish) -> float:
    """What taking note of a kernel costs, where that is counted as the kernel's."""
    if wish.runtime != "ort-cpu":
        return 0.0
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as folder:
        return noting_ms(PROBES[wish.runtime], wish, Path(folder))


if __name__ == "__main__":
    answer_all_with(begin)

"""One case, measured in this process: ``python -m cnnport.bench.worker`` reads it on standard input as JSON.

The process is pinned before NumPy or a runtime is imported, so that every thread that they start inherits the
CPUs. ``load_s`` is the time to open the session and nothing else: the package behind the runtime has been
imported, and the file has been read once (to see that it is still the file of the case), so it comes from the
page cache.
"""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.bench.answering import answer_with
from cnnport.bench.case import artifact_from_json
from cnnport.bench.measure import measure
from cnnport.bench.record import Json
from cnnport.errors import ArtifactError
from cnnport.memory import peak_memory_bytes

if TYPE_CHECKING:
    from cnnport.runtimes.protocol import Launch, Session

SEED = 0
"""Of the input: the values do not matter to a network's speed as long as they are ordinary numbers."""


def pin(cpus: list[int]) -> tuple[int, ...]:
    """Restrict this process to the given CPUs where the platform can, and say what it is restricted to."""
    if not hasattr(os, "sched_setaffinity"):
        return ()
    os.sched_setaffinity(0, cpus)
    return tuple(sorted(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Opened:
    """A case that is ready to be measured.

    Attributes:
        session: Open.
        launch: Over a seeded input.
        facts: Load time, the CPUs pinned to, and the runtime's version and device.
    """

    session: "Session"
    launch: "Launch"
    facts: Json


def open_case(case: Json) -> Opened:
    """Pin this process and load the file.

    Raises:
        RuntimeMissingError: If the runtime is not available.
        ArtifactError: If the file has changed, or the runtime cannot load it.
        FeedError: If no input can be made for it.
    """
    cpus = pin(case["cpus"])

    from cnnport.files import sha256_of
    from cnnport.golden import seeded_input
    from cnnport.runtimes import Options
    from cnnport.runtimes.table import require_runtime

    artifact = artifact_from_json(case["artifact"])
    try:
        if sha256_of(artifact.path) != artifact.sha256:
            raise ArtifactError(f"{artifact.path} has changed since the benchmark began")
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact.path}: {error.strerror or error}") from error
    runtime = require_runtime(case["runtime"])
    # Who is asked for a version has to import what it is the version of.
    version = runtime.version()
    options = Options(
        threads=case["threads"],
        settings=case["settings"],
        device=case["device"],
        deterministic=case["deterministic"],
    )
    begin = time.perf_counter_ns()
    session = runtime.open(artifact, options)
    load_ns = time.perf_counter_ns() - begin
    launch = session.bind(seeded_input(artifact.inputs, case["batch"], SEED))
    facts = {"load_ns": load_ns, "cpus": cpus, "runtime_version": version, "device": runtime.device()}
    return Opened(session, launch, facts)


def serve(case: Json) -> Json:
    """Measure a case. Raises as ``open_case``.

    Returns:
        Raw samples, load time, peak memory, the CPUs pinned to, and the runtime's version and device.
    """
    opened = open_case(case)
    with opened.session:
        samples_ns = measure(
            opened.launch,
            warmup_s=case["warmup_s"],
            duration_s=case["duration_s"],
            min_iterations=case["min_iterations"],
        )
        return {"samples_ns": samples_ns, "peak_memory_bytes": peak_memory_bytes(), **opened.facts}


def main() -> None:
    """Measure the case on standard input, answer, and end at once."""
    answer_with(serve)


if __name__ == "__main__":
    main()

"""One case, measured in this process: ``python -m cnnport.measuring.worker`` reads it on standard input as JSON.

The process is pinned before NumPy or a runtime is imported, so that every thread that they start inherits the
CPUs. ``load_ns`` is the time to open the session, less what the runtime says that it spent compiling: the package
behind the runtime has been imported, and the file has been read once (to see that it is still the file of the case),
so it comes from the page cache.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.answering import answer_with
from cnnport.errors import ArtifactError
from cnnport.measuring.case import artifact_from_json
from cnnport.measuring.loop import Loop
from cnnport.measuring.nvml import find_gpu
from cnnport.measuring.record import Json
from cnnport.measuring.sensors import read_sensors
from cnnport.measuring.usage import read_load, resident_bytes
from cnnport.memory import peak_memory_bytes

if TYPE_CHECKING:
    from cnnport.measuring import nvml
    from cnnport.runtimes.protocol import Launch, Session

SEED = 0
"""Of the input: the values do not matter to a network's speed as long as they are ordinary numbers."""

# Runtimes whose work is on a GPU of NVIDIA's.
_ON_GPU = {"torch-cuda", "ort-cuda", "trt", "trt-rtx"}


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
        launches: Over a seeded input, one for each request in flight.
        facts: Load and build time, the CPUs pinned to, and the runtime's version and device.
        memory: What was in use before the session was opened.
        gpu: That it runs on, if it is one of NVIDIA's.
    """

    session: "Session"
    launches: "tuple[Launch, ...]"
    facts: Json
    memory: "Memory"
    gpu: "nvml.Gpu | None" = None

    @property
    def launch(self) -> "Launch":
        """The first launch."""
        return self.launches[0]

    def grown(self) -> Json:
        """By how much the memory in use has grown since, on the host and on the device; None where nobody tells."""
        now = Memory.read(self.gpu)
        return {
            "session_memory_bytes": _grown(self.memory.host, now.host),
            "device_memory_bytes": _grown(self.memory.device, now.device),
        }


@dataclass(frozen=True)
class Memory:
    """Bytes in use, of this process and on its GPU; None where nobody tells."""

    host: int | None
    device: int | None

    @classmethod
    def read(cls, gpu: "nvml.Gpu | None") -> "Memory":
        """As it is now."""
        return cls(resident_bytes(), None if gpu is None else gpu.used_bytes())


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
    gpu = find_gpu(case["device"]) if case["runtime"] in _ON_GPU else None
    before = Memory.read(gpu)
    with _compile_times() as compiled:
        begin = time.perf_counter_ns()
        session = runtime.open(artifact, options)
        load_ns = time.perf_counter_ns() - begin - sum(compiled)
        feeds = seeded_input(artifact.inputs, case["batch"], SEED)
        launches = tuple(session.bind(feeds) for _ in range(case.get("concurrency", 1)))
    facts = {
        "load_ns": max(load_ns, 0),
        "build_ns": sum(compiled),
        "cpus": cpus,
        "runtime_version": version,
        "device": runtime.device(),
    }
    return Opened(session, launches, facts, before, gpu)


def serve(case: Json) -> Json:
    """Measure a case. Raises as ``open_case``.

    Returns:
        Raw samples and what ``Round`` has of them, the CPUs pinned to, and the runtime's version and device.
    """
    with ExitStack() as stack:
        opened = open_case(case)
        stack.enter_context(opened.session)
        loop = stack.enter_context(Loop(opened.launches, transfers=case.get("transfers", False)))
        warmup = loop.warm_up(case["warmup_s"], case.get("warmup_max_s", 0.0))
        first = opened.grown()
        cpus = opened.facts["cpus"]
        before, load = read_sensors(cpus, opened.gpu), read_load(cpus)
        taken = loop.take(case["duration_s"], case["min_iterations"])
        others = load.others_until(read_load(cpus))
        after, last = read_sensors(cpus, opened.gpu), opened.grown()
        device = [each["device_memory_bytes"] for each in (first, last)]
        return {
            **opened.facts,
            **taken.to_json(),
            "warmup": warmup.to_json(),
            "before": before.to_json(),
            "after": after.to_json(),
            "other_load": others,
            "peak_memory_bytes": peak_memory_bytes(),
            "session_memory_bytes": first["session_memory_bytes"],
            "device_memory_bytes": max((each for each in device if each is not None), default=None),
        }


@contextmanager
def _compile_times() -> Iterator[list[int]]:
    """How long the runtime compiled while the block lasted, in nanoseconds; what compiles inside counts once."""
    from cnnport.runtimes.compiling import listening

    found: list[int] = []
    began: list[int] = []

    def listen(begins: bool) -> None:
        if begins:
            began.append(time.perf_counter_ns())
            return
        start = began.pop()
        if not began:
            found.append(time.perf_counter_ns() - start)

    with listening(listen):
        yield found


def _grown(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else max(now - before, 0)


def main() -> None:
    """Measure the case on standard input, answer, and end at once."""
    answer_with(serve)


if __name__ == "__main__":
    main()

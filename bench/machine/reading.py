"""What this machine can do, measured once and then read: one file per machine and number of threads."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cnnport.errors import CheckFailedError, CnnportError, OutputError
from cnnport.files import cache_root, write_atomically
from cnnport.measuring.cpus import allowed_cpus, choose_cpus, cores_of, default_threads
from cnnport.measuring.environment import read_environment
from cnnport.measuring.machine.machine import Json, Machine, Product, Stream
from cnnport.process import Failure, ask, command_of

PARTS = ("ort-cpu", "openvino", "torch", "memory")
"""What is measured, each in a process of its own."""

DURATION_S = 0.3
"""Seconds of each operation."""

# Of measuring a machine that is never quiet.
_MOST_TIMES = 3

# Raised when what is measured, or how, changes.
_FORMAT = 1

_WORKER = "cnnport.measuring.machine.worker"
_TIMEOUT_S = 300.0

# Whose kernels the figures are of.
_PACKAGES = ("onnxruntime", "openvino", "torch")


def read_machine(
    threads: int | None = None,
    *,
    measure: bool = True,
    tell: Callable[[str, int, int], None] = lambda _part, _done, _all: None,
) -> Machine:
    """What this machine can do, from the cache or measured now, which takes about 15 s.

    A record that was taken while others were at work is measured again the next time, up to three times, and the
    better figures of all are kept.

    Args:
        threads: That work together; None for all cores.
        measure: Whether it is measured if there is no record of it, or only an unsteady one.
        tell: Told before every part that is measured: its name, parts done, parts in all.

    Raises:
        CnnportError: If there is no record and nothing may be measured, or the threads are less than 1.
        CheckFailedError: If neither arithmetic in fp32 nor bandwidth can be measured.
    """
    threads = default_threads() if threads is None else threads
    if threads < 1:
        raise CnnportError(f"threads must be at least 1, not {threads}")
    path = _path(threads)
    known = _read(path)
    if known is not None and (known.is_steady or known.times >= _MOST_TIMES or not measure):
        return known
    if not measure:
        raise CnnportError(f"this machine has not been measured with {threads} threads yet")
    found = measure_machine(threads, tell=tell)
    if known is not None:
        found = found.best_of(known)
    # Without a cache the figures are as good; they are measured again the next time.
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(found.to_json(), indent=1).encode())
    return found


def measure_machine(
    threads: int,
    *,
    duration_s: float = DURATION_S,
    tell: Callable[[str, int, int], None] = lambda _part, _done, _all: None,
) -> Machine:
    """Measure, whatever is known already. Arguments and errors as of ``read_machine``.

    Args:
        threads: That work together.
        duration_s: Seconds of each operation.
        tell: As of ``read_machine``.
    """
    environment = read_environment()
    products: list[Product] = []
    streams: list[Stream] = []
    skipped: dict[str, str] = {}
    for done, part in enumerate(PARTS):
        tell(part, done, len(PARTS))
        answer = measure_part(part, threads, duration_s=duration_s)
        if isinstance(answer, Failure):
            skipped[part] = answer.reason
            continue
        products += [Product(**each) for each in answer.get("products", ())]
        streams += [Stream(**each) for each in answer.get("streams", ())]
    found = Machine(
        threads=threads,
        cpu_model=environment.cpu_model,
        products=tuple(products),
        streams=tuple(streams),
        versions=_versions(),
        skipped=skipped,
        date_utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if "fp32" not in found.peak_flops or not found.bandwidth_bytes_s:
        reasons = "; ".join(f"{part}: {reason}" for part, reason in skipped.items())
        raise CheckFailedError(f"this machine cannot be measured: {reasons}")
    return found


def measure_part(part: str, threads: int, *, duration_s: float = DURATION_S) -> Json | Failure:
    """Measure one part in a process of its own; what it answers is ``worker.serve``'s.

    Args:
        part: One of ``PARTS``, or ``numpy``.
        threads: That work together.
        duration_s: Seconds of each operation.
    """
    cpus = choose_cpus(threads, cores_of(allowed_cpus()))
    question = {"part": part, "cpus": cpus, "threads": threads, "duration_s": duration_s}
    return ask(command_of(_WORKER), question, threads=threads, timeout_s=_TIMEOUT_S)


def _path(threads: int) -> Path:
    """Where the record of this machine lies: another CPU, or other packages, is another machine."""
    environment = read_environment()
    identity = {
        "format": _FORMAT,
        "cpu_model": environment.cpu_model,
        "cpu_flags": environment.cpu_flags,
        "cpus": choose_cpus(threads, cores_of(allowed_cpus())),
        "cores": (environment.cores_physical, environment.cores_logical),
        "quota": environment.cpu_quota,
        "threads": threads,
        "versions": _versions(),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return cache_root() / "machine" / f"{digest}.json"


def _versions() -> dict[str, str]:
    packages = read_environment().packages
    return {name: packages[name] for name in _PACKAGES if name in packages}


def _read(path: Path) -> Machine | None:
    """A record; None where there is none, or a damaged one."""
    try:
        return Machine.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None

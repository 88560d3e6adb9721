"""What a process has of its machine: memory in use, and how much of its CPUs others took meanwhile."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
# Linux counts in ticks of a hundredth of a second: over less than this, the count says nothing.
_LEAST_S = 0.25
# Of a line in /proc/stat, behind the name: what is neither idle nor waiting nor counted twice.
_BUSY = (0, 1, 2, 5, 6, 7)


def resident_bytes() -> int | None:
    """The resident set of this process; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Load:
    """What the CPUs have done so far.

    Attributes:
        busy_s: By CPU, time that was not idle, whoever had it; what a hypervisor took away is in it.
        own_s: Of this process, all threads.
        at_s: When.
    """

    busy_s: tuple[float, ...]
    own_s: float
    at_s: float

    def others_until(self, later: "Load") -> float | None:
        """Share of these CPUs' time until then that went to others; None where it cannot be told."""
        elapsed_s = later.at_s - self.at_s
        if not self.busy_s or len(later.busy_s) != len(self.busy_s) or elapsed_s < _LEAST_S:
            return None
        busy_s = sum(later.busy_s) - sum(self.busy_s)
        others_s = busy_s - (later.own_s - self.own_s)
        return min(max(others_s / (elapsed_s * len(self.busy_s)), 0.0), 1.0)


def read_load(cpus: Sequence[int], stat: Path = _STAT, clock: Callable[[], float] = time.monotonic) -> Load:
    """The load of some CPUs as it is now."""
    return Load(_busy_s(cpus, stat), time.process_time(), clock())


def _busy_s(cpus: Sequence[int], stat: Path) -> tuple[float, ...]:
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
        rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("cpu")}
        ticks = [sum(int(rows[f"cpu{cpu}"][place]) for place in _BUSY) for cpu in cpus]
    except (OSError, ValueError, LookupError):
        return ()
    per_second = os.sysconf("SC_CLK_TCK")
    return tuple(each / per_second for each in ticks)

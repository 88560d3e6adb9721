"""Which CPUs there are, which of them may be used, and on which a number of threads is pinned.

Words: a CPU is what the kernel schedules on (a hardware thread); a core holds one or more of them. Linux says
    all of
this under ``/sys`` and ``/proc``; where those cannot be read, every CPU counts as a core.
"""

import math
import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

_CPU_FOLDER = Path("/sys/devices/system/cpu")
_CGROUP_FOLDER = Path("/sys/fs/cgroup")


def allowed_cpus() -> tuple[int, ...]:
    """The CPUs that this process may run on (taskset, cpuset and the like respected), in order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cores_of(cpus: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The given CPUs grouped by the core that they share, cores in the order of their first CPU."""
    groups: dict[tuple[str, str], list[int]] = {}
    for cpu in sorted(cpus):
        topology = _CPU_FOLDER / f"cpu{cpu}" / "topology"
        package, core = read_line(topology / "physical_package_id"), read_line(topology / "core_id")
        key = (package, core) if core is not None and package is not None else ("cpu", str(cpu))
        groups.setdefault(key, []).append(cpu)
    return tuple(tuple(group) for group in groups.values())


def choose_cpus(threads: int, cores: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The CPUs on which ``threads`` threads are pinned together.

    The rule: as many CPUs as threads, the lowest numbers first, one of each core before any core gives its
    second, because two threads that share a core slow each other. More threads than CPUs get all CPUs.

    Args:
        threads: At least 1.
        cores: CPUs grouped by core, as ``cores_of`` gives them.
    """
    turns = (cpu for turn in zip_longest(*cores) for cpu in turn if cpu is not None)
    return tuple(sorted(cpu for cpu, _ in zip(turns, range(threads), strict=False)))


def default_threads() -> int:
    """One thread for every core that may be used, and no more than a container's CPU quota."""
    cores = len(cores_of(allowed_cpus()))
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def cpu_quota() -> float | None:
    """CPUs' worth of time that the control group grants, as containers set it; None without a limit."""
    return read_quota(_CGROUP_FOLDER, read_line(Path("/proc/self/cgroup")) or "0::/")


def read_quota(folder: Path, membership: str) -> float | None:
    """The tightest quota on the way from the root of the control groups to this process's own.

    Args:
        folder: Where the control groups are mounted.
        membership: A line of ``/proc/self/cgroup``; its last field is the path of the group.
    """
    quotas: list[float] = []
    group = Path(membership.rpartition(":")[2].lstrip("/"))
    for place in (group, *group.parents):
        # Version 2: one file "quota period", the quota "max" where there is none.
        quota, _, period = (read_line(folder / place / "cpu.max") or "").partition(" ")
        if not period:
            # Version 1: two files, the quota -1 where there is none.
            quota = read_line(folder / "cpu" / place / "cpu.cfs_quota_us") or ""
            period = read_line(folder / "cpu" / place / "cpu.cfs_period_us") or ""
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def read_line(path: Path) -> str | None:
    """The first line of a small file of the kernel's; None where it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().strip() or None
    except OSError:
        return None

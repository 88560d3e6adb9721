"""How much figures vary, and from when on that is too much to trust them."""

import math

from cnnport.measuring.measurement import Measurement

TAIL_RATIO = 1.5
"""p99 over p50 from which latency counts as unstable."""

SPREAD = 0.05
"""How far the slowest round's median may lie above the fastest round's."""

ENOUGH_SAMPLES = 100
"""Below this, p99 is between the two slowest samples."""

BUSY_LOAD = 1.0
"""Load average per allowed CPU, before the first case, above which the machine counts as busy.

Not lower: the average remembers the last minute, in which the file may have been exported.
"""

OTHER_LOAD = 0.05
"""Share of the time of the CPUs in use that others may have during a round."""

DRIFT = 0.05
"""How far the lowest clock that was read may lie below the highest."""

TRANSFER_SHARE = 0.3
"""Of a run on a GPU, what copies may take before they are what limits it."""


def tail_ratio(row: Measurement) -> float:
    """How many times as long as a median run one in a hundred takes at least."""
    return row.p99_s / row.p50_s if row.p50_s else math.inf


def spread(row: Measurement) -> float:
    """How far the slowest round's median lies above the fastest round's, as a fraction; 0 for one round."""
    slowest, fastest = max(row.round_medians_s), min(row.round_medians_s)
    return slowest / fastest - 1 if fastest else 0.0


def other_load(row: Measurement) -> float | None:
    """The most that others had of the CPUs in use in any round; None where no round can tell."""
    return max((each.other_load for each in row.rounds if each.other_load is not None), default=None)


def drift(row: Measurement, sensor: str) -> float | None:
    """How far the lowest reading of a clock lies below the highest; None where it was not read."""
    readings = [
        reading
        for each in row.rounds
        for when in (each.before, each.after)
        if when is not None and (reading := getattr(when, sensor))
    ]
    return 1 - min(readings) / max(readings) if readings else None


def is_throttled(row: Measurement) -> bool:
    """Whether the CPU or the GPU slowed down for heat in any round."""
    for each in row.rounds:
        if each.before is None or each.after is None:
            continue
        first, last = each.before.cpu_throttles, each.after.cpu_throttles
        if (first is not None and last is not None and last > first) or each.after.gpu_throttled:
            return True
    return False

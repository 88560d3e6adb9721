"""When figures are not to be trusted, and what would help."""

import math
from collections.abc import Iterable

from cnnport.bench.record import Measurement, Results

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


def tail_ratio(row: Measurement) -> float:
    """How many times as long as a median run one in a hundred takes at least."""
    return row.p99_s / row.p50_s if row.p50_s else math.inf


def spread(row: Measurement) -> float:
    """How far the slowest round's median lies above the fastest round's, as a fraction; 0 for one round."""
    slowest, fastest = max(row.round_medians_s), min(row.round_medians_s)
    return slowest / fastest - 1 if fastest else 0.0


def cautions(results: Results) -> tuple[str, ...]:
    """One line for every reason to doubt the figures, with what to do; first the machine, then the rows."""
    return (*_of_the_machine(results), *(line for row in results.results for line in _of_a_row(row)))


def title_of(row: Measurement) -> str:
    """The row in words, for messages."""
    return f"{row.model} on {row.runtime} ({row.precision}, batch {row.batch}, threads {row.threads})"


def _of_the_machine(results: Results) -> Iterable[str]:
    environment = results.environment
    load, cpus = environment.load_average_start, len(environment.cpus_allowed)
    if results.results and load is not None and cpus and load / cpus > BUSY_LOAD:
        yield f"the machine was busy at the start (load average {load:g} on {cpus} CPUs); stop other work"


def _of_a_row(row: Measurement) -> Iterable[str]:
    name = title_of(row)
    cpus, count = len(row.cpus), len(row.samples_s)
    if 0 < cpus < row.threads:
        yield f"{name}: more threads than CPUs ({cpus}), so they take turns; use --threads {cpus}"
    if count < ENOUGH_SAMPLES:
        yield f"{name}: only {count} samples, so p95 and p99 say little; use a longer --duration"
    elif tail_ratio(row) > TAIL_RATIO:
        yield f"{name}: unstable, p99 is {tail_ratio(row):.1f} times p50; stop other work on the machine"
    if spread(row) > SPREAD:
        yield f"{name}: rounds differ by {spread(row):.0%} in p50; use more --rounds, and stop other work"

"""The only timing loop.

One sample is the time from the call of a launch until ``wait`` returns: what a caller who sends one request
after another would see. Nothing else happens between the two readings of the clock.
"""

import gc
import time
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnport.runtimes.protocol import Launch

MIN_ITERATIONS = 10
"""Samples that are taken however long they last."""

MAX_ITERATIONS = 100_000
"""Samples after which the loop ends early: more of them sharpen no percentile, they only fill memory."""


def measure(
    launch: "Launch",
    *,
    warmup_s: float | None,
    duration_s: float,
    min_iterations: int = MIN_ITERATIONS,
    max_iterations: int = MAX_ITERATIONS,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[int, ...]:
    """Run a launch over and over and return how long each run took.

    Warm-up goes by time, because what has to settle (clocks, caches, lazily compiled kernels, thread pools)
    settles in time and not in iterations; at least one run is never counted, since the first one allocates.
    The garbage collector is off from the warm-up on, so that none of its pauses lands in a sample.

    Args:
        launch: The prepared run.
        warmup_s: Seconds of runs that are thrown away; None for none at all, of a launch that has just run.
        duration_s: Seconds after which no further run is started.
        min_iterations: Samples that are taken even if the duration has passed.
        max_iterations: Samples after which the loop ends before the duration has passed.
        clock: A monotonic clock in nanoseconds.

    Returns:
        Raw samples in nanoseconds, in the order in which they were taken.

    Raises:
        ValueError: If a time is negative or the iterations are not 1 <= min <= max.
    """
    if (warmup_s or 0) < 0 or duration_s < 0:
        raise ValueError(f"times must not be negative: warm-up {warmup_s} s, duration {duration_s} s")
    if not 1 <= min_iterations <= max_iterations:
        raise ValueError(f"iterations must be 1 <= {min_iterations} <= {max_iterations}")
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        wait = launch.wait
        deadline = clock() + round((warmup_s or 0) * 1e9)
        while warmup_s is not None:
            launch()
            wait()
            if clock() >= deadline:
                break

        # Eight bytes a sample: the loop's own memory stays out of the figure for the runtime's.
        samples = array("q")
        keep = samples.append
        deadline = clock() + round(duration_s * 1e9)
        for count in range(1, max_iterations + 1):
            begin = clock()
            launch()
            wait()
            end = clock()
            keep(end - begin)
            if end >= deadline and count >= min_iterations:
                break
        return tuple(samples)
    finally:
        if collecting:
            gc.enable()

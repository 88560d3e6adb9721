"""The only timing loops.

One sample is the time from the call of a launch until ``wait`` returns: what a caller who sends one request
after another would see. Nothing else happens between the two readings of the clock. ``measure_on_device`` takes it
from the device's own clock instead, ``measure_concurrently`` of several callers at once.
"""

import gc
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from cnnport.measuring.measurement import Warmup

if TYPE_CHECKING:
    from cnnport.runtimes.device_clock import DeviceClock
    from cnnport.runtimes.protocol import Launch

MIN_ITERATIONS = 10
"""Samples that are taken however long they last."""

MAX_ITERATIONS = 100_000
"""Samples after which the loop ends early: more of them sharpen no percentile, they only fill memory."""

WINDOW_S = 0.1
"""Seconds of runs, at least one, of which warming up takes the median."""

WINDOWS = 3
"""Medians in a row that have to agree."""

AGREEMENT = 0.03
"""How far the largest of them may lie above the smallest."""

RULE = (
    f"until the medians of the last {WINDOWS} windows of {WINDOW_S:g} s lie within {AGREEMENT:.0%} of each other, "
    "not before the least and not beyond the most seconds"
)
"""By which warm-up ends, in words."""

Clock = Callable[[], int]
"""Monotonic, in nanoseconds."""


def warm_up(
    launch: "Launch", *, least_s: float, most_s: float, clock: Clock = time.perf_counter_ns
) -> Warmup:
    """Run a launch until its latency has settled; see ``RULE``.

    What has to settle (clocks, caches, lazily compiled kernels, thread pools) settles in time and not in iterations,
    so windows go by time. At least one run is made, since the first one allocates.

    Args:
        launch: The prepared run.
        least_s: Seconds before which it does not end.
        most_s: Seconds after which it ends, settled or not; where that is no more than the least, whether it has
            settled is not looked at.
        clock: A monotonic clock in nanoseconds.

    Raises:
        ValueError: If a time is negative.
    """
    if least_s < 0 or most_s < 0:
        raise ValueError(f"times must not be negative: warm-up {least_s} s to {most_s} s")
    with _undisturbed():
        begin = clock()
        least, most, window = (round(seconds * 1e9) for seconds in (least_s, most_s, WINDOW_S))
        medians: list[float] = []
        samples: list[int] = []
        runs, filled, now = 0, 0, begin
        while True:
            before = now
            launch()
            launch.wait()
            now = clock()
            runs += 1
            samples.append(now - before)
            filled += now - before
            if most <= least:
                if now - begin >= least or runs >= MAX_ITERATIONS:
                    return Warmup((now - begin) / 1e9, runs)
                continue
            if filled >= window:
                medians.append(median(samples))
                samples, filled = [], 0
            settled = _agree(medians[-WINDOWS:])
            late = now - begin >= most or runs >= MAX_ITERATIONS
            if (settled and now - begin >= least) or late:
                return Warmup((now - begin) / 1e9, runs, settled)


def measure(
    launch: "Launch",
    *,
    warmup_s: float | None,
    duration_s: float,
    min_iterations: int = MIN_ITERATIONS,
    max_iterations: int = MAX_ITERATIONS,
    clock: Clock = time.perf_counter_ns,
) -> tuple[int, ...]:
    """Run a launch over and over and return how long each run took.

    At least one run is never counted unless ``warmup_s`` is None. The garbage collector is off from the warm-up on,
    so that none of its pauses lands in a sample.

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
    _check(duration_s, min_iterations, max_iterations)
    if warmup_s is not None:
        warm_up(launch, least_s=warmup_s, most_s=0.0, clock=clock)
    with _undisturbed():
        wait = launch.wait
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


@dataclass(frozen=True)
class DeviceTimes:
    """Samples by the device's own clock, in nanoseconds.

    Attributes:
        samples_ns: Of every run, in order.
        runs_ns: Of the same runs without the copies; the same where no copies were asked for.
    """

    samples_ns: tuple[int, ...]
    runs_ns: tuple[int, ...]


def measure_on_device(
    launch: "Launch",
    device: "DeviceClock",
    *,
    transfers: bool,
    duration_s: float,
    min_iterations: int = MIN_ITERATIONS,
    max_iterations: int = MAX_ITERATIONS,
    clock: Clock = time.perf_counter_ns,
) -> DeviceTimes:
    """As ``measure``, but the times lie between marks on the device.

    Args:
        launch: The prepared run.
        device: Its clock, and its copies.
        transfers: Whether inputs are copied to the device before, and outputs back behind every run, and that counts.
        duration_s: Seconds after which no further run is started.
        min_iterations: As of ``measure``.
        max_iterations: As of ``measure``.
        clock: A monotonic clock in nanoseconds, which only ends the loop.

    Raises:
        ValueError: As ``measure``.
    """
    _check(duration_s, min_iterations, max_iterations)
    with _undisturbed():
        samples, runs = array("q"), array("q")
        deadline = clock() + round(duration_s * 1e9)
        for count in range(1, max_iterations + 1):
            device.mark(0)
            if transfers:
                device.upload()
                device.mark(1)
            launch()
            if transfers:
                device.mark(2)
                device.download()
            device.mark(3)
            device.wait()
            launch.wait()
            samples.append(device.between_ns(0, 3))
            runs.append(device.between_ns(1, 2) if transfers else samples[-1])
            if clock() >= deadline and count >= min_iterations:
                break
        return DeviceTimes(tuple(samples), tuple(runs))


@dataclass(frozen=True)
class ConcurrentTimes:
    """Samples of several callers, in nanoseconds.

    Attributes:
        samples_ns: Of every run, caller after caller.
        elapsed_ns: From the first run's start to the last one's end.
    """

    samples_ns: tuple[int, ...]
    elapsed_ns: int


def measure_concurrently(
    launches: "Sequence[Launch]",
    *,
    duration_s: float,
    min_iterations: int = MIN_ITERATIONS,
    max_iterations: int = MAX_ITERATIONS,
    clock: Clock = time.perf_counter_ns,
) -> ConcurrentTimes:
    """A closed loop: each launch has a thread of its own, which starts the next run when the last one has come back.

    Args:
        launches: One for every request in flight.
        duration_s: Seconds after which no further run is started.
        min_iterations: Samples that are taken of all callers together, even if the duration has passed.
        max_iterations: Samples of all callers together after which no further run is started.
        clock: A monotonic clock in nanoseconds.

    Raises:
        ValueError: As ``measure``.
        Exception: Whatever a launch raises; the other callers end with the run that they have begun.
    """
    _check(duration_s, min_iterations, max_iterations)
    least, most = (-(-number // len(launches)) for number in (min_iterations, max_iterations))
    callers = [_Caller(launch, least, most, clock) for launch in launches]
    gate = threading.Barrier(len(callers) + 1)
    stop = threading.Event()
    with _undisturbed():
        threads = [threading.Thread(target=caller.run, args=(gate, stop, duration_s)) for caller in callers]
        for thread in threads:
            thread.start()
        gate.wait()
        for thread in threads:
            thread.join()
    for caller in callers:
        if caller.error is not None:
            raise caller.error
    elapsed = max(caller.end for caller in callers) - min(caller.begin for caller in callers)
    return ConcurrentTimes(tuple(sample for caller in callers for sample in caller.samples), elapsed)


class _Caller:
    """One request in flight."""

    def __init__(self, launch: "Launch", least: int, most: int, clock: Clock) -> None:
        self._launch, self._least, self._most, self._clock = launch, least, most, clock
        self.samples = array("q")
        self.begin = self.end = 0
        self.error: Exception | None = None

    def run(self, gate: threading.Barrier, stop: threading.Event, duration_s: float) -> None:
        launch, wait, clock = self._launch, self._launch.wait, self._clock
        keep, is_stopped = self.samples.append, stop.is_set
        gate.wait()
        self.begin = self.end = begin = clock()
        deadline = begin + round(duration_s * 1e9)
        try:
            for count in range(1, self._most + 1):
                begin = clock()
                launch()
                wait()
                self.end = end = clock()
                keep(end - begin)
                if (end >= deadline and count >= self._least) or is_stopped():
                    break
        except Exception as error:  # of any runtime; it is raised again where the callers were started
            self.error = error
            stop.set()


def _agree(medians: Sequence[float]) -> bool:
    return len(medians) == WINDOWS and max(medians) <= min(medians) * (1 + AGREEMENT)


def _check(duration_s: float, min_iterations: int, max_iterations: int) -> None:
    if duration_s < 0:
        raise ValueError(f"times must not be negative: duration {duration_s} s")
    if not 1 <= min_iterations <= max_iterations:
        raise ValueError(f"iterations must be 1 <= {min_iterations} <= {max_iterations}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No collection of garbage while the block lasts."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

"""Which of the timing loops a case wants: one caller or several, by the host's clock or by the device's."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cnnport.measuring.fields import Json
from cnnport.measuring.measure import measure, measure_concurrently, measure_on_device, warm_up
from cnnport.measuring.measurement import CUDA_EVENTS, WALL, Warmup

if TYPE_CHECKING:
    from cnnport.runtimes.device_clock import DeviceClock
    from cnnport.runtimes.protocol import Launch


@dataclass(frozen=True)
class Taken:
    """What one call of a loop gave.

    Attributes:
        samples_ns: Of every run.
        clock: ``wall`` or ``cuda-events``.
        transfers: Whether copies are in the samples.
        elapsed_ns: From the first run's start to the last one's end, where that is not the sum of the samples.
        transfer_share: As of ``Round``.
    """

    samples_ns: tuple[int, ...]
    clock: str = WALL
    transfers: bool = False
    elapsed_ns: int | None = None
    transfer_share: float | None = None

    def to_json(self) -> Json:
        """What ``worker`` answers."""
        row: Json = {"samples_ns": self.samples_ns, "clock": self.clock, "transfers": self.transfers}
        if self.elapsed_ns is not None:
            row["elapsed_ns"] = self.elapsed_ns
        if self.transfer_share is not None:
            row["transfer_share"] = self.transfer_share
        return row


class Loop:
    """The launches of a session, and the way to take their times.

    One launch on a GPU is timed by the device, if the launch offers that; several launches, and all else, by the
    host's clock.
    """

    def __init__(self, launches: "Sequence[Launch]", *, transfers: bool = False) -> None:
        """Take the launches, of which one means one caller, and several as many at once.

        Args:
            launches: Of one session.
            transfers: Whether copies to and from a GPU are to count.
        """
        self._launches = tuple(launches)
        self._transfers = transfers
        self._stack = ExitStack()
        self._device: DeviceClock | None = None

    def warm_up(self, least_s: float, most_s: float) -> Warmup:
        """Until the first launch has settled, by ``measure.RULE``; the others then run once."""
        from cnnport.runtimes.device_clock import DeviceTimed

        first, *others = self._launches
        done = warm_up(first, least_s=least_s, most_s=most_s)
        for launch in others:
            launch()
            launch.wait()
        # Which has to know where the outputs lie, and that only a run tells.
        if not others and isinstance(first, DeviceTimed):
            self._device = first.device_clock()
            if self._device is not None:
                self._stack.enter_context(self._device)
        return done

    def take(self, duration_s: float, min_iterations: int) -> Taken:
        """Samples for so long, and so many at least; nothing is warmed up."""
        if len(self._launches) > 1:
            several = measure_concurrently(
                self._launches, duration_s=duration_s, min_iterations=min_iterations
            )
            return Taken(several.samples_ns, elapsed_ns=several.elapsed_ns)
        (launch,) = self._launches
        if self._device is None:
            return Taken(measure(launch, warmup_s=None, duration_s=duration_s, min_iterations=min_iterations))
        times = measure_on_device(
            launch,
            self._device,
            transfers=self._transfers,
            duration_s=duration_s,
            min_iterations=min_iterations,
        )
        share = None
        if self._transfers and (whole := median(times.samples_ns)):
            share = 1 - median(times.runs_ns) / whole
        return Taken(times.samples_ns, CUDA_EVENTS, self._transfers, transfer_share=share)

    def __enter__(self) -> Self:
        """The loop itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the device's clock."""
        self._stack.close()

"""The clock of a GPU, and the copies to it and back, around the runs of a launch.

A mark is an event of CUDA's: the device notes the time when it gets there, behind everything that was started on the
stream before. So what lies between two marks is what the device was busy with, whatever the host did meanwhile.
Copies go through page-locked memory, which is what an application that cares for its transfers has.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from cnnport.runtimes.closing import Closing
from cnnport.runtimes.cuda import Gpu

MARKS = 4
"""Of a clock, numbered from 0."""

Place = tuple[int, int]
"""An address on the device, and how many bytes lie there."""


@runtime_checkable
class DeviceTimed(Protocol):
    """A launch whose runs the device can time."""

    def device_clock(self) -> "DeviceClock | None":
        """A clock for the runs of this launch, to be closed before the session is; None where there is none."""


class DeviceClock(Closing):
    """Marks on a stream, and copies on it.

    Attributes:
        is_apart: Whether runs go on a stream of the runtime's own, which it waits for: then every step is waited for
            before the next one is started, and the times have what the host needs for that in them.
    """

    def __init__(
        self,
        gpu: Gpu,
        inputs: Sequence[Place],
        outputs: Callable[[], Sequence[Place]],
        *,
        stream: int | None,
        owns_gpu: bool = False,
    ) -> None:
        """Make the marks, and page-locked copies of what the inputs are now.

        Args:
            gpu: On which the launch runs.
            inputs: Where they lie, filled.
            outputs: Gives where the outputs of the last run lie.
            stream: On which the launch runs; None where that is the runtime's own affair.
            owns_gpu: Whether it is closed with this.

        Raises:
            CudaError: If memory runs out, or the driver refuses otherwise.
        """
        self._gpu, self._owns_gpu = gpu, owns_gpu
        self._outputs = outputs
        self.is_apart = stream is None
        self._events: list[int] = []
        self._inputs: list[tuple[Place, int]] = []
        self._landing: dict[int, int] = {}
        self._stream = 0
        self._is_open = True
        try:
            with gpu.borrowed():
                self._stream = gpu.stream() if stream is None else stream
                for _ in range(MARKS):
                    self._events.append(gpu.event())
                for address, size in inputs:
                    self._inputs.append(((address, size), gpu.page_locked(size)))
                    gpu.copy_out(self._inputs[-1][1], address, size, self._stream)
                gpu.wait(self._stream)
        except BaseException:
            self.close()
            raise

    def mark(self, number: int) -> None:
        """Note the device's time behind all that was started."""
        with self._gpu.borrowed():
            self._gpu.record(self._events[number], self._stream)

    def upload(self) -> None:
        """Start copying the inputs to where the launch reads them."""
        with self._gpu.borrowed():
            for (address, size), locked in self._inputs:
                self._gpu.copy_in(address, locked, size, self._stream)
        self._settle()

    def download(self) -> None:
        """Start copying the outputs of the run that was started last to the host."""
        with self._gpu.borrowed():
            for place, (address, size) in enumerate(self._outputs()):
                if place not in self._landing:
                    self._landing[place] = self._gpu.page_locked(size)
                self._gpu.copy_out(self._landing[place], address, size, self._stream)
        self._settle()

    def wait(self) -> None:
        """Return when the device has passed the last mark. Raises ``CudaError`` if something failed."""
        with self._gpu.borrowed():
            self._gpu.wait(self._stream)

    def between_ns(self, first: int, last: int) -> int:
        """From one mark to another, both passed; the device counts in half microseconds."""
        with self._gpu.borrowed():
            return round(self._gpu.milliseconds(self._events[first], self._events[last]) * 1e6)

    def close(self) -> None:
        """Free marks and page-locked memory, and what else is its own; a second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        with self._gpu.borrowed():
            for event in self._events:
                self._gpu.end_event(event)
            for locked in [*(locked for _, locked in self._inputs), *self._landing.values()]:
                self._gpu.free_page_locked(locked)
            if self.is_apart and self._stream:
                self._gpu.end_stream(self._stream)
        if self._owns_gpu:
            self._gpu.close()

    def _settle(self) -> None:
        if self.is_apart:
            self.wait()

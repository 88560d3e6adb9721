"""How much of something gets done in a second."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from cnnport.measuring.measure import measure

if TYPE_CHECKING:
    from cnnport.runtimes.protocol import Array, Launch

_WARMUP_S = 0.1
_LEAST_RUNS = 5


@dataclass(frozen=True)
class Blocking:
    """A call that returns when it is done, as a ``Launch``."""

    run: Callable[[], object]

    def __call__(self) -> None:
        """Run."""
        self.run()

    def wait(self) -> None:
        """There is nothing to wait for."""

    def outputs(self) -> "dict[str, Array]":
        """None: what comes of it lies where the call put it."""
        return {}


def rates(run: "Launch", amount: int, duration_s: float) -> tuple[float, float]:
    """Of the best and of the median run.

    Args:
        run: What does it.
        amount: How much one run does.
        duration_s: Seconds of counted runs.
    """
    samples = measure(run, warmup_s=_WARMUP_S, duration_s=duration_s, min_iterations=_LEAST_RUNS)
    return amount / min(samples) * 1e9, amount / median(samples) * 1e9

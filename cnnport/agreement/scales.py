"""What an output is like over a set of inputs, found batch by batch: what distances are held against."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """What an output of the reference is like over a set of inputs.

    Attributes:
        spread: Standard deviation of the finite values; their magnitude where there is only one.
        largest: Largest finite magnitude.
        low: Smallest finite value.
        high: Largest finite value.
        is_float: Whether the values are floating-point numbers.
    """

    spread: float
    largest: float
    low: float
    high: float
    is_float: bool


class ScaleMeter:
    """Finds the scale of an output, batch by batch."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._low, self._high = math.inf, -math.inf
        self._is_float = True
        self._shift: float | None = None

    def add(self, values: Array) -> None:
        """Take more values."""
        self._is_float = is_float(values)
        exact = np.asarray(values, np.float64)
        exact = exact[np.isfinite(exact)]
        if not exact.size:
            return
        # Around a value of the same size, squares lose nothing.
        self._shift = float(exact.flat[0]) if self._shift is None else self._shift
        moved = exact - self._shift
        self._count += exact.size
        self._sum += float(moved.sum())
        self._squares += float(np.square(moved).sum())
        self._low, self._high = min(self._low, float(exact.min())), max(self._high, float(exact.max()))

    def scale(self) -> Scale:
        """Of all that was added."""
        if not self._count:
            return Scale(0.0, 0.0, 0.0, 0.0, self._is_float)
        mean = self._sum / self._count
        spread = math.sqrt(max(0.0, self._squares / self._count - mean**2))
        largest = max(abs(self._low), abs(self._high))
        return Scale(spread if self._count > 1 else largest, largest, self._low, self._high, self._is_float)


def is_float(values: Array) -> bool:
    """Whether an array holds floating-point numbers."""
    # ml_dtypes' bfloat16 and float8 are of kind V.
    return values.dtype.kind == "f" or "float" in values.dtype.name

"""Whether two executions of what should be one network gave the same: every kind of output, not only logits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnport.compare import spread_of

# Beside the tolerance: a result is itself rounded, whatever the deviation of the output.
_ROUNDINGS = 8.0

# Indices and decisions come out of float numbers, of which some lie on the edge: so many may fall to the other side.
_FLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Difference:
    """The output that is furthest off.

    Attributes:
        error: Largest difference in standard deviations of the reference, or the share of other values where they are
            no floating-point numbers; infinite where the two cannot be compared.
        max_abs: Largest absolute difference; infinite likewise.
        output: Its name.
        ok: Whether it is within the tolerance.
        reason: Set where the two cannot be compared.
    """

    error: float
    max_abs: float
    output: str
    ok: bool
    reason: str = ""

    def __str__(self) -> str:
        """Without where it was found."""
        if self.reason:
            return f"{self.output} {self.reason}"
        share = f" ({self.error:.1e} of the output's std)" if np.isfinite(self.error) else ""
        return f"max error {self.max_abs:.2e}{share} at {self.output}"


def difference(expected: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> Difference:
    """The largest difference between two sets of outputs.

    Values that are not finite have to be so in the same places.

    Args:
        expected: What an output is to be, by name: an array, or what a runtime gives for sequences and maps.
        found: What it is.
        tolerance: For floating-point outputs, in standard deviations of each.
    """
    worst = Difference(0.0, 0.0, next(iter(expected), ""), ok=True)
    for name, value in expected.items():
        other = _difference(name, value, found.get(name), tolerance)
        if (not other.ok, other.error) > (not worst.ok, worst.error):
            worst = other
    return worst


def _difference(name: str, expected: Any, found: Any, tolerance: float) -> Difference:
    if not isinstance(expected, np.ndarray):
        same = _is_equal(expected, found)
        return Difference(0.0, 0.0, name, ok=True) if same else incomparable(name, "holds something else")
    if not isinstance(found, np.ndarray):
        return incomparable(name, "is not there")
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        was, now = _describe(expected), _describe(found)
        return incomparable(name, f"is {now} where the original gives {was}")
    if not _is_float(expected):
        share = float(np.mean(expected != found)) if expected.size else 0.0
        return Difference(share, share, name, ok=share <= _FLIPPED_SHARE)
    left, right = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(left)
    if (
        not np.array_equal(left[~finite], right[~finite], equal_nan=True)
        or not np.isfinite(right[finite]).all()
    ):
        return incomparable(name, "holds NaN or infinity in other places")
    left, right = left[finite], right[finite]
    largest = float(np.abs(left - right).max(initial=0.0))
    spread, size = spread_of(left), float(np.abs(left).max(initial=0.0))
    allowed = tolerance * spread + _ROUNDINGS * _resolution(expected) * size
    error = largest / spread if spread > 0 else (float("inf") if largest else 0.0)
    return Difference(error, largest, name, ok=largest <= allowed)


def incomparable(name: str, reason: str) -> Difference:
    """What stands for an output that is not there, or not of the kind that it was."""
    return Difference(float("inf"), float("inf"), name, ok=False, reason=reason)


def _is_float(array: NDArray[np.generic]) -> bool:
    # ml_dtypes' bfloat16 and float8 are of kind V.
    return array.dtype.kind == "f" or "float" in array.dtype.name


def _resolution(array: NDArray[np.generic]) -> float:
    """The smallest step from 1 in the array's type; that of bfloat16 for types that NumPy does not know."""
    steps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}
    return steps.get(array.dtype.name, 2.0**-7)


def _describe(array: NDArray[np.generic]) -> str:
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def _is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and _difference("", left, right, 0.0).ok
    if isinstance(left, list | tuple):
        return (
            isinstance(right, list | tuple) and len(left) == len(right) and all(map(_is_equal, left, right))
        )
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(_is_equal(value, right[key]) for key, value in left.items())
        )
    return bool(left == right)

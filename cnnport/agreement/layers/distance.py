"""How far a value inside a network is from what it is to be, and how far it may be.

What a difference is held against is the spread of the reference, as for outputs, and the numbers' own resolution
where a tensor hardly varies. Largest differences tell most in floating point. In 8 bits every number is off by up
to half a level, and a single one by more where it saturates: there a whole channel has to be off. Bounds are for
one layer by itself, on the reference's inputs: what a hundred layers add up to is no layer's fault.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnport.agreement.layers.graph import Array

# Of the largest magnitude: what one rounding may do to a tensor that hardly varies.
_RESOLUTION = {"fp32": 8 * 2.0**-23, "fp16": 2 * 2.0**-10, "bf16": 2 * 2.0**-7, "int8": 2.0**-7}

# A channel that varies less than this share of the whole is held against so much.
_LEAST_SHARE = 0.2

# Fewer numbers say nothing of how much a channel varies.
_LEAST_NUMBERS = 16

BOUNDS = {"fp32": 3e-5, "fp16": 5e-2, "bf16": 0.3, "int8": 0.5}
"""What one layer may be off, by what it computes in: largest differences in standard deviations of the reference's
value, for 8 bits the root mean square of the channel that is worst, likewise."""

ORDER = ("fp32", "fp16", "bf16", "int8")
"""From the finest to the coarsest."""

_SHAPE = "shape "


@dataclass(frozen=True)
class Distance:
    """Of a value from the reference's; all but ``max_abs`` in standard deviations of the latter.

    Attributes:
        peak: Largest difference; infinite where the two cannot be compared.
        rms: Root mean square difference.
        channel_rms: The same of the channel that is worst, in standard deviations of its own unless it hardly varies
            or has few numbers.
        channel: Which one that is; None where there are no channels.
        max_abs: Largest absolute difference.
        rounding: What the resolution of numbers explains of ``peak``, by precision.
        reason: Set where the two cannot be compared.
    """

    peak: float
    rms: float
    channel_rms: float
    channel: int | None
    max_abs: float
    rounding: dict[str, float]
    reason: str = ""

    @property
    def is_misshapen(self) -> bool:
        """Whether the two have different shapes."""
        return self.reason.startswith(_SHAPE)

    def score(self, precision: str) -> float:
        """As a share of the bound: above 1 it departs."""
        found = self.channel_rms if precision == "int8" else self.peak
        if not math.isfinite(found):
            return math.inf
        return max(found - self.rounding.get(precision, 0.0), 0.0) / BOUNDS[precision]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is infinite is None."""
        numbers = {
            "peak": self.peak,
            "rms": self.rms,
            "channel_rms": self.channel_rms,
            "max_abs": self.max_abs,
        }
        told = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        return {**told, "channel": self.channel, "reason": self.reason}

    def __str__(self) -> str:
        """For people."""
        if self.reason:
            return self.reason
        return f"max {self.peak:.1e} std, rms {self.rms:.1e} std"


def distance(expected: Array, found: Array, level: float = 0.0) -> Distance:
    """Compare two values; work is done sample by sample, so that copies stay small.

    Args:
        expected: The reference's.
        found: The candidate's.
        level: The step of what ``found`` is quantized with: so much in a channel is rounding, and left out of
            ``channel_rms``.
    """
    if expected.shape != found.shape:
        return _incomparable(f"{_SHAPE}{list(found.shape)} instead of {list(expected.shape)}")
    if not expected.size:
        return Distance(0.0, 0.0, 0.0, None, 0.0, {})
    count = expected.shape[1] if expected.ndim > 1 else 1
    sums = np.zeros((4, count))
    largest = size = 0.0
    for raw, right in zip(_samples(expected), _samples(found), strict=True):
        if wrong := _not_finite(raw, right):
            return _incomparable(wrong)
        left, difference = np.nan_to_num(raw, posinf=0.0, neginf=0.0), _difference(raw, right)
        sums[0] += left.sum(axis=1)
        sums[1] += np.einsum("ci,ci->c", left, left)
        sums[2] += np.einsum("ci,ci->c", difference, difference)
        sums[3] += left.shape[1]
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
        size = max(size, float(np.abs(left).max(initial=0.0)))
    total = sums.sum(axis=1)
    spread = _spread(total[0], total[1], total[3]) if expected.size > 1 else size
    if spread == 0.0:
        spread = size or (1.0 if largest else 0.0)
    if spread == 0.0:
        return Distance(0.0, 0.0, 0.0, None, 0.0, {})
    own = np.array([_spread(*sums[[0, 1, 3], place]) for place in range(count)])
    share = _LEAST_SHARE if sums[3, 0] >= _LEAST_NUMBERS else 1.0
    by_channel = np.maximum(np.sqrt(sums[2] / sums[3]) - level, 0.0) / np.maximum(own, share * spread)
    return Distance(
        largest / spread,
        math.sqrt(total[2] / total[3]) / spread,
        float(by_channel.max()),
        int(by_channel.argmax()) if expected.ndim > 1 else None,
        largest,
        {name: share * size / spread for name, share in _RESOLUTION.items()},
    )


def _samples(array: Array) -> list[Array]:
    """Each sample as channels and the rest."""
    if array.ndim < 2:
        return [array.reshape(1, -1).astype(np.float64)]
    return [np.asarray(row, np.float64).reshape(array.shape[1], -1) for row in array]


def _difference(left: Array, right: Array) -> Array:
    with np.errstate(invalid="ignore"):
        found: Array = np.nan_to_num(right - left, nan=0.0, posinf=0.0, neginf=0.0)
    return found


def _not_finite(left: Array, right: Array) -> str:
    """What is wrong where one of them is not finite and the other is, or is otherwise so."""
    odd = ~np.isfinite(right)
    if (
        np.array_equal(left[~np.isfinite(left)], right[~np.isfinite(left)], equal_nan=True)
        and not (odd & np.isfinite(left)).any()
    ):
        return ""
    kinds = {"NaN": int(np.isnan(right).sum()), "infinity": int(np.isinf(right).sum())}
    told = " and ".join(f"{count} times {kind}" for kind, count in kinds.items() if count)
    return told or "finite where the reference is not"


def _spread(total: float, squares: float, count: float) -> float:
    mean = total / count
    return math.sqrt(max(squares / count - mean * mean, 0.0))


def _incomparable(reason: str) -> Distance:
    inf = math.inf
    return Distance(inf, inf, inf, None, inf, {}, reason)

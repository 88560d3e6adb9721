"""From what was seen of a tensor to the range that its quantizer covers, by four methods.

``minmax`` covers every number that occurred. ``percentile`` leaves out the same share of the numbers at either end.
``entropy`` and ``mse`` weigh what clipping loses against what a coarser step loses: by the divergence of the
distributions, or by the mean squared error.

All of them look at the same statistics, so that one run over the data answers every method.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np

from cnnport.calibration.entropy import PER_OCTAVE, divergence
from cnnport.calibration.histogram import Histogram
from cnnport.calibration.squared_error import squared_error
from cnnport.calibration.thresholds import least, median_of
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.graphs.quantize.ranges import ValueRange

PERCENTILE = 99.99

# Of eight bits; a symmetric quantizer leaves one out.
_LEVELS = 256
_ROUNDS = 3
_NEAR = 128
_REACH = 8


@dataclass(frozen=True, eq=False)
class Statistics:
    """What was seen of one tensor.

    Attributes:
        low: The least number, exactly; of a tensor that cannot have any below zero, zero.
        high: The greatest number, exactly.
        histogram: Of all numbers, or of an even sample of them.
    """

    low: float
    high: float
    histogram: Histogram

    def merged(self, other: Self) -> Self:
        """Of both."""
        histogram = Histogram()
        histogram.merge(self.histogram)
        histogram.merge(other.histogram)
        return type(self)(min(self.low, other.low), max(self.high, other.high), histogram)

    @property
    def full(self) -> ValueRange:
        """From the least to the greatest, and zero."""
        return ValueRange(min(self.low, 0.0), max(self.high, 0.0))


def find_range(
    statistics: Statistics, method: str, *, percentile: float = PERCENTILE, symmetric: bool = False
) -> ValueRange:
    """The range of a tensor by one of ``METHODS``.

    Args:
        statistics: Of the tensor.
        method: Its name.
        percentile: For that method: how many per cent of the numbers are covered.
        symmetric: Whether the quantizer's levels lie the same way on both sides of zero; it has half of them for a
            tensor without negative numbers then, and another threshold is best.

    Returns:
        A range within that of the numbers and zero; both ends are zero where nothing else occurred.

    Raises:
        UnknownNameError: If there is no such method.
        CnnportError: If ``percentile`` is not above 50 and at most 100.
    """
    if method not in METHODS:
        raise UnknownNameError(f"no calibration method is called {method!r}: there are {', '.join(METHODS)}")
    if not 50 < percentile <= 100:
        raise CnnportError(f"a percentile is above 50 and at most 100, not {percentile:g}")
    full = statistics.full
    if full.low == full.high or not statistics.histogram.total:
        return full
    found = METHODS[method](statistics, percentile, symmetric)
    return ValueRange(max(full.low, min(found.low, 0.0)), min(full.high, max(found.high, 0.0)))


def _minmax(statistics: Statistics, _percentile: float, _symmetric: bool) -> ValueRange:
    return statistics.full


def _percentile(statistics: Statistics, percentile: float, symmetric: bool) -> ValueRange:
    """Of what is left out, half lies above and half below; for a symmetric quantizer all of it is outside."""
    densities = statistics.histogram.densities()
    if symmetric:
        largest = float(densities.magnitudes().quantiles(np.array([percentile / 100]))[0])
        return ValueRange(-largest, largest)
    left_out = (100 - percentile) / 200
    low, high = densities.quantiles(np.array([left_out, 1 - left_out]))
    return ValueRange(float(low), float(high))


def _entropy(statistics: Statistics, _percentile: float, symmetric: bool) -> ValueRange:
    """See ``entropy``; of a tensor with both signs, one threshold for both."""
    full = statistics.full
    magnitudes = statistics.histogram.densities().magnitudes().without_zeros()
    if not magnitudes.counts.size:
        return full
    # A quantizer that is not symmetric has all levels for the one side that there is.
    levels = _LEVELS if not symmetric and 0 in {full.low, full.high} else _LEVELS // 2
    coarse = magnitudes.coarser(PER_OCTAVE)
    end = least(
        lambda threshold: divergence(coarse, threshold, levels),
        max(-full.low, full.high),
        median_of(magnitudes),
    )
    return ValueRange(-end, end)


def _mse(statistics: Statistics, _percentile: float, symmetric: bool) -> ValueRange:
    """See ``squared_error``. Both ends shrink alike first, then each in turn while the other is held."""
    full = statistics.full
    densities = statistics.histogram.densities().without_zeros()
    if not densities.counts.size:
        return full
    smallest = median_of(densities.magnitudes())
    largest = max(-full.low, full.high)
    if symmetric:
        end = least(lambda end: squared_error(densities, -end, end, _LEVELS - 1), largest, smallest)
        return ValueRange(-end, end)

    def error(low: float, high: float) -> float:
        # A zero point is whole: the levels move until zero is one of them.
        step = (high - low) / (_LEVELS - 1)
        zero = round(-low / step)
        return squared_error(densities, -zero * step, (_LEVELS - 1 - zero) * step, _LEVELS)

    share = least(lambda end: error(full.low * end, full.high * end), 1.0, smallest / largest)
    low, high = full.low * share, full.high * share
    if low == 0 or high == 0:
        return ValueRange(low, high)
    best = error(low, high)
    for _ in range(_ROUNDS):
        other_high = least(partial(error, low), full.high, smallest)
        other_low = -least(lambda end, high=other_high: error(-end, high), -full.low, smallest)  # type: ignore[misc]
        if (found := error(other_low, other_high)) >= best:
            break
        low, high, best = other_low, other_high, found
    # Where the least number falls between two levels a little more or less decides.
    near = (high * (1 + place / _NEAR) for place in range(-_REACH, _REACH + 1))
    return ValueRange(low, min((end for end in near if end <= full.high), key=partial(error, low)))


METHODS: dict[str, Callable[[Statistics, float, bool], ValueRange]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}
"""What each method makes of statistics, a percentile and whether the quantizer is symmetric."""

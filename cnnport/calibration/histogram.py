"""How often each number occurred, to within 0.4 %, whatever the range turns out to be.

A float32 is a sign, eight bits of exponent and 23 of mantissa. The upper 17 bits, kept as they are, name a bin: 256
of equal width in each octave, from one power of two to the next. Bins therefore exist before the first number is
seen: no range has to be known or guessed, no bin is ever resized, counts of parts add up to the counts of the whole
in any order, and an outlier of a million costs no resolution near zero. Counting is one shift and one ``bincount``.

What is not a number, or is infinite, has an exponent of its own and shows as such.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_MANTISSA_BITS = 8
_SHIFT = 23 - _MANTISSA_BITS
_PER_OCTAVE = 2**_MANTISSA_BITS
# Of both signs: a bit for the sign, eight for the exponent.
_OCTAVES = 2**9
_BINS = _OCTAVES * _PER_OCTAVE
_NEGATIVE = _BINS // 2
_NOT_FINITE = (2**8 - 1) * _PER_OCTAVE


@dataclass(frozen=True)
class Densities:
    """A histogram as mass on intervals, in ascending order, with nothing between them.

    Attributes:
        lows: Lower ends.
        highs: Upper ends; that of zeros is equal to the lower one.
        counts: Of the numbers in each, as float64.
    """

    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    counts: NDArray[np.float64]

    def magnitudes(self) -> "Densities":
        """The same for absolute values: two intervals of opposite signs become one."""
        low, high = np.minimum(abs(self.lows), abs(self.highs)), np.maximum(abs(self.lows), abs(self.highs))
        lows, first, place = np.unique(low, return_index=True, return_inverse=True)
        return Densities(lows, high[first], _sums(place, self.counts, len(lows)))

    def without_zeros(self) -> "Densities":
        """The same without the interval that is zero alone."""
        keep = self.highs > self.lows
        return Densities(self.lows[keep], self.highs[keep], self.counts[keep])

    def coarser(self, per_octave: int) -> "Densities":
        """The same of magnitudes, without zeros, with fewer intervals: so many, a power of two, in each octave."""
        shift = np.uint32(24 - per_octave.bit_length())
        key = self.lows.astype(np.float32).view(np.uint32) >> shift
        keys, place = np.unique(key, return_inverse=True)
        lows, highs = (((keys + np.uint32(step)) << shift).view(np.float32) for step in (0, 1))
        highs = np.minimum(highs, np.finfo(np.float32).max)
        return Densities(
            lows.astype(np.float64), highs.astype(np.float64), _sums(place, self.counts, len(keys))
        )

    def below(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many numbers are less than each point, with those of one interval spread evenly over it."""
        ends, masses = self._cumulative()
        return np.interp(points, ends, masses)

    def quantiles(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers that are greater than each share, from 0 to 1, of all; there has to be an interval."""
        ends, masses = self._cumulative()
        found: NDArray[np.float64] = np.interp(shares * masses[-1], masses, ends)
        return found

    def _cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The ends of all intervals and how many numbers lie below each."""
        total = np.cumsum(self.counts)
        ends = np.stack([self.lows, self.highs], axis=1).reshape(-1)
        return ends, np.stack([total - self.counts, total], axis=1).reshape(-1)


class Histogram:
    """Counts of float32 numbers.

    Only octaves that occur take memory, 2 kB each: some 40 in a layer's output.
    """

    def __init__(self) -> None:
        self._place = np.full(_OCTAVES, -1)
        self._counts = np.zeros((0, _PER_OCTAVE), np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the numbers of an array of any shape."""
        bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
        self._add(np.bincount(bits >> np.uint32(_SHIFT), minlength=_BINS))

    def merge(self, other: Self) -> None:
        """Add the counts of another histogram."""
        bins, counts = other.as_arrays()
        table = np.zeros(_BINS, np.int64)
        table[bins] = counts
        self._add(table)

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return int(self._counts.sum())

    @property
    def not_finite(self) -> int:
        """How many of them were infinite, or none at all."""
        bins, counts = self.as_arrays()
        return int(counts[bins % _NEGATIVE >= _NOT_FINITE].sum())

    def as_arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The bins that hold anything, ascending, and their counts."""
        octaves = np.flatnonzero(self._place >= 0)
        counts = self._counts[self._place[octaves]]
        bins = octaves[:, None] * _PER_OCTAVE + np.arange(_PER_OCTAVE)
        return bins[counts > 0], counts[counts > 0]

    @classmethod
    def from_arrays(cls, bins: NDArray[np.int64], counts: NDArray[np.int64]) -> Self:
        """The inverse of ``as_arrays``.

        Raises:
            ValueError: If these are no bins and counts.
        """
        if bins.shape != counts.shape or bins.ndim != 1 or np.any(counts < 0):
            raise ValueError("not the bins of a histogram")
        if bins.size and (bins.min() < 0 or bins.max() >= _BINS or np.any(np.diff(bins) <= 0)):
            raise ValueError("not the bins of a histogram")
        made = cls()
        table = np.zeros(_BINS, np.int64)
        table[bins] = counts
        made._add(table)
        return made

    def densities(self) -> Densities:
        """Where the numbers lie; all of them have to be finite."""
        bins, counts = self.as_arrays()
        negative, magnitude = bins >= _NEGATIVE, (bins % _NEGATIVE).astype(np.uint32)
        near, far = (
            ((magnitude + np.uint32(step)) << np.uint32(_SHIFT)).view(np.float32).astype(np.float64)
            for step in (0, 1)
        )
        # Zeros, and what is too small for a float32 to hold with all its digits.
        far[magnitude == 0] = 0
        far[np.isinf(far)] = np.finfo(np.float32).max
        lows, highs = np.where(negative, -far, near), np.where(negative, -near, far)
        # Zero of either sign: the sum below makes one of them.
        order = np.lexsort((highs, lows))
        lows, highs, counts = lows[order], highs[order], counts[order]
        zeros = np.flatnonzero((lows == 0) & (highs == 0))
        if len(zeros) == 2:
            counts[zeros[0]] += counts[zeros[1]]
            lows, highs, counts = (np.delete(values, zeros[1]) for values in (lows, highs, counts))
        return Densities(lows + 0.0, highs + 0.0, counts.astype(np.float64))

    def _add(self, table: NDArray[np.int64]) -> None:
        rows = table.reshape(_OCTAVES, _PER_OCTAVE)
        used = np.flatnonzero(rows.any(axis=1))
        new = used[self._place[used] < 0]
        self._place[new] = len(self._counts) + np.arange(len(new))
        self._counts = np.concatenate([self._counts, np.zeros((len(new), _PER_OCTAVE), np.int64)])
        self._counts[self._place[used]] += rows[used]


def _sums(place: NDArray[np.intp], counts: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The counts that belong to each of so many places."""
    return np.bincount(place, counts, size).astype(np.float64)

"""Where to stop: the search for an end of a range beyond which numbers are clipped."""

import math
from collections.abc import Callable

import numpy as np

from cnnport.calibration.histogram import Densities

_FINE = 16
_COARSE = 4


def median_of(magnitudes: Densities) -> float:
    """What half of the numbers are smaller than; no threshold is below it, for it would clip the other half."""
    return float(magnitudes.quantiles(np.array([0.5]))[0])


def least(error: Callable[[float], float], largest: float, smallest: float) -> float:
    """The end where an error is least: the best of 4 in each octave, then of those around it, 16 in an octave.

    Args:
        error: Of an end; a larger range rounds more coarsely and clips less, so there is one valley.
        largest: The first end tried; above 0.
        smallest: About the last.
    """
    octaves = math.log2(largest / smallest) if 0 < smallest < largest else 0.0

    def at(place: int) -> float:
        return largest * math.exp2(-place / _FINE)

    step = _FINE // _COARSE
    coarse = min(range(0, math.ceil(octaves * _FINE) + 1, step), key=lambda place: error(at(place)))
    fine = range(max(0, coarse - step + 1), coarse + step)
    return at(min(fine, key=lambda place: error(at(place))))

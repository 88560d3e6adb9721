"""What rounding and clipping to a range cost: the squared error of all numbers together, without quantizing any.

Within an interval of the histogram numbers are taken to lie evenly. With levels at the multiples of a step d between
low and high, the error's square integrated from 0 to x is, for x in the range and k = round(x / d),

    k d^3 / 12 + (x - k d)^3 / 3

each whole step giving d^3 / 12; beyond an end it grows by a third of the cube of the distance to it. An interval
[a, b] of n numbers then costs n / (b - a) times the difference of the integral at its ends.
"""

import numpy as np
from numpy.typing import NDArray

from cnnport.calibration.histogram import Densities


def squared_error(densities: Densities, low: float, high: float, levels: int) -> float:
    """The sum over all numbers.

    Args:
        densities: The numbers, without zeros.
        low: Least level, at most 0.
        high: Greatest level, at least 0 and above ``low``.
        levels: How many there are.
    """
    step = (high - low) / (levels - 1)

    def integral(ends: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.clip(ends, low, high)
        nearest = np.rint(inside / step)
        beyond = ends - inside
        rest = inside - nearest * step
        # Products: numpy's powers are many times slower.
        whole: NDArray[np.float64] = nearest * (step**3 / 12)
        return whole + (rest * rest * rest + beyond * beyond * beyond) / 3

    found = integral(densities.highs) - integral(densities.lows)
    return float(densities.counts @ (found / (densities.highs - densities.lows)))

"""Whether the scale of a quantized value suits the numbers that it is for.

A scale that is twice as large as it should be loses one of eight bits, and one of half the size cuts off the largest
numbers: each changes a layer's result by little, and the network's by some. What tells is that the other scale would
be far better: what half and double of it would lose is computed from the reference's value.
"""

from dataclasses import dataclass

import numpy as np

from cnnport.agreement.layers.graph import Array
from cnnport.agreement.layers.sites import Site

_MOST_NUMBERS = 2**20


@dataclass(frozen=True)
class Misfit:
    """Of one scale.

    Attributes:
        factor: 2 if double of it would be best among half, itself and double; 0.5 or 1 likewise.
        gain: How many times less power of error that one leaves.
    """

    factor: float
    gain: float


def misfit_of(site: Site, expected: Array) -> Misfit | None:
    """Hold a site's scale against the reference's value; None where it has a scale for each channel."""
    assert site.scale is not None
    if site.scale.size != 1 or (site.zero_point is not None and site.zero_point.dtype.itemsize != 1):
        return None
    values = np.asarray(expected, np.float32).reshape(-1)
    values = values[:: max(1, values.size // _MOST_NUMBERS)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    zero = float(site.zero_point.reshape(())) if site.zero_point is not None else 0.0
    kind = np.iinfo(site.zero_point.dtype if site.zero_point is not None else np.uint8)
    own = float(site.scale.reshape(()))
    lost = {factor: _lost(values, own * factor, zero, kind.min, kind.max) for factor in (1.0, 0.5, 2.0)}
    best = min(lost, key=lambda factor: lost[factor])
    if lost[best] <= 0.0:
        return Misfit(1.0, 1.0)
    return Misfit(best, lost[1.0] / lost[best])


def _lost(values: Array, scale: float, zero: float, least: int, most: int) -> float:
    levels = np.clip(np.round(values / scale) + zero, least, most)
    return float(np.mean(((levels - zero) * scale - values) ** 2))

"""The threshold with the least Kullback-Leibler divergence between the numbers and their quantized form.

S. Migacz, "8-bit Inference with TensorRT", GTC 2017, pages 23 to 36: magnitudes up to a threshold are counted in
bins. In the reference, the numbers beyond the threshold, which clipping moves to it, lie in the last bin. In the
quantized form they are missing, and the others are spread evenly over the step of the level that they fall on.

Different here: bins are not of one width, 2048 from zero to the greatest number, but as narrow as they are near zero.
An outlier of a thousand times the others would put all of those into one bin, in which no step is too coarse. And
zeros, which half of the numbers behind a Relu are, do not count: they lose nothing at any scale.
"""

import numpy as np

from cnnport.calibration.histogram import Densities

PER_OCTAVE = 64
"""Bins: about as many as levels in the octave below the threshold, more in those near zero."""


def divergence(magnitudes: Densities, threshold: float, levels: int) -> float:
    """Of the numbers from their quantized form, in nats; infinite if nothing lies below the threshold.

    Args:
        magnitudes: Absolute values, without zeros, in ``PER_OCTAVE`` bins.
        threshold: What is clipped to.
        levels: Of the quantized magnitudes.
    """
    total = magnitudes.counts.sum()
    below = magnitudes.lows < threshold
    lows, widths = magnitudes.lows[below], (magnitudes.highs - magnitudes.lows)[below]
    highs = np.minimum(magnitudes.highs[below], threshold)
    inside = magnitudes.counts[below] * (highs - lows) / widths
    if inside.sum() <= 0:
        return float("inf")
    edges = np.linspace(0, threshold, levels + 1)
    spread = magnitudes.below(edges)
    quantized = np.interp(highs, edges, spread) - np.interp(lows, edges, spread)
    quantized /= quantized.sum()
    reference, clipped = inside / total, 1 - inside.sum() / total
    if highs[-1] == threshold:
        reference[-1] += clipped
    elif clipped > 0:
        # Nothing else lies at the threshold.
        reference, quantized = np.append(reference, clipped), np.append(quantized, 0)
    # Half a number stands for none where the logarithm needs one.
    quantized = np.maximum(quantized, 0.5 / total)
    where = reference > 0
    return float(np.sum(reference[where] * np.log(reference[where] / quantized[where])))

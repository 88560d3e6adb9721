"""Biases of integer kernels: 32 bits, on the scale of the sums that they are added to.

A product of activations x = s (q - z) and weights W[c] = w[c] Q[c] is s w[c] times a sum of integers, so a bias of
that scale is added as an integer: B[c] = b[c] / (s w[c]), rounded. TensorRT and OpenVINO take biases in float.

Where the weights of a channel are tiny and its bias is not, B would not fit: the scale of its weights has to be
larger than they need. A quarter of the range of 32 bits is left to the sum itself.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_MOST = 2.0**30


def least_weight_scales(
    bias: npt.NDArray[np.floating[Any]], activation_scale: float
) -> npt.NDArray[np.float64]:
    """For each channel, the scale of its weights below which its bias would not fit."""
    return np.abs(bias.astype(np.float64)) / (activation_scale * _MOST)


def moved(
    bias: npt.NDArray[np.floating[Any]] | None, drift: npt.NDArray[np.float64], dtype: np.dtype[Any]
) -> npt.NDArray[np.floating[Any]]:
    """The bias, or one where there was none, less what quantized weights add to the means of the sums.

    Args:
        bias: One number for each channel.
        drift: Likewise.
        dtype: Of the graph.
    """
    return ((0 if bias is None else bias.astype(np.float64)) - drift).astype(dtype)


def quantized_bias(
    bias: npt.NDArray[np.floating[Any]], activation_scale: float, weight_scales: npt.NDArray[np.floating[Any]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The bias as integers, and their scales.

    Args:
        bias: One number for each channel.
        activation_scale: Of the input.
        weight_scales: One for each channel.
    """
    # In float32, as the kernels compute it.
    scales = np.float32(activation_scale) * weight_scales.astype(np.float32)
    levels = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return levels.astype(np.int32), scales

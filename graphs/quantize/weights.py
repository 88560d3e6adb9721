"""Weights of products as int8, symmetric, with a scale for each output channel.

    W[c] = scale[c] Q[c],  scale[c] = max |W[c]| / levels,  -levels <= Q <= levels

with 127 levels, -128 left out: no weight is further from 0 on one side than on the other, and 0 stays 0. Output
channels lie on axis 0 of a Conv's kernel, on axis 1 of a ConvTranspose's (where groups have channel for channel the
same scale), on the last axis of what a MatMul or Gemm multiplies with, the first if Gemm transposes it.

On x86 CPUs without VNNI, uint8 activations times int8 weights are summed in pairs that saturate at 16 bits: 255 x
127 x 2 does not fit. ``reduce_range`` keeps weights to 64 levels (one bit less), with which nothing saturates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

LEVELS = 127
"""The largest magnitude of an int8 weight."""

REDUCED_LEVELS = 64
"""The largest magnitude where pairs of products are summed in 16 bits: 2 x 255 x 64 fits."""


@dataclass(frozen=True)
class IntegerWeights:
    """Weights in 8 bits.

    Attributes:
        levels: int8, of the weights' shape.
        scales: One positive number for each index of ``axis``, of the graph's floating-point type.
        axis: Of the output channels.
    """

    levels: npt.NDArray[np.int8]
    scales: npt.NDArray[np.floating[Any]]
    axis: int


def channel_axis(node: ir.Node) -> int:
    """The axis of the output channels in the weights of a product."""
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            return 0 if node.attributes.get_int("transB", 0) else 1
        case _:
            return 1


def in_groups(node: ir.Node, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Weights of a Conv, Gemm or MatMul as groups x outputs x inputs x taps, of each group.

    Of contiguous weights it is a view: what is written into it stands in them.
    """
    if node.op_type == "Conv":
        groups = node.attributes.get_int("group", 1)
        return weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)
    return (weights if channel_axis(node) == 0 else weights.T)[None, :, :, None]


def quantized(
    weights: npt.NDArray[np.floating[Any]],
    axis: int,
    *,
    levels: int = LEVELS,
    least: npt.NDArray[np.float64] | None = None,
) -> IntegerWeights:
    """Round weights to levels.

    Args:
        weights: Finite.
        axis: Of the output channels.
        levels: The largest magnitude.
        least: What each scale must be at least, so that something else in the channel fits.
    """
    exact = weights.astype(np.float64)
    others = tuple(each for each in range(weights.ndim) if each != axis)
    wanted = np.abs(exact).max(axis=others, initial=0.0) / levels
    if least is not None:
        wanted = np.maximum(wanted, least)
    # A channel of zeros has any scale.
    wanted[wanted == 0] = 1.0
    wanted = np.maximum(wanted, float(np.finfo(weights.dtype).tiny))
    scales = wanted.astype(weights.dtype)
    across = scales.astype(np.float64).reshape([-1 if each == axis else 1 for each in range(weights.ndim)])
    rounded = np.clip(np.rint(exact / across), -levels, levels)
    return IntegerWeights(rounded.astype(np.int8), scales, axis)

"""Operators for onnx's reference, by the standard's definitions, where it has none or gets them wrong.

onnx 1.23 mixes the batch's own statistics into BatchNormalization before opset 14, sums LRN over as many channels as
there are pictures, and gives the groups of ConvTranspose the wrong weights.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

Array = np.ndarray[Any, Any]


class BatchNormalization(OpRun):
    """At inference; with the batch's own statistics it is nothing that an exported network does."""

    def _run(
        self, x: Array, *parameters: Array, epsilon: float = 1e-5, training_mode: int = 0, **_: Any
    ) -> tuple[Array]:
        if training_mode:
            raise NotImplementedError("BatchNormalization in training mode")
        column = (-1, *[1] * (x.ndim - 2))
        scale, shift, mean, var = (each.reshape(column) for each in parameters)
        return ((scale * (x - mean) / np.sqrt(var + epsilon) + shift).astype(x.dtype),)


class LRN(OpRun):
    """Across channels."""

    def _run(self, x: Array, *, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        before, channels = (size - 1) // 2, x.shape[1]
        windows = [slice(max(0, c - before), c + size - before) for c in range(channels)]
        squares = np.stack([(x[:, each] ** 2).sum(axis=1) for each in windows], axis=1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


class ConvTranspose(OpRun):
    """With pads, not auto_pad."""

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        *,
        dilations: Sequence[int] | None = None,
        group: int = 1,
        output_padding: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        auto_pad: str | None = None,
        output_shape: Sequence[int] | None = None,
        **_: Any,
    ) -> tuple[Array]:
        if auto_pad not in {None, "NOTSET"} or output_shape:
            raise NotImplementedError("ConvTranspose with auto_pad or output_shape")
        axes = x.ndim - 2
        kernel, side = weight.shape[2:], x.shape[2:]
        strides, dilations = strides or [1] * axes, dilations or [1] * axes
        pads, extra = pads or [0] * 2 * axes, output_padding or [0] * axes
        full = [
            (size - 1) * stride + (k - 1) * dilation + 1 + more
            for size, stride, k, dilation, more in zip(side, strides, kernel, dilations, extra, strict=True)
        ]
        each = weight.shape[1]
        y = np.zeros((x.shape[0], group * each, *full), x.dtype)
        inputs = x.reshape(x.shape[0], group, -1, *side)
        kernels = weight.reshape(group, -1, each, *kernel)
        for place in itertools.product(*map(range, kernel)):
            made = np.einsum("ngc...,gco->ngo...", inputs, kernels[_last(place)])
            steps = [
                slice(p * d, p * d + (size - 1) * s + 1, s)
                for p, d, s, size in zip(place, dilations, strides, side, strict=True)
            ]
            y[_last(steps)] += made.reshape(x.shape[0], group * each, *side)
        kept = [
            slice(before, size - after)
            for before, after, size in zip(pads[:axes], pads[axes:], full, strict=True)
        ]
        y = y[_last(kept)]
        return (y if bias is None else y + bias.reshape(-1, *[1] * axes),)


def _last(index: Sequence[Any]) -> Any:
    """An index into the last axes."""
    return (..., *index)


OPERATORS = (BatchNormalization, LRN, ConvTranspose)
"""For ``ReferenceEvaluator(model, new_ops=list(OPERATORS))``."""

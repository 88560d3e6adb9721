"""Convolutions as taps on an input that is zero outside itself, and several of them as one.

Let x be zero wherever an index lies outside of it. A convolution with stride S, dilation d and a padding that begins
with b zeros is then, along each spatial axis and with no word about padding,

    y[p] = bias + sum over i of W[i] x[S p + o(i)],    o(i) = d i - b,    p = 0, ..., P - 1.

Two of them with the same x, S and P, added together, are one sum over the taps of both. Written as one convolution,
that needs offsets of equal distance D, the greatest common divisor of all distances, from the smallest offset to the
largest:

    K = (largest - smallest) / D + 1,    padding begins with - smallest.

P = floor((H + E - 1) / S) + 1 with E = b + e - d (k - 1), e the zeros at the end. It is the same for every H if E is
the same; else H has to be known. As offsets begin at -b <= 0, and e of the sum is e of whichever reaches furthest, or
larger, no padding gets negative.

In groups, W is block diagonal. With g and h blocks on the same diagonal, the greatest common divisor of g and h is
the largest number of blocks that holds both: depthwise and identity (both one block a channel) stay depthwise, with
anything dense they become dense.

An identity or a factor a channel is a convolution of one tap in one group a channel; an average over windows that
counts padding is one of equal taps. Layout of W: Cout x Cin/g x k..., as on the operator's page on onnx.ai.
"""

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import FLOATS, Array, CannotFoldError, round_to, weights
from cnnport.graphs.journal import title
from cnnport.graphs.values import constant, static

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Geometry:
    """What a convolution is, apart from its numbers; tuples have one entry for each spatial axis.

    Attributes:
        outputs: Output channels.
        inputs: Input channels, of all groups together.
        group: Groups.
        kernel: Taps.
        strides: Steps of the output.
        dilations: Distances between taps.
        begins: Zeros before the input.
        ends: Zeros behind it.
        dtype: Element type of weights and values.
    """

    outputs: int
    inputs: int
    group: int
    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begins: Sizes
    ends: Sizes
    dtype: ir.DataType

    @property
    def cost(self) -> int:
        """Multiply-adds for each number of the output."""
        return self.inputs // self.group * math.prod(self.kernel)

    @property
    def shape(self) -> Sizes:
        """The shape of the weights."""
        return self.outputs, self.inputs // self.group, *self.kernel


def identity(channels: int, dims: int, dtype: ir.DataType) -> Geometry:
    """What passes its input on, as a convolution of ``dims`` spatial dimensions with one tap in each channel."""
    ones, zeros = (1,) * dims, (0,) * dims
    return Geometry(channels, channels, channels, ones, ones, ones, zeros, zeros, dtype)


def geometry_of(conv: ir.Node) -> Geometry:
    """Read a Conv with constant weights.

    Raises:
        CannotFoldError: If weights or bias are not constant, types are mixed, or a size is not known.
    """
    tensor = constant(conv.inputs[1])
    if tensor is None or tensor.dtype not in FLOATS:
        raise CannotFoldError(f"the weights of {title(conv)} are not constant and of a floating-point type")
    outputs, inputs, *kernel = (int(size) for size in tensor.shape.numpy())
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        bias = constant(conv.inputs[2])
        if bias is None or bias.dtype != tensor.dtype:
            raise CannotFoldError(f"the bias of {title(conv)} is not constant and of the type of the weights")
    group = conv.attributes.get_int("group", 1)
    strides, dilations = _steps(conv, "strides", len(kernel)), _steps(conv, "dilations", len(kernel))
    begins, ends = _pads(conv, tuple(kernel), strides, dilations)
    return Geometry(
        outputs, inputs * group, group, tuple(kernel), strides, dilations, begins, ends, tensor.dtype
    )


def average_of(pool: ir.Node, channels: int, dtype: ir.DataType) -> Geometry:
    """Read an AveragePool as a depthwise convolution of equal taps.

    Raises:
        CannotFoldError: If it is none: a window that hangs over the edge divides by fewer numbers.
    """
    kernel = tuple(pool.attributes.get_ints("kernel_shape", ()))
    strides, dilations = _steps(pool, "strides", len(kernel)), _steps(pool, "dilations", len(kernel))
    pads = pool.attributes.get_ints("pads", ())
    if (
        not kernel
        or max(dilations) > 1
        or pool.attributes.get_int("ceil_mode", 0) != 0
        or pool.attributes.get_string("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}
        or (any(pads) and not pool.attributes.get_int("count_include_pad", 0))
    ):
        raise CannotFoldError(
            f"the windows of {title(pool)} are not known to divide by the same number everywhere"
        )
    begins, ends = _pads(pool, kernel, strides, dilations)
    return Geometry(channels, channels, channels, kernel, strides, dilations, begins, ends, dtype)


def joined(one: Geometry, other: Geometry, source: ir.Value) -> Geometry:
    """The smallest convolution that holds the taps of both, for both on ``source``.

    Raises:
        CannotFoldError: If there is none: other strides, or outputs that may differ in size.
    """
    if (one.outputs, one.inputs, one.dtype) != (other.outputs, other.inputs, other.dtype):
        raise CannotFoldError("they differ in channels or types")
    if len(one.kernel) != len(other.kernel) or one.strides != other.strides:
        raise CannotFoldError("they differ in strides")
    axes = [_joined_axis(one, other, axis, source) for axis in range(len(one.kernel))]
    kernel, dilations, begins, ends = (tuple(each) for each in zip(*axes, strict=True))
    group = math.gcd(one.group, other.group)
    return Geometry(one.outputs, one.inputs, group, kernel, one.strides, dilations, begins, ends, one.dtype)


def add_taps(total: Array, whole: Geometry, part: Geometry, taps: Array) -> None:
    """Add the weights of one convolution to those of a larger one that holds it.

    Args:
        total: The weights of ``whole``, float64; changed.
        whole: What ``joined`` made of ``part`` and others.
        part: The convolution whose weights ``taps`` are.
        taps: In the shape ``part.shape``.
    """
    places = []
    for size, dilation, begin, own_dilation, own_begin in zip(
        part.kernel, part.dilations, part.begins, whole.dilations, whole.begins, strict=True
    ):
        step = dilation // own_dilation if size > 1 else 1
        start = (own_begin - begin) // own_dilation
        places.append(slice(start, start + step * (size - 1) + 1, step))
    at: Any = (..., *places)
    blocks = part.group // whole.group  # of the part, in each block of the whole
    rows, columns = part.outputs // part.group, part.inputs // part.group
    into = total.reshape(whole.group, blocks, rows, blocks * columns, *whole.kernel)
    taken = taps.reshape(whole.group, blocks, rows, columns, *part.kernel)
    for block in range(blocks):
        own = slice(block * columns, (block + 1) * columns)
        into[:, block, :, own][at] += taken[:, block]


def rounded(exact: Array, dtype: ir.DataType) -> Array:
    """Round weights once.

    Raises:
        CannotFoldError: If a number overflows, or nothing is left of any.
    """
    found = round_to(exact, dtype)
    smallest = float(ml_dtypes.finfo(dtype.numpy()).smallest_normal)  # type: ignore[no-untyped-call]
    if exact.any() and float(np.abs(found).max()) < smallest:
        raise CannotFoldError(f"the merged numbers underflow {dtype}")
    return found


def numbers_of(conv: ir.Node, geometry: Geometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights and bias of a Conv that ``geometry_of`` has read, in float64."""
    taps = weights(conv, 1, geometry.dtype).astype(np.float64)
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        return taps, weights(conv, 2, geometry.dtype).astype(np.float64)
    return taps, np.zeros(geometry.outputs)


def _joined_axis(one: Geometry, other: Geometry, axis: int, source: ir.Value) -> tuple[int, int, int, int]:
    excess = _excess(one, axis)
    if excess != _excess(other, axis):
        size = static(source, 2 + axis)
        if size is None or _extent(one, axis, size) != _extent(other, axis, size):
            raise CannotFoldError("their outputs are not known to be of the same size")
        excess = max(excess, _excess(other, axis))
    begin = max(one.begins[axis], other.begins[axis])
    last = max(each.dilations[axis] * (each.kernel[axis] - 1) - each.begins[axis] for each in (one, other))
    distances = [abs(one.begins[axis] - other.begins[axis])]
    distances += [each.dilations[axis] for each in (one, other) if each.kernel[axis] > 1]
    dilation = math.gcd(*distances) or 1
    return (last + begin) // dilation + 1, dilation, begin, excess + last


def _excess(each: Geometry, axis: int) -> int:
    span = each.dilations[axis] * (each.kernel[axis] - 1)
    return each.begins[axis] + each.ends[axis] - span


def _extent(each: Geometry, axis: int, size: int) -> int:
    return (size + _excess(each, axis) - 1) // each.strides[axis] + 1


def _steps(node: ir.Node, name: str, count: int) -> Sizes:
    steps = tuple(node.attributes.get_ints(name, ()) or (1,) * count)
    if len(steps) != count or min(steps, default=1) < 1:
        raise CannotFoldError(f"the {name} of {title(node)} do not fit its kernel")
    return steps


def _pads(node: ir.Node, kernel: Sizes, strides: Sizes, dilations: Sizes) -> tuple[Sizes, Sizes]:
    kind, count = node.attributes.get_string("auto_pad", "NOTSET"), len(kernel)
    if kind in {"NOTSET", "VALID"}:
        pads = tuple(node.attributes.get_ints("pads", ())) if kind == "NOTSET" else ()
        pads = pads or (0,) * (2 * count)
        if len(pads) != 2 * count or min(pads, default=0) < 0:
            raise CannotFoldError(f"the padding of {title(node)} is negative or does not fit its kernel")
        return pads[:count], pads[count:]
    if kind not in {"SAME_UPPER", "SAME_LOWER"} or max(dilations, default=1) > 1:
        raise CannotFoldError(f"the padding of {title(node)} is up to the runtime")
    missing = [_same(node, axis, kernel[axis], strides[axis]) for axis in range(count)]
    less, more = tuple(each // 2 for each in missing), tuple(each - each // 2 for each in missing)
    return (less, more) if kind == "SAME_UPPER" else (more, less)


def _same(node: ir.Node, axis: int, kernel: int, stride: int) -> int:
    """How many zeros a padding has that makes the output as large as the input, or a stride's part of it."""
    if stride == 1:
        return kernel - 1
    size = static(node.inputs[0], 2 + axis)
    if size is None:
        raise CannotFoldError(f"the padding of {title(node)} depends on sizes that the file does not give")
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)

"""Operators that carry channels along unmixed, so that an affine map moves through them.

An operator f commutes with every map x -> s x + t, one s and t a channel, exactly if it is linear, maps
channel c of its input to channel c of its output, and maps constants to themselves. Shape-only operators do,
and averages do where every window divides by the number of real elements in it. Others commute with some maps:

- a maximum with those of s > 0: max(s x + t) = s max(x) + t; what a maximum pads with is no number and never wins;
- an average that counts padding, or whose last window hangs over the edge, with those of t = 0: zeros stay zeros, and
  what it divides by does not depend on the numbers;
- Relu, LeakyRelu and PRelu with those of s > 0 and t = 0: they are linear on either side of 0.

A map that is the same for every element also moves through what only takes elements from one place to another.
"""

import math

import onnx_ir as ir

from cnnport.graphs.affine import Affine
from cnnport.graphs.values import constant, rank, static

_SHAPE_ONLY = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_RECTIFIERS = frozenset({"LeakyRelu", "PRelu", "Relu"})
_SAME_ELEMENTS = _SHAPE_ONLY | {"DepthToSpace", "Gather", "Slice", "SpaceToDepth"}


def above(node: ir.Node, affine: Affine, opset: int) -> Affine | None:
    """The map of a node's first input that does what ``affine`` does behind its first output, or None."""
    if not _commutes(node, affine, opset):
        return None
    if affine.axis is None or _keeps_axes(node):
        return affine
    if node.op_type == "Transpose":
        order = _order(node)
        return None if affine.axis >= len(order) else affine.along(order[affine.axis])
    if affine.axis == 1 and channel_repeat(node, opset) == 1:
        return affine
    last = _last_axes(node, affine)
    return affine.along(last[0]) if last and affine.axis == last[1] else None


def below(node: ir.Node, affine: Affine, opset: int) -> Affine | None:
    """The map behind a node's first output that does what ``affine`` does at its first input, or None."""
    if not _commutes(node, affine, opset):
        return None
    if affine.axis is None or _keeps_axes(node):
        return affine
    if node.op_type == "Transpose":
        order = _order(node)
        return affine.along(order.index(affine.axis)) if affine.axis in order else None
    if affine.axis == 1 and (repeat := channel_repeat(node, opset)) is not None:
        return affine.repeated(repeat)
    last = _last_axes(node, affine)
    return affine.along(last[1]) if last and affine.axis == last[0] else None


def _commutes(node: ir.Node, affine: Affine, opset: int) -> bool:
    """Whether it does but for the place of the channels, which ``_keeps_axes`` or the axis decides."""
    if node.domain or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    growing, plain = bool((affine.scale > 0).all()), not affine.shift.any()
    match node.op_type:
        case "MaxPool" | "GlobalMaxPool":
            return growing and affine.axis in {None, 1}
        case "AveragePool":
            return (plain or _averages_real_elements(node)) and affine.axis in {None, 1}
        case "GlobalAveragePool":
            return affine.axis in {None, 1}
        case "Relu" | "LeakyRelu" | "PRelu":
            return growing and plain
        case "Dropout":
            return _is_inference_dropout(node, opset)
        case "Identity" | "Transpose":
            return True
        case "ReduceMean":
            return affine.axis is None or _averages_space(node, opset)
        case op_type:
            return op_type in (_SAME_ELEMENTS if affine.axis is None else _SHAPE_ONLY)


def _keeps_axes(node: ir.Node) -> bool:
    return node.op_type in _POOLS | _RECTIFIERS | {"Dropout", "Identity"}


def _order(node: ir.Node) -> tuple[int, ...]:
    """Which axis of its input each axis of a Transpose's output is."""
    order = tuple(node.attributes.get_ints("perm", ()))
    return order or tuple(reversed(range(rank(node.inputs[0]) or 0)))


def _last_axes(node: ir.Node, affine: Affine) -> tuple[int, int] | None:
    """The last axis of input and output, where a shape-only operator keeps it and it is that of the map.

    Row-major order keeps an element's place on the last axis wherever that keeps its size.
    """
    source, target = node.inputs[0], node.outputs[0]
    if node.op_type not in _SHAPE_ONLY or not static(source, -1) == static(target, -1) == affine.channels:
        return None
    return (rank(source) or 0) - 1, (rank(target) or 0) - 1


def channel_repeat(node: ir.Node, opset: int) -> int | None:
    """How many consecutive output channels stand for one input channel; None if the channels do not survive.

    1 for operators that keep the channel axis. A Flatten of N x C x H x W to N x CHW turns each channel into
    H * W features, so a map of the input becomes that map repeated; the reverse does not hold.

    Args:
        node: A node whose first input and first output have their channels on axis 1.
        opset: Version of the default operator set, at least 7.
    """
    if node.domain or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return None
    if node.op_type in {"Identity", "GlobalAveragePool"}:
        return 1
    if node.op_type == "Dropout":
        return 1 if _is_inference_dropout(node, opset) else None
    if node.op_type == "AveragePool":
        return 1 if _averages_real_elements(node) else None
    if node.op_type == "ReduceMean":
        return 1 if _averages_space(node, opset) else None
    return _reshaped(node) if node.op_type in _SHAPE_ONLY else None


def _is_inference_dropout(node: ir.Node, opset: int) -> bool:
    if opset < 12 or len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    training = constant(node.inputs[2])
    return training is not None and not training.numpy().any()


def _averages_real_elements(node: ir.Node) -> bool:
    # With ceil_mode the last window may hang over the edge, and runtimes disagree on what it divides by.
    if node.attributes.get_int("ceil_mode", 0):
        return False
    if not node.attributes.get_int("count_include_pad", 0):
        return True
    padding = node.attributes.get_string("auto_pad", "NOTSET")
    return padding == "VALID" or (padding == "NOTSET" and not any(node.attributes.get_ints("pads", ())))


def _averages_space(node: ir.Node, opset: int) -> bool:
    if opset >= 18:
        tensor = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = [] if tensor is None else [int(axis) for axis in tensor.numpy().ravel()]
    else:
        axes = list(node.attributes.get_ints("axes", ()))
    dims = rank(node.inputs[0])
    if any(axis < 0 for axis in axes):
        if dims is None:
            return False
        axes = [axis + dims if axis < 0 else axis for axis in axes]
    # No axes means all of them, or that they come from a caller.
    return bool(axes) and min(axes) >= 2


def _reshaped(node: ir.Node) -> int | None:
    source, target = node.inputs[0], node.outputs[0]
    assert source is not None
    inner = _elements_a_channel(source)
    if node.op_type == "Flatten" and node.attributes.get_int("axis", 1) == 1 and inner is not None:
        return inner
    channels, kept = static(source, 1), static(target, 1)
    if channels is None or kept is None or source.shape is None or target.shape is None:
        return None
    if channels == kept:
        # Row-major order keeps channels where they are if batch and channels keep their sizes.
        same_batch = inner is not None and inner == _elements_a_channel(target)
        return 1 if same_batch or _same_size(source.shape[0], target.shape[0]) else None
    flattens = rank(target) == 2 and inner is not None and kept == channels * inner
    return inner if flattens else None


def _elements_a_channel(value: ir.Value) -> int | None:
    producer = value.producer()
    if value.shape is None:
        pooled = producer is not None and not producer.domain and producer.op_type == "GlobalAveragePool"
        return 1 if pooled else None
    sizes = [size for size in value.shape.dims[2:] if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == max(value.shape.rank() - 2, 0) and 0 not in sizes else None


def _same_size(one: int | ir.SymbolicDim, other: int | ir.SymbolicDim) -> bool:
    if isinstance(one, int) or isinstance(other, int):
        return one == other
    return one.value is not None and one.value == other.value

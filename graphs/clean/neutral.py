"""Arithmetic that leaves every number as it is: x * 1, x + 0, a maximum of one, Relu of what is not negative."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from cnnport.graphs.bounds import bounds_of, clip_limits
from cnnport.graphs.extents import integers, is_missing
from cnnport.graphs.randomness import is_inference_dropout
from cnnport.graphs.values import constant, rank, static

_NEUTRAL = {"Add": 0, "Div": 1, "Mul": 1, "Pow": 1, "Sub": 0}
_EITHER_SIDE = frozenset({"Add", "Mul"})
_KEEP_POSITIVE = frozenset({"Abs", "Celu", "Elu", "LeakyRelu", "PRelu", "Relu"})


def kept_operand(node: ir.Node) -> int | None:
    """Which operand an Add, Sub, Mul, Div or Pow returns as it is, because the other is a neutral constant.

    x + 0 counts although -0.0 + 0.0 is 0.0: the two are equal.
    """
    if node.op_type not in _NEUTRAL or len(node.inputs) != 2:
        return None
    for place in (1, 0) if node.op_type in _EITHER_SIDE else (1,):
        tensor = constant(node.inputs[place])
        if tensor is None or not _broadcasts_into(tensor, node.inputs[1 - place]):
            continue
        if bool((tensor.numpy() == _NEUTRAL[node.op_type]).all()):
            return 1 - place
    return None


def _broadcasts_into(tensor: ir.TensorProtocol, value: ir.Value | None) -> bool:
    """Whether a result with the constant has the shape of ``value``."""
    sizes, dims = tensor.shape.numpy(), rank(value)
    if not sizes:
        return True
    if dims is None or len(sizes) > dims:
        return False
    return all(size == 1 or size == static(value, place - len(sizes)) for place, size in enumerate(sizes))


def _dropout(node: ir.Node, opset: int) -> bool:
    return is_inference_dropout(node, opset)


def _cast(node: ir.Node, _opset: int) -> bool:
    value = node.inputs[0]
    return (
        value is not None
        and value.dtype is not None
        and value.dtype.value == node.attributes.get_int("to", 0)
    )


def _cast_like(node: ir.Node, _opset: int) -> bool:
    one, other = (None if value is None else value.dtype for value in node.inputs)
    return one is not None and one == other


def _only_one(node: ir.Node, _opset: int) -> bool:
    return len(node.inputs) == 1


def _pool(node: ir.Node, _opset: int) -> bool:
    ones = [*node.attributes.get_ints("kernel_shape", (0,)), *node.attributes.get_ints("strides", ())]
    return set(ones) == {1} and not any(node.attributes.get_ints("pads", ()))


def _global_pool(node: ir.Node, _opset: int) -> bool:
    dims = rank(node.inputs[0]) or 0
    return dims > 2 and all(static(node.inputs[0], axis) == 1 for axis in range(2, dims))


def _reduction(node: ir.Node, opset: int) -> bool:
    as_input = opset >= (13 if node.op_type == "ReduceSum" else 18)
    if as_input:
        axes = [] if is_missing(node, 1) else integers(node, 1)
    else:
        axes = list(node.attributes.get_ints("axes", ()))
    if axes is None:
        return False
    if not axes:
        return as_input and bool(node.attributes.get_int("noop_with_empty_axes", 0))
    return bool(node.attributes.get_int("keepdims", 1)) and all(
        static(node.inputs[0], axis) == 1 for axis in axes
    )


def _rectifier(node: ir.Node, opset: int) -> bool:
    return bounds_of(node.inputs[0], opset)[0] >= 0 or (
        node.op_type == "Relu" and _clipped_below(node, opset)
    )


def _clipped_below(node: ir.Node, opset: int) -> bool:
    """Whether whatever reads it cuts off what is negative anyway."""
    output = node.outputs[0]
    if output.is_graph_output() or not output.uses():
        return False
    return all(
        user.graph is node.graph and place == 0 and _cuts_negatives(user, opset)
        for user, place in output.uses()
    )


def _cuts_negatives(node: ir.Node, opset: int) -> bool:
    if node.domain or node.op_type not in {"Clip", "Relu"}:
        return False
    limits = (0.0, np.inf) if node.op_type == "Relu" else clip_limits(node, opset)
    return limits is not None and 0 <= limits[0] <= limits[1]


def _clip(node: ir.Node, opset: int) -> bool:
    limits = clip_limits(node, opset)
    if limits is None:
        return False
    low, high = bounds_of(node.inputs[0], opset)
    return limits[0] <= low and high <= limits[1]


def _always(_node: ir.Node, _opset: int) -> bool:
    return True


RULES: dict[str, Callable[[ir.Node, int], bool]] = {
    "AveragePool": _pool,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
    "Dropout": _dropout,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Identity": _always,
    "Max": _only_one,
    "MaxPool": _pool,
    "Mean": _only_one,
    "Min": _only_one,
    "ReduceMax": _reduction,
    "ReduceMean": _reduction,
    "ReduceMin": _reduction,
    "ReduceProd": _reduction,
    "ReduceSum": _reduction,
    "Sum": _only_one,
    **dict.fromkeys(_KEEP_POSITIVE, _rectifier),
}
"""For each operator, when its first output is its first input; given the node and the opset."""

"""Between which numbers a value lies, as far as the operators that made it tell.

Real arithmetic: rounding, infinities and NaN are not looked at. What is not known is unbounded, which is always true.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from cnnport.graphs.randomness import is_inference_dropout
from cnnport.graphs.values import constant

Interval: TypeAlias = tuple[float, float]

_UNBOUNDED = (-math.inf, math.inf)
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})
_LARGEST_NUMBER: dict[ir.DataType | None, float] = {
    ir.DataType.FLOAT16: float(np.finfo(np.float16).max),
    ir.DataType.DOUBLE: float(np.finfo(np.float64).max),
}
_DEEPEST = 8
_LARGEST = 4096

_FIXED: dict[str, Interval] = {
    "Abs": (0, math.inf),
    "Exp": (0, math.inf),
    "HardSigmoid": (0, 1),
    "Sigmoid": (0, 1),
    "Softmax": (0, 1),
    "Softplus": (0, math.inf),
    "Sqrt": (0, math.inf),
    "Tanh": (-1, 1),
}
# Each element of the output is one of the input's, or a mean of some.
_KEPT = frozenset(
    """DepthToSpace Expand Flatten Gather GlobalAveragePool GlobalMaxPool Identity ReduceMax ReduceMean
    ReduceMin Reshape Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze""".split()  # noqa: SIM905
)


def clip_limits(node: ir.Node, opset: int) -> Interval | None:
    """What a Clip cuts off at; infinite where it does not, None if that is computed.

    The largest number of its type counts as no limit: the defaults of old opsets are these.
    """
    if opset < 11:
        low, high = node.attributes.get_float("min", -math.inf), node.attributes.get_float("max", math.inf)
    else:
        limits = []
        for index, default in ((1, -math.inf), (2, math.inf)):
            given = node.inputs[index] if index < len(node.inputs) else None
            tensor = constant(given)
            if given is not None and (tensor is None or tensor.size != 1):
                return None
            limits.append(default if tensor is None else float(tensor.numpy().item()))
        low, high = limits
    if math.isnan(low) or math.isnan(high):
        return None
    value = node.inputs[0]
    largest = _LARGEST_NUMBER.get(value.dtype if value is not None else None, float(np.finfo(np.float32).max))
    return -math.inf if low <= -largest else low, math.inf if high >= largest else high


def bounds_of(value: ir.Value | None, opset: int) -> Interval:
    """An interval that holds every element of a value of floating-point numbers.

    Args:
        value: Any value; those of other types are unbounded.
        opset: Version of the default operator set.
    """
    return _bounds(value, opset, _DEEPEST, {})


def _bounds(value: ir.Value | None, opset: int, depth: int, known: dict[ir.Value, Interval]) -> Interval:
    if value is None or value.dtype not in _FLOATS:
        return _UNBOUNDED
    if value not in known:
        known[value] = _found(value, opset, depth, known)
    return known[value]


def _found(value: ir.Value, opset: int, depth: int, known: dict[ir.Value, Interval]) -> Interval:
    tensor = constant(value)
    if tensor is not None:
        numbers = tensor.numpy().astype(np.float64) if 0 < tensor.size <= _LARGEST else np.array([np.nan])
        return (float(numbers.min()), float(numbers.max())) if np.isfinite(numbers).all() else _UNBOUNDED
    node = value.producer()
    if node is None or node.domain or (value.index() != 0 and node.op_type != "Split"):
        return _UNBOUNDED
    if node.op_type in _FIXED:
        return _FIXED[node.op_type]

    def of(index: int) -> Interval:
        return _bounds(node.inputs[index], opset, depth - 1, known) if depth else _UNBOUNDED

    if node.op_type in _COMBINED:
        return _COMBINED[node.op_type]([of(index) for index in range(len(node.inputs))])
    if _keeps(node, opset):
        return of(0)
    if node.op_type == "AveragePool":
        return _hull([of(0), (0.0, 0.0)])
    if node.op_type == "Relu":
        return _clip(of(0), (0.0, math.inf))
    if node.op_type == "Clip":
        limits = clip_limits(node, opset)
        return _UNBOUNDED if limits is None else _clip(of(0), limits)
    return _UNBOUNDED


def _keeps(node: ir.Node, opset: int) -> bool:
    if node.op_type == "Dropout":
        return is_inference_dropout(node, opset)
    if node.op_type == "MaxPool":
        # Runtimes disagree on a last window that lies in the padding altogether.
        return not node.attributes.get_int("ceil_mode", 0)
    return node.op_type in _KEPT


def _clip(interval: Interval, limits: Interval) -> Interval:
    low, high = (min(max(number, limits[0]), limits[1]) for number in interval)
    return low, high


def _hull(parts: list[Interval]) -> Interval:
    return min(low for low, _ in parts), max(high for _, high in parts)


def _sum(parts: list[Interval]) -> Interval:
    return sum(low for low, _ in parts), sum(high for _, high in parts)


def _product(parts: list[Interval]) -> Interval:
    (low, high), (other_low, other_high) = parts
    # Only what is needed: both of one sign at most, where infinities do no harm.
    if low < 0 or other_low < 0:
        return _UNBOUNDED
    finite = math.isfinite(high) and math.isfinite(other_high)
    return low * other_low, high * other_high if finite else math.inf


_COMBINED: dict[str, Callable[[list[Interval]], Interval]] = {
    "Add": _sum,
    "Concat": _hull,
    "Max": lambda parts: (max(low for low, _ in parts), max(high for _, high in parts)),
    "Mean": _hull,
    "Min": lambda parts: (min(low for low, _ in parts), min(high for _, high in parts)),
    "Mul": _product,
    "Sum": _sum,
}

"""One node on constant inputs, as a runtime would compute it.

onnx's own reference implementation computes; it is held here to operators whose results do not depend on who computes
them. Operators that move, compare or round work in the type of the file; sums, means, products of matrices and
transcendental functions in float64, rounded once.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs.reference_operators import OPERATORS
from cnnport.graphs.values import static

EXACT = frozenset(
    """Abs Add And Cast Ceil Clip Concat ConstantOfShape DepthToSpace Div Equal Expand Flatten Floor
    Gather Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Neg NonZero Not Or Pad Range
    Reciprocal Relu Reshape Round Shape Sign Size Slice SpaceToDepth Split Sqrt Squeeze Sub Tile
    Transpose Unsqueeze Where Xor""".split()  # noqa: SIM905
)
"""Computed in the type that the file states: the result is the same wherever it is computed."""

WIDE = frozenset(
    """Erf Exp Log MatMul Mean Pow ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Sigmoid Softplus Sum Tanh""".split()  # noqa: SIM905
)
"""Computed in float64 where the file states a smaller floating-point type."""

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_TYPES = frozenset(map(np.dtype, ("bool", "float16", "float32", "float64", *_INTEGERS)))
_BROADCASTS = frozenset(
    """Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where
    Xor""".split()  # noqa: SIM905
)
_INTEGERS_TOO = frozenset({"MatMul", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Sum"})


def can_evaluate(node: ir.Node) -> bool:
    """Whether a node is of an operator that ``evaluate`` computes."""
    return not node.domain and node.op_type in EXACT | WIDE


def largest_result(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> int | None:
    """An upper bound of the number of elements that a node makes; None if there is no telling beforehand."""
    sizes = [
        [static(output, axis) for axis in range(output.shape.rank())]
        for output in node.outputs
        if output.shape
    ]
    known = [math.prod(size for size in each if size is not None) for each in sizes if None not in each]
    if len(known) == len(node.outputs):
        return sum(known)
    try:
        return _from_inputs(node, arrays)
    except (AttributeError, ValueError, IndexError, OverflowError, ZeroDivisionError):
        return None  # inputs that make no sense


def _from_inputs(node: ir.Node, arrays: Sequence[np.ndarray | None]) -> int:
    present = [array for array in arrays if array is not None]
    first = present[0]
    if node.op_type in _BROADCASTS:
        return math.prod([int(size) for size in np.broadcast_shapes(*(array.shape for array in present))])
    match node.op_type:
        case "ConstantOfShape":
            return math.prod([int(size) for size in first])
        case "Expand":
            return math.prod(np.broadcast_shapes(first.shape, tuple(int(size) for size in present[1])))
        case "Gather":
            taken = int(first.shape[node.attributes.get_int("axis", 0)])
            return int(present[1].size) * (int(first.size) // taken if taken else 0)
        case "MatMul":
            inner = max(int(first.shape[-1]), 1)
            return (int(first.size) // inner) * (int(present[1].size) // inner)
        case "NonZero":
            return int(first.size) * max(first.ndim, 1)
        case "Pad":
            return math.prod(_padded(node, first.shape, arrays))
        case "Range":
            return max(0, math.ceil(float(present[1].item() - first.item()) / float(present[2].item())))
        case "Tile":
            return int(first.size) * math.prod([int(count) for count in present[1]])
        case _:
            return sum(int(array.size) for array in present)


def _padded(node: ir.Node, shape: Sequence[int], arrays: Sequence[np.ndarray | None]) -> list[int]:
    given = arrays[1] if len(arrays) > 1 else np.array(node.attributes.get_ints("pads", ()))
    axes = arrays[3] if len(arrays) > 3 and arrays[3] is not None else np.arange(len(shape))
    sizes = [int(size) for size in shape]
    assert given is not None
    for pads in np.split(given, 2):
        for axis, pad in zip(axes, pads, strict=True):
            sizes[int(axis)] += max(int(pad), 0)
    return sizes


def evaluate(node: ir.Node, opset: int, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """What a node computes.

    Args:
        node: Of an operator that ``can_evaluate`` accepts.
        opset: Version of the default operator set.
        arrays: Its inputs, None for those that are left out. Not changed.

    Returns:
        One array for each output, or None if the reference cannot compute it, or what it computes is not defined:
        division by zero, a number that the type of a Cast does not hold, something that overflows.
    """
    if (
        not arrays
        or arrays[0] is None
        or any(each is not None and each.dtype not in _TYPES for each in arrays)
    ):
        return None
    fed, own = list(arrays), arrays[0].dtype
    # Steps of a float add up otherwise in every runtime; a mean of integers is rounded in some.
    if own.kind == "f" and node.op_type == "Range":
        return None
    if own.kind != "f" and node.op_type in WIDE - _INTEGERS_TOO:
        return None
    if node.op_type in WIDE:
        fed = [_widened(array) for array in arrays]
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            results = _run(node, opset, fed)
            if node.op_type in WIDE:
                results = [result.astype(own) for result in results]
    except Exception:  # whatever the reference raises: then the runtime has to compute it
        return None
    pairs = zip(results, node.outputs, strict=True)
    return results if all(_is_expected(result, output) for result, output in pairs) else None


def _widened(array: np.ndarray | None) -> np.ndarray | None:
    return array.astype(np.float64) if array is not None and array.dtype.kind == "f" else array


def _run(node: ir.Node, opset: int, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    names = [f"i{index}" if array is not None else "" for index, array in enumerate(arrays)]
    outputs = [f"o{index}" for index in range(len(node.outputs))]
    proto = helper.make_node(node.op_type, names, outputs)
    proto.attribute.extend(ir.to_proto(attribute) for attribute in node.attributes.values())
    graph = helper.make_graph(
        [proto],
        "node",
        [helper.make_value_info(name, onnx.TypeProto()) for name in names if name],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    return [
        np.asarray(result) for result in ReferenceEvaluator(model, new_ops=list(OPERATORS)).run(None, feeds)
    ]


def _is_expected(result: np.ndarray, output: ir.Value) -> bool:
    """Whether a result is what the file, or shape inference, says of it."""
    if result.dtype not in _TYPES or (output.dtype is not None and output.dtype.numpy() != result.dtype):
        return False
    if output.shape is None:
        return True
    stated = [static(output, axis) for axis in range(output.shape.rank())]
    return len(stated) == result.ndim and all(
        size is None or size == found for size, found in zip(stated, result.shape, strict=True)
    )

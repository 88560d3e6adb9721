"""Operators that work on transposed values as well, and what changes in them.

The letter T is a Transpose of order ``perm``: axis perm[j] of the old value is axis j of the new one. Elementwise
operators commute with every T, and with broadcasting too as long as all operands have the same number of dimensions;
constants are transposed once. An operator along axes works along those where T has put them. Definitions: the
operator pages of onnx.ai.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from cnnport.graphs.extents import integers
from cnnport.graphs.layout.permutations import Permutation, keeps_order, moved_axes
from cnnport.graphs.layout.site import Editor, Finder, Site, following, staying, uses_more
from cnnport.graphs.layout.statistics import STATISTICS
from cnnport.graphs.values import constant, rank

UNARY = frozenset(
    {
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitwiseNot",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "DynamicQuantizeLinear",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    }
)
"""Elementwise operators of one operand; further inputs are numbers, or only lend their type."""
_BROADCAST = (
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
)


def _unary(node: ir.Node, _opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    return None if dims is None else Site(node, dims)


def _dropout(node: ir.Node, opset: int) -> Site | None:
    training = node.inputs[2] if opset >= 12 and len(node.inputs) > 2 else None
    fixed = constant(training)
    if training is not None and (fixed is None or fixed.numpy().any()):
        return None
    return None if uses_more(node) else _unary(node, opset)


def _broadcast(node: ir.Node, _opset: int) -> Site | None:
    follow: list[int] = []
    fixed: list[int] = []
    dims = max((rank(value) or 0 for value in node.inputs if constant(value) is None), default=0)
    for index, value in enumerate(node.inputs):
        tensor = constant(value)
        if tensor is not None:
            if tensor.dtype == ir.DataType.STRING or tensor.shape.rank() > dims:
                return None
            fixed.append(index)
        elif rank(value) == dims:
            follow.append(index)
        elif rank(value) != 0:
            # Of fewer dimensions, or an unknown number: it would need a Reshape to stay aligned.
            return None
    if not follow or not dims:
        return None
    return following(node, dims, follow, fixed)


def _concat(node: ir.Node, _opset: int) -> Site | None:
    dims = rank(node.outputs[0]) or rank(node.inputs[0])
    axis = node.attributes.get_int("axis", None)
    fixed = [index for index, value in enumerate(node.inputs) if constant(value) is not None]
    follow = [index for index in range(len(node.inputs)) if index not in fixed]
    tensors = [constant(node.inputs[index]) for index in fixed]
    if dims is None or axis is None or not -dims <= axis < dims or not follow:
        return None
    if any(tensor is None or tensor.dtype == ir.DataType.STRING for tensor in tensors):
        return None
    # A constant of one element keeps its dimensions here, which are those of the result.
    return following(node, dims, follow, fixed, axis % dims)


def _along_axis(default: int) -> Finder:
    def find(node: ir.Node, _opset: int) -> Site | None:
        dims = rank(node.inputs[0])
        axis = node.attributes.get_int("axis", default)
        if dims is None or not -dims <= axis < dims:
            return None
        return following(node, dims, (0,), (), axis % dims)

    return find


def _slice(node: ir.Node, opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    if dims is None:
        return None
    if opset < 10:
        starts: Sequence[int] = node.attributes.get_ints("starts", ())
        listed: Sequence[int] | None = node.attributes.get_ints("axes", None)
    else:
        tensor = constant(node.inputs[1])
        starts = () if tensor is None else [int(start) for start in tensor.numpy().ravel()]
        listed = integers(node, 3)
        if listed is None and len(node.inputs) > 3 and node.inputs[3] is not None:
            return None
        if listed is None and tensor is None:
            return None
    axes = list(listed) if listed is not None else list(range(len(starts)))
    return _along_axes(node, dims, axes, None if opset < 10 else 3, is_short=listed is None)


def _along_axes(
    node: ir.Node, dims: int, axes: Sequence[int], index: int | None, *, is_short: bool = False
) -> Site | None:
    """An operator whose axes are listed in an input, or in an attribute (``index`` is None)."""
    if any(not -dims <= axis < dims for axis in axes):
        return None

    def change(order: Permutation, editor: Editor) -> None:
        moved = moved_axes(axes, order)
        if index is None:
            node.attributes["axes"] = ir.AttrInt64s("axes", moved)
        elif is_short:
            tensor = constant(node.inputs[1])
            assert tensor is not None
            if index >= len(node.inputs):
                node.resize_inputs(index + 1)
            editor.set_integers(node, index, moved, tensor.dtype)
        else:
            editor.set_integers(node, index, moved)

    return Site(node, dims, outputs=tuple(range(len(node.outputs))), change=change)


def _pad(node: ir.Node, opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    if dims is None:
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        listed = integers(node, 3)
        return None if listed is None else _along_axes(node, dims, listed, 3)
    pads = list(node.attributes.get_ints("pads", ())) if opset < 11 else integers(node, 1)
    if pads is None or len(pads) != 2 * dims:
        return None

    def change(order: Permutation, editor: Editor) -> None:
        moved = [pads[axis] for axis in order] + [pads[dims + axis] for axis in order]
        if opset < 11:
            node.attributes["pads"] = ir.AttrInt64s("pads", moved)
        else:
            editor.set_integers(node, 1, moved)

    return Site(node, dims, change=change)


def _matmul(node: ir.Node, _opset: int) -> Site | None:
    """Rows by a matrix: the axes that number the rows may lie in any order."""
    dims = rank(node.inputs[0])
    if dims is None or dims < 3 or rank(node.inputs[1]) != 2:
        return None
    return Site(node, dims, allows=staying((dims - 1,)))


def _quantize(node: ir.Node, opset: int) -> Site | None:
    held = constant(node.inputs[0])
    dims = rank(node.inputs[0]) if held is None else held.shape.rank()
    scales = rank(node.inputs[1])
    if dims is None or node.attributes.get_int("block_size", 0) != 0 or scales not in {0, 1}:
        return None
    fixed = () if held is None else (0,)
    follow = (0,) if held is None else ()
    if scales == 0:
        return following(node, dims, follow, fixed)
    axis = node.attributes.get_int("axis", 1)
    if opset < 13 or not -dims <= axis < dims:
        return None
    return following(node, dims, follow, fixed, axis % dims)


def _gather(node: ir.Node, _opset: int) -> Site | None:
    dims, indices = rank(node.inputs[0]), rank(node.inputs[1])
    axis = node.attributes.get_int("axis", 0)
    if dims is None or indices not in {0, 1} or constant(node.inputs[0]) is not None:
        return None
    if not -dims <= axis < dims:
        return None
    site = following(node, dims, (0,), (), axis % dims)
    if indices == 1:
        return site
    return Site(node, dims, outputs=(), allows=lambda order: keeps_order(order, [axis]), change=site.change)


def _tile(node: ir.Node, _opset: int) -> Site | None:
    dims, repeats = rank(node.inputs[0]), integers(node, 1)
    if dims is None or repeats is None or len(repeats) != dims:
        return None
    times = repeats

    def change(order: Permutation, editor: Editor) -> None:
        editor.set_integers(node, 1, [times[axis] for axis in order])

    return Site(node, dims, change=change)


OPERATORS: Mapping[str, Finder] = {
    **STATISTICS,
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _quantize),
    "Concat": _concat,
    "Dropout": _dropout,
    "Gather": _gather,
    "LpNormalization": _along_axis(-1),
    "MatMul": _matmul,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _along_axis(0),
    "Tile": _tile,
    "TopK": _along_axis(-1),
}
"""The operators that are not left out here on purpose: those with a window stay as they are, recurrent ones too."""

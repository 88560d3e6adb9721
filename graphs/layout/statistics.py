"""Operators that take sums, means or maxima along axes, and what changes in them for transposed values.

An operator along axes works along those where the Transpose has put them. A normalisation commutes with a Transpose
that leaves the axes alone which it treats in a special way. Definitions: the operator pages of onnx.ai.
"""

from collections.abc import Mapping

import onnx_ir as ir

from cnnport.graphs.extents import integers
from cnnport.graphs.layout.permutations import Permutation, keeps_order, moved_axes
from cnnport.graphs.layout.site import Editor, Finder, Site, following, staying, uses_more
from cnnport.graphs.values import rank

_REDUCE = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
_CHANNELS_SECOND = (
    "BatchNormalization",
    "GlobalLpPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
)
_POOLED_BY = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


def _softmax(node: ir.Node, opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    axis = node.attributes.get_int("axis", -1 if opset >= 13 else 1)
    if dims is None or not -dims <= axis < dims:
        return None
    last = dims - 1
    if axis % dims != last and opset < 13:
        return None  # over all the axes from this one on

    def allows(order: Permutation) -> bool:
        # Away from the last axis, runtimes transpose inside.
        return axis % dims != last or order[last] == last

    site = following(node, dims, (0,), (), axis % dims)
    return Site(node, dims, allows=allows, change=site.change)


def _arg(node: ir.Node, _opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    axis = node.attributes.get_int("axis", 0)
    if dims is None or not -dims <= axis < dims:
        return None
    site = following(node, dims, (0,), (), axis % dims)
    if node.attributes.get_int("keepdims", 1):
        return site
    return Site(node, dims, outputs=(), allows=lambda order: keeps_order(order, [axis]), change=site.change)


def _reduce(node: ir.Node, opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    as_input = opset >= (13 if node.op_type == "ReduceSum" else 18)
    given = len(node.inputs) > 1 and node.inputs[1] is not None
    listed = integers(node, 1) if as_input else list(node.attributes.get_ints("axes", ()))
    if dims is None or (as_input and given and listed is None):
        return None
    keeps = node.attributes.get_int("keepdims", 1)
    if not listed:
        whole = not node.attributes.get_int("noop_with_empty_axes", 0)
        return Site(node, dims, outputs=() if whole and not keeps else (0,))
    axes = listed
    if any(not -dims <= axis < dims for axis in axes):
        return None

    def change(order: Permutation, editor: Editor) -> None:
        moved = sorted(moved_axes(axes, order))
        if as_input:
            editor.set_integers(node, 1, moved)
        else:
            node.attributes["axes"] = ir.AttrInt64s("axes", moved)

    if keeps:
        return Site(node, dims, change=change)
    return Site(node, dims, outputs=(), allows=lambda order: keeps_order(order, axes), change=change)


def _channels_second(node: ir.Node, opset: int) -> Site | None:
    dims = rank(node.inputs[0])
    if dims is None or dims < 3 or uses_more(node) or opset < 9:
        return None
    if node.attributes.get_int("training_mode", 0):
        return None
    return Site(node, dims, allows=staying((0, 1)))


def _global_pool(node: ir.Node, opset: int) -> Site | None:
    """A pooling over all axes but the first two, or over others by its name as a reduction."""
    dims = rank(node.inputs[0])
    if dims is None or dims < 3:
        return None

    def change(order: Permutation, editor: Editor) -> None:
        if order[:2] == (0, 1):
            return
        axes = sorted(moved_axes(range(2, dims), order))
        node.op_type = _POOLED_BY[node.op_type]
        node.attributes["keepdims"] = ir.AttrInt64("keepdims", 1)
        if opset >= 18:
            editor.set_integers(node, 1, axes)
        else:
            node.attributes["axes"] = ir.AttrInt64s("axes", axes)

    return Site(node, dims, change=change)


def _trailing(node: ir.Node, _opset: int) -> Site | None:
    """LayerNormalization: its axes are the last ones, and its constants lie along them."""
    dims = rank(node.inputs[0])
    axis = node.attributes.get_int("axis", -1)
    if dims is None or not -dims <= axis < dims or uses_more(node):
        return None
    first = axis % dims
    scales = [rank(value) for value in node.inputs[1:] if value is not None]
    if any(size is None or size > dims - first for size in scales):
        return None
    return Site(node, dims, allows=staying(range(first, dims)))


STATISTICS: Mapping[str, Finder] = {
    **dict.fromkeys(_REDUCE, _reduce),
    **dict.fromkeys(_CHANNELS_SECOND, _channels_second),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "Softmax"), _softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _trailing),
    **dict.fromkeys(_POOLED_BY, _global_pool),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
}
"""How each of them may be transposed."""

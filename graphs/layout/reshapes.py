"""Operators that change the number of axes, next to values in another order of axes.

A Squeeze, an Unsqueeze or a Reshape passes a Transpose by where it leaves the elements in place, which it does if it
moves axes of size 1 only: N x 1 x 1 x C and N x C x 1 x 1 hold the same numbers in the same order. Where a Flatten
feeds matrix products with constant matrices, any order of axes will do: the rows of the matrices move instead,

    flatten(T x) W' = flatten(x) W,  row j of W' being the row of W for the element that T puts in place j.

The side of such an operator that does not follow keeps its shape and its numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from cnnport.graphs.channel.channel_search import selected
from cnnport.graphs.channel.rechannel import CannotSelectError, Channels, Edit, Scope, apply
from cnnport.graphs.extents import integers
from cnnport.graphs.layout.permutations import Permutation, keeps_order, moved_axes
from cnnport.graphs.layout.site import Allows, Change, Editor, Site
from cnnport.graphs.values import constant, rank, static


def squeeze(node: ir.Node, scope: Scope) -> list[Site]:
    """Its input may follow where the axes that stay keep their order."""
    dims, axes = rank(node.inputs[0]), _given_axes(node, scope.opset)
    if dims is None or not axes or any(not -dims <= axis < dims for axis in axes):
        return []
    return [Site(node, dims, outputs=(), allows=_keeping(axes), change=_moving(node, axes, scope.opset))]


def unsqueeze(node: ir.Node, scope: Scope) -> list[Site]:
    """Its output may follow where the axes that it was given keep their order."""
    given, axes = rank(node.inputs[0]), _given_axes(node, scope.opset)
    if given is None or not axes:
        return []
    dims = given + len(axes)
    if any(not -dims <= axis < dims for axis in axes):
        return []
    return [Site(node, dims, inputs=(), allows=_keeping(axes), change=_moving(node, axes, scope.opset))]


def _given_axes(node: ir.Node, opset: int) -> list[int] | None:
    return integers(node, 1) if opset >= 13 else list(node.attributes.get_ints("axes", ()))


def _keeping(axes: Sequence[int]) -> Allows:
    return lambda order: keeps_order(order, axes)


def _moving(node: ir.Node, axes: Sequence[int], opset: int) -> Change:
    def change(order: Permutation, editor: Editor) -> None:
        moved = sorted(moved_axes(axes, order))
        if opset >= 13:
            editor.set_integers(node, 1, moved)
        else:
            node.attributes["axes"] = ir.AttrInt64s("axes", moved)

    return change


def reshape(node: ir.Node, scope: Scope) -> list[Site]:
    """Both of its sides, each for itself."""
    found = [_reshaped_input(node, scope), _reshaped_output(node)]
    return [site for site in found if site is not None]


def _target(node: ir.Node) -> list[int] | None:
    """Where a Reshape or a Flatten leads; None where that is computed, or 0 does not mean what it says elsewhere."""
    if node.op_type == "Flatten":
        return [0, -1] if node.attributes.get_int("axis", 1) == 1 else None
    target = integers(node, 1)
    literal = node.attributes.get_int("allowzero", 0)
    return None if target is None or (literal and 0 in target) else target


def _reshaped_input(node: ir.Node, scope: Scope) -> Site | None:
    source, target = node.inputs[0], _target(node)
    if source is None or source.shape is None or target is None or constant(source) is not None:
        return None
    # Read now: by the time that something is changed, the value may have another shape.
    sizes = [static(source, axis) for axis in range(source.shape.rank())]
    features = sizes[1:] if flattens(source, target) else None

    def stays(order: Permutation) -> bool:
        for index in [index for index, size in enumerate(target) if size == 0]:
            if index >= len(sizes) or (order[index] != index and sizes[order[index]] != sizes[index]):
                return False
            if order[index] != index and sizes[index] is None:
                return False
        return keeps_order(order, [axis for axis, size in enumerate(sizes) if size == 1])

    def allows(order: Permutation) -> bool:
        return stays(order) or bool(_edits(node, features, order, scope))

    def change(order: Permutation, _editor: Editor) -> None:
        if not stays(order):
            apply(_edits(node, features, order, scope), scope)

    return Site(node, len(sizes), outputs=(), allows=allows, change=change, is_early=True)


def _edits(
    node: ir.Node, features: Sequence[int | None] | None, order: Permutation, scope: Scope
) -> list[Edit]:
    """What takes the features behind a flattening in another order; nothing where that is not possible."""
    known = [size for size in features or () if size is not None]
    if features is None or order[0] != 0 or len(known) != len(features):
        return []
    selection = np.arange(math.prod(known)).reshape(known).transpose([axis - 1 for axis in order[1:]]).ravel()
    try:
        edits = selected({node.outputs[0]: selection}, scope, (node,))
    except CannotSelectError:
        return []
    ends = [edit.value if isinstance(edit, Channels) else edit.node.outputs[0] for edit in edits]
    # Features only: values with more axes may get another order of them at the same time.
    return edits if all(rank(end) == 2 for end in ends) else []


def flattens(source: ir.Value | None, target: Sequence[int]) -> bool:
    """Whether a target makes N x everything else of a value whose dimensions but the first are known."""
    dims = rank(source)
    sizes = [static(source, axis) for axis in range(1, dims)] if dims else []
    known = [size for size in sizes if size is not None]
    if not dims or len(target) != 2 or len(known) != len(sizes):
        return False
    count, batch = math.prod(known), static(source, 0)
    rows, columns = target
    return count > 0 and (
        (rows == 0 and columns in {-1, count})
        or (rows == -1 and columns == count)
        or (batch is not None and rows == batch and columns in {-1, count})
    )


def _reshaped_output(node: ir.Node) -> Site | None:
    target = _target(node)
    if node.op_type != "Reshape" or target is None or len(target) < 3:
        return None
    units = [index for index, size in enumerate(target) if size == 1]

    def allows(order: Permutation) -> bool:
        fixed = all(order[index] == index for index, size in enumerate(target) if size == 0)
        return fixed and keeps_order(order, units)

    def change(order: Permutation, editor: Editor) -> None:
        editor.set_integers(node, 1, [target[axis] for axis in order])

    return Site(node, len(target), inputs=(), allows=allows, change=change)


def shape(node: ir.Node, scope: Scope) -> list[Site]:
    """Sizes that are picked one by one are picked elsewhere."""
    source, sizes = node.inputs[0], node.outputs[0]
    if (
        source is None
        or source.shape is None
        or node.attributes.get_int("start", 0) != 0
        or "end" in node.attributes
    ):
        return []
    dims, readers = source.shape.rank(), [reader for reader, _ in sizes.uses()]
    if (
        not readers
        or not scope.is_private(sizes)
        or not all(_picks(reader, sizes, dims) for reader in readers)
    ):
        return []

    def change(order: Permutation, editor: Editor) -> None:
        for reader in dict.fromkeys(readers):
            tensor = constant(reader.inputs[1])
            assert tensor is not None
            picked = tensor.numpy()
            moved = np.array(moved_axes(picked.ravel().tolist(), order), picked.dtype).reshape(picked.shape)
            editor.set_array(reader, 1, moved, tensor.dtype)
        sizes.name = scope.fresh(f"{sizes.name}_perm")

    return [Site(node, dims, outputs=(), change=change)]


def _picks(reader: ir.Node, sizes: ir.Value, dims: int) -> bool:
    if reader.domain or reader.op_type != "Gather" or reader.inputs[0] is not sizes:
        return False
    tensor = constant(reader.inputs[1])
    return tensor is not None and all(-dims <= index < dims for index in tensor.numpy().ravel().tolist())


RESHAPES: Mapping[str, Callable[[ir.Node, Scope], list[Site]]] = {
    "Flatten": reshape,
    "Reshape": reshape,
    "Shape": shape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}
"""The sides of these operators that may follow an order of axes."""

"""What is known of sizes: each a number, a dimension that has a name, a dimension of some value, or nothing.

Exporters compute the target of a Reshape from the Shape of its input, element by element. Most of these elements are
numbers that the file knows, and the rest is the batch, a dimension with a name. Such small integer tensors are
followed here without any of the values being known in full.

Two dimensions are the same if both are the same number or both have the same name, which ONNX's dimension variables
guarantee in one graph. A dimension without a name is the same only as itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from cnnport.graphs.values import constant, rank

_LONGEST = 64
_DEEPEST = 64
_ARITHMETIC: dict[str, Callable[[int, int], int | None]] = {
    "Add": lambda one, other: one + other,
    # Integer division rounds towards zero; sizes are not negative, and for others it is left alone.
    "Div": lambda one, other: one // other if one >= 0 and other > 0 else None,
    "Mul": lambda one, other: one * other,
    "Sub": lambda one, other: one - other,
}
_INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64})


@dataclass(frozen=True)
class Dimension:
    """A dimension that has neither a number nor a name: that of this value on this axis, counted from 0."""

    value: ir.Value
    axis: int


Extent: TypeAlias = int | str | Dimension | None
"""A size: its number, its name, the dimension that it is, or None if nothing is known."""


@dataclass(frozen=True)
class Extents:
    """A tensor of sizes.

    Attributes:
        elements: One extent for each element.
        scalar: Whether it has no dimension; otherwise it has one.
    """

    elements: tuple[Extent, ...]
    scalar: bool = False

    def numbers(self) -> list[int] | None:
        """The elements, if each is a number."""
        numbers = [element for element in self.elements if isinstance(element, int)]
        return numbers if len(numbers) == len(self.elements) else None


def extent_of(value: ir.Value | None, axis: int) -> Extent:
    """The size of a value on an axis, counted from 0."""
    if value is None or value.shape is None or not 0 <= axis < value.shape.rank():
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else size.value or Dimension(value, axis)


def shape_of(value: ir.Value | None) -> tuple[Extent, ...] | None:
    """All sizes of a value; None where even the number of dimensions is unknown."""
    dims = rank(value)
    return None if dims is None else tuple(extent_of(value, axis) for axis in range(dims))


def extents_of(value: ir.Value | None, opset: int, depth: int = _DEEPEST) -> Extents | None:
    """What is known of the elements of a small integer tensor; None if it is none or comes from elsewhere.

    Args:
        value: Any value.
        opset: Version of the default operator set.
        depth: How many nodes up to look.
    """
    if value is None or not depth or value.dtype not in _INTEGERS | {None} or (rank(value) or 0) > 1:
        return None
    tensor = constant(value)
    if tensor is not None:
        if tensor.dtype not in _INTEGERS or len(tensor.shape) > 1 or tensor.size > _LONGEST:
            return None
        return Extents(tuple(int(each) for each in tensor.numpy().ravel()), len(tensor.shape) == 0)
    node = value.producer()
    if node is None or node.domain or not node.inputs:
        return None
    source = node.inputs[0]
    if node.op_type == "Shape":
        return _shape(node)
    if node.op_type == "Size":
        sizes = shape_of(source)
        numbers = None if sizes is None else Extents(sizes).numbers()
        return None if numbers is None else Extents((int(np.prod(numbers, dtype=np.int64)),), scalar=True)
    if node.op_type == "Concat":
        return _concat([extents_of(each, opset, depth - 1) for each in node.inputs])
    if node.op_type in _ARITHMETIC and len(node.inputs) == 2:
        return _arithmetic(node.op_type, *(extents_of(each, opset, depth - 1) for each in node.inputs))
    if node.op_type not in {"Cast", "Gather", "Identity", "Slice", "Squeeze", "Unsqueeze"}:
        return None
    inner = extents_of(source, opset, depth - 1)
    return None if inner is None else _of_node(node, inner, opset)


def _of_node(node: ir.Node, inner: Extents, opset: int) -> Extents | None:
    match node.op_type:
        case "Gather":
            return _gather(inner, node)
        case "Slice":
            return _slice(inner, node, opset)
        case "Squeeze":
            one = not inner.scalar and len(inner.elements) == 1 and _axes(node, opset) in ([0], [])
            return Extents(inner.elements, scalar=True) if one else None
        case "Unsqueeze":
            return Extents(inner.elements) if inner.scalar and _axes(node, opset) == [0] else None
        case "Cast":
            # To a smaller type it may not fit; to a float it is no integer any more.
            return inner if node.attributes.get_int("to", 0) == ir.DataType.INT64.value else None
        case _:
            return inner


def integers(node: ir.Node, index: int) -> list[int] | None:
    """An input of a node as a list, if it is a constant; None if it is missing or computed."""
    tensor = constant(node.inputs[index]) if index < len(node.inputs) else None
    return None if tensor is None else [int(each) for each in tensor.numpy().ravel()]


def is_missing(node: ir.Node, index: int) -> bool:
    """Whether an optional input is left out."""
    return index >= len(node.inputs) or node.inputs[index] is None


def slices(node: ir.Node, opset: int) -> list[tuple[int, int, Extent, int]] | None:
    """Axis, start, end and step of a Slice; an axis as the file counts it; None if not all is known."""
    ends: Sequence[Extent]
    if opset < 10:
        starts = list(node.attributes.get_ints("starts", ()))
        ends = list(node.attributes.get_ints("ends", ()))
        axes = list(node.attributes.get_ints("axes", range(len(starts))))
        steps = [1] * len(starts)
    else:
        known = extents_of(node.inputs[2], opset)
        given = [integers(node, index) for index in (1, 3, 4)]
        unknown = any(
            each is None and not is_missing(node, index) for each, index in zip(given, (1, 3, 4), strict=True)
        )
        if unknown or known is None or given[0] is None:
            return None
        starts, ends = given[0], known.elements
        axes = list(range(len(starts))) if given[1] is None else given[1]
        steps = [1] * len(starts) if given[2] is None else given[2]
    if not len(starts) == len(ends) == len(axes) == len(steps):
        return None
    return list(zip(axes, starts, ends, steps, strict=True))


def _shape(node: ir.Node) -> Extents | None:
    sizes = shape_of(node.inputs[0])
    if sizes is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(sizes))
    return Extents(sizes[slice(start, end)])


def _concat(parts: Sequence[Extents | None]) -> Extents | None:
    known = [part for part in parts if part is not None and not part.scalar]
    if len(known) != len(parts):
        return None
    return Extents(tuple(element for part in known for element in part.elements))


def _arithmetic(operator: str, one: Extents | None, other: Extents | None) -> Extents | None:
    """Element by element, where both are numbers; what is a name or unknown stays unknown."""
    if one is None or other is None:
        return None
    length = max(len(one.elements), len(other.elements))
    if len(one.elements) not in {1, length} or len(other.elements) not in {1, length} or not length:
        return None
    pairs = [(each.elements * length)[:length] for each in (one, other)]
    found = [
        _ARITHMETIC[operator](a, b) if isinstance(a, int) and isinstance(b, int) else None
        for a, b in zip(*pairs, strict=True)
    ]
    return Extents(tuple(found), one.scalar and other.scalar)


def _gather(inner: Extents, node: ir.Node) -> Extents | None:
    indices = constant(node.inputs[1])
    if inner.scalar or indices is None or len(indices.shape) > 1 or indices.size > _LONGEST:
        return None
    chosen = [int(each) for each in indices.numpy().ravel()]
    if any(not -len(inner.elements) <= each < len(inner.elements) for each in chosen):
        return None
    return Extents(tuple(inner.elements[each] for each in chosen), len(indices.shape) == 0)


def _slice(inner: Extents, node: ir.Node, opset: int) -> Extents | None:
    parts = slices(node, opset)
    if inner.scalar or parts is None or len(parts) != 1:
        return None
    axis, start, end, step = parts[0]
    # Backwards is left alone: Python reads an end before the first element otherwise than ONNX.
    if axis not in {0, -1} or not isinstance(end, int) or step < 1:
        return None
    return Extents(inner.elements[start:end:step])


def _axes(node: ir.Node, opset: int) -> list[int] | None:
    if opset < 13:
        axes = list(node.attributes.get_ints("axes", ()))
    else:
        given = integers(node, 1)
        if given is None and not is_missing(node, 1):
            return None
        axes = given or []
    return [0 if axis == -1 else axis for axis in axes]

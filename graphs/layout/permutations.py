"""Orders of axes: y = Transpose <perm> (x) has axis perm[i] of x as its axis i."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import onnx_ir as ir

Permutation: TypeAlias = tuple[int, ...]


def identity(dims: int) -> Permutation:
    """The order in which nothing moves."""
    return tuple(range(dims))


def is_identity(order: Permutation) -> bool:
    """Whether nothing moves."""
    return order == identity(len(order))


def then(first: Permutation, second: Permutation) -> Permutation:
    """One Transpose for two: ``first``, and ``second`` of its result."""
    return tuple(map(first.__getitem__, second))


def inverse(order: Permutation) -> Permutation:
    """What undoes it."""
    return tuple(map(order.index, range(len(order))))


def moved_axes(axes: Iterable[int], order: Permutation) -> list[int]:
    """Where axes lie after a Transpose; the axes may be negative."""
    return [order.index(axis % len(order)) for axis in axes]


def keeps_order(order: Permutation, without: Iterable[int] = ()) -> bool:
    """Whether the axes other than ``without`` stay in their order among each other."""
    left_out = {axis % len(order) for axis in without}
    kept = [axis for axis in order if axis not in left_out]
    return kept == sorted(kept)


def permuted_shape(shape: ir.Shape | None, order: Permutation) -> ir.Shape | None:
    """The shape after a Transpose."""
    return None if shape is None else ir.Shape([shape[axis] for axis in order])


def permutation_of(node: ir.Node, dims: int | None) -> Permutation | None:
    """What a Transpose does; None where that depends on a number of dimensions that the file does not give."""
    given: Sequence[int] | None = node.attributes.get_ints("perm", None)
    if given is None:
        return None if dims is None else tuple(reversed(range(dims)))
    order = tuple(int(axis) for axis in given)
    return order if sorted(order) == list(range(len(order))) else None

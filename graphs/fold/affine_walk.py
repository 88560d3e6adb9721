"""The way of an affine map from where it stands to the operators that take it in, above or below.

Upwards there is one way, which forks at a Concat: each branch gets its slice of the map. What the map passes must be
used by nothing else. Downwards the way forks at everything that reads a value, and at a Split, whose parts get their
slices; a Concat below goes on with a map that leaves the other branches as they are. Everything at the end of every
way has to take the map in, or nothing is changed. Should two ways meet again, the numbers of one node would have to
change twice, so the map stays where it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import onnx_ir as ir

from cnnport.graphs import splice
from cnnport.graphs.affine import Affine, CannotFoldError, Rewrite, titled
from cnnport.graphs.fold.channels import above, below
from cnnport.graphs.fold.linear import take_in_at_inputs, take_in_at_outputs
from cnnport.graphs.fold.pointwise import (
    is_arithmetic,
    is_pointwise,
    operand_of,
    take_in_after,
    take_in_before,
)
from cnnport.graphs.values import drop_unused, fresh_names, named_in_subgraphs, opset_of, rank, static

_Way = list[tuple[ir.Value, Affine]]


@dataclass(frozen=True)
class Scope:
    """What a pass knows of the graph that it changes.

    Attributes:
        graph: The main graph.
        opset: Version of the default operator set.
        captured: Names that subgraphs give out without producing them.
        fresh: Gives a name that occurs nowhere in the model.
        mark: The end of new names, that tells which pass made them.
    """

    graph: ir.Graph
    opset: int
    captured: frozenset[str]
    fresh: Callable[[str], str]
    mark: str

    @classmethod
    def of(cls, model: ir.Model, mark: str) -> "Scope | None":
        """The scope of a model; None for opsets before 7 and for IR versions before 4, which have no constants."""
        opset = opset_of(model)
        if opset < 7 or model.ir_version < 4:
            return None
        return cls(model.graph, opset, named_in_subgraphs(model.graph), fresh_names(model), mark)

    def only_use(self, value: ir.Value) -> bool:
        """Whether a value is used in just one place, which is not a caller's or a subgraph's end."""
        return len(value.uses()) == 1 and not value.is_graph_output() and value.name not in self.captured

    def initializer(self, array: np.ndarray, base: str) -> ir.Value:
        """A new constant, called ``base`` or nearly so."""
        return splice.initializer(array, self.fresh(base), self.graph)


def upward(value: ir.Value, affine: Affine, scope: Scope) -> list[Rewrite]:
    """What makes ``value`` come out with the map already applied.

    Raises:
        CannotFoldError: If something on the way cannot take it in exactly.
    """
    rewrites: list[Rewrite] = []
    waiting: _Way = [(value, affine)]
    while waiting:
        value, affine = waiting.pop()
        if affine.is_identity:
            continue
        rewrite, further = _step_up(_maker(value, scope), affine, scope)
        rewrites.append(rewrite)
        waiting += reversed(further)
    return rewrites


def downward(value: ir.Value, affine: Affine, scope: Scope) -> list[Rewrite]:
    """What makes every reader of ``value`` apply the map itself.

    Raises:
        CannotFoldError: If one of them cannot do so exactly.
    """
    rewrites: dict[ir.Node, Rewrite] = {}
    waiting: _Way = [(value, affine)]
    while waiting:
        value, affine = waiting.pop()
        if affine.is_identity:
            continue
        uses = value.uses()
        if not uses or value.is_graph_output() or value.name in scope.captured:
            raise CannotFoldError(f"{value.name} is given out")
        further: _Way = []
        for node, index in uses:
            if node in rewrites:
                raise CannotFoldError(f"{titled(node)} is reached on two ways")
            rewrites[node], more = _step_down(value, node, index, affine, scope)
            further += more
        waiting += reversed(further)
    return list(rewrites.values())


def apply(rewrites: Sequence[Rewrite], scope: Scope) -> None:
    """Do what has been decided."""
    for rewrite in rewrites:
        node, output = rewrite.node, rewrite.node.outputs[0]
        replaced = []
        for index, array in rewrite.constants.items():
            if index >= len(node.inputs):
                node.resize_inputs(index + 1)
            old = node.inputs[index]
            base = f"{old.name}_{scope.mark}" if old else f"{node.name or output.name}_bias"
            node.replace_input_with(index, scope.initializer(array, base))
            replaced += [old] if old else []
        for name in rewrite.dropped:
            node.attributes.pop(name, None)
        if rewrite.op_type:
            node.op_type = rewrite.op_type
        if rewrite.changes_output:
            for each in node.outputs:
                rename(each, scope)
        drop_unused(scope.graph, replaced)


def rename(value: ir.Value, scope: Scope) -> None:
    """A new name for a value that means something else now.

    Two files that are compared by value names must not find other numbers under the same name. What is given out is
    the part of a Split that the map does not change.
    """
    if value.name and not value.is_graph_output() and value.name not in scope.captured:
        value.name = scope.fresh(f"{value.name}_{scope.mark}")


def _maker(value: ir.Value, scope: Scope) -> ir.Node:
    node = value.producer()
    if node is None or node.graph is not scope.graph:
        raise CannotFoldError(f"{value.name} is not computed in this graph")
    if not scope.only_use(value):
        raise CannotFoldError(f"{value.name} is used elsewhere too")
    if value.index() != 0:
        raise CannotFoldError(f"{value.name} is one of several parts that {titled(node)} makes")
    return node


def _step_up(node: ir.Node, affine: Affine, scope: Scope) -> tuple[Rewrite, _Way]:
    """What changes in a node whose first output is to come out mapped, and what its inputs have to be."""
    if not node.domain and node.op_type == "Split":
        raise CannotFoldError(f"{titled(node)} makes other parts too")
    if not node.domain and node.op_type == "Concat":
        return Rewrite(node), _branches(node, affine)
    if is_arithmetic(node):
        rewrite, left = take_in_after(node, affine)
        return rewrite, [(operand_of(node), left)] if left else []
    moved = above(node, affine, scope.opset)
    if moved is not None:
        return Rewrite(node), [(_input(node, 0), moved)]
    return take_in_at_outputs(node, affine, scope.opset), []


def _step_down(
    value: ir.Value, node: ir.Node, index: int, affine: Affine, scope: Scope
) -> tuple[Rewrite, _Way]:
    """What changes in a node that reads a value without its map, and with which maps what it makes comes out."""
    joins = not node.domain and node.op_type == "Concat"
    arithmetic = is_arithmetic(node) and is_pointwise(node)
    if (
        node.graph is not scope.graph
        or (index != 0 and not joins and not arithmetic)
        or sum(each is value for each in node.inputs) != 1
    ):
        raise CannotFoldError(f"{value.name} is not what {node.op_type} {node.name} works on")
    if joins:
        return Rewrite(node), [(node.outputs[0], _joined(node, index, affine))]
    if not node.domain and node.op_type == "Split":
        return Rewrite(node), _parts(node, affine)
    if arithmetic:
        return take_in_before(node, affine), []
    moved = below(node, affine, scope.opset)
    if moved is not None:
        return Rewrite(node), [(node.outputs[0], moved)]
    return take_in_at_inputs(node, affine, scope.opset), []


def _branches(concat: ir.Node, affine: Affine) -> _Way:
    if affine.axis is None:
        return [(_input(concat, index), affine) for index in range(len(concat.inputs))]
    if _axis(concat, concat.outputs[0]) != affine.axis:
        raise CannotFoldError(f"{titled(concat)} does not join channels")
    return _slices([_input(concat, index) for index in range(len(concat.inputs))], affine, concat)


def _joined(concat: ir.Node, index: int, affine: Affine) -> Affine:
    """The map behind a Concat that does what ``affine`` does on one branch."""
    axis = _axis(concat, concat.outputs[0])
    if axis is None or affine.axis not in {None, axis}:
        raise CannotFoldError(f"{titled(concat)} does not join channels")
    sizes = _sizes(concat.inputs, axis, concat)
    own = affine.over(sizes[index]).along(axis)
    if own.channels != sizes[index]:
        raise CannotFoldError(f"{titled(concat)} joins branches of another width")
    return own.within(sum(sizes[:index]), sum(sizes[index + 1 :]))


def _parts(split: ir.Node, affine: Affine) -> _Way:
    given_out = [part for part in split.outputs if part.uses() or part.is_graph_output()]
    if affine.axis is None:
        return [(part, affine) for part in given_out]
    if _axis(split, _input(split, 0)) != affine.axis:
        raise CannotFoldError(f"{titled(split)} does not part channels")
    return [each for each in _slices(split.outputs, affine, split) if each[0] in given_out]


def _slices(values: Sequence[ir.Value], affine: Affine, node: ir.Node) -> _Way:
    """Each of the values that make up the channels, with its slice of the map."""
    assert affine.axis is not None
    sizes = _sizes(values, affine.axis, node)
    if sum(sizes) != affine.channels:
        raise CannotFoldError(f"{titled(node)} has {sum(sizes)} channels, not {affine.channels}")
    ends = list(accumulate(sizes))
    return [
        (value, affine.part(end - size, end)) for value, size, end in zip(values, sizes, ends, strict=True)
    ]


def _sizes(values: Sequence[ir.Value | None], axis: int, node: ir.Node) -> list[int]:
    widths = [static(value, axis) for value in values]
    sizes = [width for width in widths if width is not None]
    if len(sizes) != len(widths):
        raise CannotFoldError(f"the file does not say how many channels each branch of {titled(node)} has")
    return sizes


def _axis(node: ir.Node, whole: ir.Value) -> int | None:
    """The axis along which a Concat or Split works, counted from 0; None where the file does not say."""
    axis, dims = node.attributes.get_int("axis", 0), rank(whole)
    return axis if axis >= 0 else None if dims is None else axis + dims


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value

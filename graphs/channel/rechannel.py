"""The rewriting of channels: constants taken along an axis, values that get other channels.

A selection lists, for each channel that a value shall have, the channel that it had before, or -1 for a new one.
Which nodes are concerned, ``channel_search`` finds out; here it is done.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Array
from cnnport.graphs.channel.movement import Numbers
from cnnport.graphs.values import constant, drop_unused, named_in_subgraphs, opset_of


class CannotSelectError(Exception):
    """Why a value's channels cannot be changed, as a sentence's end. Never leaves a pass."""


@dataclass(frozen=True)
class Constant:
    """One constant input of a node that changes.

    Attributes:
        node: The node.
        index: Of the input.
        change: From the old numbers to the new.
    """

    node: ir.Node
    index: int
    change: Callable[[Array], Array]


@dataclass(frozen=True)
class Channels:
    """A value between two nodes that gets other channels; for a depthwise convolution, its groups as well."""

    value: ir.Value
    count: int
    depthwise: bool = False


Edit = Constant | Channels


class Scope:
    """The graph that is worked on, and what must not be touched in it."""

    def __init__(self, model: ir.Model, fresh: Callable[[str], str]) -> None:
        """``fresh``: see ``values.fresh_names``."""
        self.graph = model.graph
        self.opset = opset_of(model)
        self.fresh = fresh
        self.captured = named_in_subgraphs(model.graph)

    def is_private(self, value: ir.Value) -> bool:
        """Whether nodes of this graph alone see a value."""
        if value.is_graph_output() or value.is_graph_input() or value.name in self.captured:
            return False
        return all(node.graph is self.graph for node, _ in value.uses())


def take(array: Array, selection: Numbers, axis: int, fill: float = 0.0) -> Array:
    """The selected slices of one axis, ``fill`` for -1."""
    taken = np.take(array, np.maximum(selection, 0), axis=axis)
    if (selection < 0).any():
        place: list[slice | Numbers] = [slice(None)] * array.ndim
        place[axis] = np.flatnonzero(selection < 0)
        taken[tuple(place)] = fill
    return taken


def apply(edits: Sequence[Edit], scope: Scope) -> None:
    """Do what was decided; constants that others use too are copied first."""
    replaced: list[ir.Value] = []
    for edit in edits:
        if isinstance(edit, Channels):
            _set_channels(edit, scope)
            continue
        old = edit.node.inputs[edit.index]
        tensor = constant(old)
        assert old is not None
        assert tensor is not None
        changed = np.ascontiguousarray(edit.change(tensor.numpy()))
        name = scope.fresh(marked(old.name))
        held = ir.Tensor(changed, dtype=tensor.dtype, name=name)
        new = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=held.shape, const_value=held)
        scope.graph.register_initializer(new)
        edit.node.replace_input_with(edit.index, new)
        replaced.append(old)
    drop_unused(scope.graph, replaced, scope.captured)


def marked(name: str | None) -> str:
    """The name of what had this one before its channels changed."""
    return re.sub(r"_ch(_\d+)?$", "", name or "value") + "_ch"


def _set_channels(edit: Channels, scope: Scope) -> None:
    value = edit.value
    # Two files that are compared by value names must not find other numbers under the same name.
    value.name = scope.fresh(marked(value.name))
    if value.shape is not None and value.shape.rank() > 1:
        value.shape = ir.Shape([edit.count if axis == 1 else size for axis, size in enumerate(value.shape)])
    if edit.depthwise:
        node = value.producer()
        assert node is not None
        node.attributes["group"] = ir.AttrInt64("group", edit.count)

"""The rewriting of channels: constants taken along an axis, values that get other channels.

A selection lists, for each channel that a value shall have, the channel that it had before, or -1 for a new one.
Which nodes are concerned, ``channel_search`` finds out; here it is done.

Where many selections follow each other, a weight may be taken from again and again: ``postponed`` composes what
happens to it and writes its numbers once. Names, and the order of the initializers, are what they would be otherwise.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Array
from cnnport.graphs.channel.movement import Numbers
from cnnport.graphs.values import constant, drop_unused, named_in_subgraphs, opset_of

_MARK = re.compile(r"_ch(_\d+)?$")
# More pieces than these are gathered one channel at a time.
_FEW_PIECES = 16


class CannotSelectError(Exception):
    """Why a value's channels cannot be changed, as a sentence's end. Never leaves a pass.

    Attributes:
        tied: The values that were found to change together, with their selections, up to where it is not possible.
    """

    tied: Mapping[ir.Value, Numbers] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Taking:
    """The selected slices of one axis, as ``take`` takes them."""

    axis: int
    selection: Numbers
    fill: float = 0.0

    def __call__(self, array: Array) -> Array:
        """The slices of an array."""
        return take(array, self.selection, self.axis, self.fill)


@dataclass(frozen=True)
class Constant:
    """One constant input of a node that changes.

    Attributes:
        node: The node.
        index: Of the input.
        change: From the old numbers to the new; ``Taking`` wherever it is no more than that.
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
        # Of constants whose numbers are yet to be written; None where they are written at once.
        self.unwritten: dict[ir.Value, _Unwritten] | None = None

    def is_private(self, value: ir.Value) -> bool:
        """Whether nodes of this graph alone see a value."""
        if value.is_graph_output() or value.is_graph_input() or value.name in self.captured:
            return False
        return all(node.graph is self.graph for node, _ in value.uses())


class _Unwritten:
    """Numbers that are taken from others when somebody asks.

    Attributes:
        source: The others.
        steps: What is taken, in order; of one axis once, as long as all new slices are filled alike.
        held: What stands for them meanwhile, of the shape that they will have.
    """

    def __init__(self, source: ir.TensorProtocol, steps: Sequence[Taking] = ()) -> None:
        self.source = source
        self.steps: list[Taking] = []
        self.held = ir.LazyTensor(self.written, source.dtype, ir.Shape(source.shape.numpy()))
        for step in steps:
            self.take(step)

    def take(self, step: Taking) -> None:
        self.held.shape[step.axis] = len(step.selection)
        if all(each.fill == step.fill for each in self.steps):
            for place, earlier in enumerate(self.steps):
                if earlier.axis == step.axis:
                    self.steps[place] = _joined(earlier, step)
                    return
        self.steps.append(step)

    def written(self) -> "ir.Tensor[Array]":
        array = self.source.numpy()
        for step in self.steps:
            array = step(array)
        return ir.Tensor(np.ascontiguousarray(array), dtype=self.source.dtype)


def _joined(first: Taking, second: Taking) -> Taking:
    """Two selections of one axis, one after the other, that fill alike."""
    taken = first.selection[np.maximum(second.selection, 0)]
    return Taking(second.axis, np.where(second.selection < 0, -1, taken), second.fill)


@contextmanager
def postponed(scope: Scope) -> Iterator[None]:
    """Have ``apply`` compose what it takes from a constant; at the end, the numbers are written, once each."""
    scope.unwritten = {}
    yield
    for value, unwritten in scope.unwritten.items():
        # Those that were copied for each of their users, and dropped, are written by nobody.
        if value.is_initializer():
            held = unwritten.written()
            held.name = value.name
            value.const_value, value.shape = held, held.shape
    scope.unwritten = None


def take(array: Array, selection: Numbers, axis: int, fill: float = 0.0) -> Array:
    """The selected slices of one axis, ``fill`` for -1."""
    is_new = selection < 0
    # Where neighbours stay neighbours, or are new alike, they are copied in one go.
    breaks = np.flatnonzero(np.where(is_new[:-1], ~is_new[1:], np.diff(selection) != 1)) + 1
    if len(breaks) >= _FEW_PIECES or not len(selection):
        taken = np.take(array, np.maximum(selection, 0), axis=axis)
        if is_new.any():
            taken[(slice(None),) * axis + (np.flatnonzero(is_new),)] = fill
        return taken
    taken = np.empty((*array.shape[:axis], len(selection), *array.shape[axis + 1 :]), array.dtype)
    for start, stop in pairwise([0, *breaks.tolist(), len(selection)]):
        first = int(selection[start])
        source = fill if first < 0 else array[(slice(None),) * axis + (slice(first, first + stop - start),)]
        taken[(slice(None),) * axis + (slice(start, stop),)] = source
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
        name = scope.fresh(marked(old.name))
        waiting = scope.unwritten
        if waiting is None or not isinstance(edit.change, Taking):
            changed = np.ascontiguousarray(edit.change(tensor.numpy()))
            _put(edit, ir.Tensor(changed, dtype=tensor.dtype, name=name), scope)
        elif old in waiting and len(old.uses()) == 1:
            # Made here, for this node alone. A new name puts it behind the other initializers, as if it was new.
            waiting[old].take(edit.change)
            old.name = name
            continue
        else:
            before = waiting.get(old)
            unwritten = _Unwritten(before.source, before.steps) if before else _Unwritten(tensor)
            unwritten.take(edit.change)
            unwritten.held.name = name
            waiting[_put(edit, unwritten.held, scope)] = unwritten
        replaced.append(old)
    drop_unused(scope.graph, replaced, scope.captured)


def _put(edit: Constant, held: "ir.Tensor[Array] | ir.LazyTensor", scope: Scope) -> ir.Value:
    """Make a constant of a tensor, the one that a node reads from now on."""
    new = ir.Value(name=held.name, type=ir.TensorType(held.dtype), shape=held.shape, const_value=held)
    scope.graph.register_initializer(new)
    edit.node.replace_input_with(edit.index, new)
    return new


def marked(name: str | None) -> str:
    """The name of what had this one before its channels changed."""
    return _MARK.sub("", name or "value") + "_ch"


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

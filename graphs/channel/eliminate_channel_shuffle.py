"""Channel shuffles into the weights around them.

A shuffle is a permutation of channels, and so is every way of cutting and joining channels around it: what a
convolution reads in the end is a set of channels, each made by some convolution further up. Let a value y consist
of channels c(1), ..., c(n) of values x(1), x(2), ... that convolutions make. A convolution that reads y does not
care in which order they come as long as its weights have the same order:

    sum over i of W[:, i] y[i] = sum over i of W[:, s(i)] y[s(i)]      for every permutation s.

So all that moves channels between makers and readers (Reshape and Transpose, Split, Slice, Gather, Concat) is
taken together and written anew: each maker orders its channels by who reads them, one Split cuts them, each reader
gets one Concat of whole pieces, and ``channel_search`` brings the orders into the weights. The result is exact: no
number is computed.

It fires for

1.  a shuffle in five dimensions, in three, or as a Gather, with any number of groups and a dynamic batch, together
    with the Split, Slice and Concat before and after it;
2.  makers: convolutions, grouped ones as far as channels stay in their group, with activations, pooling, batch
    norms, constants for each channel and depthwise convolutions behind them;
3.  readers: convolutions, Gemm and MatMul behind a Flatten, through the same operators;
4.  a shuffle whose ends cannot take it in, of which Reshape, Transpose and Reshape are left: it becomes one
    Gather (ShuffleNet v1, whose groups must exchange channels).

It must not fire

10. where channels pass that are a graph output, are captured by a subgraph, or are used in any other way;
11. if the file does not say how many channels, rows and columns there are; the batch may be open;
12. for Reshape and Transpose that do not keep whole channels together;
13. if it would leave as many operators that move channels as there were.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter

import numpy as np
import onnx_ir as ir

from cnnport.graphs.channel.channel_search import selected
from cnnport.graphs.channel.movement import Movement, Numbers, movement_of
from cnnport.graphs.channel.rechannel import (
    CannotSelectError,
    Edit,
    Scope,
    apply,
    marked,
)
from cnnport.graphs.values import constant, drop_unused, fresh_names, opset_of, static

# Without one of these, channels stay in order; a Slice that takes them backwards is left alone.
_SHUFFLERS = frozenset({"Gather", "Reshape", "Transpose"})

Atom = tuple[ir.Value, int]
"""One channel of a value that is computed."""


@dataclass(frozen=True)
class _Cluster:
    """What moves channels between the values that make them and the values that are read.

    Attributes:
        nodes: All operators of it, in the graph's order.
        roots: What comes in.
        ends: What others read, with the channels that it consists of.
    """

    nodes: tuple[ir.Node, ...]
    roots: tuple[ir.Value, ...]
    ends: dict[ir.Value, tuple[Atom, ...]]


@dataclass(frozen=True)
class _Piece:
    """Channels of one root that the same ends read: a run of the root's new order."""

    root: ir.Value
    channels: tuple[int, ...]
    ends: frozenset[ir.Value]


def eliminate_channel_shuffle(model: ir.Model) -> int:
    """Absorb channel shuffles into the weights of the convolutions around them.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of operators that moved channels and are gone.
    """
    opset = opset_of(model)
    if opset < 7:
        return 0
    if not any(not node.domain and node.op_type in _SHUFFLERS for node in model.graph):
        return 0
    scope = Scope(model, fresh_names(model))
    gone = 0
    for cluster in _clusters(model.graph, opset):
        gone += _absorb(cluster, scope)
    return gone + _shorten(model.graph, opset, scope)


def _clusters(graph: ir.Graph, opset: int) -> list[_Cluster]:
    """Those of the graph's movements that belong together and hold a shuffle."""
    movements: dict[ir.Value, Movement] = {}
    place: dict[ir.Node, int] = {}
    for node in graph:
        place[node] = len(place)
        for value in node.outputs:
            found = movement_of(value, opset)
            if found is not None:
                movements[value] = found
    shuffles = {value for value, movement in movements.items() if _shuffles(movement)}
    groups = _connected(movements) if shuffles else []
    return [_cluster(group, movements, place) for group in groups if not shuffles.isdisjoint(group)]


def _connected(movements: dict[ir.Value, Movement]) -> list[list[ir.Value]]:
    leader: dict[ir.Value, ir.Value] = {}

    def find(value: ir.Value) -> ir.Value:
        while leader.setdefault(value, value) is not value:
            value = leader[value]
        return value

    for value, movement in movements.items():
        for other in (*movement.sources, *_siblings(movement)):
            leader[find(other)] = find(value)
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in movements:
        groups.setdefault(find(value), []).append(value)
    return list(groups.values())


def _siblings(movement: Movement) -> Iterable[ir.Value]:
    return movement.nodes[0].outputs


def _cluster(
    values: list[ir.Value], movements: dict[ir.Value, Movement], place: dict[ir.Node, int]
) -> _Cluster:
    inside = {node for value in values for node in movements[value].nodes}
    atoms: dict[ir.Value, tuple[Atom, ...]] = {}
    for value in values:
        movement = movements[value]
        parts = [atoms.get(source) or _own(source) for source in movement.sources]
        starts = np.cumsum([0, *map(len, parts)])
        moved = starts[movement.source] + movement.channel
        atoms[value] = tuple(map(tuple(chain.from_iterable(parts)).__getitem__, moved.tolist()))
    ends = {
        value: atoms[value]
        for value in values
        if value.is_graph_output() or any(node not in inside for node, _ in value.uses())
    }
    roots = dict.fromkeys(map(itemgetter(0), chain.from_iterable(atoms.values())))
    return _Cluster(tuple(sorted(inside, key=place.__getitem__)), tuple(roots), ends)


def _own(source: ir.Value) -> tuple[Atom, ...]:
    count = static(source, 1)
    assert count is not None
    return tuple(zip(repeat(source), range(count), strict=False))


def _shuffles(movement: Movement) -> bool:
    """Whether whole channels change places, rather than being cut or joined in order."""
    can = len(movement.sources) == 1 and movement.nodes[0].op_type in _SHUFFLERS
    return can and bool((np.diff(movement.channel) != 1).any())


def _absorb(cluster: _Cluster, scope: Scope) -> int:
    # Either end may be the one that cannot change: first the makers keep their order within each piece, then the
    # readers do.
    for like_readers in (False, True):
        try:
            pieces = _pieces(cluster, like_readers=like_readers)
            edits = _edits(cluster, pieces, scope)
        except CannotSelectError:
            continue
        spared = len(cluster.nodes) - _movers_needed(cluster, pieces)
        if spared > 0:
            apply(edits, scope)
            _rebuild(cluster, pieces, scope)
            return spared
    return 0


def _pieces(cluster: _Cluster, *, like_readers: bool) -> list[_Piece]:
    """What the makers' results are cut into; the channels of a piece in the maker's order, or its first reader's."""
    readers: dict[Atom, tuple[ir.Value, ...]] = {}
    for end, atoms in cluster.ends.items():
        if end.is_graph_output():
            raise CannotSelectError(f"{end.name} is given out")
        if len(set(atoms)) != len(atoms):
            raise CannotSelectError(f"{end.name} holds a channel twice")
        for atom in atoms:
            readers[atom] = (*readers.get(atom, ()), end)
    order = {end: place for place, end in enumerate(cluster.ends)}
    place = {end: {atom: index for index, atom in enumerate(atoms)} for end, atoms in cluster.ends.items()}
    pieces: list[_Piece] = []
    for root in cluster.roots:
        runs: dict[tuple[ir.Value, ...], list[int]] = {}
        for atom in _own(root):
            runs.setdefault(readers.get(atom, ()), []).append(atom[1])
        if () in runs:
            raise CannotSelectError(f"channels of {root.name} are read by nobody")
        # Who reads first comes first.
        ordered = sorted(runs, key=lambda ends: [order[end] for end in ends])
        for ends in ordered:
            if like_readers:
                wanted = place[ends[0]]
                runs[ends].sort(key=lambda channel: wanted[root, channel])
            pieces.append(_Piece(root, tuple(runs[ends]), frozenset(ends)))
    return pieces


def _movers_needed(cluster: _Cluster, pieces: Sequence[_Piece]) -> int:
    splits = sum(len([piece for piece in pieces if piece.root is root]) > 1 for root in cluster.roots)
    joins = sum(len([piece for piece in pieces if end in piece.ends]) > 1 for end in cluster.ends)
    return splits + joins


def _edits(cluster: _Cluster, pieces: Sequence[_Piece], scope: Scope) -> list[Edit]:
    inside = set(cluster.nodes)
    wanted: dict[ir.Value, Numbers] = {}
    for root in cluster.roots:
        order = [channel for piece in pieces if piece.root is root for channel in piece.channels]
        if order != sorted(order) and any(node not in inside for node, _ in root.uses()):
            raise CannotSelectError(f"{root.name} is used elsewhere too")
        wanted[root] = np.array(order)
    for end, atoms in cluster.ends.items():
        if any(node in inside for node, _ in end.uses()):
            raise CannotSelectError(f"{end.name} is both read and moved on")
        place = {atom: index for index, atom in enumerate(atoms)}
        own = [piece for piece in pieces if end in piece.ends]
        wanted[end] = np.array([place[piece.root, channel] for piece in own for channel in piece.channels])
    return selected(wanted, scope, inside)


def _rebuild(cluster: _Cluster, pieces: Sequence[_Piece], scope: Scope) -> None:
    """Replace the cluster's operators by a Split for each root and a Concat for each end."""
    first = {end: end.producer() for end in cluster.ends}
    value_of = dict(zip(pieces, _cut(cluster, pieces, scope), strict=True))
    for end, old in first.items():
        assert old is not None
        parts = [value_of[piece] for piece in pieces if end in piece.ends]
        if len(parts) == 1:
            new = parts[0]
        else:
            joined = ir.node("Concat", parts, {"axis": 1}, name=scope.fresh(f"{old.name or end.name}_join"))
            new = joined.outputs[0]
            new.name, new.type, new.shape = scope.fresh(marked(end.name)), end.type, end.shape
            scope.graph.insert_before(old, joined)
        end.replace_all_uses_with(new)
    _remove(cluster.nodes, scope)


def _cut(cluster: _Cluster, pieces: Sequence[_Piece], scope: Scope) -> list[ir.Value]:
    """The value of every piece."""
    values: list[ir.Value] = []
    for root in cluster.roots:
        own = [piece for piece in pieces if piece.root is root]
        if len(own) == 1:
            values.append(root)
            continue
        sizes = np.array([len(piece.channels) for piece in own])
        split = _split(root, sizes, scope)
        for output, size in zip(split.outputs, sizes.tolist(), strict=True):
            output.name, output.type = scope.fresh(f"{root.name}_part"), root.type
            if root.shape is not None:
                output.shape = ir.Shape([size if axis == 1 else dim for axis, dim in enumerate(root.shape)])
        maker = root.producer()
        if maker is None:
            scope.graph.insert_before(scope.graph[0], split)
        else:
            scope.graph.insert_after(maker, split)
        values += split.outputs
    return values


def _split(root: ir.Value, sizes: Numbers, scope: Scope) -> ir.Node:
    name = scope.fresh(f"{root.name}_split")
    if scope.opset < 13:
        return ir.node(
            "Split", [root], {"axis": 1, "split": sizes.tolist()}, num_outputs=len(sizes), name=name
        )
    label = scope.fresh(f"{root.name}_sizes")
    given = ir.Value(
        name=label,
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape(sizes.shape),
        const_value=ir.Tensor(sizes, name=label),
    )
    scope.graph.register_initializer(given)
    return ir.node("Split", [root, given], {"axis": 1}, num_outputs=len(sizes), name=name)


def _remove(nodes: Sequence[ir.Node], scope: Scope) -> None:
    constants = [value for node in nodes for value in node.inputs if value and constant(value) is not None]
    for node in reversed(nodes):
        scope.graph.remove(node, safe=True)
    drop_unused(scope.graph, constants)


def _shorten(graph: ir.Graph, opset: int, scope: Scope) -> int:
    """What is left of Reshape, Transpose and Reshape, as one Gather each."""
    gone = 0
    for node in list(graph):
        if node.op_type not in {"Reshape", "Transpose"} or node.graph is not graph:
            continue
        value = node.outputs[0]
        movement = movement_of(value, opset)
        if movement is None or len(movement.nodes) < 2 or value.is_graph_output():
            continue
        label = scope.fresh(f"{value.name}_order")
        order = ir.Value(
            name=label,
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape(movement.channel.shape),
            const_value=ir.Tensor(movement.channel, name=label),
        )
        graph.register_initializer(order)
        gather = ir.node(
            "Gather", [movement.sources[0], order], {"axis": 1}, name=scope.fresh(f"{node.name}_order")
        )
        new = gather.outputs[0]
        new.name, new.type, new.shape = scope.fresh(f"{value.name}_ch"), value.type, value.shape
        graph.insert_after(node, gather)
        value.replace_all_uses_with(new)
        _remove(tuple(reversed(movement.nodes)), scope)
        gone += len(movement.nodes) - 1
    return gone

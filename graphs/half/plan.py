"""Which nodes compute in halves, so that the fewest Casts stand between them and the others.

Some nodes have to stay in float32. Of each other one there is the choice, and a Cast is due for

- a value that a node in halves makes and anything in float32 reads, whatever the number of its readers;
- a value that is made in float32 and that any node in halves reads, likewise.

Constants cost none: they are rounded once and for all. Which choice has the fewest Casts is a minimum cut. Nodes
whose time is arithmetic (convolutions, matrix products) are in halves wherever they can be, since that is what halves
are for; a cheap one stays in float32 between two others that have to, where a Cast less is needed then. Of choices
with equally many Casts that is taken in which sums and exponentials are in float32, since they gain from it; then
that in which the fewest elements are cast and computed in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from cnnport.graphs.half.signatures import Signature
from cnnport.graphs.layout.minimum_cut import FORBIDDEN, MinimumCut
from cnnport.graphs.layout.plan import elements_of
from cnnport.graphs.values import constant

_CAST = 1 << 50
_PREFERENCE = 1 << 40

ARITHMETIC = frozenset(
    {
        "Attention",
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "Einsum",
        "GRU",
        "Gemm",
        "LSTM",
        "MatMul",
        "RNN",
    }
)
"""Operators whose time is arithmetic."""

_GAIN = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "GroupNormalization",
        "InstanceNormalization",
        "LRN",
        "LayerNormalization",
        "LogSoftmax",
        "ReduceL1",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Softmax",
    }
)


@dataclass(frozen=True)
class Plan:
    """Where halves are.

    Attributes:
        half: Nodes that compute in halves, each with what becomes half of it.
        spared: Nodes that could, and stay in float32 because that spares Casts.
        half_io: Whether inputs and outputs of the graph are halves.
    """

    half: Mapping[ir.Node, Signature]
    spared: tuple[ir.Node, ...]
    half_io: bool

    def makes_half(self, value: ir.Value) -> bool:
        """Whether a value, no constant, is half where it is made."""
        node = value.producer()
        if node is None:
            return self.half_io and value.is_graph_input() and not value.is_initializer()
        found = self.half.get(node)
        return found is not None and found.outputs[node.outputs.index(value)]

    def wants_half(self, node: ir.Node, index: int) -> bool:
        """Whether a node reads halves at an input."""
        found = self.half.get(node)
        return found is not None and found.inputs[index]


def variable_values(graph: ir.Graph) -> list[ir.Value]:
    """Every float32 value of the main graph that is no constant, in order."""
    made = (value for node in graph for value in node.outputs if value.name)
    return [
        value
        for value in (*graph.inputs, *made)
        if value.dtype == ir.DataType.FLOAT and constant(value) is None
    ]


def plan(graph: ir.Graph, able: Mapping[ir.Node, Signature], *, half_io: bool) -> Plan:
    """Choose.

    Args:
        graph: The main graph.
        able: Nodes that may compute in halves, with what would become half; all others stay in float32.
        half_io: Whether inputs and outputs of the graph, other than initializers, are halves.
    """
    cut = MinimumCut()
    number = {node: cut.add_node() for node in graph if node in able}
    for node, place in number.items():
        if node.op_type in ARITHMETIC:
            cut.if_moved(place, FORBIDDEN)
        else:
            cut.if_moved(place, sum(elements_of(value, 1) for value in node.outputs))
            cut.if_kept(place, _PREFERENCE if node.op_type in _GAIN else 0)
    for value in variable_values(graph):
        _add(cut, number, able, value, half_io)
    moved = cut.moved()
    return Plan(
        half={node: able[node] for node, place in number.items() if place not in moved},
        spared=tuple(node for node, place in number.items() if place in moved),
        half_io=half_io,
    )


def _add(
    cut: MinimumCut,
    number: Mapping[ir.Node, int],
    able: Mapping[ir.Node, Signature],
    value: ir.Value,
    half_io: bool,
) -> None:
    """What a value costs: nodes that move are in float32, nodes that are kept in halves."""
    readers = list(dict.fromkeys(number[node] for node, index in value.uses() if _takes(able, node, index)))
    in_float = any(not _takes(able, node, index) for node, index in value.uses())
    in_half = False
    if value.is_graph_output():
        in_half, in_float = half_io, in_float or not half_io
    cost = _CAST + elements_of(value, 1)
    node = value.producer()
    if node is None:
        is_half = half_io and not value.is_initializer()
        if is_half and not in_float:
            cut.if_moved(cut.add_any(readers), cost)
        if not is_half and not in_half:
            cut.if_kept(cut.add_all(readers), cost)
        return
    maker = number.get(node)
    if maker is None or not able[node].outputs[node.outputs.index(value)]:
        if not in_half:
            cut.if_kept(cut.add_all(readers), cost)
        return
    if in_float:
        cut.if_kept(maker, cost)
    else:
        cut.if_parted(maker, cut.add_any(readers), cost)
    if in_half:
        cut.if_moved(maker, cost)
    else:
        cut.if_parted(cut.add_all(readers), maker, cost)


def _takes(able: Mapping[ir.Node, Signature], node: ir.Node, index: int) -> bool:
    return node in able and able[node].inputs[index]

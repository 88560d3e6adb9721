"""Counting the operators of a graph, of a proto and of the IR alike."""

from collections import Counter
from collections.abc import Iterator

import onnx
import onnx_ir as ir

from cnnport.graphs.values import nested

# Before IR version 2, attributes did not say what they are.
_PLAIN = frozenset(onnx.AttributeProto.AttributeType.values()) - {
    onnx.AttributeProto.UNDEFINED,
    onnx.AttributeProto.GRAPH,
    onnx.AttributeProto.GRAPHS,
}

DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})


def count_ops(model: onnx.ModelProto | ir.Model) -> dict[str, int]:
    """Nodes by operator, sorted by name; subgraphs count, function bodies do not.

    Operators of other domains than the default one are written ``domain.Operator``.
    """
    nodes: Iterator[ir.Node] | Iterator[onnx.NodeProto] = (
        _nodes_of(model.graph) if isinstance(model, ir.Model) else _nodes(model.graph)
    )
    counts = Counter(
        node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}" for node in nodes
    )
    return dict(sorted(counts.items()))


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that are nested in it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs_of(node):
            yield from graphs_of(inner)


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that are attributes of a node."""
    for attribute in node.attribute:
        if attribute.type in _PLAIN:
            continue
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def _nodes_of(graph: ir.Graph) -> Iterator[ir.Node]:
    for each in (graph, *nested(graph)):
        yield from each


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for each in graphs_of(graph):
        yield from each.node

"""Whatever nobody reads: nodes, initializers, and outputs that an operator need not have.

onnx-ir's ``RemoveUnusedNodesPass`` was read and not used: it reaches into subgraphs and functions, removes custom
operators, whose effects nobody knows, loses values that a subgraph hands on by name only, and does not count the
outputs that it drops.

It fires for

1.  nodes of the default domain without a reader, with what only they read; Constant nodes and random ones too;
2.  initializers without a reader;
3.  outputs at the end of a node's list that nobody reads: the indices of MaxPool, the mask of Dropout, the statistics
    of LayerNormalization, and those of BatchNormalization in inference mode from opset 14 on.

It must not fire for

10. inputs of the graph, used or not, nor initializers that are inputs too: callers may give them;
11. what a subgraph reads, or hands on as its own output;
12. custom operators and calls of functions, used or not, nor what they read;
13. the outputs of BatchNormalization in training mode: before opset 14 it is their presence that says training;
14. outputs whose number or order says something: Split, Loop, an unread one with a read one behind it;
15. nodes within subgraphs and functions.
"""

import onnx_ir as ir

from cnnport.graphs.splice import remove, unread
from cnnport.graphs.values import named_in_subgraphs, opset_of

_OPTIONAL = {"BatchNormalization": 14, "Dropout": 7, "LayerNormalization": 17, "MaxPool": 8}
"""Operators with outputs that may be left out, and the opset from which on that means nothing else."""


def remove_dead_code(model: ir.Model) -> int:
    """Remove nodes, initializers and optional outputs that nothing reads.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        How many of them are gone.
    """
    graph, opset = model.graph, opset_of(model)
    captured = named_in_subgraphs(graph)
    removed = 0
    for node in reversed(graph):
        if node.domain:
            continue
        if unread(node.outputs, captured):
            _let_go(node)
            remove(node)
            removed += 1
        else:
            removed += _drop_outputs(node, opset, captured)
    for value in list(graph.initializers.values()):
        if value.name and not value.is_graph_input() and unread([value], captured):
            del graph.initializers[value.name]
            removed += 1
    return removed


def _let_go(node: ir.Node) -> None:
    """Nodes in the branches of a node that goes no longer read anything of the graph."""
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else ()
        graphs = attribute.value if attribute.type == ir.AttributeType.GRAPHS else graphs
        for subgraph in graphs:
            for inner in subgraph.all_nodes():
                for index in range(len(inner.inputs)):
                    inner.replace_input_with(index, None)


def _drop_outputs(node: ir.Node, opset: int, captured: frozenset[str]) -> int:
    if opset < _OPTIONAL.get(node.op_type, opset + 1):
        return 0
    if node.op_type == "BatchNormalization" and node.attributes.get_int("training_mode"):
        return 0
    kept = len(node.outputs)
    while kept > 1 and unread(node.outputs[kept - 1 : kept], captured):
        kept -= 1
    dropped = [output for output in node.outputs[kept:] if output.name]
    if dropped:
        node.resize_outputs(kept)
    return len(dropped)

"""Operators that change nothing, out of the way.

onnx-ir's ``IdentityEliminationPass`` was read and not used: it reaches into subgraphs and functions, renames a value
that is an output of the graph under another name already, and raises where two shapes contradict each other.

It fires for

1.  Identity, Dropout in inference, Cast and CastLike to the type that is there, Concat, Max, Min, Mean and Sum of
    one, Split into one, DepthToSpace and SpaceToDepth by blocks of 1;
2.  Mul, Div and Pow by 1, Add and Sub of 0, as a constant that does not widen the shape (-0.0 + 0.0 is 0.0: taken
    for the same);
3.  MaxPool and AveragePool of 1 by 1 without stride and padding, GlobalAveragePool and GlobalMaxPool of a single
    place, reductions over axes of size 1 that keep them, or over no axes where that is what none means;
4.  Relu, Abs, LeakyRelu, PRelu, Elu and Celu of what is not negative, as ``bounds`` tells; Clip of what lies within;
    Relu whose readers all cut off at 0 or above themselves, as the Clip of a Relu6;
5.  Pad by 0, Tile by 1, Expand to the own shape, Transpose in order or of axes of size 1, Flatten of a matrix,
    Slice and Gather of everything, Reshape to the own shape, Resize and Upsample by 1 or to the own size;
6.  each of these at an output of the graph: the node above takes over its name.

It must not fire

10. between an input of the graph and an output, or between two outputs: both names have to stay;
11. if another output is read: the mask of a Dropout, the indices of a pooling;
12. if the constant is computed or may be given by a caller, or the sizes are not known to be the same;
13. for Dropout in training mode, Resize by coordinates that move at scale 1 or crop;
14. for Sigmoid before Relu or Relu before anything that does not cut off;
15. for what a subgraph hands on by name, and all within subgraphs and functions.
"""

import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.clean import neutral, unmoved
from cnnport.graphs.splice import bypass, can_bypass, unread
from cnnport.graphs.values import named_in_subgraphs, opset_of

_RULES = neutral.RULES | unmoved.RULES


def remove_noops(model: ir.Model) -> int:
    """Remove operators that change nothing.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of nodes that are gone.
    """
    opset = opset_of(model)
    if opset < 7:
        return 0
    captured, removed = named_in_subgraphs(model.graph), 0
    found, kept = _sweep(model.graph, opset, captured)
    # What is gone may have hidden another: a Relu from the Clip that makes it redundant.
    while found:
        removed += found
        found, kept = _sweep(model.graph, opset, captured)
    for node in kept:
        journal.refused(node, "it changes nothing, but its input and its output have names that both stay")
    return removed


def _sweep(graph: ir.Graph, opset: int, captured: frozenset[str]) -> tuple[int, list[ir.Node]]:
    """How many nodes are gone, and those that would be but for their names."""
    removed, kept = 0, []
    for node in list(graph):
        if node.graph is not graph or node.domain:
            continue
        source = _unchanged(node, opset)
        if source is None or not unread(node.outputs[1:], captured):
            continue
        if can_bypass(node.outputs[0], source, captured):
            bypass(node, source)
            removed += 1
        else:
            kept.append(node)
    return removed, kept


def _unchanged(node: ir.Node, opset: int) -> ir.Value | None:
    """The input that a node's first output is equal to, if there is one."""
    operand = neutral.kept_operand(node)
    if operand is None and node.op_type in _RULES and node.inputs and _RULES[node.op_type](node, opset):
        operand = 0
    return None if operand is None else node.inputs[operand]

"""What depends on constants alone, computed once.

onnxscript's folder was read and not used: it renames values, inlines and rewrites more than constants, folds no
operator with several outputs, and knows no limit that depends on what a result replaces. onnxsim needs every operator
of the file to be one that it knows.

It fires for

1.  nodes all of whose inputs are constants, of the operators in ``evaluate``; the result is an initializer under the
    name that it had;
2.  Constant nodes, which become initializers;
3.  nodes whose result is an output of the graph: they become a Constant node.

It must not fire for

10. operators that draw random numbers, custom ones, those with subgraphs, and QuantizeLinear and DequantizeLinear:
    a runtime looks for them in front of its integer kernels;
11. inputs that a caller may give: graph inputs, and initializers that are graph inputs too;
12. results of more than 1 MiB, if those of all nodes that hang together are larger than the constants that go with
    these nodes: the file would grow; except for weights, which later passes have to read: what convolutions,
    products of matrices and batch norms take beside their data, up to 1 GiB each;
13. results that are not defined, as division by zero, or that disagree with the shape or type that the file states;
14. text, bfloat16 and types of less than a byte, which stay to be computed;
15. files before IR version 4, where every initializer is an input: Constant nodes stay, and results become some;
16. nodes within subgraphs and functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.clean.evaluate import can_evaluate, evaluate, largest_result
from cnnport.graphs.splice import become_constant
from cnnport.graphs.values import constant, drop_unused, opset_of

_SMALL_BYTES = 1 << 20
_LARGEST_WEIGHT = 1 << 30
_WEIGHTED = frozenset({"BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_WIDEST = 8
_Results = dict[ir.Node, list[np.ndarray]]


def fold_constants(model: ir.Model) -> int:
    """Compute what depends on constants alone.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of nodes that became constants, and of Constant nodes that became initializers.
    """
    opset, initializers = opset_of(model), model.ir_version >= 4
    if opset < 7:
        return 0
    folded = sum(initializers and _lift(node) for node in list(model.graph))
    found = 1
    # What is folded leaves constants to their last user, which may then be worth folding.
    while found:
        large: list[tuple[ir.Node, int]] = []
        found = _fold(model.graph, opset, initializers, large)
        folded += found
    for node, size in large:
        journal.refused(node, f"its result of {size:,} bytes would make the file larger")
    return folded


def _lift(node: ir.Node) -> bool:
    if node.domain or node.op_type != "Constant":
        return False
    output = node.outputs[0]
    tensor = constant(output)
    if tensor is None or output.is_graph_output() or tensor.dtype == ir.DataType.STRING:
        return False
    become_constant(node, [tensor], initializers=True)
    return True


def _fold(graph: ir.Graph, opset: int, initializers: bool, large: list[tuple[ir.Node, int]]) -> int:
    """Fold what is worth it; nodes whose results are too large are added to ``large``."""
    computed = _computed(graph, opset, large)
    folded, replaced = 0, []
    for group in _groups(computed):
        grows = group.large > group.freed
        for node in group.nodes:
            size = _bytes(computed[node])
            if opset < 9 and not _may_be_constant(node, computed[node], initializers=initializers):
                continue
            if grows and size > _SMALL_BYTES:
                large.append((node, size))
            else:
                tensors = [ir.tensor(each) for each in computed[node]]
                replaced += become_constant(node, tensors, initializers=initializers)
                folded += 1
    drop_unused(graph, replaced)
    return folded


def _may_be_constant(node: ir.Node, results: list[np.ndarray], *, initializers: bool) -> bool:
    """Whether results can be held: before opset 9 a Constant node, which a graph output needs, has floats only."""
    needs_node = not initializers or any(output.is_graph_output() for output in node.outputs)
    return not needs_node or all(result.dtype.kind == "f" for result in results)


def _computed(graph: ir.Graph, opset: int, large: list[tuple[ir.Node, int]]) -> _Results:
    """What each node makes that depends on constants alone, in the order of the graph."""
    known: dict[ir.Value, np.ndarray] = {}
    results: _Results = {}
    limit: int | None = None
    for node in graph:
        if not node.inputs or not can_evaluate(node):
            continue
        if not all(value is None or value in known or constant(value) is not None for value in node.inputs):
            continue
        arrays = [_array(value, known) for value in node.inputs]
        if limit is None:
            limit = max(
                _SMALL_BYTES, sum(_size(each) for user in graph for each in dict.fromkeys(user.inputs))
            )
        most = max(limit, _LARGEST_WEIGHT) if all(map(_is_weight, node.outputs)) else limit
        bound = largest_result(node, arrays)
        width = max(output.dtype.itemsize if output.dtype else _WIDEST for output in node.outputs)
        if bound is None:
            continue
        if bound * width > most:
            large.append((node, int(bound * width)))
            continue
        found = evaluate(node, opset, arrays)
        if found is not None:
            results[node] = found
            known.update(zip(node.outputs, found, strict=True))
    return results


def _array(value: ir.Value | None, known: dict[ir.Value, np.ndarray]) -> np.ndarray | None:
    if value is None or value in known:
        return None if value is None else known[value]
    tensor = constant(value)
    return None if tensor is None else tensor.numpy()


@dataclass
class _Group:
    """Nodes that hang together by what they make or read.

    Attributes:
        nodes: In the order of the graph.
        large: The bytes of those results of more than 1 MiB that other nodes or callers need.
        freed: The bytes of the constants that nothing else uses.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    large: int = 0
    freed: int = 0


def _groups(computed: _Results) -> list[_Group]:
    parents: dict[ir.Node | ir.Value, ir.Node | ir.Value] = {}

    def root(item: ir.Node | ir.Value) -> ir.Node | ir.Value:
        while parents.setdefault(item, item) is not item:
            item = parents[item]
        return item

    sources: dict[ir.Value, int] = {}
    for node in computed:
        for value in node.inputs:
            if value is None:
                continue
            above = value.producer()
            if above is not None and above in computed:
                parents[root(node)] = root(above)
            elif (size := _size(value)) > _SMALL_BYTES or all(user in computed for user, _ in value.uses()):
                sources[value] = size
                parents[root(node)] = root(value)
    groups: dict[ir.Node | ir.Value, _Group] = {}
    for node, results in computed.items():
        group = groups.setdefault(root(node), _Group())
        group.nodes.append(node)
        for output, result in zip(node.outputs, results, strict=True):
            needed = output.is_graph_output() or any(user not in computed for user, _ in output.uses())
            counts = needed and result.nbytes > _SMALL_BYTES and not _is_weight(output)
            group.large += result.nbytes if counts else 0
    for value, size in sources.items():
        if not value.is_graph_output() and all(user in computed for user, _ in value.uses()):
            groups[root(value)].freed += size
    return list(groups.values())


def _is_weight(value: ir.Value) -> bool:
    """Whether nothing reads a value but operators that take it as their weights."""
    uses = value.uses()
    return (
        bool(uses)
        and not value.is_graph_output()
        and all(not user.domain and user.op_type in _WEIGHTED and place > 0 for user, place in uses)
    )


def _size(value: ir.Value | None) -> int:
    tensor = constant(value)
    return 0 if tensor is None else int(tensor.nbytes)


def _bytes(arrays: Sequence[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays)

"""What a graph costs as it stands in the file, every node by itself.

Bytes: what every node reads, weights included, and what it writes, as if nothing stayed in a cache and nothing was
merely looked at in another shape.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from cnnport.graphs.cost.arithmetic import flops_of
from cnnport.graphs.operators import DEFAULT_DOMAINS, subgraphs_of
from cnnport.graphs.settle import Extent, extents

_NO_READERS = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class GraphCost:
    """Of a graph, or of a part of it.

    Attributes:
        flops: Floating-point operations.
        moved_bytes: Bytes read and written.
        unknown: Nodes that neither counts: operators of other domains, nodes with subgraphs, and those whose shapes
            inference does not find.
    """

    flops: int
    moved_bytes: int
    unknown: tuple[str, ...] = ()


def cost_of(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> GraphCost:
    """Count a graph's arithmetic and traffic.

    Args:
        model: Only the main graph counts.
        shapes: Of the inputs whose sizes the file leaves open, by name.
    """
    costs = dict(node_costs(model, shapes))
    known = [cost for cost in costs.values() if cost is not None]
    return GraphCost(
        flops=sum(flops for flops, _ in known),
        moved_bytes=sum(moved for _, moved in known),
        unknown=tuple(name for name, cost in costs.items() if cost is None),
    )


def node_costs(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """FLOPs and bytes of every node of the main graph, by its number, operator and name; None where not known."""
    graph, found = extents(model, shapes)
    for number, node in enumerate(graph.node):
        name = node.name or next((output for output in node.output if output), "")
        yield f"{number} {node.op_type} {name}".rstrip(), _cost(node, found)


def _cost(node: onnx.NodeProto, found: Mapping[str, Extent]) -> tuple[int, int] | None:
    if node.domain not in DEFAULT_DOMAINS or next(subgraphs_of(node), None) is not None:
        return None
    names = [name for name in (*node.input, *node.output) if name]
    if any(name not in found for name in names):
        return None
    inputs = [found[name] if name else None for name in node.input]
    outputs = [found[name] for name in node.output if name]
    if not outputs:
        return None
    read = 0 if node.op_type in _NO_READERS else sum(each.bytes for each in inputs if each)
    return flops_of(node, inputs, outputs), read + sum(each.bytes for each in outputs)

"""What a graph costs on paper: arithmetic and traffic at given input sizes.

FLOPs: two for every multiply-add of a convolution or matrix product, products with padding included, biases not; one
for every element that another operator computes, or reads where it reads more (pooling, reductions); none for
operators that only move or select. Bytes: what every node reads, weights included, and what it writes, as if nothing
stayed in a cache and nothing was merely looked at in another shape. Neither is time; differences between two graphs
of one network tell what a rewrite saves.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from cnnport.graphs.operators import DEFAULT_DOMAINS, subgraphs_of
from cnnport.graphs.settle import Extent, extents

_MOVES = frozenset(
    {
        *("Cast", "CastLike", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Dropout"),
        *("Expand", "EyeLike", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "NonZero"),
        *("OneHot", "Pad", "Range", "Reshape", "ReverseSequence", "ScatterElements", "ScatterND", "Shape"),
        *("Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"),
    }
)
# Where the weights of a convolution, and the second matrix of a product, stand among the inputs.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
_NO_READERS = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class Cost:
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


def cost_of(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Cost:
    """Count a graph's arithmetic and traffic.

    Args:
        model: Only the main graph counts.
        shapes: Of the inputs whose sizes the file leaves open, by name.
    """
    costs = dict(node_costs(model, shapes))
    known = [cost for cost in costs.values() if cost is not None]
    return Cost(
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
    return _flops(node, inputs, outputs), read + sum(each.bytes for each in outputs)


def _flops(node: onnx.NodeProto, inputs: list[Extent | None], outputs: list[Extent]) -> int:
    made, kind = outputs[0], node.op_type
    if kind in _MOVES:
        return 0
    if kind in _CONVOLUTIONS:
        weights = inputs[_CONVOLUTIONS[kind]]
        assert weights is not None
        return 2 * made.elements * math.prod(weights.sizes[1:])
    first = next((each for each in inputs if each), made)
    if kind == "ConvTranspose":
        weights = inputs[1]
        assert weights is not None
        return 2 * first.elements * math.prod(weights.sizes[1:])
    if kind in _PRODUCTS:
        return 2 * made.elements * (first.sizes[-1] if first.sizes else 1)
    if kind == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return 2 * made.elements * first.sizes[0 if transposed else 1]
    return max(made.elements, first.elements)

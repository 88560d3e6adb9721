"""FLOPs of one node, from the sizes of what it reads and writes."""

import math
from collections.abc import Sequence

import onnx

from cnnport.graphs.settle import Extent

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
_PRODUCTS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul"})


def macs_of(node: onnx.NodeProto, inputs: Sequence[Extent | None], outputs: Sequence[Extent]) -> int | None:
    """Multiply-adds of a convolution or matrix product; None for any other operator.

    Args:
        node: Of the default domain.
        inputs: In the node's order, None where one is left out.
        outputs: Those that are named; at least one.
    """
    made, kind = outputs[0], node.op_type
    if kind in _CONVOLUTIONS:
        weights = inputs[_CONVOLUTIONS[kind]]
        assert weights is not None
        return made.elements * math.prod(weights.sizes[1:])
    first = inputs[0] if inputs else None
    if first is None:
        return None
    if kind == "ConvTranspose":
        weights = inputs[1]
        assert weights is not None
        return first.elements * math.prod(weights.sizes[1:])
    if kind in _PRODUCTS:
        return made.elements * (first.sizes[-1] if first.sizes else 1)
    if kind == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return made.elements * first.sizes[0 if transposed else 1]
    return None


def flops_of(node: onnx.NodeProto, inputs: Sequence[Extent | None], outputs: Sequence[Extent]) -> int:
    """FLOPs of a node. Arguments as of ``macs_of``."""
    if node.op_type in _MOVES:
        return 0
    macs = macs_of(node, inputs, outputs)
    if macs is not None:
        return 2 * macs
    first = next((each for each in inputs if each), outputs[0])
    return max(outputs[0].elements, first.elements)

"""How large the numbers get that an operator adds up inside, beyond what it reads and gives.

A mean over 112x112 pixels is of the size of a pixel, and the sum that it comes from twelve thousand times that.
Whether a runtime holds such sums in float32 or in halves is its own affair, and some do the latter; so these sums are
looked at as if they were values. Taken over magnitudes, they bound every sum of a part, in whatever order it is made.

LayerNormalization and RMSNormalization are not among them: the standard itself has them take their statistics in
float32.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from cnnport.graphs.half.building import Building
from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.values import rank, static


def inside(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    """Build what a node that ``adds_up`` adds up, over magnitudes.

    Args:
        build: Adds the nodes behind ``node``.
        node: Computing in floating point.
        magnitudes: Of its first input, as a float32 value.

    Returns:
        A value whose numbers are the sums.
    """
    return _RULES[node.op_type](build, node, magnitudes)


def adds_up(node: ir.Node) -> bool:
    """Whether a node adds up anything beyond what it gives."""
    return node.op_type in _RULES and node.domain in DEFAULT_DOMAINS


def _mean(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    mean = _again(build, node, magnitudes)
    return build.add("Mul", [mean, _share(build, magnitudes, mean)])


def _root(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    root = _again(build, node, magnitudes)
    return build.add("Mul", [root, root])


def _window(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    window = node.attributes["kernel_shape"].as_ints()
    return build.add("Mul", [_again(build, node, magnitudes), build.number(float(np.prod(window)))])


def _squares_of_neighbours(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    square = build.add("Mul", [magnitudes, magnitudes])
    return build.add("Mul", [square, build.number(float(node.attributes["size"].as_int()))])


def _squares_of_channel(build: Building, _: ir.Node, magnitudes: ir.Value) -> ir.Value:
    square = build.add("Mul", [magnitudes, magnitudes])
    mean = build.add("GlobalAveragePool", [square])
    return build.add("Mul", [mean, _share(build, magnitudes, mean)])


def _squares_of_group(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    channels = static(node.inputs[0], 1) or 1
    share = channels / node.attributes["num_groups"].as_int()
    return build.add("Mul", [_squares_of_channel(build, node, magnitudes), build.number(max(share, 1.0))])


def _squares_in_all(build: Building, _: ir.Node, magnitudes: ir.Value) -> ir.Value:
    return build.add("ReduceSumSquare", [magnitudes], ir.AttrInt64("keepdims", 0))


def _exponentials(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    # Every runtime subtracts the largest first, so that none is above 1.
    attribute = node.attributes.get("axis")
    axis = attribute.as_int() if attribute is not None else -1
    if axis < 0:
        # Before opset 11, indices are not negative.
        axis += rank(node.inputs[0]) or 0
    shape = build.add("Shape", [magnitudes])
    count = build.add("Gather", [shape, build.number(axis, np.int64)])
    return build.cast(count, ir.DataType.FLOAT)


def _again(build: Building, node: ir.Node, magnitudes: ir.Value) -> ir.Value:
    """The same operator over magnitudes."""
    return build.add(node.op_type, [magnitudes, *node.inputs[1:]], *node.attributes.values())


def _share(build: Building, whole: ir.Value, part: ir.Value) -> ir.Value:
    """How many numbers of the one go into each of the other."""
    count = build.add("Div", [build.add("Size", [whole]), build.add("Size", [part])])
    return build.cast(count, ir.DataType.FLOAT)


_RULES: dict[str, Callable[[Building, ir.Node, ir.Value], ir.Value]] = {
    "AveragePool": _window,
    "GlobalAveragePool": _mean,
    "GroupNormalization": _squares_of_group,
    "InstanceNormalization": _squares_of_channel,
    "LRN": _squares_of_neighbours,
    "LogSoftmax": _exponentials,
    "LpNormalization": _squares_in_all,
    "MeanVarianceNormalization": _squares_in_all,
    "ReduceL2": _root,
    "ReduceMean": _mean,
    # Parts of a sum may be larger than the whole; those of ReduceL1 and ReduceSumSquare are not.
    "ReduceSum": _again,
    "Softmax": _exponentials,
}

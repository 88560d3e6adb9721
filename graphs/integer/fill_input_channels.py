"""A fourth channel of zeros beside red, green and blue, for integer kernels that take channels by fours.

ONNX Runtime's integer convolution on x86 multiplies four neighbouring channels at once. With three it falls back to
copying every window into a row of its own, which made the first layer the slowest of a small network. A channel of
zeros with weights of zeros changes nothing:

    sum over c of W[c] x[c] + 0 * 0.

Measured on ShuffleNet v2 at 224 x 224: the first convolution takes 196 instead of 471 microseconds, the Pad 76.

It fires for an input of the graph with 3 channels that only ungrouped Convs with constant float32 weights read.

It must not fire where something else reads the input, where weights are computed, for other numbers of channels
(one would become four times the work), or before opset 11.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from cnnport.graphs.splice import initializer
from cnnport.graphs.values import (
    constant,
    drop_unused,
    fresh_names,
    named_in_subgraphs,
    opset_of,
    rank,
    static,
)

_CHANNELS = 3
_FOUR = 4
_LEAST_OPSET = 11


def fill_input_channels(model: ir.Model) -> int:
    """Give images of 3 channels a fourth one of zeros.

    Args:
        model: Changed in place; its interface stays.

    Returns:
        The number of inputs that were filled.
    """
    if opset_of(model) < _LEAST_OPSET:
        return 0
    captured = named_in_subgraphs(model.graph)
    found = [
        value for value in model.graph.inputs if value.name not in captured and _is_image(value, model.graph)
    ]
    fresh = fresh_names(model)
    for value in found:
        dimensions = rank(value)
        assert dimensions is not None
        readers = [node for node, _ in value.uses()]
        pads = np.zeros(2 * dimensions, np.int64)
        pads[dimensions + 1] = _FOUR - _CHANNELS
        label = fresh(f"{value.name}_filled")
        given = initializer(pads, fresh(f"{value.name}_pads"), model.graph)
        pad = ir.node("Pad", [value, given], name=label)
        filled = pad.outputs[0]
        filled.name, filled.type = label, value.type
        if value.shape is not None:
            filled.shape = ir.Shape([_FOUR if axis == 1 else size for axis, size in enumerate(value.shape)])
        model.graph.insert_before(model.graph[0], pad)
        for node in readers:
            _widen(node, fresh, model.graph)
            node.replace_input_with(0, filled)
    return len(found)


def _is_image(value: ir.Value, graph: ir.Graph) -> bool:
    if value.is_initializer() or value.dtype != ir.DataType.FLOAT or static(value, 1) != _CHANNELS:
        return False
    return bool(value.uses()) and all(
        index == 0 and node.graph is graph and _is_dense(node) for node, index in value.uses()
    )


def _is_dense(node: ir.Node) -> bool:
    if node.domain or node.op_type != "Conv" or node.attributes.get_int("group", 1) != 1:
        return False
    weight = constant(node.inputs[1])
    return weight is not None and weight.dtype == ir.DataType.FLOAT


def _widen(node: ir.Node, fresh: Callable[[str], str], graph: ir.Graph) -> None:
    old = node.inputs[1]
    tensor = constant(old)
    assert old is not None
    assert tensor is not None
    weights = tensor.numpy()
    wider = np.pad(weights, [(0, 0), (0, _FOUR - _CHANNELS), *[(0, 0)] * (weights.ndim - 2)])
    node.replace_input_with(1, initializer(wider, fresh(f"{old.name}_filled"), graph))
    drop_unused(graph, [old])

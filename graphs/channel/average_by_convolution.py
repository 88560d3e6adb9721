"""Average pooling of channels that fill no blocks of 16, as a depthwise convolution.

An average of k x l pixels is a depthwise convolution with 1 / (k l) for every weight:

    y[c] = (x[c, 1] + ... + x[c, k l]) / (k l) = sum over i of (1 / (k l)) x[c, i].

ONNX Runtime's CPU kernels run a pooling in blocks of 16 channels only where the channels fill them, and otherwise one
channel after the other, which for the 24 channels of ShuffleNet v1 takes six times as long; a depthwise convolution
they run in blocks in any case. Where the channels do fill the blocks, the pooling stays, and is left to its kernel.

It fires for AveragePool over height and width with a float32 input whose number of channels is known, above 16 and no
multiple of it, if every window divides by its whole size: ``count_include_pad`` = 1, or no padding.

It must not fire with ``ceil_mode`` (the last window may hang over the edge), for padding that is not counted (windows
at the border divide by less), for ``auto_pad`` other than NOTSET and VALID, for other types, or for a global pooling.
"""

import numpy as np
import onnx_ir as ir

from cnnport.graphs.values import fresh_names, rank, static

_BLOCK = 16


def average_by_convolution(model: ir.Model) -> int:
    """Write average poolings that blocked kernels cannot run as depthwise convolutions.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of AveragePool nodes that became convolutions.
    """
    found = [node for node in model.graph if _is_unblocked_average(node)]
    fresh = fresh_names(model)
    for node in found:
        channels = static(node.inputs[0], 1)
        assert channels is not None
        window = tuple(node.attributes.get_ints("kernel_shape", ()))
        weights = np.full((channels, 1, *window), 1 / np.prod(window), np.float32)
        name = fresh(f"{node.name or node.outputs[0].name}_weight")
        value = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape(weights.shape),
            const_value=ir.Tensor(weights, name=name),
        )
        model.graph.register_initializer(value)
        node.resize_inputs(2)
        node.replace_input_with(1, value)
        node.op_type = "Conv"
        for attribute in ("count_include_pad", "ceil_mode"):
            node.attributes.pop(attribute, None)
        node.attributes["group"] = ir.AttrInt64("group", channels)
    return len(found)


def _is_unblocked_average(node: ir.Node) -> bool:
    if node.domain or node.op_type != "AveragePool" or rank(node.inputs[0]) != 4:
        return False
    source = node.inputs[0]
    channels = static(source, 1)
    if (
        source is None
        or source.dtype != ir.DataType.FLOAT
        or not channels
        or channels < _BLOCK
        or channels % _BLOCK == 0
    ):
        return False
    attributes = node.attributes
    padding = attributes.get_string("auto_pad", "NOTSET")
    if padding not in {"NOTSET", "VALID"} or attributes.get_int("ceil_mode", 0) != 0:
        return False
    is_padded = padding == "NOTSET" and any(attributes.get_ints("pads", ()))
    return not is_padded or attributes.get_int("count_include_pad", 0) == 1

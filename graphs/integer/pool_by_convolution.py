"""Average pooling as a depthwise convolution, for integer kernels.

An average of k x l pixels is a depthwise convolution with 1 / (k l) for every weight:

    y[c] = (x[c, 1] + ... + x[c, k l]) / (k l) = sum over i of (1 / (k l)) x[c, i].

Equal weights are all the largest level of their scale, so nothing is rounded. ONNX Runtime's integer pooling takes
every number to float and back, one after the other; its integer depthwise convolution takes 16 channels at once.
Measured on ShuffleNet v1 with one thread: two poolings took 422 of 3,744 microseconds. As convolutions, and with
``fill_input_channels``, the network takes 2.46 instead of 3.20 ms.

It fires for AveragePool over height and width with a float32 input whose number of channels is known, if every
window divides by its whole size: ``count_include_pad`` = 1, or no padding.

It must not fire with ``ceil_mode`` (the last window may hang over the edge), for padding that is not counted
(windows at the border divide by less), with dilations, for ``auto_pad`` other than NOTSET and VALID, for other
types, or for a global pooling, whose integer kernel is fast.
"""

import numpy as np
import onnx_ir as ir

from cnnport.graphs.splice import initializer
from cnnport.graphs.values import fresh_names, rank, static


def pool_by_convolution(model: ir.Model) -> int:
    """Write average poolings as depthwise convolutions, for integer kernels.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of AveragePool nodes that became convolutions.
    """
    found = [node for node in model.graph if _is_plain_average(node)]
    fresh = fresh_names(model)
    for node in found:
        channels = static(node.inputs[0], 1)
        assert channels is not None
        window = tuple(node.attributes.get_ints("kernel_shape", ()))
        weights = np.full((channels, 1, *window), 1 / np.prod(window), np.float32)
        node.resize_inputs(2)
        name = fresh(f"{node.name or node.outputs[0].name}_weight")
        node.replace_input_with(1, initializer(weights, name, model.graph))
        node.op_type = "Conv"
        for attribute in ("count_include_pad", "ceil_mode"):
            node.attributes.pop(attribute, None)
        node.attributes["group"] = ir.AttrInt64("group", channels)
    return len(found)


def _is_plain_average(node: ir.Node) -> bool:
    if node.domain or node.op_type != "AveragePool" or rank(node.inputs[0]) != 4:
        return False
    source, attributes = node.inputs[0], node.attributes
    channels = static(source, 1)
    if source is None or source.dtype != ir.DataType.FLOAT or not channels:
        return False
    padding = attributes.get_string("auto_pad", "NOTSET")
    if padding not in {"NOTSET", "VALID"} or attributes.get_int("ceil_mode", 0) != 0:
        return False
    if any(step != 1 for step in attributes.get_ints("dilations", ())):
        return False
    is_padded = padding == "NOTSET" and any(attributes.get_ints("pads", ()))
    return not is_padded or attributes.get_int("count_include_pad", 0) == 1

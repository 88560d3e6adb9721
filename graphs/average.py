"""Averages of pixels as depthwise convolutions, for the passes that know where those are faster.

An average of k x l pixels is a depthwise convolution with 1 / (k l) for every weight:

    y[c] = (x[c, 1] + ... + x[c, k l]) / (k l) = sum over i of (1 / (k l)) x[c, i].

That holds where every window divides by its whole size: with ``count_include_pad`` = 1 or no padding, and without
``ceil_mode``, whose last window may hang over the edge. Windows at the border divide by less where padding is not
counted. Dilations mean the same to both operators.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from cnnport.graphs.splice import initializer
from cnnport.graphs.values import fresh_names, rank, static


def is_whole_average(node: ir.Node) -> bool:
    """Whether a node is an AveragePool of float32 images with known channels that divides by its whole window."""
    if node.domain or node.op_type != "AveragePool" or rank(node.inputs[0]) != 4:
        return False
    source, attributes = node.inputs[0], node.attributes
    if source is None or source.dtype != ir.DataType.FLOAT or not static(source, 1):
        return False
    padding = attributes.get_string("auto_pad", "NOTSET")
    if padding not in {"NOTSET", "VALID"} or attributes.get_int("ceil_mode", 0) != 0:
        return False
    is_padded = padding == "NOTSET" and any(attributes.get_ints("pads", ()))
    return not is_padded or attributes.get_int("count_include_pad", 0) == 1


def averages_to_convolutions(model: ir.Model, nodes: Sequence[ir.Node]) -> int:
    """Turn averages into depthwise convolutions.

    Args:
        model: Changed in place.
        nodes: Of its main graph; for each, ``is_whole_average`` holds.

    Returns:
        Their number.
    """
    fresh = fresh_names(model)
    for node in nodes:
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
    return len(nodes)

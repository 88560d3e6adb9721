"""A BatchNormalization that nothing could take in, as a depthwise 1 x 1 convolution.

In inference it is a scale and a shift for each channel,

    y[c] = s[c] x[c] + t[c],

which is what a depthwise convolution of one pixel with bias computes. ONNX Runtime has an integer kernel of the one
and not of the other: DenseNet and networks with activations first have a BatchNormalization before every
convolution, and each would cost a conversion to float and back. A weight for each channel has a scale for each
channel, so that s is exact to float32; a Relu behind it is taken over by the quantizer.

It fires for a BatchNormalization in inference mode of constants, on float32 images with a known number of channels.

It must not fire in training mode, for computed parameters, other types, or other than 4 dimensions.
"""

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import CannotFoldError
from cnnport.graphs.fold.linear import affine_of, is_batchnorm
from cnnport.graphs.journal import refused
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import drop_unused, fresh_names, opset_of, rank, static


def norm_by_convolution(model: ir.Model) -> int:
    """Write batch norms that still stand as depthwise convolutions.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of BatchNormalization nodes that became convolutions.
    """
    fresh = fresh_names(model)
    opset, done = opset_of(model), 0
    for node in [*filter(is_batchnorm, model.graph)]:
        value = node.inputs[0]
        try:
            affine = affine_of(node, opset)
        except CannotFoldError as error:
            refused(node, str(error))
            continue
        if value is None or value.dtype != ir.DataType.FLOAT or rank(value) != 4:
            refused(node, "it is not on float32 images")
            continue
        if affine.dtype != ir.DataType.FLOAT or static(value, 1) != affine.channels:
            refused(node, "it has other channels than its input, or other types")
            continue
        old = [each for each in node.inputs[1:] if each is not None]
        weights = affine.scale.astype(np.float32).reshape(-1, 1, 1, 1)
        base = node.name or node.outputs[0].name
        made = [
            initializer(weights, fresh(f"{base}_weight"), model.graph),
            initializer(affine.shift.astype(np.float32), fresh(f"{base}_bias"), model.graph),
        ]
        node.resize_inputs(3)
        for index, each in enumerate(made, 1):
            node.replace_input_with(index, each)
        node.op_type = "Conv"
        node.attributes.clear()
        node.attributes["group"] = ir.AttrInt64("group", affine.channels)
        drop_unused(model.graph, old)
        done += 1
    return done

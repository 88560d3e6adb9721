"""Means over height and width as GlobalAveragePool.

The exporter writes a global average pooling as ReduceMean. Both divide the same sum by the same number, but runtimes
treat them differently: ONNX Runtime's CPU kernels keep blocks of 16 channels together through GlobalAveragePool, and
convert to plain rows and back for ReduceMean; TensorRT and OpenVINO know the former as a pooling that fuses.

It fires for ReduceMean over axes 2 and 3 of four dimensions, in any order and counted from either end, that keeps
them (``keepdims`` = 1), as an attribute or as a constant input.

It must not fire if the axes are others, missing or computed, if the number of dimensions is unknown or not four, or
where ``keepdims`` is 0: that would need a Flatten as well.
"""

import onnx_ir as ir

from cnnport.graphs.values import constant, drop_unused, opset_of, rank


def use_global_average_pool(model: ir.Model) -> int:
    """Write means over height and width as GlobalAveragePool.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of ReduceMean nodes that became poolings.
    """
    found = [node for node in model.graph if _is_pooling(node, opset_of(model))]
    for node in found:
        axes = [value for value in node.inputs[1:] if value is not None]
        node.resize_inputs(1)
        node.attributes.clear()
        node.op_type = "GlobalAveragePool"
        drop_unused(model.graph, axes)
    return len(found)


def _is_pooling(node: ir.Node, opset: int) -> bool:
    if node.domain or node.op_type != "ReduceMean" or rank(node.inputs[0]) != 4:
        return False
    if not node.attributes.get_int("keepdims", 1):
        return False
    if opset >= 18:
        tensor = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = [] if tensor is None else [int(axis) for axis in tensor.numpy().ravel()]
    else:
        axes = list(node.attributes.get_ints("axes", ()))
    return sorted(axis % 4 for axis in axes) == [2, 3]

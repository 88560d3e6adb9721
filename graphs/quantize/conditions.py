"""What has to hold for one operator, whatever stands around it, before it can be computed in 8 bits."""

import math

import numpy as np
import onnx_ir as ir

from cnnport.graphs.bounds import Interval, clip_limits
from cnnport.graphs.quantize.rule import Role, Rule
from cnnport.graphs.values import constant, rank

_FLOATS = {
    "ort": frozenset({ir.DataType.FLOAT}),
    "trt": frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16}),
    "openvino": frozenset({ir.DataType.FLOAT}),
}

EVERYTHING: Interval = (-math.inf, math.inf)
"""What an operator lets through that bounds nothing."""


def obstacle(node: ir.Node, rule: Rule, target: str) -> str | None:
    """Why an operator cannot be computed in 8 bits, as a sentence without its full stop; None if it can."""
    if rule.role is Role.FLOAT:
        return rule.reason
    first = node.inputs[0] if node.inputs else None
    if first is None or constant(first) is not None or first.dtype not in _FLOATS[target]:
        return "it does not read activations of a type that this target quantizes"
    if node.op_type != "Split" and any(output.name for output in node.outputs[1:]):
        return "it has more than one result"
    match rule.role:
        case Role.PRODUCT:
            return _product(node, target)
        case Role.SUM | Role.SCALING:
            return _pair(node, target)
        case Role.JOIN:
            return _join(node)
        case Role.MEAN:
            return _mean(node, target)
        case Role.MOVE:
            return _move(node)
        case _:
            return None


def limits_of(node: ir.Node, opset: int) -> Interval | None:
    """Between which bounds a ``Role.BOUND`` operator keeps its input; None if they are computed, or leave 0 out."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    limits = clip_limits(node, opset)
    return limits if limits is not None and limits[0] <= 0 <= limits[1] else None


def _product(node: ir.Node, target: str) -> str | None:
    first, weight = node.inputs[0], constant(node.inputs[1])
    if weight is None or first is None or weight.dtype != first.dtype:
        return "its weights are computed"
    sizes = weight.shape.numpy()
    wanted = 2 if node.op_type in {"Gemm", "MatMul"} else 3
    if len(sizes) < wanted or (wanted == 2 and len(sizes) != 2):
        return "its weights are no matrix and no kernel"
    if node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0:
        return "its activations are transposed"
    if not np.isfinite(weight.numpy().astype(np.float32)).all():
        return "its weights are not all finite"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    given = constant(bias)
    if bias is not None and target == "ort" and given is None:
        return "its bias is computed"
    if given is not None and node.op_type == "Gemm" and given.size != math.prod(given.shape.numpy()[-1:]):
        return "its bias is not the same for every row"
    return None


def _pair(node: ir.Node, target: str) -> str | None:
    one, other = node.inputs
    if any(value is None or constant(value) is not None for value in (one, other)):
        return "one side is constant: it belongs to a convolution, or stays exact"
    if one is not None and other is not None and one.dtype != other.dtype:
        return "its sides are of two types"
    if target != "ort" and node.op_type == "Mul" and _is_activation(node):
        return "it is an activation written out, which is fused in float"
    return None


def _is_activation(node: ir.Node) -> bool:
    """Whether a Mul multiplies a value with a function of each of its numbers, as SiLU does."""
    makers = [value.producer() if value is not None else None for value in node.inputs]
    return any(
        maker is not None and maker.op_type in {"Sigmoid", "HardSigmoid", "Tanh"} and maker.inputs[0] is value
        for value, maker in zip(node.inputs, reversed(makers), strict=True)
    )


def _join(node: ir.Node) -> str | None:
    if any(value is None or constant(value) is not None for value in node.inputs):
        return "one of its inputs is constant"
    return None


def _mean(node: ir.Node, target: str) -> str | None:
    dilated = any(step != 1 for step in node.attributes.get_ints("dilations", ()))
    if target == "ort" and dilated:
        return "its integer kernel knows no dilation"
    return None


def _move(node: ir.Node) -> str | None:
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return "it computes pixels in between"
    if node.op_type == "MaxPool" and rank(node.inputs[0]) not in {3, 4, 5, None}:
        return "it does not pool images"
    return None

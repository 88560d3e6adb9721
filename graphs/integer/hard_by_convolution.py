"""HardSwish and HardSigmoid from what integer kernels have: a convolution, a saturating quantizer, a product.

    HardSigmoid(x) = max(0, min(1, a x + b)),    HardSwish(x) = x HardSigmoid(x) with a = 1/6, b = 1/2.

The affine map in it is a depthwise 1 x 1 convolution, or goes into the convolution that makes x where nobody else
reads that; the bounds are a Clip, which the quantizer behind it takes the place of: its levels go from 0 to 1. So a
gate costs nothing, and a HardSwish one depthwise convolution of one pixel and one product, all of it in 8 bits.
ONNX Runtime has no integer kernel of either: each would go to floats and back, in plain rows of another order of
axes.

It fires for HardSigmoid and HardSwish of float32 images with a known number of channels.

It must not fire for other types, or other than 4 dimensions; nor before opset 11, which has no bounds as inputs.
"""

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Affine, CannotFoldError
from cnnport.graphs.fold.affine_walk import Scope, apply, upward
from cnnport.graphs.journal import refused
from cnnport.graphs.values import opset_of, rank, static

_LEAST_OPSET = 11
_SIXTH, _HALF = float(np.float32(1 / 6)), 0.5
_FIFTH = float(np.float32(0.2))


def hard_by_convolution(model: ir.Model) -> int:
    """Write HardSwish and HardSigmoid as convolution, Clip and Mul, for integer kernels.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of operators that were rewritten.
    """
    scope = Scope.of(model, "hard")
    if scope is None or opset_of(model) < _LEAST_OPSET:
        return 0
    found = [node for node in model.graph if not node.domain and node.op_type in {"HardSigmoid", "HardSwish"}]
    done = 0
    for node in found:
        value = node.inputs[0]
        channels = static(value, 1)
        if value is None or value.dtype != ir.DataType.FLOAT or rank(value) != 4 or not channels:
            refused(node, "it is not on float32 images with a known number of channels")
            continue
        if node.op_type == "HardSwish":
            _swish(node, value, channels, scope)
        else:
            _sigmoid(node, value, channels, scope)
        done += 1
    return done


def _sigmoid(node: ir.Node, value: ir.Value, channels: int, scope: Scope) -> None:
    alpha, beta = node.attributes.get_float("alpha", _FIFTH), node.attributes.get_float("beta", _HALF)
    affine = _map(channels, alpha, beta)
    try:
        apply(upward(value, affine, scope), scope)
        value = node.inputs[0] or value
    except CannotFoldError:
        value = _convolved(node, value, affine, scope)
    node.op_type = "Clip"
    node.attributes.clear()
    node.resize_inputs(3)
    for index, each in enumerate((value, *_bounds(node, scope))):
        node.replace_input_with(index, each)


def _swish(node: ir.Node, value: ir.Value, channels: int, scope: Scope) -> None:
    mapped = _convolved(node, value, _map(channels, _SIXTH, _HALF), scope)
    clip = _made("Clip", [mapped, *_bounds(node, scope)], node, "gate", value, scope)
    node.op_type = "Mul"
    node.resize_inputs(2)
    node.replace_input_with(1, clip.outputs[0])


def _map(channels: int, alpha: float, beta: float) -> Affine:
    return Affine(np.full(channels, alpha), np.full(channels, beta), ir.DataType.FLOAT)


def _bounds(node: ir.Node, scope: Scope) -> list[ir.Value]:
    return [
        scope.initializer(np.array(limit, np.float32), f"{_base(node)}_{name}")
        for name, limit in (("low", 0), ("high", 1))
    ]


def _convolved(node: ir.Node, value: ir.Value, affine: Affine, scope: Scope) -> ir.Value:
    """The map as a depthwise convolution in front of the node."""
    given = [
        scope.initializer(affine.scale.astype(np.float32).reshape(-1, 1, 1, 1), f"{_base(node)}_weight"),
        scope.initializer(affine.shift.astype(np.float32), f"{_base(node)}_bias"),
    ]
    conv = _made("Conv", [value, *given], node, "map", value, scope)
    conv.attributes["group"] = ir.AttrInt64("group", affine.channels)
    return conv.outputs[0]


def _made(
    operator: str, inputs: list[ir.Value], node: ir.Node, name: str, like: ir.Value, scope: Scope
) -> ir.Node:
    """A new node in front of another one, with a result of the type and shape of ``like``."""
    label = scope.fresh(f"{_base(node)}_{name}")
    made = ir.node(operator, inputs, name=label)
    output = made.outputs[0]
    output.name, output.type, output.shape = label, like.type, like.shape
    scope.graph.insert_before(node, made)
    return made


def _base(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or "hard"

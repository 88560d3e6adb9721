"""Activations that are written out as several operators, as the one operator of the standard that they are.

Exporters for older opsets, and networks that define their own activations, write them as arithmetic:

    HardSigmoid(x)  max(0, min(1, alpha x + beta))
    HardSwish(x)    x max(0, min(1, x / 6 + 1 / 2))
    Mish(x)         x tanh(log(1 + exp(x)))
    Gelu(x)         x (1 + erf(x / sqrt(2))) / 2, or x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    PRelu(x)        max(x, 0) + a min(x, 0), which is LeakyRelu if a is one number and Relu if it is 0
    Elu(x)          x for x > 0, alpha (exp(x) - 1) elsewhere; Selu is gamma Elu
    Sigmoid(x)      1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2
    Softplus(x)     log(1 + exp(x))
    Softsign(x)     x / (1 + |x|)
    Clip(x)         min(max(x, low), high), which is Relu for 0 and no upper bound

The definitions are those of the operators' pages on onnx.ai; ``forms`` reads arithmetic with scalars whatever its
order. A constant of a definition, such as 1 / 6, has to be met to rounding in the type of the file; one that the
operator takes as a parameter may have any value that a float32 attribute can hold.

It fires for

1.  HardSigmoid: clipping of a x + b, a > 0, scaled to 0 ... 1, by Clip, Relu and Min, Max and Min;
2.  HardSwish (from opset 14): x times such a line with 1 / 6 and 1 / 2, factors at any place;
3.  Mish (from opset 18);
4.  Gelu (from opset 20), both forms, factors at any place, the cube as Pow or as products;
5.  PRelu, LeakyRelu, Relu: any sum, difference, maximum, minimum or choice (Where) of multiples of x, |x|, Relu(x)
    and the like that is x for x > 0 and a x for x < 0, with a a constant that does not widen x;
6.  Elu, by Where or as Relu(x) + alpha (exp(min(x, 0)) - 1) or min(0, alpha (exp(x) - 1)); Selu, with a factor in
    both halves of the Where, or as Elu times gamma with the two constants of that function;
7.  Sigmoid, Softplus, Softsign;
8.  Clip and Relu: Max, Min, Relu and Clip with constants, one or several in a row.

It must not fire

20. if the file's opset does not have the operator, or not for the type;
21. for float64 other than Clip, Relu and Sigmoid: runtimes have no kernels, and parameters are float32;
22. if what lies between is used elsewhere, is a graph output or is captured by a subgraph;
23. for other constants, for constants that are computed or may be overridden, for bounds that cross;
24. if a constant has more dimensions than x or widens it;
25. for x Sigmoid(x) as Swish, which came with opset 24: ONNX Runtime 1.31 cannot run it in files of later opsets;
26. for integers.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from cnnport.graphs.affine import FLOATS, CannotFoldError, round_to
from cnnport.graphs.fuse.activations import Found, readings
from cnnport.graphs.fuse.forms import Region
from cnnport.graphs.journal import refused
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused, fresh_names

# By the first opset in which ONNX Runtime has a kernel; the others are not known to run.
_IN_FLOAT64 = {"Clip": 12, "Relu": 7, "Sigmoid": 7}
_INPUTS = {"Clip": ("min", "max"), "PRelu": ("slope",)}
_TYPES = {
    ir.DataType.FLOAT: "tensor(float)",
    ir.DataType.FLOAT16: "tensor(float16)",
    ir.DataType.DOUBLE: "tensor(double)",
    ir.DataType.BFLOAT16: "tensor(bfloat16)",
}


def fuse_activations(model: ir.Model) -> int:
    """Write activations that are spelled out as one operator each.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of activations that were put together.
    """
    if Region(model).opset < 7 or model.ir_version < 4:
        return 0
    fresh, total = fresh_names(model), 0
    while True:
        done, obstacles = _sweep(model, fresh)
        total += done
        if not done:
            break
    for obstacle in obstacles:
        refused(*obstacle)
    return total


class _Obstacle(NamedTuple):
    node: ir.Node
    reason: str


def _sweep(model: ir.Model, fresh: Callable[[str], str]) -> tuple[int, list[_Obstacle]]:
    region, done = Region(model), 0
    obstacles: list[_Obstacle] = []
    # Backwards, so that Mish is found before the Softplus in it.
    for node in reversed(list(model.graph)):
        if node.graph is not model.graph or not node.outputs:
            continue
        reasons = []
        for found in readings(node, region):
            dtype = found.x.dtype or node.outputs[0].dtype
            if dtype is None or not _is_met(found, dtype):
                continue
            reason = _obstacle(found, node, dtype, region)
            if reason is None:
                _apply(found, node, dtype, region, fresh)
                done += 1
                break
            reasons.append(reason)
        else:
            obstacles += [_Obstacle(node, reason) for reason in reasons[:1]]
    return done, obstacles


def _is_met(found: Found, dtype: ir.DataType) -> bool:
    """Whether the constants of the definition are those of the graph."""
    if dtype not in FLOATS:
        return False
    half = float(ml_dtypes.finfo(dtype.numpy()).eps) / 2  # type: ignore[no-untyped-call]
    # Narrow types hold a constant rounded once; wider ones come with what was computed from rounded constants.
    slack = half if dtype in {ir.DataType.FLOAT16, ir.DataType.BFLOAT16} else 4 * half
    return all(abs(number - aim) <= slack * (abs(aim) or 1.0) for number, aim in found.near)


def _obstacle(found: Found, node: ir.Node, dtype: ir.DataType, region: Region) -> str | None:
    """Why the operator cannot stand for the nodes, in a sentence, or None."""
    name, opset = found.op_type, region.opset
    if name == "Swish":
        return "it is Swish, which ONNX Runtime does not run in every opset that has it"
    if opset < _since(name, opset):
        return f"it is {name}, which needs opset {_since(name, opset)}, and the file has opset {opset}"
    schema = onnx.defs.get_schema(name, opset)
    types = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}
    if _TYPES[dtype] not in types[schema.inputs[0].type_str]:
        return f"it is {name}, which opset {opset} does not have for {dtype}"
    if dtype == ir.DataType.DOUBLE and opset < _IN_FLOAT64.get(name, math.inf):
        return f"it is {name}, which runtimes do not have for {dtype}"
    shared = region.shared(found.nodes, node)
    if shared is not None:
        return f"it is {name}, but {shared.name} within it is used elsewhere too"
    try:
        for array in found.constants:
            _ = None if array is None else round_to(array, dtype)
        # In the types that get here, a float32 holds what arithmetic with their constants comes to.
        round_to(
            np.array([value for value in found.attributes.values() if isinstance(value, float)]),
            ir.DataType.FLOAT,
        )
    except CannotFoldError as error:
        return f"it is {name}, but {error}"
    return None


def _since(name: str, opset: int) -> int:
    """The first opset with an operator, from the file's on."""
    while not onnx.defs.has(name, opset):
        opset += 1
    return opset


def _apply(
    found: Found, node: ir.Node, dtype: ir.DataType, region: Region, fresh: Callable[[str], str]
) -> None:
    """Turn ``node`` into the operator; it keeps its name and its output."""
    graph, output = region.graph, node.outputs[0].name
    read = [value for each in found.nodes for value in each.inputs if constant(value) is not None]
    constants = [None if array is None else round_to(array, dtype) for array in found.constants]
    attributes = dict(found.attributes)
    names = _INPUTS.get(found.op_type, ())
    if found.op_type == "Clip" and region.opset < 11:
        bounds = zip(names, constants, strict=True)
        attributes.update({name: float(bound) for name, bound in bounds if bound is not None})
        constants = []
    while constants and constants[-1] is None:
        constants.pop()
    node.resize_inputs(1 + len(constants))
    node.replace_input_with(0, found.x)
    for index, (array, name) in enumerate(zip(constants, names, strict=False), start=1):
        made = None if array is None else initializer(array, fresh(f"{output}_{name}"), graph)
        node.replace_input_with(index, made)
    node.op_type = found.op_type
    node.attributes.clear()
    for name, value in attributes.items():
        node.attributes.add(
            ir.AttrString(name, value) if isinstance(value, str) else ir.AttrFloat32(name, value)
        )
    graph.remove([each for each in found.nodes if each is not node], safe=True)
    drop_unused(graph, [value for value in read if value is not None])

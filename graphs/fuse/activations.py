"""Which activation of the standard a node is the end of, where the activation is written out.

The definitions are those of the operators' pages on onnx.ai; ``forms`` reads arithmetic with scalars whatever its
order. What a reader here finds has the right form; whether its constants are the right ones is in ``Found.near``.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import onnx_ir as ir

from cnnport.graphs.fuse.forms import CARRIERS, Nodes, Numbers, Region, affine, lines, polynomial, scalar
from cnnport.graphs.fuse.slopes import bases, chosen_by_sign, slopes

_SELU_ALPHA, _SELU_GAMMA = 1.6732632423543772, 1.0507009873554805
_GELU_CUBIC = 0.044715

Near = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Found:
    """An operator that the nodes are.

    Attributes:
        op_type: Its name.
        x: Its first input.
        nodes: What it stands for, the last of them included.
        attributes: Its parameters.
        constants: Its further inputs; None for one that is left out.
        near: Pairs of a number of the graph, and the number of the definition that it has to be.
    """

    op_type: str
    x: ir.Value
    nodes: Nodes
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    constants: tuple[Numbers | None, ...] = ()
    near: Near = ()


def readings(node: ir.Node, region: Region) -> Iterator[Found]:
    """What ``node`` could be the end of, the larger first; the same operator once more is none."""
    for read in _READERS.get(node.op_type, ()) if region.maker(node.outputs[0]) is node else ():
        for found in read(node, region):
            if len(found.nodes) > 1 or found.op_type != node.op_type:
                yield found


def _products(node: ir.Node, region: Region) -> Iterator[Found]:
    """A function of x times x: HardSwish, Gelu, Mish."""
    for outer in affine(node.outputs[0], region):
        product = region.maker(outer.core, "Mul")
        if product is None or outer.shift:
            continue
        for gate, other in permutations(product.inputs, 2):
            for factor in affine(other, region):
                if not factor.shift:
                    nodes = outer.nodes | factor.nodes | {product}
                    yield from _gated(gate, factor.core, outer.scale * factor.scale, nodes, region)


def _gated(gate: ir.Value | None, x: ir.Value, scale: float, nodes: Nodes, region: Region) -> Iterator[Found]:
    """``scale`` times x times ``gate``."""
    for line in lines(gate, region):
        within = nodes | line.nodes
        if line.core is x and line.is_clipped:
            whole = line.times(scale)
            near: Near = ((whole.scale, 1 / 6), (whole.shift, 0.5), (whole.low, 0.0), (whole.high, 1.0))
            yield Found("HardSwish", x, within, near=near)
        inner = region.maker(line.core, "Erf", "Sigmoid", "Tanh")
        if inner is None or line.is_clipped:
            continue
        within |= {inner}
        share, rest = line.scale * scale, line.shift * scale
        if inner.op_type == "Sigmoid":
            yield from _swish(inner.inputs[0], x, within, ((share, 1.0), (rest, 0.0)), region)
            continue
        halves = ((share, 0.5), (rest, 0.5))
        read = polynomial(inner.inputs[0], x, region)
        if read is not None:
            coefficients = read[0] + [0.0] * (4 - len(read[0]))
            slope = math.sqrt(2 / math.pi)
            aims = (0.0, slope, 0.0, slope * _GELU_CUBIC)
            kind = "tanh" if inner.op_type == "Tanh" else "none"
            near = tuple(
                zip(coefficients, aims if kind == "tanh" else (0.0, math.sqrt(0.5), 0.0, 0.0), strict=True)
            )
            yield Found("Gelu", x, within | read[1], {"approximate": kind}, near=halves + near)
        if inner.op_type == "Tanh":
            for more, conditions in _softplus_of(inner.inputs[0], x, region):
                near = ((share, 1.0), (rest, 0.0), *conditions)
                yield Found("Mish", x, within | more, near=near)


def _swish(value: ir.Value | None, x: ir.Value, nodes: Nodes, near: Near, region: Region) -> Iterator[Found]:
    # The operator came with opset 24; before that there is nothing to say about it.
    for line in affine(value, region) if region.opset >= 24 else ():
        if line.core is x:
            yield Found(
                "Swish", x, nodes | line.nodes, {"alpha": line.scale}, near=(*near, (line.shift, 0.0))
            )


def _softplus_of(value: ir.Value | None, x: ir.Value, region: Region) -> Iterator[tuple[Nodes, Near]]:
    """What is Softplus of x in the nodes above ``value``, and on which conditions."""
    node = region.maker(value, "Softplus", "Log")
    if node is None:
        return
    if node.op_type == "Softplus":
        if node.inputs[0] is x:
            yield frozenset({node}), ()
        return
    for line in affine(node.inputs[0], region):
        power = region.maker(line.core, "Exp")
        if power is not None and power.inputs[0] is x:
            yield line.nodes | {node, power}, ((line.scale, 1.0), (line.shift, 1.0))


def _softplus(node: ir.Node, region: Region) -> Iterator[Found]:
    for line in affine(node.inputs[0], region):
        power = region.maker(line.core, "Exp")
        x = power.inputs[0] if power else None
        if x is not None:
            for nodes, near in _softplus_of(node.outputs[0], x, region):
                yield Found("Softplus", x, nodes, near=near)


def _softsign(node: ir.Node, region: Region) -> Iterator[Found]:
    x = node.inputs[0]
    for line in affine(node.inputs[1], region):
        size = region.maker(line.core, "Abs")
        if x is not None and size is not None and size.inputs[0] is x:
            near = ((line.scale, 1.0), (line.shift, 1.0))
            yield Found("Softsign", x, line.nodes | {node, size}, near=near)


def _sigmoid(node: ir.Node, region: Region) -> Iterator[Found]:
    """1 / (1 + exp(-x)), as Div or Reciprocal."""
    below = node.inputs[-1]
    above = 1.0 if node.op_type == "Reciprocal" or below is None else scalar(node.inputs[0], below)
    if not above:
        return
    for line in affine(below, region):
        power = region.maker(line.core, "Exp")
        for inner in affine(power.inputs[0], region) if power else ():
            near = (
                (line.scale / above, 1.0),
                (line.shift / above, 1.0),
                (inner.scale, -1.0),
                (inner.shift, 0.0),
            )
            yield Found("Sigmoid", inner.core, line.nodes | inner.nodes | {node, *_only(power)}, near=near)


def _sigmoid_by_tanh(node: ir.Node, region: Region) -> Iterator[Found]:
    for line in affine(node.outputs[0], region):
        bend = region.maker(line.core, "Tanh")
        for inner in affine(bend.inputs[0], region) if bend else ():
            near = ((line.scale, 0.5), (line.shift, 0.5), (inner.scale, 0.5), (inner.shift, 0.0))
            yield Found("Sigmoid", inner.core, line.nodes | inner.nodes | _only(bend), near=near)


def _elu_by_where(node: ir.Node, region: Region) -> Iterator[Found]:
    """Elu, and Selu if the upper half has a factor."""
    for upper, x in {line: line.core for value in node.inputs[1:] for line in affine(value, region)}.items():
        read = chosen_by_sign(node, x, region)
        if read is None or upper.shift or upper.scale <= 0 or upper not in affine(read.above, region):
            continue
        for line in affine(read.below, region):
            nodes = _nodes_of_exponent(region.maker(line.core, "Exp"), x, region, may_be_x=True)
            if nodes is not None:
                found = _elu(x, line.scale, line.shift, read.nodes | upper.nodes | line.nodes | nodes)
                parameters = {"alpha": line.scale / upper.scale, "gamma": upper.scale}
                yield found if upper.scale == 1 else replace(found, op_type="Selu", attributes=parameters)


def _elu_by_sum(node: ir.Node, region: Region) -> Iterator[Found]:
    for upper, lower in permutations(node.inputs, 2) if len(node.inputs) == 2 else ():
        for line in lines(lower, region):
            power = region.maker(line.core, "Exp")
            is_bounded = line.high == 0 and line.low == -math.inf and line.scale > 0
            if power is None or (line.is_clipped and not is_bounded):
                continue
            exponent = power.inputs[0]
            for x in [exponent, *bases(exponent, region)] if exponent is not None else []:
                read = slopes(upper, x, region)
                nodes = _nodes_of_exponent(power, x, region, may_be_x=is_bounded)
                if read is not None and nodes is not None and read.bounds == (1.0, 1.0, 0.0, 0.0):
                    yield _elu(x, line.scale, line.shift, {node} | read.nodes | line.nodes | nodes)


def _nodes_of_exponent(power: ir.Node | None, x: ir.Value, region: Region, *, may_be_x: bool) -> Nodes | None:
    """The nodes of exp(min(x, 0)), or of exp(x) where that does as well."""
    if power is None:
        return None
    read = slopes(power.inputs[0], x, region)
    if read is None:
        return None
    is_below_zero = read.bounds == (0.0, 0.0, 1.0, 1.0)
    return (
        read.nodes | {power} if is_below_zero or (may_be_x and read.bounds == (1.0, 1.0, 1.0, 1.0)) else None
    )


def _elu(x: ir.Value, scale: float, shift: float, nodes: Nodes | set[ir.Node]) -> Found:
    return Found("Elu", x, frozenset(nodes), {"alpha": scale}, near=((-shift / scale, 1.0),))


def _selu(node: ir.Node, region: Region) -> Iterator[Found]:
    for line in affine(node.outputs[0], region):
        elu = region.maker(line.core, "Elu")
        if elu is None or elu.inputs[0] is None:
            continue
        alpha = elu.attributes.get_float("alpha", 1.0)
        near = ((alpha, _SELU_ALPHA), (line.scale, _SELU_GAMMA), (line.shift, 0.0))
        found = {"alpha": alpha, "gamma": line.scale}
        yield Found("Selu", elu.inputs[0], line.nodes | {elu}, found, near=near)


def _line(node: ir.Node, region: Region) -> Iterator[Found]:
    """HardSigmoid, Clip, Relu."""
    if node.op_type == "Relu" and region.maker(node.inputs[0], *CARRIERS) is None:
        return
    for line in reversed(lines(node.outputs[0], region)[1:]):
        if line.scale == 1 and not line.shift and line.is_clipped and line.low < line.high:
            if line.low == 0 and line.high == math.inf:
                yield Found("Relu", line.core, line.nodes)
            else:
                bounds = tuple(
                    None if math.isinf(bound) else np.array(bound) for bound in (line.low, line.high)
                )
                yield Found("Clip", line.core, line.nodes, constants=bounds)
        elif line.scale > 0:
            parameters = {"alpha": line.scale, "beta": line.shift}
            near = ((line.low, 0.0), (line.high, 1.0))
            yield Found("HardSigmoid", line.core, line.nodes, parameters, near=near)


def _slopes(node: ir.Node, region: Region) -> Iterator[Found]:
    """PRelu, LeakyRelu, Relu."""
    for x in bases(node.outputs[0], region):
        read = slopes(node.outputs[0], x, region)
        # The same on either side of 0 is no activation: factors one after another, for others to merge.
        if read is None or (read.positive == read.negative).all():
            continue
        lowest, highest, least, largest = read.bounds
        near = ((lowest, 1.0), (highest, 1.0))
        if least == largest == 0:
            yield Found("Relu", x, read.nodes, near=near)
        elif read.negative.size == 1:
            yield Found("LeakyRelu", x, read.nodes, {"alpha": least}, near=near)
        elif read.negative.size > 1:
            yield Found("PRelu", x, read.nodes, constants=(read.negative,), near=near)


def _only(node: ir.Node | None) -> Nodes:
    return frozenset() if node is None else frozenset({node})


_Reader = Callable[[ir.Node, Region], Iterator[Found]]

_READERS: dict[str, tuple[_Reader, ...]] = {
    "Add": (_elu_by_sum, _line, _slopes, _sigmoid_by_tanh),
    "Clip": (_line,),
    "Div": (_products, _sigmoid, _softsign, _line, _slopes),
    "HardSigmoid": (_line,),
    "Log": (_softplus,),
    "Max": (_line, _slopes),
    "Min": (_line, _slopes),
    "Mul": (_products, _selu, _line, _slopes, _sigmoid_by_tanh),
    "Neg": (_line, _slopes),
    "Reciprocal": (_sigmoid,),
    "Relu": (_line,),
    "Sub": (_line, _slopes, _sigmoid_by_tanh),
    "Sum": (_elu_by_sum, _line, _slopes, _sigmoid_by_tanh),
    "Where": (_elu_by_where, _slopes),
}

"""What a value is in terms of another one, read off the elementwise operators between them.

Exporters write one function in many ways: factors before or after, constants on either side, Relu as Max. Instead of
a list of such ways there are three forms that arithmetic with scalars can be brought into:

- a ``Line``: min(max(a v + b, low), high), through scaling, shifting and clipping in any order;
- a ``polynomial``: c0 + c1 v + c2 v v + ..., through sums, products and powers;
- ``slopes``, in their own file: p max(v, 0) + n min(v, 0).

Everything is computed in float64. Each form comes with the nodes that it was read off.
"""

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import FLOATS
from cnnport.graphs.values import constant, named_in_subgraphs, opset_of, rank, static

Numbers = npt.NDArray[np.float64]
Nodes = frozenset[ir.Node]

CARRIERS = ("Add", "Clip", "Div", "HardSigmoid", "Max", "Min", "Mul", "Neg", "Relu", "Sub", "Sum")
"""What may make a line of a line."""

_DEEPEST = 8
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_HIGHEST_DEGREE = 3


class Region:
    """The nodes that forms are read off: those of the main graph, of the default domain."""

    def __init__(self, model: ir.Model) -> None:
        """Of a model as it is now; subgraphs must not change while it is in use."""
        self.graph = model.graph
        self.opset = opset_of(model)
        self._captured = named_in_subgraphs(model.graph)

    def maker(self, value: ir.Value | None, *op_types: str) -> ir.Node | None:
        """The node of one of these types (any if none is given) that makes ``value`` as its only output."""
        node = None if value is None else value.producer()
        if node is None or node.domain or node.graph is not self.graph or len(node.outputs) != 1:
            return None
        return node if not op_types or node.op_type in op_types else None

    def shared(self, nodes: Collection[ir.Node], end: ir.Node) -> ir.Value | None:
        """An output of ``nodes``, those of ``end`` apart, that anything outside of them needs; None if there is none.

        Where there is none, ``end`` can do without the others.
        """
        made = [value for node in nodes if node is not end for value in node.outputs]
        needed = [
            value
            for value in made
            if value.is_graph_output()
            or value.name in self._captured
            or any(reader not in nodes for reader, _ in value.uses())
        ]
        return min(needed, key=lambda value: value.name or "", default=None)


@dataclass(frozen=True)
class Line:
    """A value that is min(max(scale * core + shift, low), high)."""

    core: ir.Value
    nodes: Nodes = frozenset()
    scale: float = 1.0
    shift: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    @property
    def is_clipped(self) -> bool:
        """Whether there is a bound."""
        return not (math.isinf(self.low) and math.isinf(self.high))

    def times(self, factor: float) -> "Line":
        """The line with all its values multiplied by a factor other than 0."""
        bounds = sorted((self.low * factor, self.high * factor))
        return replace(
            self, scale=self.scale * factor, shift=self.shift * factor, low=bounds[0], high=bounds[1]
        )

    def plus(self, summand: float) -> "Line":
        """The line with a number added to all its values."""
        return replace(self, shift=self.shift + summand, low=self.low + summand, high=self.high + summand)

    def clipped(self, low: float, high: float) -> "Line":
        """The line between bounds; the upper one wins where they cross."""
        inner_low, inner_high = (min(max(bound, low), high) for bound in (self.low, self.high))
        return replace(self, low=inner_low, high=inner_high)


def scalar(value: ir.Value | None, beside: ir.Value) -> float | None:
    """A finite constant of one element that does not raise the rank of what it is combined with, or None."""
    tensor = constant(value)
    found = factors(value, beside) if tensor is not None and tensor.size == 1 else None
    return None if found is None else float(found.reshape(()))


def clip_bounds(node: ir.Node, region: Region) -> tuple[float, float] | None:
    """The bounds of a Clip, infinite where there is none; None if they are not constant or cross."""
    low, high = -math.inf, math.inf
    if region.opset < 11:
        low, high = node.attributes.get_float("min", low), node.attributes.get_float("max", high)
    else:
        for index, value in enumerate(node.inputs[1:]):
            if value is None:
                continue
            tensor = constant(value)
            if tensor is None or tensor.size != 1:
                return None
            bound = float(tensor.numpy().reshape(()))
            low, high = (bound, high) if index == 0 else (low, bound)
    # Exporters write the largest float32 for no bound; it is the default of the attributes as well.
    low = -math.inf if low <= -_LARGEST_FLOAT32 else low
    high = math.inf if high >= _LARGEST_FLOAT32 else high
    return (low, high) if low <= high and low < math.inf and high > -math.inf else None


def lines(value: ir.Value | None, region: Region, deepest: int = _DEEPEST) -> list[Line]:
    """Every reading of a value as a line, from the value itself to the one with most nodes."""
    if value is None:
        return []
    found = [Line(value)]
    node = region.maker(value)
    if node is not None and deepest > 0:
        for index, operand in enumerate(node.inputs[:2]):
            # A node carries on one of its inputs; the other, if there is one, is a constant.
            if operand is None or _stepped(node, index, Line(operand), region) is None:
                continue
            read = (_stepped(node, index, line, region) for line in lines(operand, region, deepest - 1))
            return found + [replace(line, nodes=line.nodes | {node}) for line in read if line is not None]
    return found


def affine(value: ir.Value | None, region: Region) -> list[Line]:
    """The readings of a value as a line without bounds."""
    return [line for line in lines(value, region) if not line.is_clipped]


def _stepped(node: ir.Node, index: int, line: Line, region: Region) -> Line | None:
    """What ``node`` makes of a line at its input ``index``."""
    operand = node.inputs[index]
    assert operand is not None
    if index == 0 and len(node.inputs) >= 1:
        if node.op_type == "Relu":
            return line.clipped(0.0, math.inf)
        if node.op_type == "Neg":
            return line.times(-1.0)
        if node.op_type == "Clip":
            bounds = clip_bounds(node, region)
            return None if bounds is None else line.clipped(*bounds)
        if node.op_type == "HardSigmoid":
            alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
            return line.times(alpha).plus(beta).clipped(0.0, 1.0) if alpha else None
    number = scalar(node.inputs[1 - index], operand) if len(node.inputs) == 2 else None
    return None if number is None else _with_number(node.op_type, index == 0, number, line)


def _with_number(op_type: str, is_first: bool, number: float, line: Line) -> Line | None:
    """What an operator makes of a line and a number, in this order or the other."""
    if op_type in {"Add", "Sum"}:
        return line.plus(number)
    if op_type == "Sub":
        return line.plus(-number) if is_first else line.times(-1.0).plus(number)
    if op_type == "Mul" and number:
        return line.times(number)
    if op_type == "Div" and is_first and number:
        return line.times(1.0 / number)
    if op_type == "Max":
        return line.clipped(number, math.inf)
    if op_type == "Min":
        return line.clipped(-math.inf, number)
    return None


def polynomial(
    value: ir.Value | None, base: ir.Value, region: Region, deepest: int = _DEEPEST
) -> tuple[list[float], Nodes] | None:
    """The coefficients of a value as a polynomial in ``base``, the constant one first; None if it is none."""
    if value is base:
        return [0.0, 1.0], frozenset()
    if constant(value) is not None:
        number = scalar(value, base)
        return None if number is None else ([number], frozenset())
    node = region.maker(value, "Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sum")
    if node is None or deepest == 0:
        return None
    if node.op_type == "Pow":
        exponent = scalar(node.inputs[1], base)
        if exponent not in {1.0, 2.0, 3.0}:
            return None
        parts = [polynomial(node.inputs[0], base, region, deepest - 1)] * int(exponent or 1)
    else:
        parts = [polynomial(each, base, region, deepest - 1) for each in node.inputs]
    known = [part for part in parts if part is not None]
    total = _combined(node.op_type, [np.polynomial.Polynomial(part[0]) for part in known])
    if total is None or len(known) != len(parts):
        return None
    found = [float(coefficient) for coefficient in total.coef]
    nodes = frozenset({node}).union(*(nodes for _, nodes in known))
    return (found, nodes) if len(found) <= _HIGHEST_DEGREE + 1 and np.isfinite(found).all() else None


def _combined(op_type: str, parts: list[np.polynomial.Polynomial]) -> np.polynomial.Polynomial | None:
    if not parts:
        return None
    first, *others = parts
    if op_type == "Neg":
        return -first
    if op_type == "Div":
        divisor = others[0].coef if others else np.zeros(1)
        return first / float(divisor[0]) if divisor.size == 1 and divisor[0] else None
    combine = {"Add": operator.add, "Sum": operator.add, "Sub": operator.sub}.get(op_type, operator.mul)
    return reduce(combine, others, first)


def factors(value: ir.Value | None, beside: ir.Value) -> Numbers | None:
    """A finite constant that broadcasts to the shape of ``beside`` without widening it, or None."""
    tensor = constant(value)
    if tensor is None or tensor.dtype not in (*FLOATS, ir.DataType.INT32, ir.DataType.INT64):
        return None
    shape, dims = [int(size) for size in tensor.shape.numpy()], rank(beside)
    if shape and (dims is None or len(shape) > dims):
        return None
    if any(size not in {1, static(beside, axis - len(shape))} for axis, size in enumerate(shape)):
        return None
    array: Numbers = tensor.numpy().astype(np.float64)
    return array if np.isfinite(array).all() else None

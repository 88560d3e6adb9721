"""Values that are linear in another one on either side of 0: p max(v, 0) + n min(v, 0).

Relu, PRelu and LeakyRelu are of this form however they are written, with Relu, |v|, maxima and minima, choices by the
sign of v, and sums of these. p and n have any shape that does not widen v; all numbers are float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cnnport.graphs.fuse.forms import Nodes, Numbers, Region, clip_bounds, factors, scalar
from cnnport.graphs.values import constant

_DEEPEST = 8
_OPERATORS = ("Abs", "Add", "Clip", "Div", "Max", "Min", "Mul", "Neg", "Relu", "Sub", "Sum", "Where")


@dataclass(frozen=True)
class Slopes:
    """A value that is positive * max(base, 0) + negative * min(base, 0)."""

    positive: Numbers
    negative: Numbers
    nodes: Nodes = frozenset()

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The least and the largest slope above 0, and the same below."""
        up, down = self.positive, self.negative
        return float(up.min()), float(up.max()), float(down.min()), float(down.max())


@dataclass(frozen=True)
class Choice:
    """One value where a base is above 0, another where it is below; at 0 it may be either.

    Attributes:
        above: The one.
        below: The other.
        nodes: The Where and its condition.
    """

    above: ir.Value | None
    below: ir.Value | None
    nodes: Nodes


def bases(value: ir.Value, region: Region) -> Iterator[ir.Value]:
    """Values that ``value`` could have slopes in, those furthest above it first."""
    levels: list[dict[ir.Value, None]] = [{value: None}]
    while len(levels) <= _DEEPEST and levels[-1]:
        above: dict[ir.Value, None] = {}
        for each in levels[-1]:
            node = region.maker(each, *_OPERATORS)
            above.update({operand: None for operand in (node.inputs if node else ()) if operand is not None})
        levels.append({each: None for each in above if constant(each) is None})
    found = dict.fromkeys(each for level in reversed(levels[1:]) for each in level)
    return iter(found)


def slopes(value: ir.Value | None, base: ir.Value, region: Region, deepest: int = _DEEPEST) -> Slopes | None:
    """A value as a function of ``base`` that is linear on either side of 0, or None if it is none."""
    if value is base:
        return Slopes(np.ones(()), np.ones(()))
    node = region.maker(value, *_OPERATORS)
    if node is None or deepest == 0:
        zero = constant(value)
        is_zero = zero is not None and zero.size == 1 and scalar(value, base) == 0
        return Slopes(np.zeros(()), np.zeros(())) if is_zero else None
    parts = list(node.inputs)
    if node.op_type == "Where":
        return _where(node, base, region, deepest - 1)
    if node.op_type == "Clip":
        bounds = clip_bounds(node, region)
        if bounds is None or {abs(bound) for bound in bounds} != {0.0, math.inf}:
            return None
        return _combined(node, slopes(parts[0], base, region, deepest - 1), bounds=bounds)
    if node.op_type in {"Mul", "Div"}:
        for index in (0, 1) if node.op_type == "Mul" else (0,):
            factor = factors(parts[1 - index], base)
            if factor is None or (node.op_type == "Div" and not factor.all()):
                continue
            inner = slopes(parts[index], base, region, deepest - 1)
            return _combined(node, inner, factor=factor if node.op_type == "Mul" else 1 / factor)
        return None
    return _combined(node, *(slopes(part, base, region, deepest - 1) for part in parts))


def chosen_by_sign(node: ir.Node, base: ir.Value, region: Region) -> Choice | None:
    """Read a Where whose condition compares ``base`` with 0, or None if it is none."""
    test, yes, no = node.inputs
    nodes: Nodes = frozenset({node})
    while (negation := region.maker(test, "Not")) is not None:
        nodes, test, yes, no = nodes | {negation}, negation.inputs[0], no, yes
    comparison = region.maker(test, "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    if comparison is None:
        return None
    left, right = comparison.inputs
    if left is base and scalar(right, base) == 0:
        is_above = comparison.op_type.startswith("Greater")
    elif right is base and scalar(left, base) == 0:
        is_above = comparison.op_type.startswith("Less")
    else:
        return None
    return Choice(*((yes, no) if is_above else (no, yes)), nodes | {comparison})


def _where(node: ir.Node, base: ir.Value, region: Region, deepest: int) -> Slopes | None:
    read = chosen_by_sign(node, base, region)
    if read is None:
        return None
    above, below = (slopes(part, base, region, deepest) for part in (read.above, read.below))
    if above is None or below is None:
        return None
    return Slopes(above.positive, below.negative, read.nodes | above.nodes | below.nodes)


def _combined(
    node: ir.Node,
    *parts: Slopes | None,
    factor: Numbers | None = None,
    bounds: tuple[float, float] = (0.0, math.inf),
) -> Slopes | None:
    """What an operator other than Where makes of values with slopes."""
    known = [part for part in parts if part is not None]
    if len(known) != len(parts) or not known:
        return None
    nodes = frozenset({node}).union(*(part.nodes for part in known))
    ups, downs = [part.positive for part in known], [part.negative for part in known]
    op_type = node.op_type
    if factor is not None:
        return Slopes(ups[0] * factor, downs[0] * factor, nodes)
    if op_type in {"Relu", "Clip"}:
        # The upper half of v is what is positive: p max(v, 0) where p > 0, and n min(v, 0) where n < 0.
        keep_up = bounds[0] == 0
        return Slopes(
            np.maximum(ups[0], 0) if keep_up else np.minimum(ups[0], 0),
            np.minimum(downs[0], 0) if keep_up else np.maximum(downs[0], 0),
            nodes,
        )
    if op_type == "Abs":
        return Slopes(np.abs(ups[0]), -np.abs(downs[0]), nodes)
    if op_type == "Neg":
        return Slopes(-ups[0], -downs[0], nodes)
    if len(known) != 2:
        return None
    if op_type in {"Max", "Min"}:
        upper, lower = (np.maximum, np.minimum) if op_type == "Max" else (np.minimum, np.maximum)
        return Slopes(upper(*ups), lower(*downs), nodes)
    sign = -1.0 if op_type == "Sub" else 1.0
    return Slopes(ups[0] + sign * ups[1], downs[0] + sign * downs[1], nodes)

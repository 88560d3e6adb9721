"""Which values have one scale, and which ranges have to be known for it.

Across an operator that only moves numbers, both sides have one scale, or it could not move bytes. At a Concat the
result has to reach as far as every input, so an input that only the Concat reads is rounded to the scale of the
result in any case; with that scale from the start it is rounded once, and copied. An input that others read as well
would lose precision for them: it takes the scale of the result if that is at most twice its own, which costs a bit.

A bound (Relu, Clip) that the quantizer behind it takes the place of must stay the end of its scale: such values
share no scale that goes beyond it. The other way round, what lies beyond a bound need not be told apart above it: a
value that is only joined to others and then bounded is quantized between the bounds.
"""

import math
from collections.abc import Mapping

import onnx_ir as ir

from cnnport.errors import CnnportError
from cnnport.graphs.bounds import Interval
from cnnport.graphs.quantize.conditions import EVERYTHING
from cnnport.graphs.quantize.plan import Plan
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rule import Role

_MOST_TIMES = 2.0


def wanted_names(plan: Plan) -> frozenset[str]:
    """The names of the values whose ranges have to be known; those of the others follow from them."""
    derived = _derived(plan)
    return frozenset(value.name for value in plan.values if value not in derived and value.name)


def shared_ranges(plan: Plan, ranges: Mapping[str, ValueRange]) -> dict[ir.Value, ValueRange]:
    """The range of every value of the plan; values that have to have one scale get the same.

    Args:
        plan: What is quantized.
        ranges: At least of ``wanted_names``.

    Raises:
        CnnportError: If a range is missing, empty, not finite, or does not hold 0.
    """
    own = _own_ranges(plan, ranges)
    passing = _passing(plan)
    # The least width that a value has which is computed with, and so loses digits by a larger scale.
    least = {value: _width(found) if _readers(value) - passing else math.inf for value, found in own.items()}
    groups = _Groups(own, _absorbed(plan), least)
    for node in plan.moves:
        present = [value for value in (node.inputs[0], *node.outputs) if value in own]
        for value in present[1:]:
            groups.tie(present[0], value)
    for node, rule in plan.nodes.items():
        if rule.role is Role.JOIN:
            result = _behind(plan, node.outputs[0])
            for part in node.inputs:
                if part is not None and part in own and result in own:
                    groups.offer(part, result)
    return {value: groups.range_of(value) for value in own}


def _derived(plan: Plan) -> dict[ir.Value, tuple[ir.Value, ...]]:
    """Values whose range is that of others, with these."""
    quantized = set(plan.values)
    found: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for node in plan.moves:
        first = node.inputs[0]
        if first in quantized:
            assert first is not None
            found |= {value: (first,) for value in node.outputs if value in quantized}
    for node, rule in plan.nodes.items():
        result = _behind(plan, node.outputs[0])
        sources = tuple(value for value in node.inputs if value in quantized and value is not None)
        if rule.role is Role.JOIN and result in quantized and len(sources) == len(node.inputs):
            found[result] = sources
    return found


def _own_ranges(plan: Plan, ranges: Mapping[str, ValueRange]) -> dict[ir.Value, ValueRange]:
    """Of every value alone, as far as bounds below it let it through."""
    derived, through, absorbed = _derived(plan), _lets_through(plan), _absorbed(plan)
    missing = sorted(wanted_names(plan) - set(ranges))
    if missing:
        raise CnnportError(f"the ranges of {len(missing)} values are missing: {', '.join(missing[:3])}")
    own: dict[ir.Value, ValueRange] = {}
    for value in plan.values:
        if value in derived:
            found = _union([own[source] for source in derived[value]])
        else:
            assert value.name
            found = _checked(value.name, ranges[value.name])
        low, high = _intersect(through.get(value, EVERYTHING), absorbed.get(value, EVERYTHING))
        own[value] = ValueRange(max(found.low, low), min(found.high, high))
    return own


def _checked(name: str, found: ValueRange) -> ValueRange:
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        raise CnnportError(f"the range of {name} is not finite: {found.low} to {found.high}")
    if not found.low <= 0 <= found.high:
        raise CnnportError(f"the range of {name} does not hold 0: {found.low} to {found.high}")
    return found


def _absorbed(plan: Plan) -> dict[ir.Value, Interval]:
    """The bounds that the quantizers of values enforce in place of operators before them."""
    found: dict[ir.Value, Interval] = {}
    for node, limits in plan.bounds.items():
        first = node.inputs[0]
        assert first is not None
        found[node.outputs[0]] = _intersect(limits, found.get(first, EVERYTHING))
    return found


def _lets_through(plan: Plan) -> dict[ir.Value, Interval]:
    """Between which numbers each value matters to whoever reads it."""
    passing = _passing(plan)
    found: dict[ir.Value, Interval] = {}

    def through(reader: ir.Node) -> Interval:
        if reader in plan.bounds:
            return plan.bounds[reader]
        if reader not in passing:
            return EVERYTHING
        return _hull([found.get(output, EVERYTHING) for output in reader.outputs])

    graph = next((node.graph for node in (*plan.nodes, *plan.moves)), None)
    for node in reversed([] if graph is None else list(graph)):
        for value in node.outputs:
            open_ended = value.is_graph_output() or not value.uses()
            readers = _readers(value)
            found[value] = EVERYTHING if open_ended else _hull([through(reader) for reader in readers])
    return found


def _passing(plan: Plan) -> set[ir.Node]:
    """The operators that only move numbers, or put them side by side."""
    return {*plan.moves, *(node for node, rule in plan.nodes.items() if rule.role is Role.JOIN)}


def _behind(plan: Plan, value: ir.Value) -> ir.Value:
    """The first quantized value from here on, behind bounds that only this one has."""
    quantized = set(plan.values)
    while value not in quantized and len(value.uses()) == 1:
        (reader,) = _readers(value)
        if reader not in plan.bounds:
            break
        value = reader.outputs[0]
    return value


def _readers(value: ir.Value) -> set[ir.Node]:
    return {reader for reader, _ in value.uses()}


def _intersect(one: Interval, other: Interval) -> Interval:
    return max(one[0], other[0]), min(one[1], other[1])


def _hull(parts: list[Interval]) -> Interval:
    return min(low for low, _ in parts), max(high for _, high in parts)


def _union(parts: list[ValueRange]) -> ValueRange:
    return ValueRange(min(part.low for part in parts), max(part.high for part in parts))


class _Groups:
    """Values with one scale, and the bounds that none of them lets it go beyond."""

    def __init__(
        self,
        own: Mapping[ir.Value, ValueRange],
        absorbed: Mapping[ir.Value, Interval],
        least: Mapping[ir.Value, float],
    ) -> None:
        self._leader: dict[ir.Value, ir.Value] = {value: value for value in own}
        self._range = dict(own)
        self._limits = {value: absorbed.get(value, EVERYTHING) for value in own}
        self._least = dict(least)

    def range_of(self, value: ir.Value) -> ValueRange:
        return self._range[self._find(value)]

    def tie(self, one: ir.Value, other: ir.Value) -> None:
        """Give both one scale."""
        first, second = self._find(one), self._find(other)
        if first is not second:
            self._leader[second] = first
            self._range[first] = _union([self._range[first], self._range[second]])
            self._limits[first] = _intersect(self._limits[first], self._limits[second])
            self._least[first] = min(self._least[first], self._least[second])

    def offer(self, value: ir.Value, result: ir.Value) -> None:
        """Give an input of a Concat the scale of its result, if nothing speaks against it."""
        first, second = self._find(value), self._find(result)
        if first is second:
            return
        joined = _union([self._range[first], self._range[second]])
        low, high = _intersect(self._limits[first], self._limits[second])
        least = min(self._least[first], self._least[second])
        if low <= joined.low and joined.high <= high and _width(joined) <= _MOST_TIMES * least:
            self.tie(result, value)

    def _find(self, value: ir.Value) -> ir.Value:
        while self._leader[value] is not value:
            value = self._leader[value]
        return value


def _width(found: ValueRange) -> float:
    return found.high - found.low

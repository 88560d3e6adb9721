"""Which operators are computed in 8 bits, and which values are quantized for it.

Operators come first. Each that a rule names, and whose conditions hold, is a candidate. Products with constant
weights are always worth it; everything else (sums, pools, concatenations, movements) only between others, where
something that it reads is there in 8 bits, and something that reads it wants them: otherwise it would only add
conversions. What falls away takes that ground from its neighbours, so it is asked again until nothing changes.

Values follow. An input that a rule wants is quantized, and so is the result of an operator that has to write 8
bits, behind the bounds that belong to it (Relu, Clip). A quantized value is dequantized for whoever reads it, in
float too: two copies of it, in 8 bits and in 32, would be written otherwise.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from cnnport.errors import UnknownNameError
from cnnport.graphs.bounds import Interval
from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.quantize.conditions import limits_of, obstacle
from cnnport.graphs.quantize.rule import Reads, Role, Rule, Writes
from cnnport.graphs.quantize.rules import rule_of
from cnnport.graphs.values import named_in_subgraphs, opset_of
from cnnport.registry import nearest


@dataclass(frozen=True)
class Choice:
    """What was decided about an operator.

    Attributes:
        node: Its name, or that of its first output.
        operator: Its type.
        role: What it is to quantization.
        quantized: Whether it is computed in 8 bits.
        reason: Why, in a sentence without its full stop.
    """

    node: str
    operator: str
    role: Role
    quantized: bool
    reason: str

    @property
    def is_product(self) -> bool:
        """Whether it is a layer whose weights are in 8 bits."""
        return self.quantized and self.role is Role.PRODUCT


@dataclass(frozen=True)
class Plan:
    """What is to be done to a graph.

    Attributes:
        target: Whose rules hold.
        nodes: Those that are computed in 8 bits, with their rules, in the graph's order.
        moves: Those across which 8 bits move without change, in the graph's order.
        bounds: What each Relu and Clip lets through.
        values: Those that get a quantizer, in the graph's order.
        choices: What was decided about every operator on activations.
    """

    target: str
    nodes: Mapping[ir.Node, Rule]
    moves: tuple[ir.Node, ...]
    bounds: Mapping[ir.Node, Interval]
    values: tuple[ir.Value, ...]
    choices: tuple[Choice, ...]


def name_of(node: ir.Node) -> str:
    """What a node goes by: its name, or that of its first output."""
    return node.name or next((value.name for value in node.outputs if value.name), "")


def plan(model: ir.Model, target: str, keep: Collection[str]) -> Plan:
    """Decide about every operator and every value of the main graph.

    Args:
        model: Is not changed; with shapes, see ``protos.annotate``.
        target: A key of ``RULES``.
        keep: Names of nodes, as ``name_of`` gives them, that stay in float.

    Raises:
        UnknownNameError: If a name in ``keep`` is not there.
    """
    _require_names(model, keep)
    return _Planner(model, target, frozenset(keep)).plan()


def _require_names(model: ir.Model, keep: Collection[str]) -> None:
    known = {name_of(node): node for node in model.graph}
    for name in keep:
        if name not in known:
            hint = nearest(name, known, "the names of its nodes")
            raise UnknownNameError(f"no node is called {name!r}, to be kept in float: {hint}")


class _Planner:
    def __init__(self, model: ir.Model, target: str, keep: frozenset[str]) -> None:
        self._graph, self._target = model.graph, target
        self._captured = named_in_subgraphs(model.graph)
        self._chosen: dict[ir.Node, Rule] = {}
        self._left: dict[ir.Node, str] = {}
        self._bounds: dict[ir.Node, Interval] = {}
        self._moves: dict[ir.Node, Rule] = {}
        opset = opset_of(model)
        for node in self._graph:
            rule = rule_of(node, target)
            reason = "to be kept in float" if name_of(node) in keep else obstacle(node, rule, target)
            if reason is not None:
                self._left[node] = reason
            elif rule.role is Role.BOUND:
                if limits := limits_of(node, opset):
                    self._bounds[node] = limits
                else:
                    self._left[node] = "its bounds are computed, or leave 0 out"
            elif rule.role is Role.MOVE and rule.reads is Reads.NONE:
                self._moves[node] = rule
            else:
                self._chosen[node] = rule
        for node in [*self._chosen]:
            if self._must_write(node) and not all(
                self._is_private(self.behind(value)) for value in node.outputs
            ):
                self._leave(node, "its result is given out, in float")

    def plan(self) -> Plan:
        while fallen := [*self._without_neighbours()]:
            for node, reason in fallen:
                self._leave(node, reason)
        moves = [
            node
            for node in self._graph
            if node in self._moves or (node in self._chosen and self._chosen[node].role is Role.MOVE)
        ]
        return Plan(
            self._target,
            {node: self._chosen[node] for node in self._graph if node in self._chosen},
            tuple(moves),
            self._bounds,
            self._values(),
            tuple(self._choices()),
        )

    def behind(self, value: ir.Value) -> ir.Value:
        """The value behind all bounds that belong to this one's maker."""
        while len(value.uses()) == 1 and self._is_private(value):
            (reader, _), *_ = value.uses()
            if reader not in self._bounds:
                break
            value = reader.outputs[0]
        return value

    def _is_private(self, value: ir.Value) -> bool:
        """Whether only nodes of the main graph read it."""
        return (
            not value.is_graph_output()
            and value.name not in self._captured
            and all(reader.graph is self._graph for reader, _ in value.uses())
        )

    def _leave(self, node: ir.Node, reason: str) -> None:
        del self._chosen[node]
        self._left[node] = reason

    def _must_write(self, node: ir.Node) -> bool:
        return self._chosen[node].writes is Writes.ALWAYS

    def _without_neighbours(self) -> Iterator[tuple[ir.Node, str]]:
        """Those that are worth it only between others, and do not stand there."""
        there, wanted = self._there(), self._wanted()
        for node, rule in self._chosen.items():
            if rule.role is Role.PRODUCT:
                continue
            if not any(value in there for _, value in self._read(node, rule)):
                yield node, "nothing that it reads is there in 8 bits"
            elif not any(value in wanted for value in node.outputs):
                yield node, "nothing that reads it wants 8 bits"

    def _there(self) -> set[ir.Value]:
        """Values that are made of 8-bit numbers."""
        there: set[ir.Value] = set()
        for node in self._graph:
            if node in self._chosen or (self._passes(node) and node.inputs[0] in there):
                there.update(node.outputs)
        return there

    def _wanted(self) -> set[ir.Value]:
        """Values that somebody reads in 8 bits."""
        wanted: set[ir.Value] = set()
        for node in reversed(self._graph):
            if node in self._chosen:
                wanted.update(value for _, value in self._read(node, self._chosen[node]))
            elif self._passes(node) and any(value in wanted for value in node.outputs):
                first = node.inputs[0]
                assert first is not None
                wanted.add(first)
        return wanted

    def _passes(self, node: ir.Node) -> bool:
        return node in self._bounds or node in self._moves

    def _read(self, node: ir.Node, rule: Rule) -> list[tuple[int, ir.Value]]:
        """Inputs that may come from 8-bit numbers; of a sum either branch may be the one."""
        if rule.reads is Reads.NONE:
            return []
        last = 1 if rule.reads is Reads.FIRST else len(node.inputs)
        return [(index, value) for index, value in enumerate(node.inputs[:last]) if value is not None]

    def _values(self) -> tuple[ir.Value, ...]:
        wanted = self._wanted()
        found: set[ir.Value] = set()
        for node, rule in self._chosen.items():
            if rule.reads is not Reads.SKIP:
                found.update(value for _, value in self._read(node, rule))
            if rule.writes is Writes.ALWAYS:
                found.update(self.behind(value) for value in node.outputs)
            elif rule.writes is Writes.IF_READ:
                found.update(self.behind(value) for value in node.outputs if value in wanted)
        for node, rule in self._chosen.items():
            if rule.reads is Reads.SKIP and not any(value in found for value in node.inputs):
                found.add(self._skip(node))
        in_order = (
            *self._graph.inputs,
            *(value for node in self._graph for value in node.outputs),
        )
        # An output that nobody reads has no name.
        return tuple(value for value in in_order if value in found and value.name)

    def _skip(self, node: ir.Node) -> ir.Value:
        """Of the branches of a sum, the one with fewer products above it, or the one that was there first."""
        one, other = node.inputs
        assert one is not None
        assert other is not None
        depth: dict[ir.Value, int] = {}
        place: dict[ir.Value, int] = {}
        for index, each in enumerate(self._graph):
            own = max((depth.get(value, 0) for value in each.inputs if value is not None), default=0)
            own += rule_of(each, self._target).role is Role.PRODUCT
            depth |= dict.fromkeys(each.outputs, own)
            place |= dict.fromkeys(each.outputs, index)
        return min(one, other, key=lambda value: (depth.get(value, 0), place.get(value, -1)))

    def _choices(self) -> Iterator[Choice]:
        there, wanted = self._there(), self._wanted()
        for node in self._graph:
            if node.op_type == "Constant" and node.domain in DEFAULT_DOMAINS:
                continue
            rule = rule_of(node, self._target)
            reason = self._left.get(node)
            if reason is None and node not in self._chosen:
                reason = self._among_floats(node, there, wanted)
            yield Choice(name_of(node), node.op_type, rule.role, reason is None, reason or rule.reason)

    def _among_floats(self, node: ir.Node, there: set[ir.Value], wanted: set[ir.Value]) -> str | None:
        """Why what quantizers move across, or take over, has none beside it."""
        if node.inputs[0] not in there:
            return "nothing that it reads is there in 8 bits"
        if node in self._moves and not any(value in wanted for value in node.outputs):
            return "nothing that reads it wants 8 bits"
        return None

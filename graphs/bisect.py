"""The smallest part of a model on which a pass still does wrong, for a report that one can read.

Nodes of the main graph stand in topological order. Two binary searches find a range of them on which the pass still
does wrong, from the end and from the beginning; what the range holds beside the nodes at fault (a parallel branch) is
then left out piece by piece. Each part is a model of its own: what came from nodes left out becomes an input, of the
type and shape that it has in the whole.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import onnx

from cnnport.graphs.operators import subgraphs_of

Fails: TypeAlias = Callable[[onnx.ModelProto], bool]
"""Whether the pass does wrong on a part."""

Types: TypeAlias = Callable[[Sequence[str]], dict[str, onnx.TypeProto]]
"""The types of values of the whole, by their names; those that are not known are left out."""

_MOST_PARTS = 300


def smallest_failing(model: onnx.ModelProto, fails: Fails, types: Types) -> onnx.ModelProto | None:
    """Find a part of a model that is as small as can be and still fails.

    Args:
        model: Is not changed. Tensors in other files are referred to, not loaded.
        fails: Asked of parts, each with nodes, initializers and functions of the model; a part that cannot run does
            not fail.
        types: Asked for what becomes an input.

    Returns:
        A part from which no node can be left out, or as few as could be found out with a bounded number of
        questions; None if the whole does not fail.
    """
    parts = _Parts(model, types)
    asked = 0

    def does_fail(chosen: Sequence[int]) -> bool:
        nonlocal asked
        asked += 1
        part = parts.extract(chosen) if chosen and asked <= _MOST_PARTS else None
        return part is not None and fails(part)

    chosen = list(range(len(parts.nodes)))
    if not does_fail(chosen):
        return None
    end = _boundary(len(chosen), lambda count: does_fail(chosen[:count]))
    chosen = chosen[:end]
    begin = _boundary(len(chosen), lambda count: does_fail(chosen[len(chosen) - count :]))
    chosen = chosen[len(chosen) - begin :]
    chosen = _without_bystanders(chosen, does_fail)
    return parts.extract(chosen)


def _boundary(count: int, fails: Callable[[int], bool]) -> int:
    """The number from 1 to ``count`` that fails where the one before does not, given that ``count`` does."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if fails(middle):
            high = middle
        else:
            low = middle
    return high


def _without_bystanders(chosen: list[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """Leave out pieces as long as the rest fails, the pieces smaller each time."""
    size = max(len(chosen) // 2, 1)
    while True:
        start, shrunk = 0, False
        while start < len(chosen):
            rest = chosen[:start] + chosen[start + size :]
            if fails(rest):
                chosen, shrunk = rest, True
            else:
                start += size
        if size == 1 and not shrunk:
            return chosen
        size = size if shrunk and size == 1 else max(size // 2, 1)


class _Parts:
    """A model taken apart. Constants are no nodes here: each part gets those that it reads."""

    def __init__(self, model: onnx.ModelProto, types: Types) -> None:
        graph = model.graph
        self._model = model
        self._types = types
        self.nodes = [node for node in graph.node if node.op_type != "Constant" or node.domain]
        self._constants = {
            name: node
            for node in graph.node
            if node.op_type == "Constant" and not node.domain
            for name in node.output
        }
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._values = {value.name: value for value in (*graph.value_info, *graph.output, *graph.input)}
        self._inputs = {value.name for value in graph.input}
        self._outputs = {value.name for value in graph.output}
        self._read = [_read_by(node) for node in self.nodes]

    def extract(self, chosen: Sequence[int]) -> onnx.ModelProto | None:
        """The part with these nodes; None if it cannot be one, since the type of an input is not known."""
        members = set(chosen)
        made = {name for index in chosen for name in self.nodes[index].output if name}
        read = list(dict.fromkeys(name for index in chosen for name in self._read[index]))
        elsewhere = self._outputs.union(
            *(self._read[index] for index in range(len(self.nodes)) if index not in members)
        )
        inputs = [
            name
            for name in read
            if name not in made
            and name not in self._constants
            and (name not in self._initializers or name in self._inputs)
        ]
        outputs = [
            name for index in chosen for name in self.nodes[index].output if name and name in elsewhere
        ]
        outputs = outputs or [name for index in chosen[-1:] for name in self.nodes[index].output if name]
        given = self._described(inputs)
        if given is None or not outputs:
            return None
        part = onnx.ModelProto()
        part.ir_version = self._model.ir_version
        part.opset_import.extend(self._model.opset_import)
        part.functions.extend(self._model.functions)
        part.graph.name = self._model.graph.name
        part.graph.node.extend(self._constants_of(read))
        part.graph.node.extend(self.nodes[index] for index in chosen)
        part.graph.initializer.extend(self._initializers[name] for name in read if name in self._initializers)
        part.graph.input.extend(given)
        for name in outputs:
            part.graph.output.append(self._values.get(name) or onnx.ValueInfoProto(name=name))
        inner = made - set(outputs)
        part.graph.value_info.extend(self._values[name] for name in sorted(inner) if name in self._values)
        self._give_types(part)
        return part

    def _described(self, names: Sequence[str]) -> list[onnx.ValueInfoProto] | None:
        known = {name: self._values[name] for name in names if _has_type(self._values.get(name))}
        missing = [name for name in names if name not in known]
        types = self._types(missing) if missing else {}
        if any(name not in types for name in missing):
            return None
        # What the graph says comes before what was found by looking: it may leave sizes open.
        return [known.get(name) or onnx.ValueInfoProto(name=name, type=types[name]) for name in names]

    def _give_types(self, part: onnx.ModelProto) -> None:
        """A model's outputs must have types."""
        missing = [value for value in part.graph.output if not _has_type(value)]
        types = self._types([value.name for value in missing]) if missing else {}
        for value in missing:
            if value.name in types:
                value.type.CopyFrom(types[value.name])

    def _constants_of(self, names: Iterable[str]) -> Iterator[onnx.NodeProto]:
        taken: set[int] = set()
        for name in names:
            node = self._constants.get(name)
            if node is not None and id(node) not in taken:
                taken.add(id(node))
                yield node


def _has_type(value: onnx.ValueInfoProto | None) -> bool:
    return value is not None and value.type.tensor_type.HasField("shape")


def _read_by(node: onnx.NodeProto) -> list[str]:
    """What a node reads, also within its subgraphs; names that those produce themselves do no harm here."""
    names = [name for name in node.input if name]
    for graph in subgraphs_of(node):
        own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        inner = [name for each in graph.node for name in _read_by(each)]
        own |= {name for each in graph.node for name in each.output}
        names += [name for name in (*inner, *(value.name for value in graph.output)) if name not in own]
    return names

"""A small graph that is as wrong as a large one: outputs, layers and what leads to them taken away bit by bit."""

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from fuzz.networks import feeds_of
from fuzz.properties import run

Fails = Callable[[ModelProto], bool]


def reduced(model: ModelProto, fails: Fails) -> ModelProto:
    """The smallest graph to be found, from step to step, that is valid and that ``fails`` still says True of."""
    current = model
    while True:
        # First without what leads nowhere; but what leads nowhere may be what it is about.
        candidates = chain(_smaller(current, pruned=True), _smaller(current, pruned=False))
        smaller = next((each for each in candidates if _is_valid(each) and fails(each)), None)
        if smaller is None:
            return current
        current = smaller


def _smaller(model: ModelProto, *, pruned: bool) -> Iterator[ModelProto]:
    """Graphs with less in them, the smallest first."""
    infos, nodes = _infos(model), list(model.graph.node)
    given_out = {output.name for output in model.graph.output}
    for place, node in enumerate(nodes[:-1]):
        # The beginning alone.
        if node.output[0] in infos and given_out != {node.output[0]}:
            yield _rebuilt(model, nodes[: place + 1], pruned, outputs=[infos[node.output[0]]])
    for output in model.graph.output if len(model.graph.output) > 1 else ():
        yield _rebuilt(model, nodes, pruned, outputs=[output])
    for place in range(len(nodes) - 1, -1, -1):
        # The rest alone: what a node makes comes from outside.
        name, rest = nodes[place].output[0], nodes[:place] + nodes[place + 1 :]
        if nodes[place].input and len(nodes[place].output) == 1 and name in infos and name not in given_out:
            yield _rebuilt(model, rest, pruned, more_inputs=[infos[name]])
    for place, node in enumerate(nodes):
        if node.input and node.output[0] not in given_out:
            yield _rebuilt(model, _bypassed(nodes, place), pruned)
    if model.graph.value_info:
        yield _rebuilt(model, nodes, pruned, told=False)


def _infos(model: ModelProto) -> dict[str, ValueInfoProto]:
    """Every value as it could be declared, with the shape that it has when the graph runs."""
    everything = ModelProto()
    everything.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name]
    del everything.graph.output[:]
    everything.graph.output.extend(ValueInfoProto(name=name) for name in names)
    ran = run(everything, [feeds_of(model, batch, 0) for batch in (1, 3)])
    if ran is None:
        return {}
    infos = {}
    for name, one, three in zip(names, *ran, strict=True):
        if isinstance(one, np.ndarray) and one.ndim == three.ndim:
            sizes = [a if a == b else "N" for a, b in zip(one.shape, three.shape, strict=True)]
            kind = helper.np_dtype_to_tensor_dtype(one.dtype)
            infos[name] = helper.make_tensor_value_info(name, kind, sizes)
    return infos


def _bypassed(nodes: list[NodeProto], place: int) -> list[NodeProto]:
    """Without one node: its readers read what it read."""
    gone = nodes[place]
    kept = []
    for node in nodes[:place] + nodes[place + 1 :]:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [gone.input[0] if name == gone.output[0] else name for name in node.input]
        kept.append(copy)
    return kept


def _rebuilt(
    model: ModelProto,
    nodes: list[NodeProto],
    pruned: bool,
    *,
    outputs: list[ValueInfoProto] | None = None,
    more_inputs: list[ValueInfoProto] | None = None,
    told: bool = True,
) -> ModelProto:
    """The model with these nodes; ``pruned``, with those that its outputs need."""
    small = ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    wanted = list(outputs or model.graph.output)
    needed = {each.name for each in wanted}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if not pruned or needed & set(node.output):
            kept.append(node)
            needed |= _read_by(node)
    inputs = [each for each in (*model.graph.input, *(more_inputs or ())) if each.name in needed]
    initializers = [each for each in model.graph.initializer if each.name in needed]
    values = [each for each in model.graph.value_info if told and each.name in needed]
    for field, items in (
        (graph.node, kept[::-1]),
        (graph.output, wanted),
        (graph.input, inputs),
        (graph.initializer, initializers),
        (
            graph.value_info,
            [each for each in values if each.name not in {one.name for one in (*inputs, *wanted)}],
        ),
    ):
        copies = [type(item)() for item in items]
        for copy, item in zip(copies, items, strict=True):
            copy.CopyFrom(item)
        del field[:]
        field.extend(copies)
    return small


def _read_by(node: NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                names |= _read_by(inner)
            names |= {output.name for output in graph.output}
    return names


def _is_valid(model: ModelProto) -> bool:
    if not model.graph.node:
        return False
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:  # of several types
        return False
    return True

"""One graph of three: preprocessing, a network, and what is made of its scores."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from cnnport.errors import ArtifactError
from cnnport.graphs.operators import graphs_of
from cnnport.graphs.picture.nodes import PREFIX
from cnnport.graphs.picture.preparing import INPUT
from cnnport.graphs.picture.scores import LOGITS
from cnnport.onnxfile import default_opset


def joined(
    network: onnx.ModelProto, front: onnx.ModelProto, back: onnx.ModelProto, *, input_name: str, scores: str
) -> onnx.ModelProto:
    """Put a network between a preprocessing and what is made of its scores.

    Args:
        network: Changed in place. Its other outputs stay, and keep their names.
        front: As of ``preprocess_model``, of the network's opset and batch.
        back: As of ``scores_model``, likewise, for scores of the network's element type.
        input_name: The network's one input, of float32 or another floating-point type.
        scores: The network's output that ``back`` takes.

    Returns:
        ``network``, with the input of ``front``, and with the outputs of ``back`` after its own.

    Raises:
        ArtifactError: If an output of the network has the name of one of ``back``, or the opsets differ.
    """
    if len({default_opset(model) for model in (network, front, back)}) > 1:
        raise ArtifactError("the three graphs are of different opsets")
    graph = network.graph
    new = [value.name for part in (front, back) for value in (*part.graph.input, *part.graph.output)]
    taken = {value.name for value in graph.output} & set(new) - {LOGITS, INPUT}
    if taken:
        raise ArtifactError(f"the network has an output called {min(taken)!r} already")
    place = [value.name for value in graph.input].index(input_name)
    _make_room(graph, {name for name in new if name not in {LOGITS, INPUT}})
    mark = _free_prefix(graph)
    given = graph.input[place]
    kind = given.type.tensor_type.elem_type
    casts = kind != TensorProto.FLOAT
    entry = f"{mark}float32_input" if casts else given.name
    _rename(front.graph, {INPUT: entry}, mark)
    _rename(back.graph, {LOGITS: scores}, mark)
    first = (
        [helper.make_node("Cast", [entry], [given.name], name=f"{mark}cast_input", to=kind)] if casts else []
    )
    nodes = [*front.graph.node, *first, *graph.node, *back.graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*front.graph.initializer, *back.graph.initializer])
    outer = front.graph.input[0]
    _take_batch(outer, given)
    inner = onnx.ValueInfoProto()
    inner.CopyFrom(given)
    graph.value_info.append(inner)
    graph.input[place].CopyFrom(outer)
    for value in back.graph.output:
        _take_batch(value, given)
        graph.output.append(value)
    network.ir_version = max(network.ir_version, front.ir_version, back.ir_version)
    return network


def _take_batch(value: onnx.ValueInfoProto, given: onnx.ValueInfoProto) -> None:
    """The batch of one is that of the other: a number, or a name."""
    value.type.tensor_type.shape.dim[0].CopyFrom(given.type.tensor_type.shape.dim[0])


def _make_room(graph: onnx.GraphProto, names: set[str]) -> None:
    """Give inner values of a network other names where the new inputs and outputs need theirs."""
    found = _names(graph) & names
    if found:
        _rename(graph, {name: f"network/{name}" for name in found}, PREFIX)


def _free_prefix(graph: onnx.GraphProto) -> str:
    """What no name of the network begins with, so that the new ones can."""
    names = _names(graph) | {node.name for each in graphs_of(graph) for node in each.node}
    mark, count = PREFIX, 1
    while any(name.startswith(mark) for name in names):
        count += 1
        mark = f"picture{count}/"
    return mark


def _names(graph: onnx.GraphProto) -> set[str]:
    found: set[str] = set()
    for each in graphs_of(graph):
        found.update(value.name for values in (each.input, each.output) for value in values)
        found.update(tensor.name for tensor in each.initializer)
        for node in each.node:
            found.update((*node.input, *node.output))
    return found - {""}


def _rename(graph: onnx.GraphProto, names: Mapping[str, str], mark: str) -> None:
    """Rename values, here and in subgraphs; what begins with ``PREFIX`` begins with ``mark`` from now on."""

    def renamed(name: str) -> str:
        if name in names:
            return names[name]
        return mark + name.removeprefix(PREFIX) if mark != PREFIX and name.startswith(PREFIX) else name

    for each in graphs_of(graph):
        for node in each.node:
            node.name = renamed(node.name) if node.name.startswith(PREFIX) else node.name
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
        for values in (each.input, each.output, each.value_info, each.initializer):
            for value in values:
                value.name = renamed(value.name)

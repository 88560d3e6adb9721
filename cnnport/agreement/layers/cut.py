"""The pieces of a graph between sites, each to be run by itself on the reference's values.

Many pieces go into one model, side by side: each reads the reference's values as inputs of the model, so that none
knows of the other's faults, and a piece begins where a kernel does, so that the kernels are those of the whole.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.agreement.layers.graph import QUANTIZED, Array, Graph
from cnnport.agreement.layers.sites import Site
from cnnport.graphs.operators import subgraphs_of

if TYPE_CHECKING:
    import onnx

# As TensorProto counts types, the coarser one first.
_BY_ELEMENT = {16: "bf16", 10: "fp16"}


@dataclass(frozen=True)
class Piece:
    """What lies between a site and those before it.

    Attributes:
        site: Its end.
        places: Of the nodes, in topological order; constants are among them.
        reads: The values that it begins with.
    """

    site: Site
    places: tuple[int, ...]
    reads: tuple[str, ...]

    def computing(self, graph: Graph) -> tuple[int, ...]:
        """The nodes without constants and what depends on constants alone."""
        return tuple(
            place
            for place in self.places
            if any(value in graph.moving for value in graph.nodes[place].output)
        )

    def has_subgraphs(self, graph: Graph) -> bool:
        """Whether a node holds a graph, whose names of outer values cannot be changed from here."""
        return any(subgraph for place in self.places for subgraph in subgraphs_of(graph.nodes[place]))

    def precision(self, graph: Graph, *, at_least: str) -> str:
        """What it computes in."""
        if any(graph.nodes[place].op_type in QUANTIZED for place in self.places):
            return "int8"
        kinds = {
            graph.element(value)
            for place in self.places
            for value in (*graph.nodes[place].input, *graph.nodes[place].output)
        }
        return next((name for kind, name in _BY_ELEMENT.items() if kind in kinds), at_least)


def piece_of(graph: Graph, site: Site, known: Collection[str]) -> Piece:
    """Walk back from a site to values that are known.

    Args:
        graph: Of the candidate.
        site: The end.
        known: Where to stop, beside the graph's inputs; none gives all that the site depends on.
    """
    places = {site.place}
    reads: dict[str, None] = {}
    waiting = read_by(graph.nodes[site.place])
    if site.tap != site.value:
        down = graph.maker[site.tap]
        places.add(down)
        waiting += [name for name in graph.nodes[down].input if name != site.value]
    while waiting:
        name = waiting.pop()
        if name in graph.inputs or (name in known and name != site.value):
            reads[name] = None
        elif name in graph.maker and graph.maker[name] not in places:
            places.add(graph.maker[name])
            waiting += read_by(graph.nodes[graph.maker[name]])
    return Piece(site, tuple(sorted(places)), tuple(sorted(reads)))


def side_by_side(
    graph: Graph, pieces: Sequence[Piece], shapes: "Mapping[str, Sequence[int | str]]"
) -> "onnx.ModelProto":
    """One model of several pieces; the end of piece ``k`` is its output ``k``.

    Args:
        graph: Of the candidate.
        pieces: Their nodes may overlap.
        shapes: Of all values that they read.
    """
    import onnx

    model = _empty(graph)
    for number, piece in enumerate(pieces):
        made = {name for place in piece.places for name in graph.nodes[place].output if name}
        for place in piece.places:
            node = model.graph.node.add()
            node.CopyFrom(graph.nodes[place])
            node.name = f"{graph.name_of(place)}@{number}"
            node.input[:] = [f"{name}@{number}" if name in made else name for name in node.input]
            node.output[:] = [f"{name}@{number}" if name else name for name in node.output]
        output = graph.described(piece.site.tap)
        output.name = end_of(piece, number)
        model.graph.output.append(output)
    _feed(graph, model, [name for piece in pieces for name in piece.reads], shapes)
    _hold(graph, model)
    assert isinstance(model, onnx.ModelProto)
    return model


def read_by(node: "onnx.NodeProto") -> list[str]:
    """What a node reads, graphs inside of it included; names that those make themselves do no harm."""
    inner = (each for graph in subgraphs_of(node) for each in graph.node)
    return [*node.input, *(name for each in inner for name in read_by(each))]


def end_of(piece: Piece, number: int) -> str:
    """The name of the output that the end of a piece becomes."""
    return f"{piece.site.tap}@{number}"


def alone(graph: Graph, piece: Piece, shapes: "Mapping[str, Sequence[int | str]]") -> "onnx.ModelProto":
    """One piece as a model with the names that it has in the whole."""
    model = _empty(graph)
    model.graph.node.extend(graph.nodes[place] for place in piece.places)
    model.graph.output.append(graph.described(piece.site.tap))
    _feed(graph, model, piece.reads, shapes)
    _hold(graph, model)
    return model


def shape_of(array: Array, samples: int, batch: int | None, *, is_open: bool) -> "list[int | str]":
    """The shape of an input of a piece: with rows for each sample open, or as many as the file takes at once."""
    if not array.ndim or array.shape[0] % samples:
        return list(array.shape)
    rows: int | str = array.shape[0] // samples * batch if batch else ("rows" if is_open else array.shape[0])
    return [rows, *array.shape[1:]]


def _empty(graph: Graph) -> "onnx.ModelProto":
    import onnx

    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    model.graph.name = "piece"
    return model


def _feed(
    graph: Graph, model: "onnx.ModelProto", names: Iterable[str], shapes: "Mapping[str, Sequence[int | str]]"
) -> None:
    from onnx import helper

    for name in dict.fromkeys(names):
        # What inference cannot tell is what most values are.
        model.graph.input.append(helper.make_tensor_value_info(name, graph.element(name) or 1, shapes[name]))


def _hold(graph: Graph, model: "onnx.ModelProto") -> None:
    read = dict.fromkeys(name for node in model.graph.node for name in read_by(node))
    model.graph.initializer.extend(graph.initializers[name] for name in read if name in graph.initializers)

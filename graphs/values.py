"""Facts about the values of a graph that every pass asks for."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import onnx_ir as ir

_FLAT = "cnnport.flat"
_GRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a value that no caller can change, or None.

    A constant is an initializer that is not also a graph input (those are defaults that a caller may
    override), or the output of a Constant node.
    """
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is None or node.domain or node.op_type != "Constant":
        return None
    # Not ir.convenience.get_const_tensor: it renames the tensor, and with it the caller's own proto.
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if name == "value":
            return attribute.as_tensor()
        if name in {"value_float", "value_floats"}:
            return ir.Tensor(np.array(attribute.value, dtype=np.float32))
        if name in {"value_int", "value_ints"}:
            return ir.Tensor(np.array(attribute.value, dtype=np.int64))
    return None


def static(value: ir.Value | None, axis: int) -> int | None:
    """The size of a dimension, or None where the file does not say."""
    shape = None if value is None else value.shape
    if shape is None:
        return None
    try:
        size = shape[axis]
    except IndexError:
        return None
    return size if isinstance(size, int) else None


def rank(value: ir.Value | None) -> int | None:
    """The number of dimensions, or None where the file does not say."""
    return None if value is None or value.shape is None else value.shape.rank()


def opset_of(model: ir.Model) -> int:
    """The version of the default operator set; 0 where the model imports none."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))


def named_in_subgraphs(graph: ir.Graph) -> frozenset[str]:
    """Names that subgraphs give out as their outputs without producing them.

    onnx-ir counts a captured value as used where a node of the subgraph reads it, but not where the subgraph
    merely hands it on as an output.
    """
    return frozenset(
        output.name
        for subgraph in nested(graph)
        for output in subgraph.outputs
        if output.name
        and output.producer() is None
        and not output.is_graph_input()
        and not output.is_initializer()
    )


def nested(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The graphs inside a graph, and those inside them."""
    if graph.meta.get(_FLAT):
        return
    for node in graph:
        for attribute in node.attributes.data.values():
            if attribute.type not in _GRAPHS or attribute.is_ref():
                continue
            held = (attribute.value,) if attribute.type == ir.AttributeType.GRAPH else attribute.value
            for inner in held:
                yield inner
                yield from nested(inner)


def note_nesting(graph: ir.Graph) -> None:
    """Remember whether there are graphs inside a graph, so that ``nested`` need not look at every attribute again.

    To be called again when nodes came in that may hold graphs.
    """
    graph.meta.pop(_FLAT, None)
    graph.meta[_FLAT] = next(nested(graph), None) is None


def fresh_names(model: ir.Model) -> Callable[[str], str]:
    """A source of value names that occur nowhere in the model, not even in a subgraph, nor did before."""
    taken: set[str | None] = set()
    for graph in (model.graph, *nested(model.graph)):
        # What a node reads is among these, in this graph or one around it.
        taken.update(graph.initializers.data)
        taken.update([value.name for value in (*graph.inputs, *graph.outputs)])
        taken.update([value.name for node in graph for value in node.outputs])

    # Where the search for a free number goes on: names are only ever added.
    reached: dict[str, int] = {}

    def fresh(base: str) -> str:
        name, number = base, reached.get(base, 1)
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        reached[base] = number
        taken.add(name)
        return name

    return fresh


def drop_unused(graph: ir.Graph, values: Iterable[ir.Value], captured: frozenset[str] | None = None) -> None:
    """Remove those of the given constants that nothing uses any more.

    Args:
        graph: Changed in place.
        values: Constants of it.
        captured: ``named_in_subgraphs``, where that is at hand.
    """
    named = captured
    for value in dict.fromkeys(values):
        if value.uses() or value.is_graph_input() or value.is_graph_output():
            continue
        if named is None:
            named = named_in_subgraphs(graph)
        if value.name in named:
            continue
        node = value.producer()
        if node is not None:
            graph.remove(node, safe=True)
        elif value.is_initializer() and value.name:
            del graph.initializers[value.name]

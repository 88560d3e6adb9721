"""Taking a node out of a graph: what read its output reads something else, and names that must stay stay."""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from cnnport.graphs.values import drop_unused


def stand_in(x: ir.Value, y: ir.Value) -> None:
    """Make ``x`` be ``y`` to the rest of the graph: name, shape, notes, and place among the outputs."""
    given_out, name = y.is_graph_output(), y.name
    y.replace_all_uses_with(x, replace_graph_outputs=True)
    y.name = None
    x.name = name
    x.doc_string = y.doc_string
    x.metadata_props.clear()
    x.metadata_props.update(y.metadata_props)
    if given_out or y.shape is not None:
        x.shape, x.type = y.shape, y.type or x.type
        x.meta.clear()
        x.meta.update(y.meta)


def can_bypass(y: ir.Value, x: ir.Value, captured: frozenset[str]) -> bool:
    """Whether ``x`` can take the place of the equal value ``y`` without a name of the interface being lost.

    Where ``y`` is an output of the graph, the node that makes ``x`` has to take over the name, and cannot if ``x``
    has a name to keep itself: an input, an initializer, another output.

    Args:
        y: An output of a node of the main graph.
        x: A value that its node reads.
        captured: ``named_in_subgraphs``.
    """
    if y.name in captured:
        return False
    if not y.is_graph_output():
        return True
    above, below = x.producer(), y.producer()
    return (
        above is not None
        and below is not None
        and above.graph is below.graph
        and not x.is_graph_output()
        and x.name not in captured
    )


def bypass(node: ir.Node, x: ir.Value) -> None:
    """Remove a node whose first output equals ``x`` and whose others nobody reads, if ``can_bypass``."""
    graph, y = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    if y.is_graph_output():
        stand_in(x, y)
    else:
        y.replace_all_uses_with(x)
        if x.shape is None and y.shape is not None:
            x.shape, x.type = y.shape, x.type or y.type
            x.meta.update(y.meta)
    inputs = [value for value in node.inputs if value is not None and value is not x]
    graph.remove(node, safe=True)
    if inputs:
        drop_unused(graph, inputs)


def remove(node: ir.Node) -> None:
    """Take a node whose outputs nobody reads out of its graph, with what its subgraphs read from there.

    onnx-ir goes on counting the nodes of a removed subgraph among the readers of what they captured.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inside = [inner for subgraph in subgraphs_of(node) for inner in subgraph.all_nodes()]
    graph.remove(node, safe=True)
    for inner in inside:
        inner.resize_inputs(0)


def subgraphs_of(node: ir.Node) -> list[ir.Graph]:
    """The graphs among a node's attributes, without those inside them."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def unread(values: Iterable[ir.Value], captured: frozenset[str]) -> bool:
    """Whether nothing in the graph or outside needs any of the values."""
    return not any(value.uses() or value.is_graph_output() or value.name in captured for value in values)


def initializer(array: np.ndarray, name: str, graph: ir.Graph) -> ir.Value:
    """Register a new initializer of the graph."""
    tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def become_constant(
    node: ir.Node, tensors: Iterable[ir.TensorProtocol], *, initializers: bool
) -> list[ir.Value]:
    """Put constants in place of a node of the main graph; every value keeps its name.

    Args:
        node: Taken out.
        tensors: One for each output. They are not copied, and their names are left alone.
        initializers: Whether the constants become initializers. Outputs of the graph never do, nor anything in
            files before IR version 4, where every initializer is an input: these become Constant nodes.

    Returns:
        What the node read, for ``drop_unused``.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inputs = [value for value in node.inputs if value is not None]
    made: list[ir.Value] = []
    for old, tensor in zip(node.outputs, tensors, strict=True):
        if not old.name:
            continue
        new, given_out = _constant_like(old, tensor), old.is_graph_output()
        if initializers and not given_out:
            made.append(new)
        else:
            own, new.const_value = new.const_value, None
            assert own is not None
            graph.insert_before(
                node, ir.Node("", "Constant", [], [ir.AttrTensor("value", own)], outputs=[new])
            )
        old.replace_all_uses_with(new, replace_graph_outputs=given_out)
        old.name = None
    graph.remove(node, safe=True)
    for new in made:
        graph.register_initializer(new)
    return inputs


def _constant_like(old: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
    # A tensor of its own: naming the value names the tensor, and that may be the caller's proto.
    own = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=old.name)
    given_out = old.is_graph_output()
    return ir.Value(
        name=old.name,
        type=old.type if given_out and old.type else ir.TensorType(tensor.dtype),
        shape=old.shape if given_out else ir.Shape(own.shape.numpy()),
        doc_string=old.doc_string,
        const_value=own,
        metadata_props=dict(old.metadata_props),
    )

"""The branch of an If that is always taken, in place of the If.

Torch's older exporter writes a squeeze as an If on whether the size is 1; once sizes are constants, so is the
condition.

It fires for an If whose condition is a constant: the nodes and initializers of that branch move into the graph in
front of it, under names that occur nowhere, and its outputs take the places of the If's.

It must not fire

10. if the condition is computed, or may be given by a caller;
11. if the branch hands on a value that it does not make itself, the same value twice, or an initializer of its own
    where an output of the graph is wanted;
12. if any subgraph hands on an outer value by name, which inlining would rename;
13. if the branch has initializers of text, or any before IR version 4; for Ifs within subgraphs and functions.
"""

import onnx_ir as ir

from cnnport.graphs.splice import remove, stand_in
from cnnport.graphs.values import constant, drop_unused, fresh_names, named_in_subgraphs


def inline_branches(model: ir.Model) -> int:
    """Replace each If on a constant by the branch that it takes.

    Args:
        model: Changed in place; only the main graph, into which branches move.

    Returns:
        The number of If nodes that are gone.
    """
    inlined = 0
    # A branch may bring Ifs of its own.
    while found := sum(_inline(node, model) for node in list(model.graph)):
        inlined += found
    return inlined


def _inline(node: ir.Node, model: ir.Model) -> bool:
    if node.domain or node.op_type != "If" or named_in_subgraphs(model.graph):
        return False
    condition = constant(node.inputs[0])
    if condition is None or condition.size != 1:
        return False
    attribute = node.attributes.get("then_branch" if condition.numpy().item() else "else_branch")
    if attribute is None or attribute.is_ref():
        return False
    branch = attribute.as_graph()
    results = list(branch.outputs)
    if not _can_move(branch, results, node, model):
        return False
    _move(branch, node, model)
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output():
            stand_in(new, old)
        else:
            old.replace_all_uses_with(new)
    inputs = [value for value in node.inputs if value is not None]
    remove(node)
    drop_unused(model.graph, inputs)
    return True


def _can_move(branch: ir.Graph, results: list[ir.Value], node: ir.Node, model: ir.Model) -> bool:
    if len(results) != len(node.outputs) or len(set(results)) != len(results):
        return False
    tensors = [value.const_value for value in branch.initializers.values()]
    if any(tensor is None or tensor.dtype == ir.DataType.STRING for tensor in tensors):
        return False
    if tensors and model.ir_version < 4:
        return False
    for old, new in zip(node.outputs, results, strict=True):
        producer = new.producer()
        made_here = producer.graph is branch if producer is not None else new.is_initializer()
        if not made_here or (producer is None and old.is_graph_output()):
            return False
    return True


def _move(branch: ir.Graph, node: ir.Node, model: ir.Model) -> None:
    fresh = fresh_names(model)
    branch.outputs.clear()
    nodes, initializers = list(branch), list(branch.initializers.values())
    branch.remove(nodes)
    branch.initializers.clear()
    for value in initializers:
        tensor = value.const_value
        assert tensor is not None
        # A tensor of its own: naming the value names the tensor, and that may be the caller's proto.
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype)
    # Both branches may use the same names, and so may those of another If.
    for value in (*initializers, *(output for each in nodes for output in each.outputs)):
        if value.name:
            value.name = fresh(value.name)
    for value in initializers:
        model.graph.register_initializer(value)
    model.graph.insert_before(node, nodes)

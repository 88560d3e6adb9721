"""Two movements of elements in a row as one.

It fires for

1.  Slice after Slice on other axes, both by constants, if all that reads what lies between are such Slices;
2.  Concat of a Concat on the same axis, where nothing else reads what lies between: one Concat of all.

Reshapes in a row are ``clean_reshapes``'s matter, Transposes ``move_transposes``'s.

It must not fire

10. if what lies between is an output of the graph, read by others or captured by a subgraph;
11. for Slices that share an axis, or whose axes cannot be told apart;
12. within subgraphs and functions.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from cnnport.graphs.extents import integers, is_missing
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import drop_unused, fresh_names, named_in_subgraphs, opset_of, rank

_Named = Callable[[str], str]


def merge_chains(model: ir.Model) -> int:
    """Merge Slices and Concats that follow one another.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of nodes that are gone.
    """
    opset = opset_of(model)
    # Before, every initializer is an input of the graph; before opset 7 operators take other attributes.
    if model.ir_version < 4 or opset < 7:
        return 0
    captured, fresh = named_in_subgraphs(model.graph), fresh_names(model)
    merged = 0
    for node in list(model.graph):
        if node.domain or node.graph is not model.graph:
            continue
        if node.op_type == "Concat":
            merged += _merge_concats(node, captured)
        if node.op_type == "Slice":
            merged += _merge_slices(node, opset, captured, fresh)
    return merged


def _between(value: ir.Value | None, lower: ir.Node, captured: frozenset[str]) -> ir.Node | None:
    """The node that makes a value for ``lower`` alone."""
    upper = None if value is None else value.producer()
    if value is None or upper is None or upper.domain or upper.graph is not lower.graph:
        return None
    alone = len(value.uses()) == 1 and not value.is_graph_output() and value.name not in captured
    return upper if alone and len(upper.outputs) == 1 else None


def _merge_slices(upper: ir.Node, opset: int, captured: frozenset[str], fresh: _Named) -> bool:
    """Let all that reads a Slice cut from what the Slice reads."""
    graph, value = upper.graph, upper.outputs[0]
    assert isinstance(graph, ir.Graph)
    lowers = list(dict.fromkeys(user for user, _ in value.uses()))
    if not lowers or value.is_graph_output() or value.name in captured:
        return False
    wholes = [_joined(upper, lower, opset) for lower in lowers]
    unused: list[ir.Value | None] = list(upper.inputs[1:])
    for lower, whole in zip(lowers, wholes, strict=True):
        if whole is None or lower.graph is not graph:
            return False
        unused += lower.inputs[1:]
    for lower, whole in zip(lowers, wholes, strict=True):
        assert whole is not None
        lower.replace_input_with(0, upper.inputs[0])
        _cut(lower, whole, opset, fresh)
    graph.remove(upper, safe=True)
    drop_unused(graph, [value for value in unused if value is not None])
    return True


def _joined(upper: ir.Node, lower: ir.Node, opset: int) -> list[list[int]] | None:
    """Starts, ends, axes and steps of the one Slice that does what two do."""
    if lower.domain or lower.op_type != "Slice" or lower.inputs[0] is not upper.outputs[0]:
        return None
    parts = [_slice_of(node, opset) for node in (upper, lower)]
    dims = rank(upper.inputs[0])
    if dims is None or parts[0] is None or parts[1] is None:
        return None
    axes = [axis % dims for part in parts if part is not None for axis in part[2]]
    if len(set(axes)) != len(axes):
        return None
    return [one + other for one, other in zip(*parts, strict=True)]


def _cut(node: ir.Node, whole: list[list[int]], opset: int, fresh: _Named) -> None:
    if opset < 10:
        names = ("starts", "ends", "axes")
        node.attributes.update({name: ir.AttrInt64s(name, whole[place]) for place, name in enumerate(names)})
        return
    graph, base = node.graph, node.outputs[0].name
    assert isinstance(graph, ir.Graph)
    node.resize_inputs(5)
    for place, (name, numbers) in enumerate(zip(("starts", "ends", "axes", "steps"), whole, strict=True), 1):
        node.replace_input_with(
            place, initializer(np.array(numbers, np.int64), fresh(f"{base}_{name}"), graph)
        )


def _slice_of(node: ir.Node, opset: int) -> list[list[int]] | None:
    """Starts, ends, axes and steps, if all are constants."""
    if opset < 10:
        starts = list(node.attributes.get_ints("starts", ()))
        ends = list(node.attributes.get_ints("ends", ()))
        axes = list(node.attributes.get_ints("axes", range(len(starts))))
        return [starts, ends, axes, [1] * len(starts)]
    starts_or_none, ends_or_none = integers(node, 1), integers(node, 2)
    if starts_or_none is None or ends_or_none is None:
        return None
    count = len(starts_or_none)
    found = [starts_or_none, ends_or_none]
    for place, default in ((3, list(range(count))), (4, [1] * count)):
        given = default if is_missing(node, place) else integers(node, place)
        if given is None:
            return None
        found.append(given)
    return found if all(len(each) == count for each in found) else None


def _merge_concats(lower: ir.Node, captured: frozenset[str]) -> int:
    graph, merged = lower.graph, 0
    assert isinstance(graph, ir.Graph)
    inputs: list[ir.Value | None] = []
    gone = []
    for value in lower.inputs:
        upper = _between(value, lower, captured)
        if upper is not None and upper.op_type == "Concat" and _axis(upper) == _axis(lower):
            inputs.extend(upper.inputs)
            gone.append(upper)
            merged += 1
        else:
            inputs.append(value)
    if gone:
        lower.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            lower.replace_input_with(place, value)
        for upper in gone:
            graph.remove(upper, safe=True)
    return merged


def _axis(node: ir.Node) -> int:
    axis, dims = node.attributes.get_int("axis", 0), rank(node.inputs[0])
    return axis if axis >= 0 or dims is None else axis + dims

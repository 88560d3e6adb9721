"""Operators that only give the same elements another shape: one where there are several, none where they cancel.

All of Reshape, Flatten, Squeeze and Unsqueeze leave the elements in their order, so the last of a row of them decides
the shape alone. What it takes over from the value before it, as 0 or as an axis that it does not mention, has to be
found in the first value, where sizes may be open. The batch stays open: a target gets 0 or -1 for it, never a number
that was not there.

It fires for

1.  Reshape or Flatten behind Reshape, Flatten, Squeeze, Unsqueeze that nothing else reads: one Reshape; and Squeeze
    or Unsqueeze behind Reshape or Flatten likewise;
2.  Reshape to N x everything else, as [0, -1], as [-1, K] or with both sizes, behind a global pooling or anything
    else whose sizes but the batch are known: Flatten, which is the same for every batch and needs no constant;
3.  Squeeze and Unsqueeze in a row that undo each other, or are one of them together;
4.  a Reshape behind elementwise operators of one operand that restores the shape from before a Reshape in front of
    them: neither is needed.

Targets that exporters compute from Shape, Gather and Concat are ``fold_shapes``'s matter, and a Reshape to the shape
that is there is ``remove_noops``'s: where these run first, ``x.view(x.size(0), -1)`` ends as one Flatten.

It must not fire

10. where a size that is taken over is not known to be the same one, or a target is computed;
11. for a target that fixes the batch where the input's is open: the file says something else than its input does, and
    is left as it is;
12. with literal zeros (``allowzero`` = 1), and with -1 beside a size that may be 0;
13. where something else reads what lies between, or it is an output of the graph;
14. within subgraphs and functions; across custom operators.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from cnnport.graphs.channel.rechannel import Scope
from cnnport.graphs.extents import Extent, integers, shape_of
from cnnport.graphs.layout.operators import UNARY
from cnnport.graphs.layout.reshapes import flattens
from cnnport.graphs.splice import bypass, can_bypass, initializer
from cnnport.graphs.values import drop_unused, fresh_names, named_in_subgraphs, opset_of, rank

_SHAPE_ONLY = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def clean_reshapes(model: ir.Model) -> int:
    """Merge and remove operators that only change shapes.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of operators that are gone or became a Flatten.
    """
    if opset_of(model) < 9 or model.ir_version < 4:
        return 0
    scope, captured = Scope(model, fresh_names(model)), named_in_subgraphs(model.graph)
    done = 0
    while found := _sweep(scope, captured):
        done += found
    return done


def _sweep(scope: Scope, captured: frozenset[str]) -> int:
    done = 0
    for node in list(scope.graph):
        if node.graph is not scope.graph or node.domain or node.op_type not in _SHAPE_ONLY:
            continue
        if node.op_type in {"Squeeze", "Unsqueeze"}:
            done += _join_axes(node, scope, captured) or _into_target(node, scope)
        else:
            done += (
                _merge(node, scope) or _as_flatten(node, scope.graph) or _undo_around(node, scope, captured)
            )
    return done


def _above(node: ir.Node, scope: Scope) -> ir.Node | None:
    """The operator in front, if it only changes the shape and only this one reads it."""
    value = node.inputs[0]
    maker = None if value is None else value.producer()
    if value is None or maker is None or maker.domain or maker.op_type not in _SHAPE_ONLY:
        return None
    is_own = maker.graph is scope.graph and len(value.uses()) == 1 and scope.is_private(value)
    return maker if is_own and maker.inputs[0] is not None else None


def _target(node: ir.Node) -> list[int] | None:
    """Where a Reshape or Flatten leads: -1 for what is left, 0 for the same as before; None where that is open."""
    if node.op_type == "Flatten":
        axis = node.attributes.get_int("axis", 1)
        return {0: [1, -1], 1: [0, -1]}.get(axis)
    target, literal = integers(node, 1), node.attributes.get_int("allowzero", 0)
    return None if target is None or (literal and 0 in target) else target


def _merge(node: ir.Node, scope: Scope) -> int:
    """Rule 1."""
    above, target = _above(node, scope), _target(node)
    if above is None or target is None:
        return 0
    source, between = above.inputs[0], node.inputs[0]
    assert source is not None
    assert between is not None
    merged = _without_copies(target, source, above)
    if merged is None:
        return 0
    if node.op_type == "Flatten" and merged != [0, -1]:
        node.op_type = "Reshape"
        node.attributes.clear()
    unused = [value for value in (*node.inputs[1:], *above.inputs[1:]) if value is not None]
    node.replace_input_with(0, source)
    if node.op_type == "Reshape" and merged != integers(node, 1):
        name = scope.fresh(f"{node.outputs[0].name}_shape")
        node.resize_inputs(2)
        node.replace_input_with(1, initializer(np.array(merged, np.int64), name, scope.graph))
    scope.graph.remove(above, safe=True)
    drop_unused(scope.graph, unused)
    return 1


def _without_copies(target: Sequence[int], source: ir.Value, above: ir.Node) -> list[int] | None:
    """The target with the same result for the value before the last, which 0 now refers to."""
    copied = [place for place, size in enumerate(target) if size == 0]
    if not copied:
        return list(target)
    before, behind = shape_of(source), shape_of(above.outputs[0])
    if all(_is_kept(place, above, before, behind) for place in copied):
        return list(target)
    if behind is None or copied[-1] >= len(behind):
        return None
    sizes: list[int] = []
    for place, size in enumerate(target):
        extent = behind[place] if size == 0 else size
        if not isinstance(extent, int):
            # One that is not known can be what is left, if no other is and what was left is known.
            extent = -1
        sizes.append(extent)
    if list(target) == [0, -1] and sizes[0] == -1:
        known = [size for size in behind[1:] if isinstance(size, int)]
        sizes[1] = math.prod(known) if len(known) == len(behind) - 1 else -1
    is_open = sizes.count(-1)
    return sizes if is_open <= 1 and all(size == -1 or size > 0 for size in sizes) else None


def _is_kept(
    place: int, above: ir.Node, before: Sequence[Extent] | None, behind: Sequence[Extent] | None
) -> bool:
    """Whether an axis of what an operator makes is that axis of what it reads."""
    if above.op_type == "Flatten":
        return place == 0 and above.attributes.get_int("axis", 1) == 1
    if above.op_type == "Reshape":
        target = _target(above)
        if target is not None and place < len(target) and target[place] == 0:
            return True
    if before is None or behind is None or place >= min(len(before), len(behind)):
        return False
    return before[place] is not None and before[place] == behind[place]


def _as_flatten(node: ir.Node, graph: ir.Graph) -> int:
    """Rule 2."""
    target = _target(node)
    if node.op_type != "Reshape" or target is None:
        return 0
    if target != [0, -1] and not flattens(node.inputs[0], target):
        return 0
    old = node.inputs[1]
    node.resize_inputs(1)
    node.attributes.clear()
    node.op_type = "Flatten"
    node.attributes["axis"] = ir.AttrInt64("axis", 1)
    drop_unused(graph, [] if old is None else [old])
    return 1


def _axes(node: ir.Node, opset: int, dims: int) -> list[int] | None:
    axes = integers(node, 1) if opset >= 13 else list(node.attributes.get_ints("axes", ()))
    if not axes or any(not -dims <= axis < dims for axis in axes):
        return None
    return sorted(axis % dims for axis in axes)


def _join_axes(node: ir.Node, scope: Scope, captured: frozenset[str]) -> int:
    """Rule 3. Axes are numbers, those of size 1 that come and go are all alike."""
    above = _above(node, scope)
    source = None if above is None else above.inputs[0]
    dims = rank(source)
    if above is None or source is None or dims is None or above.op_type not in {"Squeeze", "Unsqueeze"}:
        return 0
    axes: list[int | None] = list(range(dims))
    for each in (above, node):
        grows = each.op_type == "Unsqueeze"
        named = _axes(each, scope.opset, len(axes) + (len(_listed(each, scope.opset)) if grows else 0))
        if named is None:
            return 0
        if grows:
            for axis in named:
                axes.insert(axis, None)
        else:
            axes = [kept for place, kept in enumerate(axes) if place not in named]
    first = [None if axis not in axes else axis for axis in range(dims)]
    if axes == first:
        if not can_bypass(node.outputs[0], source, captured):
            return 0
        node.replace_input_with(0, source)
        bypass(node, source)
        _drop(above, scope)
        return 2
    shorter, longer = sorted((first, axes), key=len)
    extra = _extra(shorter, longer)
    if extra is None or not extra:
        return 0
    node.op_type = "Squeeze" if longer is first else "Unsqueeze"
    _set_axes(node, extra, scope)
    node.replace_input_with(0, source)
    _drop(above, scope)
    return 1


def _into_target(node: ir.Node, scope: Scope) -> int:
    """Rule 1 for axes of size 1 that come or go behind a Reshape."""
    above = _above(node, scope)
    before = None if above is None else _target(above)
    source = None if above is None else above.inputs[0]
    if above is None or source is None or before is None or above.op_type not in {"Flatten", "Reshape"}:
        return 0
    places: list[int | None] = list(range(len(before)))
    grows = node.op_type == "Unsqueeze"
    named = _axes(node, scope.opset, len(before) + (len(_listed(node, scope.opset)) if grows else 0))
    if named is None or (not grows and any(before[axis] != 1 for axis in named)):
        return 0
    if grows:
        for axis in named:
            places.insert(axis, None)
    else:
        places = [place for place in places if place not in named]
    target = _moved(before, places, source)
    if target is None:
        return 0
    constants = [value for value in node.inputs[1:] if value is not None]
    name = scope.fresh(f"{node.outputs[0].name}_shape")
    node.op_type = "Reshape"
    node.attributes.clear()
    node.replace_input_with(0, source)
    node.resize_inputs(2)
    node.replace_input_with(1, initializer(np.array(target, np.int64), name, scope.graph))
    drop_unused(scope.graph, constants)
    _drop(above, scope)
    return 1


def _moved(before: Sequence[int], places: Sequence[int | None], source: ir.Value) -> list[int] | None:
    """A target whose elements moved; None is a new 1. An element of 0 says nothing at another place."""
    sizes = shape_of(source)
    target: list[int] = []
    for place, old in enumerate(places):
        size = 1 if old is None else before[old]
        if size == 0 and old != place:
            extent = None if sizes is None or old is None or old >= len(sizes) else sizes[old]
            size = extent if isinstance(extent, int) else -1
        target.append(size)
    # Beside -1 that was not there, nothing may be 0 or become 0.
    is_new = -1 in target and -1 not in before
    if target.count(-1) > 1 or (is_new and any(size == 0 for size in target)):
        return None
    return target


def _listed(node: ir.Node, opset: int) -> list[int]:
    return (integers(node, 1) or []) if opset >= 13 else list(node.attributes.get_ints("axes", ()))


def _extra(shorter: Sequence[int | None], longer: Sequence[int | None]) -> list[int] | None:
    """Where the longer list has a None more than the shorter one; None if that is not all."""
    extra: list[int] = []
    place = 0
    for index, axis in enumerate(longer):
        if place < len(shorter) and shorter[place] == axis:
            place += 1
        elif axis is None:
            extra.append(index)
        else:
            return None
    return extra if place == len(shorter) else None


def _set_axes(node: ir.Node, axes: Sequence[int], scope: Scope) -> None:
    if scope.opset < 13:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        return
    old = node.inputs[1]
    name = scope.fresh(f"{node.outputs[0].name}_axes")
    node.replace_input_with(1, initializer(np.array(axes, np.int64), name, scope.graph))
    drop_unused(scope.graph, [] if old is None else [old])


def _drop(node: ir.Node, scope: Scope) -> None:
    constants = [value for value in node.inputs[1:] if value is not None]
    scope.graph.remove(node, safe=True)
    drop_unused(scope.graph, constants)


def _undo_around(node: ir.Node, scope: Scope, captured: frozenset[str]) -> int:
    """Rule 4."""
    chain: list[ir.Node] = []
    value = node.inputs[0]
    while value is not None and len(value.uses()) == 1 and scope.is_private(value):
        maker = value.producer()
        if maker is None or maker.domain or maker.graph is not scope.graph:
            return 0
        if maker.op_type in _SHAPE_ONLY:
            break
        if maker.op_type not in UNARY or value.index() != 0 or len(maker.outputs) > 1:
            return 0
        chain.append(maker)
        value = maker.inputs[0]
    else:
        return 0
    source, target = maker.inputs[0], _target(node)
    if not chain or source is None or target is None or not _restores(target, source, maker):
        return 0
    if not can_bypass(node.outputs[0], chain[0].outputs[0], captured):
        return 0
    chain[-1].replace_input_with(0, source)
    for each in chain:
        output = each.outputs[0]
        # The same numbers in another shape: nobody who knows it by its name shall take it for the old one.
        output.name = scope.fresh(f"{output.name}_shape")
        output.shape = None if source.shape is None else ir.Shape(source.shape)
    bypass(node, chain[0].outputs[0])
    _drop(maker, scope)
    return 2


def _restores(target: Sequence[int], source: ir.Value, first: ir.Node) -> bool:
    """Whether a target gives what ``first`` reads, seen from behind ``first``."""
    sizes, behind = shape_of(source), shape_of(first.outputs[0])
    if sizes is None or len(sizes) != len(target):
        return False
    wanted: list[Extent] = []
    for place, size in enumerate(target):
        kept = size == 0 and _is_kept(place, first, sizes, behind)
        known = behind[place] if size == 0 and behind is not None and place < len(behind) else None
        wanted.append(sizes[place] if kept else known if size == 0 else size)
    told = [own is not None and own == size for own, size in zip(sizes, wanted, strict=True)]
    if all(told):
        return True
    # The number of elements decides the one that is left, if the others are not 0.
    others = [size for size, known in zip(sizes, told, strict=True) if known]
    return (
        told.count(False) == 1
        and target[told.index(False)] == -1
        and all(isinstance(size, int) and size > 0 for size in others)
    )

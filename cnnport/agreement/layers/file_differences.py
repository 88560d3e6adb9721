"""What two files say differently of nodes of the same name: attributes and constants, in words."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnnport.agreement.layers.graph import Array, Graph
from cnnport.agreement.layers.manner import relation

# Differences of constants that their types explain, as a share of their root mean square.
_EXPLAINED = {"fp32": 1e-6, "fp16": 5e-3, "bf16": 5e-2, "int8": 0.15}

# A row that is smaller than this share of the whole is held against so much, and may be off by so many times more.
_LEAST_SHARE = 0.2
_ROW_TIMES = 4.0


def file_differences(
    reference: Graph, candidate: Graph, places: Sequence[int], precision: str
) -> tuple[str, ...]:
    """In words, one each; nodes that only one of the two has are passed over.

    Args:
        reference: Its graph.
        candidate: Its graph.
        places: Of the candidate's nodes to look at.
        precision: In which the layer computes: what that explains is no difference.
    """
    names = {node.name: node for node in reference.nodes if node.name}
    found: list[str] = []
    for place in places:
        node = candidate.nodes[place]
        other = names.get(node.name)
        if other is None and node.output[0] in reference.maker:
            other = reference.nodes[reference.maker[node.output[0]]]
        if other is None or node.op_type in {"Constant", "DequantizeLinear", "QuantizeLinear"}:
            continue
        name = candidate.name_of(place)
        if other.op_type != node.op_type:
            found.append(f"{name} is {node.op_type} instead of {other.op_type}")
            continue
        found += (f"{name}: {each}" for each in _attributes(other, node))
        for before, after in zip(other.input, node.input, strict=False):
            left, right = _numbers(reference, before), _numbers(candidate, after)
            if left is not None and right is not None and (said := _tensors(left, right, precision)):
                found.append(f"{name}: {before} {said}")
    return tuple(found)


def _attributes(before: Any, after: Any) -> Iterator[str]:
    from onnx import helper

    left = {
        each.name: helper.get_attribute_value(each) for each in before.attribute if each.type not in {4, 5}
    }
    right = {
        each.name: helper.get_attribute_value(each) for each in after.attribute if each.type not in {4, 5}
    }
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            yield f"{name} is {_word(right.get(name))} instead of {_word(left.get(name))}"


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "not given" if value is None else str(value)


def _numbers(graph: Graph, name: str) -> Array | None:
    """A constant in floating point, also where it is written in 8 bits with a scale."""
    if name in graph.maker and name not in graph.moving:
        node = graph.nodes[graph.maker[name]]
        if node.op_type == "DequantizeLinear":
            return _dequantized(graph, node)
        if node.op_type == "Cast":
            return _numbers(graph, node.input[0])
    found = graph.constant(name)
    if found is None or found.dtype.kind not in "fV":
        return found
    return found.astype(np.float64)


def _dequantized(graph: Graph, node: Any) -> Array | None:
    levels, scale = graph.constant(node.input[0]), graph.constant(node.input[1])
    zero = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if levels is None or scale is None:
        return None
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    shape = [1] * levels.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    offset = (
        0.0
        if zero is None
        else zero.astype(np.float64).reshape(shape if zero.size > 1 else [1] * levels.ndim)
    )
    found: Array = (levels.astype(np.float64) - offset) * scale.astype(np.float64).reshape(shape)
    return found


def _tensors(before: Array, after: Array, precision: str) -> str:
    if before.shape != after.shape:
        return f"has shape {list(after.shape)} instead of {list(before.shape)}"
    left, right = np.asarray(before, np.float64), np.asarray(after, np.float64)
    size = float(np.sqrt(np.mean(left**2))) if left.size else 0.0
    off = float(np.sqrt(np.mean((right - left) ** 2))) if left.size else 0.0
    rows = left.reshape(len(left), -1) if left.ndim else left.reshape(1, 1)
    changed = right.reshape(rows.shape)
    # One row of many may be all that is off.
    own = np.maximum(np.sqrt(np.mean(rows**2, axis=1)), _LEAST_SHARE * size)
    by_row = float(
        (np.sqrt(np.mean((changed - rows) ** 2, axis=1)) / np.maximum(own, 1e-300)).max(initial=0.0)
    )
    if off <= _EXPLAINED[precision] * size and by_row <= _ROW_TIMES * _EXPLAINED[precision]:
        return ""
    for axes, words in (((0, 1), "first"), ((-2, -1), "last")):
        if left.ndim >= 2 and left.shape[axes[0]] == left.shape[axes[1]]:
            turned = np.swapaxes(left, *axes)
            if np.sqrt(np.mean((right - turned) ** 2)) <= _EXPLAINED[precision] * size:
                return f"has its {words} two axes exchanged"
    said = relation(rows, changed, unit="row")
    return said or f"is off by {off / size if size else float('inf'):.1e} of its size"

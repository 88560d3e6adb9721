"""Every shape of a graph at given input sizes.

Shape inference alone stops where a graph computes sizes from sizes in ways that it does not follow. With the sizes of
the inputs settled these are numbers, and are computed here: what depends on nothing but shapes and constants is
replaced by its value, and inference goes on from there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs.operators import DEFAULT_DOMAINS, subgraphs_of
from cnnport.graphs.protos import inferred_shapes, skeleton
from cnnport.graphs.reference_operators import OPERATORS

_Values: TypeAlias = dict[str, NDArray[np.generic]]

# What computes sizes is short; anything longer is data.
_FEW_ELEMENTS = 64
_MOST_ROUNDS = 8


@dataclass(frozen=True)
class Extent:
    """Sizes and element type of a value."""

    sizes: tuple[int, ...]
    bits: float

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """What they take."""
        return math.ceil(self.elements * self.bits / 8)


def extents(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[onnx.GraphProto, dict[str, Extent]]:
    """The main graph of a model, and the extent of its values.

    Args:
        model: Is not changed.
        shapes: Of the inputs whose sizes the file leaves open, by name.

    Returns:
        The graph without its large initializers, and what was found, by value names; a value may be missing.
    """
    shell = skeleton(model)
    _settle_inputs(shell.graph, shapes)
    nodes = onnx.GraphProto()
    nodes.CopyFrom(shell.graph)
    found = _inferred(shell)
    for _ in range(_MOST_ROUNDS):
        values = _computed(shell, found)
        if not values:
            break
        _replace(shell.graph, values)
        found |= _inferred(shell)
    return nodes, found


def _settle_inputs(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Replace the open sizes of inputs, and the same names elsewhere, by numbers."""
    sizes: dict[str, int] = {}
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if dim.dim_param:
                sizes[dim.dim_param] = size
            if not dim.dim_value > 0:
                dim.dim_value = size
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def _inferred(shell: onnx.ModelProto) -> dict[str, Extent]:
    # Where inference fails, what the file itself says is left.
    graph = (inferred_shapes(shell) or shell).graph
    found = {tensor.name: Extent(tuple(tensor.dims), _bits(tensor.data_type)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(dim.WhichOneof("value") == "dim_value" for dim in dims):
            found[value.name] = Extent(tuple(dim.dim_value for dim in dims), _bits(tensor.elem_type))
    return found


def _computed(shell: onnx.ModelProto, found: Mapping[str, Extent]) -> _Values:
    """What nodes make of nothing but shapes and constants."""
    graph = shell.graph
    inputs = {value.name for value in graph.input}
    known: _Values = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name not in inputs and math.prod(tensor.dims) <= _FEW_ELEMENTS
    }
    made: _Values = {}
    for node in graph.node:
        if node.domain not in DEFAULT_DOMAINS or next(subgraphs_of(node), None) is not None:
            continue
        if node.op_type == "Shape" and node.input[0] in found:
            feeds: _Values = {node.input[0]: np.empty(found[node.input[0]].sizes, np.bool_)}
        elif all(name in known for name in node.input if name) and not node.op_type.startswith("Random"):
            feeds = {name: known[name] for name in node.input if name}
        else:
            continue
        values = _run(node, feeds, shell)
        known |= values
        made |= values
    return made


def _run(node: onnx.NodeProto, feeds: _Values, shell: onnx.ModelProto) -> _Values:
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "shapes",
        [helper.make_empty_tensor_value_info(name) for name in feeds],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    try:
        single = helper.make_model(graph, opset_imports=shell.opset_import)
        results = ReferenceEvaluator(single, new_ops=list(OPERATORS)).run(None, feeds)
    except Exception:  # an operator that the reference lacks is one whose result is not known
        return {}
    arrays = [np.asarray(result) for result in results]
    return dict(zip(outputs, arrays, strict=True)) if all(a.size <= _FEW_ELEMENTS for a in arrays) else {}


def _replace(graph: onnx.GraphProto, values: _Values) -> None:
    """Make computed values initializers."""
    left = [node for node in graph.node if not any(name in values for name in node.output)]
    del graph.node[:]
    graph.node.extend(left)
    given_out = {value.name for value in graph.output}
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in values.items() if name not in given_out
    )


def _bits(element: int) -> float:
    try:
        return 8.0 * ir.DataType(element).itemsize
    except (TypeError, ValueError):  # strings, and types that are not known here
        return 0.0

"""A file's graph as the search for a departure sees it: who makes and reads what, what depends on the input.

Large weights lie in a file of their own beside it, so that the many small variants of it that are run stay small.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnport.graphs.freeze import freeze
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import load_model

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
Arrays = dict[str, Array]

QUANTIZED = frozenset(
    {"ConvInteger", "DequantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}
)
"""Operators of 8 bits."""

# As TensorProto counts types, the coarser one first.
_BY_ELEMENT = {16: "bf16", 10: "fp16"}

# Of values whose size is not known, for dividing taps into batches.
_UNKNOWN_BYTES = 2**24


class Graph:
    """A model, read for tapping.

    Attributes:
        model: Its large weights lie in ``folder``, in a file that bears ``name``.
        folder: Where whatever refers to these weights has to be written.
        nodes: In topological order, constants among them.
        maker: The place of the node that makes a value, by the value's name.
        readers: The places of the nodes that read it.
        inputs: Names, in order.
        outputs: Names, in order.
    """

    def __init__(self, path: Path, folder: Path, name: str) -> None:
        """Read a file.

        Args:
            path: The ONNX file; weights may lie in other files.
            folder: Gets the weights.
            name: Of the file of weights, without suffix.

        Raises:
            ArtifactError: As ``load_model``.
        """
        model = load_model(path)
        freeze(model)
        set_aside(model, folder, f"{name}.data")
        self.model = compact(model)
        self.folder = folder
        graph = self.model.graph
        self.nodes = list(graph.node)
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self.maker = {value: place for place, node in enumerate(self.nodes) for value in node.output if value}
        self.readers: dict[str, list[int]] = {}
        for place, node in enumerate(self.nodes):
            for value in dict.fromkeys(node.input):
                self.readers.setdefault(value, []).append(place)

    @cached_property
    def initializers(self) -> "Mapping[str, onnx.TensorProto]":
        """By name; ``constant`` gives their numbers."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def moving(self) -> frozenset[str]:
        """The values that depend on an input."""
        found = set(self.inputs)
        for node in self.nodes:
            if found & set(node.input) or any(attribute.HasField("g") for attribute in node.attribute):
                found.update(value for value in node.output if value)
        return frozenset(found)

    @cached_property
    def types(self) -> "dict[str, onnx.TypeProto]":
        """As far as inference knows them, by value; sizes may be open."""
        return _types(self.model)

    @cached_property
    def precision(self) -> str:
        """The coarsest that any number of it is held in, whatever the file says of itself."""
        if any(node.op_type in QUANTIZED for node in self.nodes):
            return "int8"
        kinds = {self.element(name) for name in self.maker}
        return next((name for kind, name in _BY_ELEMENT.items() if kind in kinds), "fp32")

    def element(self, value: str) -> int:
        """The element type as ``TensorProto`` counts them; 0 where it is not known."""
        return self.types[value].tensor_type.elem_type if value in self.types else 0

    def sizes(self, feeds: Mapping[str, Array]) -> dict[str, int]:
        """How many bytes each value takes in float32 for these inputs; a guess where inference does not tell."""
        import onnx

        fixed = onnx.ModelProto()
        fixed.CopyFrom(self.model)
        del fixed.graph.value_info[:]
        for value in fixed.graph.input:
            if value.name in feeds:
                shape = value.type.tensor_type.shape
                shape.ClearField("dim")
                for size in feeds[value.name].shape:
                    shape.dim.add(dim_value=size)
        for value in fixed.graph.output:
            value.type.tensor_type.ClearField("shape")
        found = {}
        for name, kind in _types(fixed).items():
            dims = kind.tensor_type.shape.dim if kind.tensor_type.HasField("shape") else None
            if dims is not None and all(dim.HasField("dim_value") for dim in dims):
                found[name] = 4 * int(np.prod([dim.dim_value for dim in dims]))
        return {name: found.get(name, _UNKNOWN_BYTES) for name in self.maker}

    def constant(self, name: str) -> Array | None:
        """The numbers of an initializer or of a Constant; None of everything else."""
        from onnx import numpy_helper

        tensor = self.initializers.get(name)
        if tensor is None and name in self.maker:
            node = self.nodes[self.maker[name]]
            held = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            tensor = held[0] if node.op_type == "Constant" and held else None
        if tensor is None:
            return None
        return numpy_helper.to_array(tensor, base_dir=str(self.folder))

    def name_of(self, place: int) -> str:
        """Of a node, or of its first output."""
        node = self.nodes[place]
        return node.name or next(iter(node.output), "")

    def with_outputs(self, names: Iterable[str]) -> "onnx.ModelProto":
        """The model with these values, and no others, as its outputs."""
        import onnx

        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        del changed.graph.output[:]
        stated = {value.name: value for value in self.model.graph.output}
        for name in names:
            changed.graph.output.append(stated.get(name) or self.described(name))
        return changed

    def described(self, name: str) -> "onnx.ValueInfoProto":
        """A value with its type, as far as that is known."""
        import onnx

        value = onnx.ValueInfoProto(name=name)
        if name in self.types:
            value.type.CopyFrom(self.types[name])
        return value


def _types(model: "onnx.ModelProto") -> "dict[str, onnx.TypeProto]":
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # a graph that inference cannot follow tells what it tells
        graph = model.graph
    return {value.name: value.type for value in (*graph.value_info, *graph.output, *graph.input)}

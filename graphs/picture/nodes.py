"""Small graphs written node by node: names that tell what a value is, constants beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cnnport.artifact import Dim

PREFIX = "picture/"
"""What the names of all inner values and nodes begin with."""


class Nodes:
    """Nodes in order, and the constants that they read."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One node of the default domain with one output, and the name of that."""
        self._nodes.append(
            helper.make_node(op, list(inputs), [PREFIX + name], name=PREFIX + name, **attributes)
        )
        return PREFIX + name

    def add_several(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """One node whose outputs have the names that are given; it is called after the first."""
        name = outputs[0] if outputs[0].startswith(PREFIX) else PREFIX + outputs[0]
        self._nodes.append(helper.make_node(op, list(inputs), list(outputs), name=name, **attributes))

    def constant(self, values: NDArray[np.generic], name: str) -> str:
        """A constant, and its name; the same name stands for the same values."""
        self._constants[PREFIX + name] = numpy_helper.from_array(values, PREFIX + name)
        return PREFIX + name

    def integers(self, values: Sequence[int], name: str) -> str:
        """A vector of int64."""
        return self.constant(np.array(values, np.int64), name)

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        opset: int,
        name: str,
    ) -> onnx.ModelProto:
        """All of it, in the oldest file format that goes with the opset."""
        graph = helper.make_graph(
            self._nodes, name, list(inputs), list(outputs), initializer=list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", opset)]
        made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets)
        made.ir_version = helper.find_min_ir_version_for(opsets)
        return made


def value(name: str, kind: int, shape: Sequence[Dim]) -> onnx.ValueInfoProto:
    """An input or output."""
    made: onnx.ValueInfoProto = helper.make_tensor_value_info(name, kind, list(shape))
    return made

"""A network of more than a hundred operators as exporters write it, and faults to plant in it.

Residual, in four stages, its batch norms standing; nodes are named after modules. Numbers keep their size from one
end to the other, so that nothing that goes wrong in one place is lost or magnified on the way.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import Artifact
from cnnport.onnxfile import read_artifact

STAGES = (4, 4, 5, 4)
WIDTHS = (8, 16, 32, 48)
SIZE = 32


class Deep:
    """The network as it is being put together.

    Attributes:
        nodes: In order.
        held: Constants by name.
    """

    def __init__(self, *, seed: int = 0, gain: float = 1.0) -> None:
        """Draw it.

        Args:
            seed: Of the weights.
            gain: By which the last sum is larger than it would be.
        """
        self._rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.held: dict[str, np.ndarray] = {}
        value = self._conv("input", "stem.conv", 3, WIDTHS[0], 3)
        value = self._act(self._norm(value, "stem.bn", WIDTHS[0]), "stem.relu")
        before = WIDTHS[0]
        for number, (count, width) in enumerate(zip(STAGES, WIDTHS, strict=True), 1):
            for block in range(count):
                value = self._block(
                    value, f"layer{number}.{block}", before, width, 2 if block == 0 and number > 1 else 1
                )
                before = width
        if gain != 1.0:
            self.held["gain"] = np.array(gain, np.float32)
            value = self._add("Mul", [value, "gain"], "scale/Mul")
        value = self._add("GlobalAveragePool", [value], "pool/GlobalAveragePool")
        value = self._add("Flatten", [value], "Flatten")
        self.held["fc.weight"] = self._draw((WIDTHS[-1], WIDTHS[-1]), WIDTHS[-1])
        self.held["fc.bias"] = np.zeros(WIDTHS[-1], np.float32)
        self._add("Gemm", [value, "fc.weight", "fc.bias"], "fc/Gemm", output="logits", transB=1)

    def model(self) -> onnx.ModelProto:
        """As a model with an open batch."""
        graph = helper.make_graph(
            self.nodes,
            "deep",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", WIDTHS[-1]])],
            [numpy_helper.from_array(array, name) for name, array in self.held.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _block(self, value: str, path: str, before: int, width: int, stride: int) -> str:
        way = value
        if before != width or stride > 1:
            way = self._conv(value, f"{path}.down.0", before, width, 1, stride)
            way = self._norm(way, f"{path}.down.1", width)
        value = self._conv(value, f"{path}.conv1", before, width, 1)
        value = self._act(self._norm(value, f"{path}.bn1", width), f"{path}.relu1")
        value = self._conv(value, f"{path}.conv2", width, width, 3, stride)
        value = self._norm(value, f"{path}.bn2", width)
        return self._act(self._add("Add", [value, way], f"{path}/Add"), f"{path}.relu2")

    def _conv(self, value: str, path: str, before: int, width: int, kernel: int, stride: int = 1) -> str:
        self.held[f"{path}.weight"] = self._draw((width, before, kernel, kernel), before * kernel * kernel)
        pad = kernel // 2
        return self._add(
            "Conv",
            [value, f"{path}.weight"],
            f"{path}/Conv",
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
        )

    def _norm(self, value: str, path: str, width: int) -> str:
        rng = self._rng
        numbers = {
            "weight": rng.uniform(0.5, 0.9, width),
            "bias": rng.normal(0, 0.2, width),
            "running_mean": rng.normal(0, 0.2, width),
            "running_var": rng.uniform(0.5, 1.5, width),
        }
        self.held |= {f"{path}.{name}": array.astype(np.float32) for name, array in numbers.items()}
        names = [f"{path}.{name}" for name in numbers]
        return self._add("BatchNormalization", [value, *names], f"{path}/BatchNormalization", epsilon=1e-5)

    def _act(self, value: str, path: str) -> str:
        return self._add("Relu", [value], f"{path}/Relu")

    def _add(
        self, operator: str, inputs: list[str], name: str, output: str = "", **attributes: object
    ) -> str:
        output = output or f"{name}:0"
        self.nodes.append(helper.make_node(operator, inputs, [output], name, **attributes))
        return output

    def _draw(self, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
        return self._rng.normal(0, np.sqrt(1.6 / fan_in), shape).astype(np.float32)


def saved(model: onnx.ModelProto, path: Path) -> Artifact:
    """The model as a file."""
    path.write_bytes(model.SerializeToString())
    return read_artifact(path)


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """By its name."""
    return next(node for node in model.graph.node if node.name == name)


def change(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Give a constant other numbers."""
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.array(array, order="C"), name))


def numbers(model: onnx.ModelProto, name: str) -> np.ndarray:
    """Of a constant, to be changed."""
    return numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == name)).copy()


def with_attribute(model: onnx.ModelProto, name: str, attribute: str, value: object) -> None:
    """Give an attribute of a node another value."""
    node = node_of(model, name)
    kept = [each for each in node.attribute if each.name != attribute]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(attribute, value)])


def mixing_the_batch(model: onnx.ModelProto, name: str) -> None:
    """Have a node add a share of the batch's mean to what it reads."""
    node = node_of(model, name)
    place = list(model.graph.node).index(node)
    value = node.input[0]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0], np.int64), "first_axis"),
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        ]
    )
    added = [
        helper.make_node("ReduceMean", [value, "first_axis"], ["mixed_mean"], f"{name}_mean", keepdims=1),
        helper.make_node("Mul", ["mixed_mean", "half"], ["mixed_half"], f"{name}_half"),
        helper.make_node("Add", [value, "mixed_half"], ["mixed"], f"{name}_mixed"),
    ]
    node.input[0] = "mixed"
    for each in reversed(added):
        model.graph.node.insert(place, each)

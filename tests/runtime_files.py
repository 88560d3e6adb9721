"""Small ONNX files for the conformance suite, made by the onnx package alone, with what its reference computes.

They need neither torch nor an export, so that they serve wherever a runtime is tried.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import Artifact
from cnnport.onnxfile import read_artifact

Feeds = dict[str, NDArray[np.generic]]

IMAGE = ("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])
STEP = 0.05
"""Of the quantized file's output."""


@dataclass(frozen=True)
class Made:
    """A file and what it is to give.

    Attributes:
        artifact: The file.
        expected: Outputs by name for feeds, by onnx's reference in float32.
    """

    artifact: Artifact
    expected: Callable[[Feeds], Feeds]


@cache
def make(kind: str, folder: Path) -> Made:
    """A file of a kind: ``fp32``, ``fp16``, ``int8``, ``plain`` (of some weight), ``several`` or ``reshape``."""
    nodes, inputs, outputs, constants = {
        "fp32": _fp32,
        "fp16": _fp16,
        "int8": _int8,
        "plain": _plain,
        "several": _several,
        "reshape": _reshape,
    }[kind]()
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{kind}.onnx"
    onnx.save(model, path)
    names = [value[0] for value in outputs]

    def expected(feeds: Feeds) -> Feeds:
        from onnx.reference import ReferenceEvaluator

        return dict(zip(names, ReferenceEvaluator(model).run(None, feeds), strict=True))

    return Made(read_artifact(path), expected)


def image(batch: int = 2, height: int = 8, width: int = 8, seed: int = 1) -> Feeds:
    """Feeds of the files with one image as input."""
    return {"x": _random(seed, batch, 3, height, width)}


def _random(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _fp32():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"], "second"),
    ]
    weights = {"w": _random(2, 16, 3, 3, 3), "v": _random(3, 8, 16, 1, 1)}
    return nodes, [IMAGE], [("y", TensorProto.FLOAT, ["batch", 8, "height", "width"])], weights


def _fp16():
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["h", "w"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["s"], "second"),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    _, inputs, outputs, weights = _fp32()
    return nodes, inputs, outputs, {name: array.astype(np.float16) for name, array in weights.items()}


def _int8():
    """Symmetric in int8, which every runtime takes; weights by channel."""

    def quantized(source: str, target: str, scale: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [source, scale, "zero"], [f"{target}_q"]),
            helper.make_node("DequantizeLinear", [f"{target}_q", scale, "zero"], [target]),
        ]

    nodes = [
        *quantized("x", "xq", "x_scale"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wq"], axis=0),
        helper.make_node("Conv", ["xq", "wq"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        *quantized("r", "y", "y_scale"),
    ]
    constants = {
        "w": np.random.default_rng(4).integers(-127, 128, (16, 3, 3, 3)).astype(np.int8),
        "w_scale": np.linspace(0.004, 0.008, 16).astype(np.float32),
        "w_zero": np.zeros(16, np.int8),
        "x_scale": np.float32(0.03).reshape(()),
        "y_scale": np.float32(STEP).reshape(()),
        "zero": np.int8(0).reshape(()),
    }
    return nodes, [IMAGE], [("y", TensorProto.FLOAT, ["batch", 16, "height", "width"])], constants


def _plain():
    """Two MiB of weights, enough to show in a process that does not let go of them."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    weights = {"w": _random(5, 256, 3, 3, 3), "v": _random(6, 256, 2048)}
    return nodes, [IMAGE], [("y", TensorProto.FLOAT, ["batch", 2048])], weights


def _several():
    """Inputs that are not in the order of use, outputs that share a tensor, names that look like something else."""
    nodes = [
        helper.make_node("Relu", ["a/x:0"], ["1"]),
        helper.make_node("Add", ["1", "b"], ["sum"]),
        helper.make_node("ArgMax", ["sum"], ["best"], axis=1, keepdims=0),
        helper.make_node("Identity", ["sum"], ["same sum"]),
    ]
    inputs = [("b", TensorProto.FLOAT, ["batch", 5]), ("a/x:0", TensorProto.FLOAT, ["batch", 5])]
    outputs = [
        ("same sum", TensorProto.FLOAT, ["batch", 5]),
        ("best", TensorProto.INT64, ["batch"]),
        ("1", TensorProto.FLOAT, ["batch", 5]),
        ("sum", TensorProto.FLOAT, ["batch", 5]),
    ]
    return nodes, inputs, outputs, {}


def _reshape():
    """Runs only where height times width is 64: the file does not say so, so the runtime has to."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["y"], "square"),
    ]
    outputs = [("y", TensorProto.FLOAT, ["batch", 3, 64])]
    return nodes, [IMAGE], outputs, {"shape": np.array([0, 3, 64])}

"""Small ONNX files that agree, and others with one fault each, made by the onnx package alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import Artifact
from cnnport.onnxfile import read_artifact

Weights = dict[str, NDArray[Any]]


def weights() -> Weights:
    """Of a network of two convolutions, the second behind a batch norm with small variances, and ten classes."""
    draw = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    return {
        "w": normal(16, 3, 3, 3),
        "gamma": np.ones(16, np.float32),
        "beta": np.zeros(16, np.float32),
        "mean": np.zeros(16, np.float32),
        "variance": np.linspace(0.003, 0.1, 16).astype(np.float32),
        "v": normal(24, 16, 3, 3),
        "u": 4 * normal(24, 10),
    }


def write(
    path: Path,
    *,
    held: Weights | None = None,
    epsilon: float = 1e-5,
    mixes_batch: bool = False,
    batch: "str | int" = "batch",
) -> Artifact:
    """A file with these weights.

    Args:
        path: To be written.
        held: None for ``weights``.
        epsilon: Of the batch norm.
        mixes_batch: Whether every image gets something of the others.
        batch: Size of the first dimension.
    """
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["c", "gamma", "beta", "mean", "variance"],
            ["n"],
            "stem/BN",
            epsilon=epsilon,
        ),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"], "body/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "u"], ["plain" if mixes_batch else "logits"], "head/MatMul"),
    ]
    held = held or weights()
    if mixes_batch:
        nodes += [
            helper.make_node("ReduceMean", ["plain", "axes"], ["m"], keepdims=1),
            helper.make_node("Mul", ["m", "share"], ["s"]),
            helper.make_node("Add", ["plain", "s"], ["logits"]),
        ]
        held = held | {"axes": np.array([0]), "share": np.float32(0.01).reshape(())}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return read_artifact(path)


def changed(change: Callable[[Weights], None]) -> Weights:
    """The weights after a change in place."""
    held = weights()
    change(held)
    return held

"""A small ONNX file in each precision for the tests of TensorRT, of sizes for which it has kernels in all of them."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cnnport.artifact import Artifact
from cnnport.onnxfile import read_artifact

CHANNELS = 16


def small(folder: Path, precision: str = "fp32", *, seed: int = 0, name: str = "small") -> Artifact:
    """Two convolutions and a matrix product, with or without quantization around the convolutions.

    Args:
        folder: Where the file goes.
        precision: ``fp32``, ``fp16`` or ``int8``.
        seed: Of the weights.
        name: Of the file and of its kind, without the ending.
    """
    path = folder / f"{name}.onnx"
    onnx.save(_model(precision, seed), path)
    return read_artifact(path)


def feeds(
    batch: int, *, seed: int = 1, dtype: str = "float32", channels: int = 3
) -> dict[str, NDArray[np.generic]]:
    """An input for it."""
    values = np.random.default_rng(seed).standard_normal((batch, channels, 8, 8))
    return {"input": values.astype(dtype)}


def _model(precision: str, seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(np.float16 if precision == "fp16" else np.float32)
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    tensors: dict[str, NDArray[np.generic]] = {}
    nodes: list[onnx.NodeProto] = []

    def weights(key: str, *shape: int) -> str:
        tensors[key] = (0.2 * rng.standard_normal(shape)).astype(dtype)
        return key

    def quantized(value: str, key: str) -> str:
        if precision != "int8":
            return value
        tensors[f"{key}.scale"], tensors[f"{key}.zero"] = np.array(0.05, dtype), np.array(0, np.int8)
        given = [f"{key}.scale", f"{key}.zero"]
        nodes.append(helper.make_node("QuantizeLinear", [value, *given], [f"{key}.q"], f"{key}/Q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{key}.q", *given], [f"{key}.d"], f"{key}/DQ"))
        return f"{key}.d"

    def kernel(key: str, *shape: int) -> str:
        if precision != "int8":
            return weights(key, *shape)
        tensors[key] = rng.integers(-127, 128, shape).astype(np.int8)
        tensors[f"{key}.scale"] = np.full(shape[0], 0.002, dtype)
        tensors[f"{key}.zero"] = np.zeros(shape[0], np.int8)
        given = [key, f"{key}.scale", f"{key}.zero"]
        nodes.append(helper.make_node("DequantizeLinear", given, [f"{key}.d"], f"{key}/DQ", axis=0))
        return f"{key}.d"

    def convolution(value: str, key: str, inputs: int) -> None:
        operands = [quantized(value, f"{key}.in"), kernel(f"{key}.weight", CHANNELS, inputs, 3, 3)]
        operands.append(weights(f"{key}.bias", CHANNELS))
        nodes.append(helper.make_node("Conv", operands, [f"{key}.out"], f"{key}/Conv", pads=[1, 1, 1, 1]))

    convolution("input", "first", 3)
    nodes.append(helper.make_node("Relu", ["first.out"], ["act.out"], "act/Relu"))
    convolution("act.out", "second", CHANNELS)
    nodes.append(helper.make_node("GlobalAveragePool", ["second.out"], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flat"))
    head = ["flat", weights("fc.weight", 4, CHANNELS), weights("fc.bias", 4)]
    nodes.append(helper.make_node("Gemm", head, ["logits"], "fc/Gemm", transB=1))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", kind, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, ["batch", 4])],
        [numpy_helper.from_array(array, key) for key, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model

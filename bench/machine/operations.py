"""The smallest networks there are: one product of matrices, or one convolution, as files that runtimes load."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 19
_IR_VERSION = 9

SIZES = (512, 1024, 2048)
"""Rows, columns and depth of square products: small ones lie in a core's cache, large ones hide what starts them."""

# Of a convolution in the middle of a residual network, where such networks do most of their work.
_CHANNELS, _PIXELS, _KERNEL = 256, 28, 3


@dataclass(frozen=True)
class Operation:
    """What is computed.

    Attributes:
        name: With its size.
        flops: Of one run; a multiply-add counts two.
        model: The network.
    """

    name: str
    flops: int
    model: onnx.ModelProto


def products(size: int) -> dict[str, Operation]:
    """Square matrices: ``float``, ``integer`` (u8s8 into 32 bits) and ``quantized`` (8 bits between quantizers)."""
    rng = np.random.default_rng(size)
    flops, shape = 2 * size**3, [size, size]
    name = f"{size}x{size}x{size}"
    floats = rng.uniform(-1, 1, shape).astype(np.float32)
    levels = rng.integers(-127, 128, shape).astype(np.int8)
    return {
        "float": Operation(f"MatMul {name}", flops, _model("MatMul", shape, shape, {"b": floats})),
        "integer": Operation(
            f"MatMulInteger {name}",
            flops,
            _model("MatMulInteger", shape, shape, {"b": levels}, TensorProto.UINT8, TensorProto.INT32),
        ),
        "quantized": Operation(f"MatMul {name} with quantizers", flops, _quantized("MatMul", shape, levels)),
    }


def convolutions() -> dict[str, Operation]:
    """A convolution, ``float`` and ``quantized``."""
    rng = np.random.default_rng(_CHANNELS)
    weights = [_CHANNELS, _CHANNELS, _KERNEL, _KERNEL]
    shape = [1, _CHANNELS, _PIXELS, _PIXELS]
    flops = 2 * _CHANNELS**2 * _KERNEL**2 * _PIXELS**2
    name = f"Conv {_KERNEL}x{_KERNEL}, {_CHANNELS} to {_CHANNELS} channels, {_PIXELS}x{_PIXELS}"
    pads = [_KERNEL // 2] * 4
    floats = rng.uniform(-1, 1, weights).astype(np.float32)
    levels = rng.integers(-127, 128, weights).astype(np.int8)
    return {
        "float": Operation(name, flops, _model("Conv", shape, shape, {"b": floats}, pads=pads)),
        "quantized": Operation(f"{name} with quantizers", flops, _quantized("Conv", shape, levels, pads)),
    }


def _model(
    operator: str,
    shape: list[int],
    made: list[int],
    constants: dict[str, NDArray[np.generic]],
    read: int = TensorProto.FLOAT,
    written: int = TensorProto.FLOAT,
    pads: list[int] | None = None,
) -> onnx.ModelProto:
    node = _node(operator, ["a", "b"], ["c"], pads)
    return _finished([node], (shape, read), (made, written), constants)


def _quantized(
    operator: str, shape: list[int], levels: NDArray[np.generic], pads: list[int] | None = None
) -> onnx.ModelProto:
    """Quantizers on all sides, as files in 8 bits have them; the result's range is that of such a sum."""
    depth = int(np.prod(levels.shape[1:] if operator == "Conv" else levels.shape[:1]))
    constants: dict[str, NDArray[np.generic]] = {
        "b8": levels,
        "step": np.array(1 / 127, np.float32),
        "made_step": np.array(np.sqrt(depth) / 127, np.float32),
        "middle": np.array(128, np.uint8),
        "zero": np.array(0, np.int8),
    }
    make: Callable[..., onnx.NodeProto] = helper.make_node
    nodes = [
        make("QuantizeLinear", ["a", "step", "middle"], ["a8"]),
        make("DequantizeLinear", ["a8", "step", "middle"], ["af"]),
        make("DequantizeLinear", ["b8", "step", "zero"], ["bf"]),
        _node(operator, ["af", "bf"], ["cf"], pads),
        make("QuantizeLinear", ["cf", "made_step", "middle"], ["c8"]),
        make("DequantizeLinear", ["c8", "made_step", "middle"], ["c"]),
    ]
    return _finished(nodes, (shape, TensorProto.FLOAT), (shape, TensorProto.FLOAT), constants)


def _node(operator: str, read: list[str], written: list[str], pads: list[int] | None) -> onnx.NodeProto:
    node = helper.make_node(operator, read, written)
    if pads is not None:
        node.attribute.append(helper.make_attribute("pads", pads))
    return node


def _finished(
    nodes: list[onnx.NodeProto],
    read: tuple[list[int], int],
    written: tuple[list[int], int],
    constants: dict[str, NDArray[np.generic]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("a", read[1], read[0])],
        [helper.make_tensor_value_info("c", written[1], written[0])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)

"""Whether a finished int8 file is one that TensorRT takes and reads as it was meant, whoever wrote it.

TensorRT rejects some of what the standard allows, and takes some of it for something else:

1.  its 8-bit integers are signed: uint8 is read as int8, which gives wrong numbers without a word;
2.  zero points are 0;
3.  a DequantizeLinear of int32, in which other tools write biases, is rejected: biases stay in float;
4.  scales are constant, positive and finite;
5.  weights have their scales along the output channels: axis 0 of a Conv, 1 of a ConvTranspose, of a Gemm 0 or 1 as
    it transposes them. A wrong axis is taken without a word where both sizes are equal, and DequantizeLinear's own
    default is 1;
6.  activations have one scale: only weights have one for each channel;
7.  no quantizer stands between a convolution and its BatchNormalization or activation, which would be two kernels;
8.  there are no operators on integers (QLinearConv and the like): quantizers say it all;
9.  scales in float16 need opset 19.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.quantize.plan import name_of
from cnnport.graphs.quantize.weights import channel_axis
from cnnport.graphs.values import constant, opset_of

_PAIR = frozenset({"DequantizeLinear", "QuantizeLinear"})
_INTEGER = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ACTIVATIONS = frozenset({"BatchNormalization", "Clip", "Relu"})
_OPSET_OF_FLOAT16 = 19


@dataclass(frozen=True)
class Fault:
    """What is wrong with a node.

    Attributes:
        node: Its name, or that of its first output.
        operator: Its type.
        reason: What, in a sentence without its full stop.
    """

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.operator} {self.node}: {self.reason}"


def faults(model: ir.Model) -> tuple[Fault, ...]:
    """Everything in a file that breaks one of the rules, in the graph's order; also within subgraphs."""
    opset = opset_of(model)
    return tuple(
        Fault(name_of(node), node.op_type, reason)
        for node in model.graph.all_nodes()
        for reason in _reasons(node, opset)
    )


def _reasons(node: ir.Node, opset: int) -> Iterator[str]:
    if node.domain == "com.microsoft" and node.op_type.startswith("QLinear"):
        yield "TensorRT has no operators on integers"
    if node.domain not in DEFAULT_DOMAINS:
        return
    if node.op_type in _INTEGER:
        yield "TensorRT has no operators on integers"
    elif node.op_type in _PAIR:
        yield from _of_pair(node, opset)
    elif node.op_type in _PRODUCTS:
        yield from _of_product(node)


def _of_pair(node: ir.Node, opset: int) -> Iterator[str]:
    dtype = _integer_type(node)
    if dtype == ir.DataType.INT32:
        yield "a bias in int32 is rejected: it has to be in float"
    elif dtype == ir.DataType.UINT8:
        yield "uint8 is read as int8"
    elif dtype != ir.DataType.INT8:
        yield f"its integers are {'of no known type' if dtype is None else dtype.name.lower()}, not int8"
    scale = _numbers(node, 1)
    if scale is None:
        yield "its scale is computed"
    else:
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            yield "its scale is not positive and finite"
        if (
            node.inputs[1] is not None
            and node.inputs[1].dtype == ir.DataType.FLOAT16
            and opset < _OPSET_OF_FLOAT16
        ):
            yield f"its scale is in float16, which needs opset {_OPSET_OF_FLOAT16}"
        if scale.size > 1 and not _is_weight(node):
            yield "it gives activations a scale for each channel"
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero_point = _numbers(node, 2)
        if zero_point is None:
            yield "its zero point is computed"
        elif zero_point.any():
            yield f"its zero point is {int(zero_point[zero_point != 0][0])}, not 0"
    if node.op_type == "QuantizeLinear" and _tears(node):
        yield "it stands between a convolution and what belongs to it"


def _of_product(node: ir.Node) -> Iterator[str]:
    up = _dequantizer(node.inputs[1] if len(node.inputs) > 1 else None)
    if up is None or not _is_weight(up):
        return
    scale, value = _numbers(up, 1), up.outputs[0]
    if scale is None or scale.size <= 1:
        return
    sizes = _sizes(up)
    axis = up.attributes.get_int("axis", 1)
    axis += len(sizes) if axis < 0 and sizes else 0
    wanted = channel_axis(node)
    if axis != wanted:
        yield f"the scales of its weights {value.name} lie along axis {axis}, not {wanted}"
    elif sizes and sizes[axis] != scale.size:
        yield f"its weights {value.name} have {sizes[axis]} output channels, and {scale.size} scales"


def _integer_type(node: ir.Node) -> ir.DataType | None:
    """The type that a quantizer gives, or a dequantizer takes."""
    if node.op_type == "DequantizeLinear":
        tensor = constant(node.inputs[0])
        if tensor is not None:
            return tensor.dtype
        maker = node.inputs[0].producer() if node.inputs[0] is not None else None
        if maker is not None and maker.op_type == "QuantizeLinear":
            return _integer_type(maker)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero_point = constant(node.inputs[2])
        return node.inputs[2].dtype if zero_point is None else zero_point.dtype
    if node.op_type == "QuantizeLinear":
        given = node.attributes.get_int("output_dtype", 0)
        return ir.DataType(given) if given else ir.DataType.UINT8
    return node.inputs[0].dtype if node.inputs[0] is not None else None


def _numbers(node: ir.Node, index: int) -> npt.NDArray[np.float64] | None:
    tensor = constant(node.inputs[index])
    return None if tensor is None else np.atleast_1d(tensor.numpy().astype(np.float64))


def _is_weight(node: ir.Node) -> bool:
    """Whether a pair, or what is left of one, quantizes a constant."""
    source = node.inputs[0]
    maker = source.producer() if source is not None else None
    if node.op_type == "DequantizeLinear" and maker is not None and maker.op_type == "QuantizeLinear":
        return _is_weight(maker)
    return constant(source) is not None


def _dequantizer(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _sizes(node: ir.Node) -> tuple[int, ...]:
    """The shape of the constant that a dequantizer stands behind."""
    tensor = constant(node.inputs[0])
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    if tensor is None and maker is not None:
        tensor = constant(maker.inputs[0])
    return () if tensor is None else tuple(int(size) for size in tensor.shape.numpy())


def _tears(node: ir.Node) -> bool:
    """Whether a quantizer's pair leads from a convolution to nothing but what belongs to the convolution."""
    source = node.inputs[0]
    maker = source.producer() if source is not None else None
    if maker is None or maker.op_type not in {"Conv", "ConvTranspose"}:
        return False
    ups = [reader for reader, _ in node.outputs[0].uses()]
    readers = [reader for up in ups for reader, _ in up.outputs[0].uses()]
    return bool(readers) and all(reader.op_type in _ACTIVATIONS for reader in readers)

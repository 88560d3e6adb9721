"""What TensorRT takes from a quantized file and computes wrongly, without a word: refused before it is asked."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnnport.runtimes.build import BuildError
from cnnport.runtimes.trt.messages import label

if TYPE_CHECKING:
    import onnx

_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Of TensorProto.DataType.
_UINT8 = 2


def misread(model: "onnx.ModelProto") -> Iterator[BuildError]:
    """The nodes that would give wrong numbers.

    - uint8 is read as int8, where the zero point is zero; any other zero point is refused by TensorRT itself.
    - Weights are scaled per channel along axis 0 of Conv and 1 of ConvTranspose, whatever axis the file names,
      wherever both have one length.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    for position, node in enumerate(model.graph.node):
        if node.op_type in _QDQ:
            zero = tensors.get(node.input[2]) if len(node.input) > 2 else None
            kind = next((each.i for each in node.attribute if each.name == "output_dtype"), 0)
            without = zero is None and node.op_type == "QuantizeLinear" and kind in {0, _UINT8}
            if without or (zero is not None and zero.data_type == _UINT8):
                message = "quantized as uint8, which TensorRT reads as int8: quantize with --target trt"
                yield BuildError(label(node, position), message)
        elif node.op_type in {"Conv", "ConvTranspose"} and len(node.input) > 1:
            source = producers.get(node.input[1])
            scale = tensors.get(source.input[1]) if source and source.op_type == "DequantizeLinear" else None
            if source is None or scale is None or list(scale.dims) in ([], [1]):
                continue
            axis = next((each.i for each in source.attribute if each.name == "axis"), 1)
            wanted = 0 if node.op_type == "Conv" else 1
            if axis != wanted:
                message = f"its weights are quantized along axis {axis}, TensorRT scales along axis {wanted}"
                yield BuildError(label(node, position), message)

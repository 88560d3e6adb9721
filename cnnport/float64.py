"""An ONNX graph computed in float64, operator by operator as the standard defines them.

What float32 kernels of a runtime add or lose in rounding says nothing about whether a graph is right. Computed in
float64, a graph that is right gives PyTorch's float64 outputs but for the rounding of the weights it holds, and one
that is wrong does not.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[np.generic]]


def run_in_float64(model: "onnx.ModelProto", feeds: Arrays) -> Arrays | None:
    """The outputs of a graph with every float32 number in it widened; None where the reference cannot compute it.

    Args:
        model: Is not changed. A copy with weights of twice the size is made.
        feeds: The inputs by name; those of float32 are widened.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(_widened(model))
        names = [value.name for value in model.graph.output]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outputs = evaluator.run(None, {name: _wide(value) for name, value in feeds.items()})
    except (
        Exception
    ):  # operators that the reference lacks, and shapes that it does not take, each in its own way
        return None
    return dict(zip(names, outputs, strict=True))


def _wide(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _widened(model: "onnx.ModelProto") -> "onnx.ModelProto":
    import onnx
    from onnx import TensorProto, numpy_helper

    wide = onnx.ModelProto()
    wide.CopyFrom(model)

    def widen(tensor: "onnx.TensorProto") -> None:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(_wide(numpy_helper.to_array(tensor)), tensor.name))

    for tensor in wide.graph.initializer:
        widen(tensor)
    for value in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return wide

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

    The reference holds every value of the graph until the end, so a batch is computed image by image where the graph
    leaves its size open. That images do not mix is not shown here; float32 shows it at every batch size.

    Args:
        model: Is not changed. A copy with weights of twice the size is made.
        feeds: The inputs by name; those of float32 are widened.
    """
    from onnx.reference import ReferenceEvaluator

    from cnnport.graphs.reference_operators import OPERATORS

    wide = {name: _wide(value) for name, value in feeds.items()}
    images = [wide]
    if _has_open_batch(model):
        count = min(len(value) for value in wide.values())
        images = [{name: value[i : i + 1] for name, value in wide.items()} for i in range(count)]
    try:
        evaluator = ReferenceEvaluator(_widened(model), new_ops=list(OPERATORS))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            rows = [evaluator.run(None, image) for image in images]
    except (
        Exception
    ):  # operators that the reference lacks, and shapes that it does not take, each in its own way
        return None
    names = [value.name for value in model.graph.output]
    outputs = rows[0] if len(rows) == 1 else [np.concatenate(row) for row in zip(*rows, strict=True)]
    return dict(zip(names, outputs, strict=True))


def _has_open_batch(model: "onnx.ModelProto") -> bool:
    """Whether every input and output begins with the same open dimension."""
    values = (*model.graph.input, *model.graph.output)
    batches = {
        value.type.tensor_type.shape.dim[0].dim_param if value.type.tensor_type.shape.dim else ""
        for value in values
    }
    return len(batches) == 1 and "" not in batches


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

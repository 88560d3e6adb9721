"""A model with other numbers in it, to verify what is done to its graph where its own say nothing.

Some files hold a network's structure alone, all its weights the same number: whatever goes in, the same comes out,
and it would of a wrong graph too.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

_SEED = 0

# For the last weights: sums of many branches grow, and the softmax at the end would see nothing but the largest.
GAINS = (1e-2, 1e-4, 1e-6)


def with_other_weights(model: "onnx.ModelProto", gain: float) -> "onnx.ModelProto":
    """A copy with seeded numbers for its floating-point constants of more than one element.

    Vectors, which may be variances, lie between 0.5 and 1.5; what has more dimensions is normal, of a size that keeps
    that of the data, and the last of all smaller. A ConstantOfShape becomes a Constant.

    Args:
        model: Is not changed. Its weights are in it.
        gain: One of ``GAINS``, the first that will do.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    other = onnx.ModelProto()
    other.CopyFrom(model)
    generator = np.random.default_rng(_SEED)
    shapes = {}
    weights = [node.input[1] for node in model.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]

    def drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        numbers = _numbers(shape, generator)
        return numbers * np.float32(gain) if weights and name == weights[-1] else numbers

    for tensor in other.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(drawn(tensor.name, tuple(tensor.dims)), tensor.name))
        elif tensor.data_type == TensorProto.INT64:
            shapes[tensor.name] = tuple(int(size) for size in numpy_helper.to_array(tensor).ravel())
    for node in other.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            continue
        fill = [numpy_helper.to_array(attribute.t) for attribute in node.attribute]
        if not fill or fill[0].dtype == np.float32:
            values = numpy_helper.from_array(drawn(node.output[0], shapes[node.input[0]]))
            constant = onnx.helper.make_node("Constant", [], list(node.output), node.name, value=values)
            node.CopyFrom(constant)
    return other


def _numbers(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    if len(shape) < 2:
        return (0.5 + generator.random(shape, dtype=np.float32)).astype(np.float32)
    inputs = min(shape) if len(shape) == 2 else int(np.prod(shape[1:]))
    normal = generator.standard_normal(shape, dtype=np.float32)
    return (normal * np.float32(np.sqrt(2 / max(inputs, 1)))).astype(np.float32)

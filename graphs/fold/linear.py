"""The linear operators that can take in an affine map, at their outputs or at their inputs.

With weights W, bias b and the map a(x) = s x + t (one s and t a channel), a linear operator L takes it in

- at its outputs: a(L(x)) = (s W) x + (s b + t), s along W's output channels;
- at its inputs: L(a(x)) = (W s) x + (b + W t), s and t along W's input channels. With t this needs every output
  element to see the whole of W, so a convolution must not be padded: padding is 0 and not t. At the border the sum
  W t lacks what lies outside, and no bias can say that. Without t, 0 stays 0, and padding does not matter.

Layouts (the operator pages of onnx.ai): Conv W is Cout x Cin/g x k..., group after group along Cout;
ConvTranspose W is Cin x Cout/g x k..., group after group along Cin, so output channel j * Cout/g + m lies at
m of the rows of group j. Gemm is alpha A' B' + beta C with B' = B or its transpose, C broadcast to the
result; alpha stays and beta goes into C. The columns of MatMul's matrix are the last axis of the result; it becomes a
Gemm where it needs a bias, which works for two matrices and not for a stack of them.

In inference a BatchNormalization is one affine map a channel (Ioffe and Szegedy, arXiv:1502.03167, section 3.1,
and the operator's page on onnx.ai):

    y = gamma (x - mean) / sqrt(var + epsilon) + beta = f x + h,
    f = gamma / sqrt(var + epsilon),  h = beta - mean f.

It takes in a map at its outputs with s gamma for gamma and s beta + t for beta; at its inputs with s gamma and
beta + f (t - mean + s mean).
"""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import (
    FLOATS,
    Affine,
    Array,
    CannotFoldError,
    Rewrite,
    round_to,
    scaled,
    titled,
    weights,
)
from cnnport.graphs.values import constant, rank


def take_in_at_outputs(node: ir.Node, affine: Affine, opset: int) -> Rewrite:
    """The linear node followed by the map, as one node.

    Raises:
        CannotFoldError: If it cannot be done exactly.
    """
    if is_batchnorm(node):
        return _batchnorm_outputs(node, affine, opset)
    if node.domain or node.op_type not in _AT_OUTPUTS:
        raise CannotFoldError(f"{titled(node)} is not linear in each channel")
    return _AT_OUTPUTS[node.op_type](node, affine)


def take_in_at_inputs(node: ir.Node, affine: Affine, opset: int) -> Rewrite:
    """The map followed by the linear node, as one node; the map is applied to the node's first input.

    Raises:
        CannotFoldError: If it cannot be done exactly.
    """
    if is_batchnorm(node):
        return _batchnorm_inputs(node, affine, opset)
    if node.domain or node.op_type not in _AT_INPUTS:
        raise CannotFoldError(f"{titled(node)} is not linear with constant weights")
    return _AT_INPUTS[node.op_type](node, affine)


def is_batchnorm(node: ir.Node) -> bool:
    """Whether a node is a BatchNormalization of the standard."""
    return not node.domain and node.op_type == "BatchNormalization"


def affine_of(node: ir.Node, opset: int) -> Affine:
    """The map that a BatchNormalization is.

    Raises:
        CannotFoldError: If it is none, or not of constants.
    """
    training = node.attributes.get_int("training_mode", 0) or any(output.name for output in node.outputs[1:])
    if training or not node.attributes.get_int("spatial", 1):
        raise CannotFoldError("it does not run in inference mode on channels")
    if opset < 9 and "is_test" in node.attributes:
        raise CannotFoldError("its attributes are of another opset")
    scale = constant(node.inputs[1])
    if scale is None or scale.dtype not in FLOATS:
        raise CannotFoldError("its scale is not a constant of a floating-point type")
    gamma, beta, mean, var = (weights(node, index, scale.dtype).astype(np.float64) for index in (1, 2, 3, 4))
    if gamma.ndim != 1 or not gamma.shape == beta.shape == mean.shape == var.shape:
        raise CannotFoldError("its parameters are not one number a channel")
    # The attribute is a float32 in the file; so is its default.
    spread = var + float(np.float32(node.attributes.get_float("epsilon", 1e-5)))
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(spread)
        shift = beta - mean * factor
    if not (
        np.isfinite(factor).all()
        and np.isfinite(shift).all()
        and np.isfinite(spread).all()
        and (spread > 0).all()
    ):
        raise CannotFoldError("its parameters give no finite scale and shift")
    return Affine(factor, shift, scale.dtype)


def _optional(node: ir.Node, index: int, dtype: ir.DataType) -> npt.NDArray[np.float64] | None:
    if len(node.inputs) <= index or node.inputs[index] is None:
        return None
    return weights(node, index, dtype).astype(np.float64)


def _with_shift(bias: Array | None, scale: Array, affine: Affine) -> dict[int, Array]:
    """The new bias ``scale * bias + shift`` at input 2; none where there was none and none is needed."""
    if bias is None:
        return {2: round_to(affine.shift, affine.dtype)} if affine.shift.any() else {}
    return {2: round_to(bias * scale + affine.shift, affine.dtype)}


def _over(node: ir.Node, affine: Affine, channels: int, axis: int = 1) -> Affine:
    """The map with numbers for each of the node's channels, which lie on ``axis``."""
    if affine.axis not in {None, axis}:
        raise CannotFoldError(f"{titled(node)} has its channels on another axis")
    spread = affine.over(channels)
    if spread.channels != channels:
        raise CannotFoldError(f"{titled(node)} has {channels} channels, not {affine.channels}")
    return spread


def _batchnorm_outputs(node: ir.Node, affine: Affine, opset: int) -> Rewrite:
    own = affine_of(node, opset)
    affine = _over(node, affine, own.channels)
    gamma, beta = (weights(node, index, affine.dtype).astype(np.float64) for index in (1, 2))
    with np.errstate(all="ignore"):
        scale, shift = gamma * affine.scale, beta * affine.scale + affine.shift
    return Rewrite(node, {1: round_to(scale, own.dtype), 2: round_to(shift, own.dtype)})


def _batchnorm_inputs(node: ir.Node, affine: Affine, opset: int) -> Rewrite:
    own = affine_of(node, opset)
    affine = _over(node, affine, own.channels)
    gamma, beta, mean = (weights(node, index, affine.dtype).astype(np.float64) for index in (1, 2, 3))
    with np.errstate(all="ignore"):
        scale = gamma * affine.scale
        shift = beta + own.scale * (affine.shift - mean + affine.scale * mean)
    new = {1: round_to(scale, own.dtype), 2: round_to(shift, own.dtype)}
    return Rewrite(node, new, changes_output=False)


def _conv_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    kernel = weights(node, 1, affine.dtype)
    affine = _over(node, affine, kernel.shape[0])
    scale = affine.scale.reshape(-1, *[1] * (kernel.ndim - 1))
    bias = _with_shift(_optional(node, 2, affine.dtype), affine.scale, affine)
    return Rewrite(node, {1: scaled(kernel, scale, affine.dtype), **bias})


def _conv_transpose_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    kernel = weights(node, 1, affine.dtype)
    groups = node.attributes.get_int("group", 1)
    affine = _over(node, affine, kernel.shape[1] * groups)
    inputs, outputs = kernel.shape[:2]
    grouped = kernel.reshape(groups, inputs // groups, outputs, -1)
    scale = affine.scale.reshape(groups, 1, outputs, 1)
    bias = _with_shift(_optional(node, 2, affine.dtype), affine.scale, affine)
    return Rewrite(node, {1: scaled(grouped, scale, affine.dtype).reshape(kernel.shape), **bias})


def _gemm_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    matrix = weights(node, 1, affine.dtype)
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    affine = _over(node, affine, matrix.shape[axis])
    scale = affine.scale[:, None] if axis == 0 else affine.scale
    bias = _optional(node, 2, affine.dtype)
    beta = node.attributes.get_float("beta", 1.0)
    folded = _with_shift(bias, beta * affine.scale, affine)
    return Rewrite(node, {1: scaled(matrix, scale, affine.dtype), **folded}, dropped=("beta",))


def _matmul_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    matrix, affine = _right_matrix(node, affine, side=1)
    bias = _with_shift(None, affine.scale, affine)
    op_type = "Gemm" if bias else None
    return Rewrite(node, {1: scaled(matrix, affine.scale, affine.dtype), **bias}, op_type=op_type)


def _conv_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    padding = node.attributes.get_string("auto_pad", "NOTSET")
    pads = any(node.attributes.get_ints("pads", ()))
    padded = padding not in {"NOTSET", "VALID"} or (padding == "NOTSET" and pads)
    if padded and affine.shift.any():
        raise CannotFoldError(f"{titled(node)} pads with zeros, which the map does not keep")
    kernel = weights(node, 1, affine.dtype)
    groups = node.attributes.get_int("group", 1)
    outputs, inputs = kernel.shape[:2]
    affine = _over(node, affine, inputs * groups)
    grouped = kernel.reshape(groups, outputs // groups, inputs, -1)
    columns = scaled(grouped, affine.scale.reshape(groups, 1, inputs, 1), affine.dtype).reshape(kernel.shape)
    taps = grouped.sum(axis=3, dtype=np.float64)
    shift = np.einsum("goi,gi->go", taps, affine.shift.reshape(groups, inputs)).reshape(-1)
    return Rewrite(node, {1: columns, **_added(node, 1.0, shift, affine.dtype)}, changes_output=False)


def _conv_transpose_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    if affine.shift.any():
        # How many taps an output element gets depends on where it lies.
        raise CannotFoldError(f"{titled(node)} is not linear in a map with a shift")
    kernel = weights(node, 1, affine.dtype)
    affine = _over(node, affine, kernel.shape[0])
    rows = affine.scale.reshape(-1, *[1] * (kernel.ndim - 1))
    return Rewrite(node, {1: scaled(kernel, rows, affine.dtype)}, changes_output=False)


def _gemm_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    if node.attributes.get_int("transA", 0):
        raise CannotFoldError(f"{titled(node)} transposes its input")
    matrix = weights(node, 1, affine.dtype)
    axis = 1 if node.attributes.get_int("transB", 0) else 0
    affine = _over(node, affine, matrix.shape[axis])
    shift = node.attributes.get_float("alpha", 1.0) * _product(
        affine.shift, matrix if axis == 0 else matrix.T
    )
    beta = node.attributes.get_float("beta", 1.0)
    bias = _added(node, beta, shift, affine.dtype)
    rows = scaled(matrix, affine.scale[:, None] if axis == 0 else affine.scale, affine.dtype)
    return Rewrite(node, {1: rows, **bias}, changes_output=False, dropped=("beta",) if bias else ())


def _matmul_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    matrix, affine = _right_matrix(node, affine, side=0)
    bias = _added(node, 1.0, _product(affine.shift, matrix), affine.dtype)
    rows = scaled(matrix, affine.scale[:, None], affine.dtype)
    return Rewrite(node, {1: rows, **bias}, changes_output=False, op_type="Gemm" if bias else None)


def _added(node: ir.Node, beta: float, shift: Array, dtype: ir.DataType) -> dict[int, Array]:
    """The new bias ``beta * bias + shift`` at input 2; no change where nothing is added."""
    if not shift.any():
        return {}
    bias = _optional(node, 2, dtype)
    return {2: round_to(shift if bias is None else beta * bias + shift, dtype)}


def _product(row: npt.NDArray[np.float64], matrix: Array) -> Array:
    """``row @ matrix`` in float64, without a float64 copy of the matrix."""
    if matrix.dtype == ml_dtypes.bfloat16:
        matrix = matrix.astype(np.float32)
    product: Array = np.einsum("k,kn->n", row, matrix, dtype=np.float64)
    return product


def _right_matrix(node: ir.Node, affine: Affine, side: int) -> tuple[Array, Affine]:
    """MatMul's matrix, and the map over its rows (``side`` 0) or columns (``side`` 1)."""
    dims = rank(node.inputs[0]) or rank(node.outputs[0])
    # In a stack of matrices axis 1 is a row number; only two matrices make a Gemm.
    if dims != 2 and (
        affine.shift.any() or (affine.axis is not None and (dims is None or affine.axis != dims - 1))
    ):
        raise CannotFoldError(f"{titled(node)} is not known to multiply just two matrices")
    matrix = weights(node, 1, affine.dtype)
    if matrix.ndim != 2:
        raise CannotFoldError(f"{titled(node)} does not have a matrix on the right")
    return matrix, _over(node, affine, matrix.shape[side], 1 if affine.axis is None else affine.axis)


_AT_OUTPUTS: dict[str, Callable[[ir.Node, Affine], Rewrite]] = {
    "Conv": _conv_outputs,
    "ConvTranspose": _conv_transpose_outputs,
    "Gemm": _gemm_outputs,
    "MatMul": _matmul_outputs,
}

_AT_INPUTS: dict[str, Callable[[ir.Node, Affine], Rewrite]] = {
    "Conv": _conv_inputs,
    "ConvTranspose": _conv_transpose_inputs,
    "Gemm": _gemm_inputs,
    "MatMul": _matmul_inputs,
}

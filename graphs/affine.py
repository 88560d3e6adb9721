"""Per-channel affine maps, and the linear operators that can take one in.

With weights W, bias b and the map a(x) = s x + t (one s and t a channel), a linear operator L takes it in

- at its outputs: a(L(x)) = (s W) x + (s b + t), s along W's output channels;
- at its inputs: L(a(x)) = (W s) x + (b + W t), s and t along W's input channels. This needs every output
  element to see the whole of W, so a convolution must not be padded: padding is 0 and not t.

Layouts (the operator pages of onnx.ai): Conv W is Cout x Cin/g x k..., group after group along Cout;
ConvTranspose W is Cin x Cout/g x k..., group after group along Cin, so output channel j * Cout/g + m lies at
m of the rows of group j. Gemm is alpha A' B' + beta C with B' = B or its transpose, C broadcast to the
result; alpha stays and beta goes into C. A MatMul becomes a Gemm where it needs a bias.

All arithmetic is done in float64 and rounded once, to the type of the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.values import constant, rank

Array: TypeAlias = npt.NDArray[Any]

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


class CannotFoldError(Exception):
    """Why a map cannot be taken in, as the end of a sentence. Never leaves a pass."""


@dataclass(frozen=True)
class Affine:
    """The map x -> scale * x + shift along axis 1.

    Attributes:
        scale: One number a channel, float64.
        shift: One number a channel, float64.
        dtype: Element type of the tensors that it applies to.
    """

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    dtype: ir.DataType

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self.scale)

    def part(self, start: int, stop: int) -> "Affine":
        """The map of channels ``start`` to ``stop``, the last one left out."""
        return Affine(self.scale[start:stop], self.shift[start:stop], self.dtype)

    def repeated(self, times: int) -> "Affine":
        """The map of features that come ``times`` to a channel."""
        return Affine(np.repeat(self.scale, times), np.repeat(self.shift, times), self.dtype)

    def without_shift(self) -> "Affine":
        """The same scale, and no shift."""
        return Affine(self.scale, np.zeros_like(self.shift), self.dtype)


@dataclass(frozen=True)
class Rewrite:
    """What changes in one node; decided first for all nodes, then done.

    Attributes:
        node: The node, which keeps its name, metadata and outputs.
        constants: New constant inputs by their index.
        changes_output: Whether the node's output means something else afterwards.
        op_type: What the node becomes, where that is something else.
        dropped: Attributes that go.
    """

    node: ir.Node
    constants: Mapping[int, Array] = field(default_factory=dict)
    changes_output: bool = True
    op_type: str | None = None
    dropped: tuple[str, ...] = ()


def weights(node: ir.Node, index: int, dtype: ir.DataType) -> Array:
    """A constant input of a node in the given type.

    Raises:
        CannotFoldError: If it is no constant, or of another type.
    """
    value = node.inputs[index]
    tensor = constant(value)
    if tensor is None:
        raise CannotFoldError(f"input {index} of {_title(node)} is not constant")
    if tensor.dtype != dtype:
        raise CannotFoldError(f"input {index} of {_title(node)} is {tensor.dtype}, not {dtype}")
    return tensor.numpy()


def take_in_at_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    """The linear node followed by the map, as one node.

    Raises:
        CannotFoldError: If it cannot be done exactly.
    """
    if node.domain or node.op_type not in _AT_OUTPUTS:
        raise CannotFoldError(f"{_title(node)} is not linear in each channel")
    return _AT_OUTPUTS[node.op_type](node, affine)


def take_in_at_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    """The map followed by the linear node, as one node; the map is applied to the node's first input.

    Raises:
        CannotFoldError: If it cannot be done exactly.
    """
    if node.domain or node.op_type not in _AT_INPUTS:
        raise CannotFoldError(f"{_title(node)} is not linear with constant weights")
    return _AT_INPUTS[node.op_type](node, affine)


def round_to(exact: Array, dtype: ir.DataType) -> Array:
    """Round float64 once, ties to even.

    Raises:
        CannotFoldError: If a number overflows.
    """
    with np.errstate(all="ignore"):
        if dtype == ir.DataType.BFLOAT16:
            # ml_dtypes goes by way of float32 and so rounds twice. Rounding to odd on the way keeps the
            # second rounding right: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008.
            nearest = exact.astype(np.float32)
            away = np.abs(nearest.astype(np.float64)) > np.abs(exact)
            below = np.where(away, np.nextafter(nearest, np.float32(0)), nearest)
            bits = below.view(np.uint32) | (below.astype(np.float64) != exact)
            rounded: Array = bits.astype(np.uint32).view(np.float32).astype(ml_dtypes.bfloat16)
        else:
            rounded = exact.astype(dtype.numpy())
        if not np.isfinite(rounded).all():
            raise CannotFoldError(f"the folded numbers overflow {dtype}")
    return rounded


def _scaled(tensor: Array, scale: Array, dtype: ir.DataType) -> Array:
    # The ufunc multiplies in float64 piece by piece, so that no float64 copy of large weights exists.
    with np.errstate(all="ignore"):
        if dtype == ir.DataType.BFLOAT16:
            rounded = round_to(tensor.astype(np.float64) * scale, dtype)
        else:
            rounded = np.empty(tensor.shape, dtype.numpy())
            np.multiply(tensor, scale, out=rounded, dtype=np.float64, casting="unsafe")
        if not np.isfinite(rounded).all():
            raise CannotFoldError(f"the folded numbers overflow {dtype}")
        smallest = float(ml_dtypes.finfo(dtype.numpy()).smallest_normal)  # type: ignore[no-untyped-call]
        largest = max(rounded.max(), -rounded.min()) if rounded.size else 0
        if largest < smallest and scale.any() and tensor.any():
            raise CannotFoldError(f"the folded numbers underflow {dtype}")
    return rounded


def _optional(node: ir.Node, index: int, dtype: ir.DataType) -> npt.NDArray[np.float64] | None:
    if len(node.inputs) <= index or node.inputs[index] is None:
        return None
    return weights(node, index, dtype).astype(np.float64)


def _with_shift(bias: Array | None, scale: Array, affine: Affine) -> dict[int, Array]:
    """The new bias ``scale * bias + shift`` at input 2; none where there was none and none is needed."""
    if bias is None:
        return {2: round_to(affine.shift, affine.dtype)} if affine.shift.any() else {}
    return {2: round_to(bias * scale + affine.shift, affine.dtype)}


def _expect(node: ir.Node, found: int, channels: int) -> None:
    if found != channels:
        raise CannotFoldError(f"{_title(node)} has {found} channels, not {channels}")


def _conv_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    kernel = weights(node, 1, affine.dtype)
    _expect(node, kernel.shape[0], affine.channels)
    scale = affine.scale.reshape(-1, *[1] * (kernel.ndim - 1))
    bias = _with_shift(_optional(node, 2, affine.dtype), affine.scale, affine)
    return Rewrite(node, {1: _scaled(kernel, scale, affine.dtype), **bias})


def _conv_transpose_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    kernel = weights(node, 1, affine.dtype)
    groups = node.attributes.get_int("group", 1)
    _expect(node, kernel.shape[1] * groups, affine.channels)
    inputs, outputs = kernel.shape[:2]
    grouped = kernel.reshape(groups, inputs // groups, outputs, -1)
    scale = affine.scale.reshape(groups, 1, outputs, 1)
    bias = _with_shift(_optional(node, 2, affine.dtype), affine.scale, affine)
    return Rewrite(node, {1: _scaled(grouped, scale, affine.dtype).reshape(kernel.shape), **bias})


def _gemm_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    matrix = weights(node, 1, affine.dtype)
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    _expect(node, matrix.shape[axis], affine.channels)
    scale = affine.scale[:, None] if axis == 0 else affine.scale
    bias = _optional(node, 2, affine.dtype)
    beta = node.attributes.get_float("beta", 1.0)
    folded = _with_shift(bias, beta * affine.scale, affine)
    return Rewrite(node, {1: _scaled(matrix, scale, affine.dtype), **folded}, dropped=("beta",))


def _matmul_outputs(node: ir.Node, affine: Affine) -> Rewrite:
    matrix = _right_matrix(node, affine.dtype)
    _expect(node, matrix.shape[1], affine.channels)
    bias = _with_shift(None, affine.scale, affine)
    op_type = "Gemm" if bias else None
    return Rewrite(node, {1: _scaled(matrix, affine.scale, affine.dtype), **bias}, op_type=op_type)


def _conv_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    padding = node.attributes.get_string("auto_pad", "NOTSET")
    pads = any(node.attributes.get_ints("pads", ()))
    if padding not in {"NOTSET", "VALID"} or (padding == "NOTSET" and pads):
        raise CannotFoldError(f"{_title(node)} pads with zeros, which the map does not keep")
    kernel = weights(node, 1, affine.dtype)
    groups = node.attributes.get_int("group", 1)
    outputs, inputs = kernel.shape[:2]
    _expect(node, inputs * groups, affine.channels)
    grouped = kernel.reshape(groups, outputs // groups, inputs, -1)
    scaled = _scaled(grouped, affine.scale.reshape(groups, 1, inputs, 1), affine.dtype).reshape(kernel.shape)
    taps = grouped.sum(axis=3, dtype=np.float64)
    shift = np.einsum("goi,gi->go", taps, affine.shift.reshape(groups, inputs)).reshape(-1)
    return Rewrite(node, {1: scaled, **_added(node, 1.0, shift, affine.dtype)}, changes_output=False)


def _gemm_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    if node.attributes.get_int("transA", 0):
        raise CannotFoldError(f"{_title(node)} transposes its input")
    matrix = weights(node, 1, affine.dtype)
    axis = 1 if node.attributes.get_int("transB", 0) else 0
    _expect(node, matrix.shape[axis], affine.channels)
    shift = node.attributes.get_float("alpha", 1.0) * _product(
        affine.shift, matrix if axis == 0 else matrix.T
    )
    beta = node.attributes.get_float("beta", 1.0)
    bias = _added(node, beta, shift, affine.dtype)
    scaled = _scaled(matrix, affine.scale[:, None] if axis == 0 else affine.scale, affine.dtype)
    return Rewrite(node, {1: scaled, **bias}, changes_output=False, dropped=("beta",) if bias else ())


def _matmul_inputs(node: ir.Node, affine: Affine) -> Rewrite:
    matrix = _right_matrix(node, affine.dtype)
    _expect(node, matrix.shape[0], affine.channels)
    bias = _added(node, 1.0, _product(affine.shift, matrix), affine.dtype)
    scaled = _scaled(matrix, affine.scale[:, None], affine.dtype)
    return Rewrite(node, {1: scaled, **bias}, changes_output=False, op_type="Gemm" if bias else None)


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


def _right_matrix(node: ir.Node, dtype: ir.DataType) -> Array:
    # In a stack of matrices axis 1 is a row number, not the channel.
    if 2 not in {rank(node.inputs[0]), rank(node.outputs[0])}:
        raise CannotFoldError(f"{_title(node)} is not known to multiply just two matrices")
    matrix = weights(node, 1, dtype)
    if matrix.ndim != 2:
        raise CannotFoldError(f"{_title(node)} does not have a matrix on the right")
    return matrix


def _title(node: ir.Node) -> str:
    return f"{node.op_type} {node.name}" if node.name else node.op_type


_AT_OUTPUTS: dict[str, Callable[[ir.Node, Affine], Rewrite]] = {
    "Conv": _conv_outputs,
    "ConvTranspose": _conv_transpose_outputs,
    "Gemm": _gemm_outputs,
    "MatMul": _matmul_outputs,
}

_AT_INPUTS: dict[str, Callable[[ir.Node, Affine], Rewrite]] = {
    "Conv": _conv_inputs,
    "Gemm": _gemm_inputs,
    "MatMul": _matmul_inputs,
}

"""Arithmetic with a constant as an affine map, and how it takes in another one.

x + c, x - c, c - x, x c, x / c and -x are maps s x + t if c is one number, or one number for each index of one axis
that is not the batch's. c / x is none; so is anything whose constant makes the result larger than x, or that differs
over more than one axis.

A map a(y) = s y + t after x + c, with c of any shape that broadcasts, is s x + (s c + t): the constant takes the
shift, and the scale goes on to what makes x. After x c it is (s c) x, if t is 0. In front of x + c only a map without
scale can be taken in, in front of x c only one without shift.
"""

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.affine import FLOATS, Affine, Array, CannotFoldError, Rewrite, round_to, titled, weights
from cnnport.graphs.values import constant, rank, static

_SUMS = frozenset({"Add", "Sub"})
_VERBS = {"Add": "add", "Div": "divide by", "Mul": "multiply with", "Sub": "subtract"}


def is_arithmetic(node: ir.Node) -> bool:
    """Whether a node adds, subtracts, multiplies or divides two values."""
    return not node.domain and node.op_type in _VERBS


def is_pointwise(node: ir.Node) -> bool:
    """Whether a node is arithmetic of one value and one constant."""
    if node.domain or len(node.inputs) not in {1, 2}:
        return False
    if node.op_type == "Neg":
        return constant(node.inputs[0]) is None
    if node.op_type not in _VERBS or node.attributes:
        return False
    return sum(constant(value) is not None for value in node.inputs) == 1


def operand_of(node: ir.Node) -> ir.Value:
    """What the arithmetic is done on: the input that is not constant."""
    value = node.inputs[_operand(node)]
    assert value is not None
    return value


def map_of(node: ir.Node) -> Affine:
    """The map that a pointwise node is.

    Raises:
        CannotFoldError: If it is none.
    """
    source = operand_of(node)
    if node.op_type == "Neg":
        dtype = source.dtype or node.outputs[0].dtype
        if dtype not in FLOATS:
            raise CannotFoldError(f"{titled(node)} is not known to be of a floating-point type")
        assert dtype is not None
        return Affine(-np.ones(1), np.zeros(1), dtype, None)
    place = 1 - _operand(node)
    tensor = constant(node.inputs[place])
    assert tensor is not None
    if tensor.dtype not in FLOATS:
        raise CannotFoldError(f"{titled(node)} does not calculate with floating-point numbers")
    if node.op_type == "Div" and place == 0:
        raise CannotFoldError(f"{titled(node)} divides by what it works on")
    numbers = tensor.numpy().astype(np.float64)
    axis = _axis(node, numbers, source)
    numbers = numbers.ravel()
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    with np.errstate(all="ignore"):
        if node.op_type == "Add":
            scale, shift = one, numbers
        elif node.op_type == "Sub":
            scale, shift = (one, -numbers) if place == 1 else (-one, numbers)
        else:
            scale, shift = numbers if node.op_type == "Mul" else one / numbers, zero
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise CannotFoldError(f"{titled(node)} gives no finite scale and shift")
    return Affine(scale, shift, tensor.dtype, axis)


def take_in_after(node: ir.Node, affine: Affine) -> tuple[Rewrite, Affine | None]:
    """A pointwise node with the map after it, and what is left to be done to its operand.

    Raises:
        CannotFoldError: If it cannot be done exactly.
    """
    place, numbers, (scale, shift) = _parts(node, affine)
    if node.op_type in _SUMS:
        added = scale * numbers + (-shift if node.op_type == "Sub" and place == 1 else shift)
        return Rewrite(node, {place: round_to(added, affine.dtype)}), affine.without_shift()
    if affine.shift.any():
        raise CannotFoldError(f"{titled(node)} cannot take in a shift")
    return Rewrite(node, {place: _factor(node, numbers, scale, affine.dtype)}, op_type="Mul"), None


def take_in_before(node: ir.Node, affine: Affine) -> Rewrite:
    """A pointwise node with the map in front of it.

    Raises:
        CannotFoldError: If it cannot be done exactly.
    """
    place, numbers, (scale, shift) = _parts(node, affine)
    if node.op_type in _SUMS:
        if (affine.scale != 1).any():
            raise CannotFoldError(f"{titled(node)} cannot take in a scale")
        added = numbers - shift if node.op_type == "Sub" else numbers + shift
        return Rewrite(node, {place: round_to(added, affine.dtype)}, changes_output=False)
    if affine.shift.any():
        raise CannotFoldError(f"{titled(node)} cannot take in a shift")
    factor = _factor(node, numbers, scale, affine.dtype)
    return Rewrite(node, {place: factor}, changes_output=False, op_type="Mul")


def round_factor(exact: Array, dtype: ir.DataType) -> Array:
    """Round what is multiplied with.

    Raises:
        CannotFoldError: If a number overflows, or has hardly a digit left.
    """
    smallest = float(ml_dtypes.finfo(dtype.numpy()).smallest_normal)  # type: ignore[no-untyped-call]
    rounded = round_to(exact, dtype)
    if ((exact != 0) & (np.abs(exact) < smallest)).any():
        raise CannotFoldError(f"the folded numbers underflow {dtype}")
    return rounded


def _operand(node: ir.Node) -> int:
    return next(index for index, value in enumerate(node.inputs) if constant(value) is None)


def _axis(node: ir.Node, numbers: Array, source: ir.Value) -> int | None:
    """The axis of ``source`` along which the constant differs; None if it is one number."""
    dims = rank(source)
    if numbers.ndim and (dims is None or numbers.ndim > dims):
        raise CannotFoldError(f"the file does not say on which axis {titled(node)} has its channels")
    axes = [axis for axis, size in enumerate(numbers.shape) if size != 1]
    if not axes:
        return None
    assert dims is not None
    axis = dims - numbers.ndim + axes[0]
    if len(axes) > 1 or axis == 0:
        raise CannotFoldError(f"the constant of {titled(node)} differs over more than channels")
    if static(source, axis) != numbers.size:
        raise CannotFoldError(f"the constant of {titled(node)} is not known to keep the shape")
    return axis


def _parts(
    node: ir.Node, affine: Affine
) -> tuple[int, npt.NDArray[np.float64], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """The constant's place, its numbers, and the map's scale and shift in a shape that broadcasts to the operand."""
    if not is_pointwise(node) or (node.op_type, _operand(node)) == ("Div", 1):
        raise CannotFoldError(f"{titled(node)} does not {_VERBS.get(node.op_type, 'use')} a constant")
    place = 1 - _operand(node)
    operand = operand_of(node)
    numbers = weights(node, place, affine.dtype).astype(np.float64)
    if affine.axis is not None:
        dims = rank(operand)
        if dims is None or dims < 2 or dims != rank(node.outputs[0]):
            raise CannotFoldError(f"the file does not say on which axis {titled(node)} has its channels")
        from_right = dims - affine.axis
        if numbers.ndim >= from_right and numbers.shape[-from_right] not in {1, affine.channels}:
            raise CannotFoldError(f"{titled(node)} adds something of another width")
    return place, numbers, affine.column(rank(operand))


def _factor(node: ir.Node, numbers: Array, scale: Array, dtype: ir.DataType) -> Array:
    with np.errstate(all="ignore"):
        return round_factor(scale / numbers if node.op_type == "Div" else scale * numbers, dtype)

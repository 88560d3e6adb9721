"""Per-channel affine maps, how they combine, and how folded numbers are rounded.

A map is a(x) = s x + t with one s and t for each index of one axis, which is the channels' axis, or with the same s
and t everywhere. All arithmetic is done in float64 and rounded once, to the type of the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.values import constant

Array: TypeAlias = npt.NDArray[Any]

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


class CannotFoldError(Exception):
    """Why a map cannot be taken in, as the end of a sentence. Never leaves a pass."""


@dataclass(frozen=True)
class Affine:
    """The map x -> scale * x + shift.

    Attributes:
        scale: One number a channel, float64; a single one where there are no channels.
        shift: As many numbers as ``scale``, float64.
        dtype: Element type of the tensors that it applies to.
        axis: The axis of the channels, counted from 0; None where the same numbers hold for every element.
    """

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    dtype: ir.DataType
    axis: int | None = 1

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self.scale)

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return bool((self.scale == 1).all()) and not self.shift.any()

    def over(self, channels: int) -> "Affine":
        """The same map with numbers for each of as many channels, where it holds for every element."""
        if self.axis is not None:
            return self
        return Affine(np.repeat(self.scale, channels), np.repeat(self.shift, channels), self.dtype)

    def along(self, axis: int) -> "Affine":
        """The same numbers on another axis."""
        return self if self.axis is None else Affine(self.scale, self.shift, self.dtype, axis)

    def part(self, start: int, stop: int) -> "Affine":
        """The map of channels ``start`` to ``stop``, the last one left out."""
        if self.axis is None:
            return self
        return Affine(self.scale[start:stop], self.shift[start:stop], self.dtype, self.axis)

    def within(self, before: int, after: int) -> "Affine":
        """The map where other channels lie before and after its own and stay as they are."""
        scale = np.pad(self.scale, (before, after), constant_values=1)
        return Affine(scale, np.pad(self.shift, (before, after)), self.dtype, self.axis)

    def repeated(self, times: int) -> "Affine":
        """The map of features that come ``times`` to a channel."""
        if self.axis is None:
            return self
        return Affine(np.repeat(self.scale, times), np.repeat(self.shift, times), self.dtype, self.axis)

    def without_shift(self) -> "Affine":
        """The same scale, and no shift."""
        return Affine(self.scale, np.zeros_like(self.shift), self.dtype, self.axis)

    def without_scale(self) -> "Affine":
        """The same shift, and a scale of 1."""
        return Affine(np.ones_like(self.scale), self.shift, self.dtype, self.axis)

    def then(self, later: "Affine") -> "Affine":
        """The map that is this one and ``later`` after it.

        Raises:
            CannotFoldError: If they are of different types, or of channels that are not the same.
        """
        if self.dtype != later.dtype:
            raise CannotFoldError(f"types are mixed: {self.dtype} and {later.dtype}")
        axes = {each.axis: each.channels for each in (self, later) if each.axis is not None}
        if len(axes) > 1 or (self.axis == later.axis and self.channels != later.channels):
            raise CannotFoldError("the channels are not on the same axis")
        with np.errstate(all="ignore"):
            scale = later.scale * self.scale
            shift = later.scale * self.shift + later.shift
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise CannotFoldError("together they give no finite scale and shift")
        return Affine(scale, shift, self.dtype, next(iter(axes), None))

    def column(self, dims: int | None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Scale and shift in a shape that broadcasts to tensors of ``dims`` dimensions.

        Raises:
            CannotFoldError: If there are channels, but not that many dimensions.
        """
        if self.axis is None:
            return self.scale.reshape(()), self.shift.reshape(())
        if dims is None or dims <= self.axis:
            raise CannotFoldError("the file does not say on which axis the channels are")
        shape = (-1, *[1] * (dims - 1 - self.axis))
        return self.scale.reshape(shape), self.shift.reshape(shape)


@dataclass(frozen=True)
class Rewrite:
    """What changes in one node; decided first for all nodes, then done.

    Attributes:
        node: The node, which keeps its name, metadata and outputs.
        constants: New constant inputs by their index.
        changes_output: Whether the node's outputs mean something else afterwards.
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
        raise CannotFoldError(f"input {index} of {titled(node)} is not constant")
    if tensor.dtype != dtype:
        raise CannotFoldError(f"input {index} of {titled(node)} is {tensor.dtype}, not {dtype}")
    return tensor.numpy()


def titled(node: ir.Node) -> str:
    """An operator within a sentence."""
    return f"{node.op_type} {node.name}" if node.name else node.op_type


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


def scaled(tensor: Array, scale: Array, dtype: ir.DataType) -> Array:
    """``tensor * scale``, rounded once.

    Raises:
        CannotFoldError: If a number overflows, or nothing is left of any.
    """
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

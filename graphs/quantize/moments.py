"""What is known of the numbers that a product multiplies its weights with.

A product gives each output a sum over columns: W x, with a row of weights for each output channel and a column x of
inputs for each position. A convolution unfolds its input into such columns, one for each place of its kernel. Its
groups are products of their own.

Column k of a group stands for channel k // taps of the group's inputs and for tap k % taps of the kernel, taps in
row-major order: as a Conv's weights lie in memory. The columns of a Gemm or MatMul are the features that it reads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.operators import DEFAULT_DOMAINS
from cnnport.graphs.values import constant


@dataclass(frozen=True, eq=False)
class InputMoments:
    """Moments of the unfolded input of one product, over positions and samples; what padding adds counts as zeros.

    Attributes:
        mean: groups x columns, float64: the mean of x.
        gram: groups x columns x columns: the mean of x x^T, positive semidefinite; None if it was not asked for, or
            there are too many columns.
    """

    mean: npt.NDArray[np.float64]
    gram: npt.NDArray[np.floating] | None = None


def unfolded_size(node: ir.Node) -> tuple[int, int] | None:
    """Groups and columns of a product's unfolded input; None for what is no Conv, Gemm or MatMul of constant weights.

    A ConvTranspose sums other taps at other positions, so it has no such columns.
    """
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.domain not in DEFAULT_DOMAINS or weight is None:
        return None
    sizes = tuple(int(size) for size in weight.shape.numpy())
    match node.op_type:
        case "Conv" if len(sizes) > 2:
            return node.attributes.get_int("group", 1), math.prod(sizes[1:])
        case "Gemm" if len(sizes) == 2 and not node.attributes.get_int("transA", 0):
            return 1, sizes[1 if node.attributes.get_int("transB", 0) else 0]
        case "MatMul" if len(sizes) == 2:
            return 1, sizes[0]
        case _:
            return None


@dataclass(frozen=True)
class Unfolding:
    """How the input of a product is unfolded. A matrix is a convolution of one tap over what are its rows.

    Attributes:
        groups: Of channels.
        columns: Inputs of one output, in each group.
        kernel: Taps on each axis of space.
        strides: Likewise.
        dilations: Likewise.
        pads: Zeros before and behind on each axis of space.
        auto_pad: As the attribute says; ``NOTSET`` where ``pads`` count.
        is_convolution: Whether channels are on axis 1, not on the last.
    """

    groups: int
    columns: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    auto_pad: str
    is_convolution: bool

    @classmethod
    def of(cls, node: ir.Node) -> "Unfolding":
        """That of a node for which there is an ``unfolded_size``."""
        size = unfolded_size(node)
        assert size is not None
        if node.op_type != "Conv":
            return cls(*size, (1,), (1,), (1,), ((0, 0),), "NOTSET", is_convolution=False)
        weight = constant(node.inputs[1])
        assert weight is not None
        kernel = tuple(int(each) for each in weight.shape.numpy()[2:])
        ones = [1] * len(kernel)
        attributes = node.attributes
        pads = list(attributes.get_ints("pads", ())) or [0] * 2 * len(kernel)
        return cls(
            *size,
            kernel,
            tuple(attributes.get_ints("strides", ones)),
            tuple(attributes.get_ints("dilations", ones)),
            tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)),
            attributes.get_string("auto_pad", "NOTSET"),
            is_convolution=True,
        )

    def padded(self, found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Samples x channels x space, with the zeros around it that the product takes in."""
        if not self.is_convolution:
            return found.reshape(len(found), -1, found.shape[-1]).swapaxes(1, 2)
        pads = self.pads
        if self.auto_pad != "NOTSET":
            pads = tuple(map(self._automatic, found.shape[2:], self.kernel, self.strides, self.dilations))
        return np.pad(found, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else found

    def sums(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The sum of the columns of all positions of all samples.

        Args:
            maps: As ``padded`` gives them.

        Returns:
            groups x columns.
        """
        found: npt.NDArray[np.float64] = maps.sum(axis=0, dtype=np.float64)
        sizes = self._sizes(maps.shape[2:])
        for axis in reversed(range(1, found.ndim)):
            place = axis - 1
            step, between = self.strides[place], self.dilations[place]
            last = step * (sizes[place] - 1) + 1
            index = (slice(None),) * axis
            found = np.stack(
                [
                    found[(*index, slice(tap * between, tap * between + last, step))].sum(axis=axis)
                    for tap in range(self.kernel[place])
                ],
                axis=axis,
            )
        return found.reshape(self.groups, self.columns)

    def count(self, space: Sequence[int]) -> int:
        """How many positions maps of so much space have, padding included."""
        return math.prod(self._sizes(space))

    def columns_at(
        self, one: npt.NDArray[np.float32], positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """The columns of some positions of one sample.

        Args:
            one: As ``padded`` gives it.
            positions: Numbered in row-major order.

        Returns:
            groups x positions x columns.
        """
        space = one.shape[1:]
        places = np.unravel_index(positions, self._sizes(space))
        taps = np.unravel_index(np.arange(math.prod(self.kernel)), self.kernel)
        corners = np.ravel_multi_index(
            tuple(place * step for place, step in zip(places, self.strides, strict=True)), space
        )
        offsets = np.ravel_multi_index(
            tuple(tap * between for tap, between in zip(taps, self.dilations, strict=True)), space
        )
        found = one.reshape(len(one), -1).take(corners[:, None] + offsets, axis=1)
        groups = found.reshape(self.groups, -1, *found.shape[1:]).transpose(0, 2, 1, 3)
        return groups.reshape(self.groups, len(positions), self.columns)

    def _sizes(self, space: Sequence[int]) -> tuple[int, ...]:
        each = zip(space, self.kernel, self.strides, self.dilations, strict=True)
        return tuple((size - (taps - 1) * between - 1) // step + 1 for size, taps, step, between in each)

    def _automatic(self, size: int, taps: int, step: int, between: int) -> tuple[int, int]:
        if self.auto_pad == "VALID":
            return 0, 0
        total = max((-(-size // step) - 1) * step + (taps - 1) * between + 1 - size, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)

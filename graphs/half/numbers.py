"""What is left of a constant's numbers in a half format."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cnnport.graphs.half.formats import Array, HalfFormat
from cnnport.graphs.values import constant

# A constant that loses more than this share of its Euclidean norm is not rounded but damaged: each number that stays
# normal loses at most 2^-11 of itself, so that it takes numbers below 2^-14 that make up the constant.
_LOST_SHARE = 2.0**-8

# For these, a bound beyond the format's range is no bound, and the largest number stands for it exactly.
_BOUNDS = {"Clip": (1, 2), "Max": None, "Min": None}

# Where a constant is added to something, what it loses is small beside that; a lone number may be all there is
# between something and a division by zero.
_ADDED = {"Add": (0, 1), "Sub": (0, 1), "Conv": (2,), "ConvTranspose": (2,), "Gemm": (2,)}
_SHIFTS = {"BatchNormalization": (2, 3)}

_BLOCK = 2**22


@dataclass(frozen=True)
class Loss:
    """How a constant fares in a half format.

    Attributes:
        overflows: How many finite numbers of it would be infinite.
        vanishes: How many numbers other than zero would be zero.
        weakened: How many others have fewer bits than the format's, being below its smallest normal number.
        share: Of its Euclidean norm, what rounding takes.
        largest: Its largest finite magnitude.
    """

    overflows: int
    vanishes: int
    weakened: int
    share: float
    largest: float


def loss_of(array: Array, half: HalfFormat) -> Loss:
    """Compare a constant with its rounded form."""
    overflows = vanishes = weakened = 0
    lost = whole = largest = 0.0
    flat = np.asarray(array, np.float32).reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        if not np.isfinite(block).all():
            block = block[np.isfinite(block)]
        rounded = half.round(block).astype(np.float32)
        size = np.abs(block)
        largest = max(largest, float(size.max(initial=0.0)))
        overflows += int(np.count_nonzero(np.isinf(rounded)))
        vanishes += int(np.count_nonzero((rounded == 0) & (size > 0)))
        weakened += int(np.count_nonzero((size < half.smallest_normal) & (rounded != 0)))
        # In float64, where squares do not vanish.
        np.clip(rounded, -half.largest, half.largest, out=rounded)
        off = (rounded - block).astype(np.float64)
        lost += float(np.dot(off, off))
        wide = block.astype(np.float64)
        whole += float(np.dot(wide, wide))
    return Loss(overflows, vanishes, weakened, float(np.sqrt(lost / whole)) if whole else 0.0, largest)


def is_bound(node: ir.Node, index: int) -> bool:
    """Whether an input of a node bounds others, so that a number beyond the range may be the largest instead."""
    if node.op_type not in _BOUNDS:
        return False
    places = _BOUNDS[node.op_type]
    return places is None or index in places


def damage(node: ir.Node, index: int, loss: Loss) -> str | None:
    """Why a node cannot read a constant as halves; None if it can.

    Args:
        node: Of the default domain.
        index: Of the input.
        loss: Of the constant.
    """
    name = node.inputs[index].name if node.inputs[index] is not None else ""  # type: ignore[union-attr]
    if loss.overflows and not is_bound(node, index):
        return f"constants beyond the largest number: {name} holds {loss.largest:.3g}"
    if loss.share > _LOST_SHARE and not loss.overflows and not _is_negligible(node, index):
        return f"constants near zero: {name} loses {loss.share:.0%} of itself"
    return None


def _is_negligible(node: ir.Node, index: int) -> bool:
    if index in _SHIFTS.get(node.op_type, ()):
        return True
    tensor = constant(node.inputs[index])
    return index in _ADDED.get(node.op_type, ()) and tensor is not None and tensor.size > 1


def rounded(array: Array, half: HalfFormat, *, saturate: bool) -> Array:
    """A constant in the half format; with ``saturate``, finite numbers beyond its range become its largest."""
    if saturate:
        array = np.where(np.isfinite(array), np.clip(array, -half.largest, half.largest), array)
    return half.round(array)

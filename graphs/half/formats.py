"""The two formats of 16 bits, and rounding to them."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class HalfFormat:
    """A format of 16 bits.

    Attributes:
        name: As ``--precision`` takes it.
        dtype: As ONNX knows it.
        largest: The largest finite number.
        smallest_normal: Below it, numbers have fewer bits than the format's.
        roundoff: Largest relative error of a number that is rounded to the nearest.
        is_narrow: Whether float32 holds much larger and smaller numbers than it.
    """

    name: str
    dtype: ir.DataType
    largest: float
    smallest_normal: float
    roundoff: float
    is_narrow: bool

    @property
    def tensor(self) -> str:
        """As the standard writes the type of a tensor of such numbers."""
        return f"tensor({self.dtype.name.lower()})"

    def round(self, array: Array) -> Array:
        """Every number as the nearest of the format; what is too large becomes infinite."""
        with np.errstate(all="ignore"):
            return array.astype(self.dtype.numpy())


FP16 = HalfFormat("fp16", ir.DataType.FLOAT16, 65504.0, 2.0**-14, 2.0**-11, is_narrow=True)
BF16 = HalfFormat(
    "bf16",
    ir.DataType.BFLOAT16,
    float(ml_dtypes.finfo(ml_dtypes.bfloat16).max),  # type: ignore[no-untyped-call]
    2.0**-126,
    2.0**-8,
    is_narrow=False,
)

FORMATS = MappingProxyType({"fp16": FP16, "bf16": BF16})
"""By name."""

HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})

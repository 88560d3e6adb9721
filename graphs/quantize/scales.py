"""From ranges of real numbers to scales and zero points.

A number q of 8 bits stands for x = scale (q - zero_point). Asymmetric, the 256 levels of uint8 are spread over the
range, and one of them is 0 exactly; symmetric, those from -127 to 127 of int8 over the larger side of the range,
and 0 is the one in the middle.

What is fastest is measured, with one thread: ONNX Runtime's integer convolution on x86 takes uint8 for free and
loses most of its gain with int8. OpenVINO takes either, but for zero points other than 0 it has to correct every
sum: ShuffleNet v2 took 1.68 ms with them and 1.55 ms without, ResNet-50 and SE-ResNet-50 as long either way.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from cnnport.graphs.quantize.ranges import ValueRange

_UINT8_LEVELS = 255
_INT8_LEVELS = 127

# Below it a scale has fewer digits than others, and its products with those of weights vanish.
_LEAST_SCALE = {ir.DataType.FLOAT: 1e-18, ir.DataType.FLOAT16: 6.2e-5}


@dataclass(frozen=True)
class Quantizer:
    """Scale and zero point of one value.

    Attributes:
        scale: Positive; a number that its type holds exactly.
        zero_point: The level that stands for 0.
        dtype: UINT8 or INT8.
        scale_dtype: FLOAT, or FLOAT16 in a graph of that.
    """

    scale: float
    zero_point: int
    dtype: ir.DataType
    scale_dtype: ir.DataType = ir.DataType.FLOAT

    @property
    def range(self) -> ValueRange:
        """The numbers that the first and the last level stand for."""
        first, last = (0, _UINT8_LEVELS) if self.dtype == ir.DataType.UINT8 else (-128, _INT8_LEVELS)
        return ValueRange(self.scale * (first - self.zero_point), self.scale * (last - self.zero_point))


def asymmetric(found: ValueRange, scale_dtype: ir.DataType = ir.DataType.FLOAT) -> Quantizer:
    """The uint8 levels over a range."""
    scale = _scale((found.high - found.low) / _UINT8_LEVELS, scale_dtype)
    zero_point = int(np.clip(np.rint(-found.low / scale), 0, _UINT8_LEVELS))
    return Quantizer(scale, zero_point, ir.DataType.UINT8, scale_dtype)


def symmetric(found: ValueRange, scale_dtype: ir.DataType = ir.DataType.FLOAT) -> Quantizer:
    """The int8 levels over the larger side of a range, and as much of the other."""
    scale = _scale(max(-found.low, found.high) / _INT8_LEVELS, scale_dtype)
    return Quantizer(scale, 0, ir.DataType.INT8, scale_dtype)


def unsigned_or_symmetric(found: ValueRange, scale_dtype: ir.DataType = ir.DataType.FLOAT) -> Quantizer:
    """The uint8 levels over a range without negative numbers, the int8 levels around 0 over any other."""
    return (symmetric if found.low < 0 else asymmetric)(found, scale_dtype)


def _scale(wanted: float, dtype: ir.DataType) -> float:
    """The number of a type that is nearest below; 1 where there is nothing to tell apart.

    Above it, the last level would lie past a bound that it is to take the place of.
    """
    if wanted == 0:
        return 1.0
    numpy_type = dtype.numpy()
    wanted = max(wanted, _LEAST_SCALE[dtype])
    scale: Any = np.asarray(wanted).astype(numpy_type)
    # A product of type float32 with the number of levels rounds as well.
    while float(scale) > wanted or float(scale * numpy_type.type(_UINT8_LEVELS)) > wanted * _UINT8_LEVELS:
        scale = np.nextafter(scale, numpy_type.type(0))
    return float(scale)

"""The interval of real numbers that the levels of a quantized tensor are spread over."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ValueRange:
    """What a tensor's quantized type has to reach; numbers outside it saturate.

    Zero always lies within: padding and the output of a Relu need it, and a zero point can only stand for it then.

    Attributes:
        low: Least number, at most 0.
        high: Greatest number, at least 0.
    """

    low: float
    high: float

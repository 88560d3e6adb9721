"""Operators beside the product's own: one of another domain, and one that onnx's reference has from opset 19 only."""

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from cnnport.graphs.reference_operators import OPERATORS as STANDARD

Array = np.ndarray[Any, Any]


class QuickGelu(OpRun):
    """x sigmoid(alpha x)."""

    op_domain = "com.microsoft"

    def _run(self, x: Array, alpha: float = 1.702) -> tuple[Array]:
        return (x / (1 + np.exp(-alpha * x)),)


class DequantizeLinear(OpRun):
    """One scale for all."""

    def _run(self, x: Array, scale: Array, zero: Array | None = None, **_: Any) -> tuple[Array]:
        if scale.size != 1:
            raise NotImplementedError("DequantizeLinear with several scales")
        zeros = 0 if zero is None else zero.astype(scale.dtype)
        return (((x.astype(scale.dtype) - zeros) * scale).astype(scale.dtype),)


OPERATORS = (QuickGelu, DequantizeLinear, *STANDARD)

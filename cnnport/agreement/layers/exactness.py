"""Whether a small departure in float32 is rounding, and whether a file or a runtime is at fault for a larger one.

The candidate's piece is computed in float64 as the standard defines its operators, and the reference's piece too.
Where the two agree, the files say the same, and what departs is how the runtime rounds or that it computes wrongly.
"""

from typing import TYPE_CHECKING

import numpy as np

from cnnport.agreement.layers.distance import BOUNDS, distance
from cnnport.agreement.layers.graph import Array, Arrays
from cnnport.float64 import run_in_float64

if TYPE_CHECKING:
    import onnx

# What rounding alone may do to a layer in float32, in standard deviations.
_ROUNDING = 1e-3

# Beyond so many multiplications the definitions take longer than it is worth.
_MOST_NUMBERS = 2**23


def cause_of(
    candidate: "onnx.ModelProto",
    reference: "onnx.ModelProto | None",
    feeds: Arrays,
    expected: Array,
    found: Array,
) -> str:
    """``rounding``, ``file`` or ``runtime``; empty where it cannot be told.

    Args:
        candidate: The piece, with all of its weights inside.
        reference: The reference's, likewise; None where there is none.
        feeds: What the piece reads, one sample.
        expected: The reference's value.
        found: The candidate's.
    """
    if expected.shape != found.shape or expected.size > _MOST_NUMBERS:
        return ""
    exact = _exact(candidate, feeds)
    if exact is None or exact.shape != found.shape:
        return ""
    said = exact if reference is None else _exact(reference, feeds)
    from_file = distance(exact, found)
    if reference is not None and said is not None and said.shape == exact.shape:
        is_same = distance(said, exact).score("fp32") <= 1
    else:
        is_same = distance(exact, expected).peak <= max(2 * from_file.peak, BOUNDS["fp32"])
    if not is_same:
        return "file"
    return "rounding" if distance(expected, found).peak <= _ROUNDING else "runtime"


def _exact(model: "onnx.ModelProto", feeds: Arrays) -> Array | None:
    found = run_in_float64(model, {name: np.asarray(value) for name, value in feeds.items()})
    return None if found is None else next(iter(found.values()))

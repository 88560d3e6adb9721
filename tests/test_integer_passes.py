"""What is done to a graph for integer kernels, before and after. The cases are those of the passes' docstrings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.integer.fill_input_channels import fill_input_channels
from cnnport.graphs.integer.hard_by_convolution import hard_by_convolution
from cnnport.graphs.integer.norm_by_convolution import norm_by_convolution
from cnnport.graphs.integer.pool_by_convolution import pool_by_convolution
from cnnport.graphs.quantize.preparation import PREPARATION
from cnnport.graphs.quantize.rules import RULES
from quantize_graphs import Constants, decibels, fused, images, model_of, quantized, run


@dataclass(frozen=True)
class Case:
    """A graph, and its operators afterwards; none where it stays as it is."""

    id: str
    each: Callable[[ir.Model], int]
    text: str
    constants: Constants
    ops: dict[str, int] | None = None


NORM = dict.fromkeys(("scale", "shift", "mean"), (8,)) | {"var": np.linspace(0.5, 2, 8, dtype=np.float32)}

CASES = (
    Case(
        "norm",
        norm_by_convolution,
        """g (float[N, 8, 5, 6] x) => (float[N, 8, 5, 6] y) {
            n = BatchNormalization <epsilon = 0.01> (x, scale, shift, mean, var)  y = Relu (n)
        }""",
        NORM,
        {"Conv": 1, "Relu": 1},
    ),
    Case(
        "norm of features",
        norm_by_convolution,
        "g (float[N, 8] x) => (float[N, 8] y) { y = BatchNormalization (x, scale, shift, mean, var) }",
        NORM,
    ),
    Case(
        "norm of unknown channels",
        norm_by_convolution,
        "g (float[N, C, 5, 6] x) => (float[N, C, 5, 6] y) { y = BatchNormalization (x, scale, shift, mean, var) }",
        NORM,
    ),
    Case(
        "norm of computed numbers",
        norm_by_convolution,
        """g (float[N, 8, 5, 6] x, float[8] shift) => (float[N, 8, 5, 6] y) {
            y = BatchNormalization (x, scale, shift, mean, var)
        }""",
        {name: given for name, given in NORM.items() if name != "shift"},
    ),
    Case(
        "pool",
        pool_by_convolution,
        """g (float[N, 8, 7, 6] x) => (float[N, 8, 4, 3] y) {
            y = AveragePool <kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 0], count_include_pad = 1> (x)
        }""",
        {},
        {"Conv": 1},
    ),
    *(
        Case(
            f"pool {attributes}",
            pool_by_convolution,
            f"g (float[N, 8, 8, 8] x) => (float[N, 8, H, W] y) {{ y = AveragePool <{attributes}> (x) }}",
            {},
        )
        for attributes in (
            "kernel_shape = [3, 3], pads = [1, 1, 1, 1]",
            "kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1",
            "kernel_shape = [3, 3], dilations = [2, 2]",
            'kernel_shape = [3, 3], auto_pad = "SAME_UPPER", count_include_pad = 1',
        )
    ),
    Case(
        "swish",
        hard_by_convolution,
        "g (float[N, 8, 5, 6] x) => (float[N, 8, 5, 6] y) { a = Conv (x, w)  y = HardSwish (a) }",
        {"w": (8, 8, 1, 1)},
        {"Clip": 1, "Conv": 2, "Mul": 1},
    ),
    Case(
        "gate into its convolution",
        hard_by_convolution,
        """g (float[N, 8, 5, 6] x) => (float[N, 8, 5, 6] y) {
            a = Conv (x, w, b)  y = HardSigmoid <alpha = 0.1666666> (a)
        }""",
        {"w": (8, 8, 1, 1), "b": (8,)},
        {"Clip": 1, "Conv": 1},
    ),
    Case(
        "gate of what others read",
        hard_by_convolution,
        """g (float[N, 8, 5, 6] x) => (float[N, 8, 5, 6] y) {
            a = Conv (x, w, b)  h = HardSigmoid (a)  y = Mul (a, h)
        }""",
        {"w": (8, 8, 1, 1), "b": (8,)},
        {"Clip": 1, "Conv": 2, "Mul": 1},
    ),
    Case(
        "swish of features",
        hard_by_convolution,
        "g (float[N, 8] x) => (float[N, 8] y) { y = HardSwish (x) }",
        {},
    ),
    Case(
        "image",
        fill_input_channels,
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 4, 4] y, float[N, 6, 8, 8] z) {
            y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)  z = Conv (x, v)
        }""",
        {"w": (4, 3, 3, 3), "b": (4,), "v": (6, 3, 1, 1)},
        {"Conv": 2, "Pad": 1},
    ),
    Case(
        "image that others read",
        fill_input_channels,
        "g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { a = Conv (x, w)  y = Add (a, x) }",
        {"w": (3, 3, 1, 1)},
    ),
    Case(
        "image of one channel",
        fill_input_channels,
        "g (float[N, 1, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Conv (x, w) }",
        {"w": (3, 1, 1, 1)},
    ),
    Case(
        "image in groups",
        fill_input_channels,
        "g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Conv <group = 3> (x, w) }",
        {"w": (3, 1, 1, 1)},
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_before_and_after(case: Case) -> None:
    before = model_of(case.text, case.constants)
    after, (report, *_) = optimize(before, [case.each])
    if case.ops is None:
        assert (after, report.rewrites) == (before, 0)
        return
    assert report.refused is None
    assert count_ops(after) == case.ops
    feeds = images(before)
    np.testing.assert_allclose(
        run(after, feeds, optimize=False), run(before, feeds, optimize=False), rtol=1e-5, atol=1e-5
    )
    again, (repeated, *_) = optimize(after, [case.each])
    assert (again, repeated.rewrites) == (after, 0)


def test_every_target_has_its_preparation() -> None:
    assert set(PREPARATION) == set(RULES)


NETWORK = """g (float[N, 3, 16, 16] x) => (float[N, 5] y) {
    a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, aw, ab)  h = HardSwish (a)
    b = Conv <pads = [1, 1, 1, 1]> (h, bw)  j = Concat <axis = 1> (h, b)
    n = BatchNormalization (j, scale, shift, mean, var)  r = Relu (n)
    c = Conv (r, cw)  p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    g = GlobalAveragePool (p)  q = Conv (g, qw, qb)  k = HardSigmoid (q)  m = Mul (p, k)
    d = Conv (m, dw)  s = GlobalAveragePool (d)  f = Flatten (s)  y = Gemm <transB = 1> (f, yw)
}"""
CONSTANTS: Constants = {
    "aw": (16, 3, 3, 3),
    "ab": (16,),
    "bw": (16, 16, 3, 3),
    "scale": (32,),
    "shift": (32,),
    "mean": (32,),
    "var": np.linspace(0.5, 2, 32, dtype=np.float32),
    "cw": (16, 32, 1, 1),
    "qw": (16, 16, 1, 1),
    "qb": (16,),
    "dw": (16, 16, 1, 1),
    "yw": (5, 16),
}


def test_everything_between_image_and_scores_is_computed_in_integers(tmp_path: Path) -> None:
    before = model_of(NETWORK, CONSTANTS)
    prepared, reports = optimize(before, PREPARATION["ort"])
    assert [report.rewrites for report in reports if report.rewrites] == [1, 1, 2, 1]
    made, report = quantized(prepared, "ort")
    assert [each.operator for each in report.left] == ["Pad"]
    found = fused(made, str(tmp_path / "fused.onnx"))
    assert found.pop("Pad") == found.pop("QuantizeLinear") == 1
    found.pop("Transpose", None)
    assert set(found) == {
        "QLinearConv",
        "QLinearMul",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "Flatten",
        "QGemm",
    }
    # The images that the ranges come from: others may saturate.
    feeds = images(before, 8, seed=7)
    assert decibels(run(before, feeds), run(made, feeds)) > 20
    # Without preparation it goes to floats and back.
    plain, _ = quantized(before, "ort")
    assert fused(plain, str(tmp_path / "plain.onnx"))["DequantizeLinear"] > 3


def test_a_planted_fault_is_seen() -> None:
    """A map with another factor than that of HardSwish is not HardSwish."""
    swish = next(case for case in CASES if case.id == "swish")
    before = model_of(swish.text, swish.constants)
    after, _ = optimize(before, [hard_by_convolution])
    wrong = onnx.ModelProto()
    wrong.CopyFrom(after)
    weight = next(tensor for tensor in wrong.graph.initializer if tensor.name.endswith("_weight"))
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.2)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    feeds = images(before)
    assert decibels(run(before, feeds), run(after, feeds)) > 100
    assert decibels(run(before, feeds), run(wrong, feeds)) < 40

"""unwrap_gemm before and after, on graphs in ONNX text. The numbers are those of its docstring."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.layout.unwrap_gemm import unwrap_gemm


@dataclass(frozen=True)
class Case:
    """Reshape, Gemm, Reshape from ``x``, N x 4 x 6 x 3 unless told otherwise, to ``y``.

    Attributes:
        id: The rule's number and what it shows.
        gemm: The Gemm from ``r`` to ``p``.
        left: Operators afterwards; the same as before where it must not fire.
        shapes: Of random constants.
        rows: Target of the first Reshape.
        target: Target of the second one.
        source: The type of ``x``.
        result: The type of ``y``.
        more: Further nodes.
    """

    id: str
    gemm: str
    left: dict[str, int] | None
    shapes: dict[str, tuple[int, ...]]
    rows: list[int] = field(default_factory=lambda: [-1, 3])
    target: list[int] = field(default_factory=lambda: [-1, 4, 6, 5])
    source: str = "float[N, 4, 6, 3]"
    result: str = "float[N, 4, 6, 5]"
    more: str = ""


BOTH, ONE = {"Add": 1, "MatMul": 1}, {"MatMul": 1}
W = {"w": (3, 5)}
CASES = (
    Case("1-batch-open", "Gemm (r, w, c)", BOTH, {**W, "c": (5,)}),
    Case("1-another-axis-open", "Gemm (r, w)", ONE, W, [-1, 3], [2, 4, -1, 5],
         "float[2, 4, W, 3]", "float[2, 4, W, 5]"),
    Case("1-all-given", "Gemm (r, w)", ONE, W, [48, 3], [2, 4, 6, 5], "float[2, 4, 6, 3]", "float[2, 4, 6, 5]"),
    Case("1-three-axes", "Gemm (r, w)", ONE, W, [-1, 3], [-1, 4, 5], "float[N, 4, 3]", "float[N, 4, 5]"),
    Case(
        "2-scaled",
        "Gemm <transB = 1, alpha = 0.5, beta = -2.0> (r, w, c)",
        BOTH,
        {"w": (5, 3), "c": (1, 5)},
    ),
    Case("2-one-number", "Gemm (r, w, c)", BOTH, {**W, "c": ()}),
    Case("3-beta-zero", "Gemm <beta = 0.0> (r, w, c)", ONE, {**W, "c": (5,)}),
    Case("10-two-open", "Gemm (r, w)", None, W, source="float[N, H, 6, 3]", result="float[A, 4, 6, 5]"),
    Case("10-other-axes", "Gemm (r, w)", None, W, target=[-1, 6, 4, 5], result="float[N, 6, 4, 5]"),
    Case("10-other-number", "Gemm (r, w)", None, W, target=[-1, 24, 5], result="float[N, 24, 5]"),
    Case("10-other-rows", "Gemm (r, w)", None, {"w": (6, 5)}, [-1, 6], [-1, 4, 3, 5], result="float[N, 4, 3, 5]"),
    Case("11-transposed", "Gemm <transA = 1> (r, w)", None, {"w": (48, 5)}, [48, 3], [1, 1, 3, 5],
         "float[2, 4, 6, 3]", "float[1, 1, 3, 5]"),
    Case("11-number-for-each-row", "Gemm (r, w, c)", None, {**W, "c": (48, 1)}, [48, 3], [2, 4, 6, 5],
         "float[2, 4, 6, 3]", "float[2, 4, 6, 5]"),
    Case("12-read-elsewhere", "Gemm (r, w)", None, W, more="z = Relu (p)"),
    Case("12-rows-read-elsewhere", "Gemm (r, w)", None, W, more="z = Relu (r)"),
)  # fmt: skip


def model_of(case: Case) -> onnx.ModelProto:
    other = ", float[R, S] z" if case.more else ""
    body = f"r = Reshape (x, rows)  p = {case.gemm}  y = Reshape (p, target)  {case.more}"
    text = f"g ({case.source} x) => ({case.result} y{other}) {{ {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    rng = np.random.default_rng(0)
    for name, shape in case.shapes.items():
        array = np.asarray(rng.normal(size=shape), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, numbers in (("rows", case.rows), ("target", case.target)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def check(case: Case) -> onnx.ModelProto:
    before = model_of(case)
    after, (report, *_) = optimize(before, [unwrap_gemm])
    assert report.refused is None
    assert count_ops(after) == case.left
    assert len(after.graph.initializer) == sum(case.left.values())
    sizes = [dim.dim_value or 2 for dim in before.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=sizes).astype(np.float32)
    found, expected = (ReferenceEvaluator(model).run(None, {"x": x})[0] for model in (after, before))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert optimize(after, [unwrap_gemm])[0] is after
    return after


@pytest.mark.parametrize("case", [case for case in CASES if case.left], ids=lambda case: case.id)
def test_fires(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.left is None], ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [unwrap_gemm])
    assert report.refused is None
    assert after is before


def test_a_constant_that_a_caller_may_override_stays() -> None:
    before = model_of(CASES[0])
    before.graph.input.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [5]))
    assert optimize(before, [unwrap_gemm])[0] is before


def test_an_unproven_restoring_gives_its_reason() -> None:
    case = next(case for case in CASES if case.id == "10-two-open")
    _, (report, *_) = optimize(model_of(case), [unwrap_gemm])
    assert "do not prove" in report.left[0].reason


def test_a_forgotten_alpha_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: constants that are not scaled."""
    monkeypatch.setattr(
        "cnnport.graphs.layout.unwrap_gemm.round_to", lambda exact, dtype: np.abs(exact).astype(np.float32)
    )
    with pytest.raises(AssertionError):
        check(next(case for case in CASES if case.id == "2-scaled"))

"""clean_reshapes before and after, on graphs in ONNX text. The numbers are those of its docstring."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.clean.clean_reshapes import clean_reshapes
from cnnport.graphs.clean.fold_shapes import fold_shapes


@dataclass(frozen=True)
class Case:
    """Nodes from ``x``, N x 4 x 3 x 1 unless told otherwise, to ``y``.

    Attributes:
        id: The rule's number and what it shows.
        body: The nodes; a word that begins with "to" or "axes" is one of ``integers``.
        left: Operators afterwards; None where nothing must happen.
        y: The type of ``y``.
        integers: Targets and axes.
        x: The type of ``x``.
        target: Of the Reshape that is left.
        opset: Of the file.
    """

    id: str
    body: str
    left: dict[str, int] | None
    y: str
    integers: dict[str, list[int]] = field(default_factory=dict)
    x: str = "float[N, 4, 3, 1]"
    target: list[int] | None = None
    opset: int = 18


RESHAPE, FLATTEN = {"Reshape": 1}, {"Flatten": 1}
CASES = (
    Case("1-no-copies", "a = Reshape (x, to)  y = Reshape (a, to2)", RESHAPE, "float[N, 2, 6]",
         {"to": [0, 12], "to2": [-1, 2, 6]}, target=[-1, 2, 6]),
    Case("1-batch-copied-twice", "a = Reshape (x, to)  y = Reshape (a, to2)", RESHAPE, "float[N, 2, 6]",
         {"to": [0, -1], "to2": [0, 2, 6]}, target=[0, 2, 6]),
    Case("1-batch-left-over", "a = Reshape (x, to)  y = Reshape (a, to2)", RESHAPE, "float[M, 2, 3]",
         {"to": [-1, 6], "to2": [0, 2, 3]}, target=[-1, 2, 3]),
    Case("1-batch-left-over-and-flattened", "a = Reshape (x, to)  y = Flatten (a)", RESHAPE, "float[M, 6]",
         {"to": [-1, 2, 3]}, target=[-1, 6]),
    Case("1-known-size-copied", "a = Reshape (x, to)  y = Reshape (a, to2)", RESHAPE, "float[N, 6, 2]",
         {"to": [-1, 6, 2, 1], "to2": [-1, 0, 2]}, target=[-1, 6, 2]),
    Case("1-after-squeeze", "a = Squeeze (x, axes)  y = Reshape (a, to)", FLATTEN, "float[N, 12]",
         {"axes": [3], "to": [0, -1]}),
    Case("1-after-unsqueeze", "a = Unsqueeze (x, axes)  y = Flatten (a)", FLATTEN, "float[N, 12]", {"axes": [-1]}),
    Case("1-three", "a = Flatten (x)  b = Unsqueeze (a, axes)  y = Reshape (b, to)", RESHAPE, "float[N, 3, 4]",
         {"axes": [1], "to": [0, 3, 4]}, target=[0, 3, 4]),
    Case("1-whole-in-one-row", "a = Flatten (x)  y = Flatten <axis = 0> (a)", RESHAPE, "float[1, M]",
         target=[1, -1]),
    Case("1-unsqueezed-behind", "a = Reshape (x, to)  y = Unsqueeze (a, axes)", RESHAPE, "float[N, 4, 3, 1]",
         {"to": [0, 4, 3], "axes": [-1]}, target=[0, 4, 3, 1]),
    Case("1-copies-that-move", "a = Reshape (x, to)  y = Unsqueeze (a, axes)", RESHAPE, "float[1, N, 4, 1, 3]",
         {"to": [0, 0, 3], "axes": [0, 3]}, target=[1, -1, 4, 1, 3]),
    Case("1-flattened-and-unsqueezed", "a = Flatten (x)  y = Unsqueeze <axes = [2]> (a)", RESHAPE,
         "float[N, 12, 1]", target=[0, -1, 1], opset=11),
    Case("1-squeezed-behind", "a = Reshape (x, to)  y = Squeeze (a, axes)", RESHAPE, "float[N, 3, 4]",
         {"to": [0, 1, 3, -1], "axes": [1]}, target=[0, 3, -1]),
    Case("2-after-global-pooling", "a = GlobalAveragePool (x)  y = Reshape (a, to)",
         {"Flatten": 1, "GlobalAveragePool": 1}, "float[N, 4]", {"to": [-1, 4]}),
    Case("2-rest-left-over", "y = Reshape (x, to)", FLATTEN, "float[N, F]", {"to": [0, -1]}, "float[N, 4, H, W]"),
    Case("2-both-sizes", "y = Reshape (x, to)", FLATTEN, "float[2, 12]", {"to": [2, 12]}, "float[2, 4, 3, 1]"),
    Case("3-undone", "a = Squeeze (x, axes)  b = Unsqueeze (a, axes)  y = Relu (b)", {"Relu": 1},
         "float[N, 4, 3, 1]", {"axes": [3]}),
    Case("3-undone-of-an-old-opset", "a = Unsqueeze <axes = [0, 2]> (x)  b = Squeeze <axes = [0, -4]> (a)"
         "  y = Relu (b)",
         {"Relu": 1}, "float[N, 4, 3, 1]", opset=11),
    Case("3-more-unsqueezed", "a = Unsqueeze (x, axes)  y = Unsqueeze (a, axes2)", {"Unsqueeze": 1},
         "float[1, N, 4, 1, 3, 1]", {"axes": [2], "axes2": [0]}),
    Case("3-more-squeezed", "a = Squeeze <axes = [3]> (x)  y = Squeeze <axes = [0]> (a)", {"Squeeze": 1},
         "float[4, 3]", x="float[1, 4, 3, 1]", opset=11),
    Case("3-one-less", "a = Unsqueeze (x, axes)  y = Squeeze (a, axes2)", {"Squeeze": 1}, "float[N, 4, 3]",
         {"axes": [4], "axes2": [3, 4]}),
    Case("4-around-activations", "a = Reshape (x, to)  b = Relu (a)  c = Exp (b)  y = Reshape (c, to2)",
         {"Exp": 1, "Relu": 1}, "float[N, 4, 3, 1]", {"to": [-1, 3], "to2": [-1, 4, 3, 1]}),
    Case("4-by-copies", "a = Flatten (x)  b = Relu (a)  c = Reshape (b, to)  y = Exp (c)",
         {"Exp": 1, "Relu": 1}, "float[N, 4, 3, 1]", {"to": [0, 4, 3, 1]}),
    Case("10-unknown-size-copied", "a = Reshape (x, to)  y = Reshape (a, to2)", None, "float[A, 1, 2]",
         {"to": [-1, 2], "to2": [0, -1, 2]}, "float[N, 4, H, 1]"),
    Case("10-two-unknown-sizes-move", "a = Reshape (x, to)  y = Unsqueeze (a, axes)", None, "float[1, N, H, 4]",
         {"to": [0, 0, 4], "axes": [0]}, "float[N, H, 4, 1]"),
    Case("12-what-is-left-beside-a-copy", "a = Reshape (x, to)  y = Unsqueeze (a, axes)", None,
         "float[N, 1, H, 12]", {"to": [0, 0, 12], "axes": [1]}, "float[N, H, 4, 3]"),
    Case("10-squeezed-of-unknown-size", "a = Reshape (x, to)  y = Squeeze (a, axes)", None, "float[N, 12]",
         {"to": [0, -1, 12], "axes": [1]}),
    Case("10-computed", "s = Shape (x)  a = Flatten <axis = 2> (x)  y = Reshape (a, s)", None, "float[N, 4, 3, 1]"),
    Case("10-axes-that-depend-on-sizes", "a = Unsqueeze (x, axes)  y = Squeeze (a)", None, "float[N, 4, 3]",
         {"axes": [2]}),
    Case("11-fixed-batch", "y = Reshape (x, to)", None, "float[1, 12]", {"to": [1, 12]}),
    Case("11-fixed-batch-around", "a = Flatten (x)  b = Relu (a)  y = Reshape (b, to)", None, "float[1, 4, 3, 1]",
         {"to": [1, 4, 3, 1]}),
    Case("12-literal-zero", "a = Reshape (x, to)  y = Reshape <allowzero = 1> (a, to2)", None, "float[0, 12]",
         {"to": [-1, 3, 4], "to2": [0, 12]}),
    Case("13-read-elsewhere", "a = Unsqueeze (x, axes)  b = Flatten (a)  c = ReduceSum (a)  y = Add (b, c)", None,
         "float[1, N, A, B, C]", {"axes": [2]}),
)  # fmt: skip


def model_of(case: Case) -> onnx.ModelProto:
    text = f"g ({case.x} x) => ({case.y} y) {{ {case.body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {case.opset}]> {text}')
    for name, numbers in case.integers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, batch: int) -> np.ndarray:
    sizes = {"N": batch, "H": 6, "W": 5}
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [dim.dim_value or sizes[dim.dim_param] for dim in dims]
    x = np.random.default_rng(batch).normal(size=shape).astype(np.float32)
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def check(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [clean_reshapes])
    assert report.refused is None
    assert count_ops(after) == case.left
    constants = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in after.graph.initializer}
    used = {name for node in after.graph.node for name in node.input}
    assert set(constants) <= used
    if case.target is not None:
        assert list(constants.values()) == [case.target]
    for batch in (2, 3):
        np.testing.assert_array_equal(run(after, batch), run(before, batch), strict=True)
    assert optimize(after, [clean_reshapes])[0] is after


@pytest.mark.parametrize("case", [case for case in CASES if case.left], ids=lambda case: case.id)
def test_fires(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.left is None], ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [clean_reshapes])
    assert report.refused is None
    assert after is before


def test_an_exporters_flattening_becomes_one_flatten() -> None:
    """x.view(x.size(0), -1), as older exporters write it; for any batch."""
    case = Case(
        "shape",
        """
        a = GlobalAveragePool (x)  s = Shape (a)  n = Gather <axis = 0> (s, zero)  u = Unsqueeze (n, axes)
        t = Concat <axis = 0> (u, rest)  f = Reshape (a, t)  y = Relu (f)
        """,
        {"Flatten": 1, "GlobalAveragePool": 1, "Relu": 1},
        "float[N, 4]",
        {"axes": [0], "rest": [-1]},
    )
    text = f"g (float[N, 4, 3, 1] x) => (float[N, 4] y) {{ {case.body} }}"
    before = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    for name, numbers in (("zero", 0), ("axes", [0]), ("rest", [-1])):
        before.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    after, _ = optimize(before, [fold_shapes, clean_reshapes])
    after, _ = optimize(after, [clean_reshapes])
    assert {name: count for name, count in count_ops(after).items() if name in {"Flatten", "Reshape"}} == {
        "Flatten": 1
    }
    for batch in (1, 4):
        np.testing.assert_array_equal(run(after, batch), run(before, batch), strict=True)


@pytest.mark.parametrize("rule", ["1-batch-left-over", "1-known-size-copied"])
def test_a_copied_size_that_is_taken_for_kept_is_noticed(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """Planted: 0 means the axis of the first value without a look at it."""
    monkeypatch.setattr("cnnport.graphs.clean.clean_reshapes._is_kept", lambda *arguments: True)
    with pytest.raises((AssertionError, ValueError)):
        check(next(case for case in CASES if case.id == rule))


def test_a_shape_that_is_not_restored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: any two Reshapes around an activation are taken for each other's inverse."""
    case = Case("4", "a = Reshape (x, to)  b = Relu (a)  y = Reshape (b, to2)", {"Relu": 1}, "float[N, 2, 6, 1]",
                {"to": [-1, 3], "to2": [-1, 2, 6, 1]})  # fmt: skip
    monkeypatch.setattr("cnnport.graphs.clean.clean_reshapes._restores", lambda *arguments: True)
    with pytest.raises(AssertionError):
        check(case)

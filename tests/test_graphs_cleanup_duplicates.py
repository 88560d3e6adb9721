"""merge_duplicates before and after; the numbers are those of its docstring."""

import tracemalloc

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.clean.merge_duplicates import merge_duplicates
from cnnport.graphs.randomness import RANDOM

IO = "(float[N,4,6,6] x) => (float[A,B,C,D] y)"


def model_of(body: str, *, io: str = IO, opset: int = 17, tensors=(), ir_version: int = 8) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "mine" : 1]> g {io} {body}'
    )
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model)
    return model


def merged(model: onnx.ModelProto) -> onnx.ModelProto:
    after, (report, *_) = optimize(model, [merge_duplicates])
    assert report.refused is None
    onnx.checker.check_model(after)
    assert optimize(after, [merge_duplicates])[0] is after
    return after


def outputs(model: onnx.ModelProto, feeds) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def stays(model: onnx.ModelProto) -> None:
    after, (report, *_) = optimize(model, [merge_duplicates])
    assert report.refused is None
    assert after is model


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("{ a = Relu (x) b = Relu (x) y = Add (a, b) }", {"Add": 1, "Relu": 1}),
        ("{ a = Softmax (x) b = Softmax <axis = -1> (x) y = Add (a, b) }", {"Add": 1, "Softmax": 1}),
        ("{ e = Exp (x) a = Mul (x, e) b = Mul (e, x) y = Sub (a, b) }", {"Exp": 1, "Mul": 1, "Sub": 1}),
        (
            "{ a = Exp (x) b = Exp (x) c = Neg (a) d = Neg (b) y = Mul (c, d) }",
            {"Exp": 1, "Mul": 1, "Neg": 1},
        ),
        ("{ a = Exp (x) y = Exp (x) z = Neg (a) }", {"Exp": 1, "Neg": 1}),
        (
            "{ k = Constant <value_int = 4> () j = Constant <value_int = 4> () f = Cast <to = 1> (k)"
            " h = Cast <to = 1> (j) a = Mul (x, f) y = Mul (a, h) }",
            {"Cast": 1, "Constant": 1, "Mul": 2},
        ),
    ],
)
def test_nodes(body: str, ops: dict[str, int]) -> None:
    """1 to 4: operators, defaults, operands exchanged, chains, at an output of the graph."""
    io = IO.replace(" y)", " y, float[A,B,C,D] z)") if " z = " in body else IO
    before = model_of(body, io=io)
    after = merged(before)
    assert count_ops(after) == ops
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)}
    for expected, found in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
        np.testing.assert_array_equal(found, expected)


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, ml_dtypes.bfloat16])
def test_initializers(dtype: type) -> None:
    """5: of whatever type; the first name stays."""
    weights = [tensor(name, np.arange(4).astype(dtype).reshape(1, 4, 1, 1)) for name in ("w", "v")]
    body = "{ a = Cast <to = 1> (w) b = Cast <to = 1> (v) c = Mul (x, a) y = Add (c, b) }"
    after = merged(model_of(body, tensors=weights))
    assert [each.name for each in after.graph.initializer] == ["w"]
    assert count_ops(after) == {"Add": 1, "Cast": 1, "Mul": 1}


def test_equal_text() -> None:
    """5."""
    weights = [helper.make_tensor(name, TensorProto.STRING, [2], [b"a", b"b"]) for name in ("w", "v")]
    after = merged(
        model_of(
            "{ y = Relu (x) z = Identity (w) u = Identity (v) }",
            tensors=weights,
            io=IO.replace(" y)", " y, string[2] z, string[2] u)"),
        )
    )
    assert [each.name for each in after.graph.initializer] == ["w"]


def weights_of(first: np.ndarray, second: np.ndarray) -> onnx.ModelProto:
    tensors = [tensor("w", first), tensor("v", second)]
    return model_of(
        "{ a = Cast <to = 1> (w) b = Cast <to = 1> (v) c = Mul (x, a) y = Add (c, b) }", tensors=tensors
    )


NANS = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.float32([0.0]), np.float32([-0.0])),
        (NANS[:1], NANS[1:]),
        (np.float32([1.0]), np.float64([1.0])),
        (np.float32([0.0]), np.int32([0])),
        (np.float32([[1.0]]), np.float32([1.0])),
        (np.int64([0]), np.float64([0])),
    ],
)
def test_unlike_initializers_stay(first: np.ndarray, second: np.ndarray) -> None:
    """13: the sign of zero, a NaN's payload, type, shape."""
    stays(weights_of(first, second))


@pytest.mark.parametrize("operator", sorted(RANDOM))
def test_random_operators_stay(operator: str) -> None:
    """10: with a seed too."""
    call = {
        "RandomNormal": "RandomNormal <shape = [2, 4, 6, 6], seed = 1.0> ()",
        "RandomUniform": "RandomUniform <shape = [2, 4, 6, 6], seed = 1.0> ()",
        "Multinomial": "Multinomial <sample_size = 1> (f)",
    }.get(operator, f"{operator} <seed = 1.0> (x)")
    flat = "f = Flatten (x)" if operator == "Multinomial" else ""
    joined = "i = Cast <to = 1> (a) j = Cast <to = 1> (b) y = Add (i, j)" if flat else "y = Add (a, b)"
    io = IO.replace("[A,B,C,D]", "[A,B]") if flat else IO
    stays(model_of(f"{{ {flat} a = {call} b = {call} {joined} }}", io=io))


def test_every_random_operator_is_known() -> None:
    """10: an operator that a newer onnx brings and that takes a seed would fail here."""
    seeded = {schema.name for schema in onnx.defs.get_all_schemas() if "seed" in schema.attributes}
    assert seeded == RANDOM | {"Dropout"}


def test_dropout_in_training_stays() -> None:
    """10: while those that do nothing are merged."""
    training = (
        "<float r = {0.5}, bool t = {1}> { a = Dropout (x, r, t) b = Dropout (x, r, t) y = Add (a, b) }"
    )
    stays(model_of(training))
    assert count_ops(merged(model_of(training.replace("t = {1}", "t = {0}")))) == {"Add": 1, "Dropout": 1}


@pytest.mark.parametrize(
    "body",
    [
        "{ a = mine.F (x) b = mine.F (x) y = Add (a, b) }",
        "<bool c = {1}> { a = If (c) <then_branch = t () => (float[N,4,6,6] p) { p = Relu (x) }, else_branch = e ()"
        " => (float[N,4,6,6] q) { q = Neg (x) }> b = If (c) <then_branch = t () => (float[N,4,6,6] p)"
        " { p = Relu (x) }, else_branch = e () => (float[N,4,6,6] q) { q = Neg (x) }> y = Add (a, b) }",
        "{ a = LeakyRelu <alpha = 0.0> (x) b = LeakyRelu <alpha = -0.0> (x) y = Add (a, b) }",
        "{ a = LeakyRelu <alpha = 0.1> (x) b = LeakyRelu <alpha = 0.2> (x) y = Add (a, b) }",
        "{ e = Exp (x) a = Sub (x, e) b = Sub (e, x) y = Add (a, b) }",
        "{ a, i = MaxPool <kernel_shape = [2, 2]> (x) b = MaxPool <kernel_shape = [2, 2]> (x) j = Cast <to = 1> (i)"
        " c = Add (a, b) y = Add (c, j) }",
        "{ a, b = Split <axis = 1> (x) c, d, e, f = Split <axis = 1> (x) g = Concat <axis = 1> (a, b, c, d)"
        " y = Concat <axis = 1> (g, e, f) }",
    ],
)
def test_unlike_nodes_stay(body: str) -> None:
    """11, 13, 14, and operands that do not commute."""
    stays(model_of(body, opset=11 if "Split" in body else 17))


def test_two_outputs_stay() -> None:
    """12."""
    stays(model_of("{ y = Relu (x) z = Relu (x) }", io=IO.replace(" y)", " y, float[A,B,C,D] z)")))


def test_inputs_with_defaults_stay() -> None:
    """15: a caller may give another; in old files that is every initializer."""
    weights = [tensor(name, np.ones(1, np.float32)) for name in ("w", "v")]
    body = "{ a = Mul (x, w) y = Add (a, v) }"
    for given in ("w", "v"):
        stays(model_of(body, io=IO.replace(") =>", f", float[1] {given}) =>"), tensors=weights))
    stays(
        model_of(
            body,
            io=IO.replace(") =>", ", float[1] w, float[1] v) =>"),
            tensors=weights,
            ir_version=3,
            opset=9,
        )
    )


def test_captured_values_are_followed() -> None:
    """16: a subgraph that reads the second reads the first afterwards."""
    before = model_of(
        "<bool c = {1}> { a = Exp (x) b = Exp (x) w = Neg (a) v = If (c) <then_branch = t () => (float[N,4,6,6] p)"
        " { p = Relu (b) }, else_branch = e () => (float[N,4,6,6] q) { q = Neg (b) }> y = Add (w, v) }"
    )
    after = merged(before)
    assert count_ops(after)["Exp"] == 1
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)}
    np.testing.assert_array_equal(outputs(after, feeds)[0], outputs(before, feeds)[0])


def test_what_differs_late_stays() -> None:
    """Weights with one beginning are compared to the end, and nodes with those of their kind that came before."""
    same, other = np.ones((2, 4096), np.float32)
    other[-1] = 2
    weights = [tensor(name, each) for name, each in (("u", same), ("v", other), ("w", other))]
    io = "(float[N,4096] x) => (float[A,B] y, float[C,D] z)"
    body = "{ a = Mul (x, u) b = Mul (x, v) c = Mul (x, w) d = Sub (a, b) e = Sub (b, a) f = Sub (b, a)"
    after = merged(model_of(f"{body} y = Add (d, e) z = Add (c, f) }}", io=io, tensors=weights))
    assert sorted(each.name for each in after.graph.initializer) == ["u", "v"]
    assert count_ops(after) == {"Add": 2, "Mul": 2, "Sub": 2}


def test_large_weights_are_not_copied() -> None:
    """5: 64 MiB twice are compared without another 64 MiB."""
    big = np.ones((4096, 4096), np.float32)
    weights = [tensor(name, np.ones(1, np.float32)) for name in ("w", "v")]
    model = ir.from_proto(model_of("{ a = Mul (x, w) y = Add (a, v) }", tensors=weights))
    for value in model.graph.initializers.values():
        value.const_value = ir.tensor(big, name=value.name)
    tracemalloc.start()
    try:
        assert merge_duplicates(model) == 1
        assert tracemalloc.get_traced_memory()[1] < big.nbytes // 4
    finally:
        tracemalloc.stop()

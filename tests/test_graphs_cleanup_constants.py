"""fold_constants before and after; the numbers are those of its docstring."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, journal, optimize
from cnnport.graphs.clean import evaluate
from cnnport.graphs.clean import fold_constants as folder
from cnnport.graphs.clean.fold_constants import fold_constants
from cnnport.graphs.protos import read
from cnnport.graphs.randomness import RANDOM


def model_of(body, *, io="(float[N] x) => (float[M] y)", opset=17, ir_version=8, tensors=(), full=False):
    model = onnx.parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "mine" : 1]> g {io} {body}'
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in dict(tensors).items()
    )
    onnx.checker.check_model(model, full_check=full)
    return model


def folded(model):
    after, (report, *_) = optimize(model, [fold_constants])
    assert report.refused is None
    onnx.checker.check_model(after)
    assert optimize(after, [fold_constants])[0] is after
    return after


def stays(model):
    after, (report, *_) = optimize(model, [fold_constants])
    assert report.refused is None
    assert after is model


def run(model, feeds=None):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds or {})


F = np.array([[-2.5, -0.0, 0.5, 1.5], [2.5, 3.0, -1.0, 7.25]], np.float32)
P = np.abs(F) + np.float32(0.25)
INTS = np.array([[7, -7, 5, 0], [2, 9, -3, 4]], np.int64)
J = np.array([[2, 2, -3, 5], [-4, 3, 2, 1]], np.int64)
B = np.array([[True, False, True, False]] * 2)
IMAGE = np.arange(32, dtype=np.float32).reshape(1, 8, 2, 2)
ONES = np.array([1], np.int64)

# Operator with attributes, its constants in order, and from which opset to which the call is valid.
CALLS = [
    *[
        (name, (F,), 13, 22)
        for name in [
            "Abs",
            "Ceil",
            "Floor",
            "Neg",
            "Relu",
            "Round",
            "Sign",
            "Exp",
            "Tanh",
            "Sigmoid",
            "Erf",
            "Softplus",
        ]
    ],
    *[(name, (P,), 9, 22) for name in ["Sqrt", "Log", "Reciprocal"]],
    *[
        (name, pair, 9, 22)
        for name in ["Add", "Sub", "Mul", "Div"]
        for pair in ((F, P), (INTS, J), (F, P[:1]))
    ],
    *[(name, (F, P), 13, 22) for name in ["Max", "Min", "Mean", "Sum", "Greater", "Less", "Equal"]],
    *[(name, (F, P), 12, 22) for name in ["GreaterOrEqual", "LessOrEqual"]],
    *[(name, (B, ~B), 9, 22) for name in ["And", "Or", "Xor"]],
    ("Not", (B,), 9, 22),
    ("Pow", (P, F), 13, 22),
    ("Mod", (INTS, J), 13, 22),
    ("Mod <fmod = 1>", (F, P), 13, 22),
    ("Where", (B, F, P), 9, 22),
    ("Clip <min = 0.0, max = 2.0>", (F,), 9, 10),
    ("Clip", (F, np.float32(0), np.float32(2)), 12, 22),
    *[(f"Cast <to = {to}>", (F,), 13, 22) for to in (1, 6, 7, 9, 10, 11)],
    ("Concat <axis = -1>", (F, P), 11, 22),
    ("Expand", (F[:1], np.array([3, 4])), 9, 22),
    ("Flatten <axis = 2>", (IMAGE,), 9, 22),
    *[(f"Gather <axis = {axis}>", (INTS, np.array([1, -1])), 11, 22) for axis in (0, -1)],
    ("NonZero", (INTS,), 13, 22),
    ("Pad <pads = [0, 1, 0, 2], value = 3.0>", (F,), 9, 10),
    ("Pad", (F, np.array([0, 1, 0, 2]), np.float32(3)), 11, 22),
    ('Pad <mode = "reflect">', (F, np.array([0, 1, 0, 2])), 11, 22),
    ("Range", (np.int64(2), np.int64(-7), np.int64(-2)), 11, 22),
    *[("Reshape", (F, np.array(shape)), 9, 22) for shape in ([4, 2], [-1, 2], [0, 2, 2])],
    ("Shape", (F,), 9, 22),
    ("Shape <start = -1>", (F,), 15, 22),
    ("Size", (F,), 9, 22),
    ("Slice <starts = [1], ends = [9], axes = [1]>", (F,), 9, 9),
    ("Slice", (F, ONES * -1, ONES * (-(2**63) + 1), ONES, ONES * -2), 10, 22),
    ("Slice", (F, np.array([0, -3]), np.array([2, 2**62])), 10, 22),
    ("Squeeze <axes = [0]>", (F[:1],), 9, 12),
    ("Squeeze", (F[:1], ONES * 0), 13, 22),
    ("Squeeze", (F[:1],), 13, 22),
    ("Unsqueeze <axes = [0, 2]>", (F,), 9, 12),
    ("Unsqueeze", (F, np.array([0, -1])), 13, 22),
    ("Tile", (F, np.array([2, 1])), 9, 22),
    ("Transpose", (IMAGE,), 9, 22),
    ("Transpose <perm = [0, 2, 1, 3]>", (IMAGE,), 9, 22),
    ("DepthToSpace <blocksize = 2>", (IMAGE,), 9, 22),
    ('DepthToSpace <blocksize = 2, mode = "CRD">', (IMAGE,), 11, 22),
    ("SpaceToDepth <blocksize = 2>", (IMAGE,), 9, 22),
    ("ConstantOfShape", (np.array([2, 3]),), 9, 22),
    ("ConstantOfShape <value = int64[1] {7}>", (np.array([2, 3]),), 9, 22),
    ("MatMul", (F, P.T.copy()), 9, 22),
    *[
        (f"Reduce{kind} <axes = [1], keepdims = 0>", (P,), 9, 12)
        for kind in ["Max", "Mean", "Min", "Prod", "Sum", "L1", "L2"]
    ],
    *[
        (f"Reduce{kind} <keepdims = 1>", (P, ONES), 18, 22)
        for kind in ["Max", "Mean", "Min", "Prod", "Sum", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"]
    ],
    ("ReduceSum", (F,), 13, 22),
    ("ReduceSum <noop_with_empty_axes = 1>", (F,), 13, 22),
]


@pytest.mark.parametrize(("call", "inputs", "first", "last"), CALLS, ids=[call for call, *_ in CALLS])
def test_operators_compute_what_a_runtime_does(call, inputs, first, last) -> None:
    """1: in the oldest and the newest opset; exact operators bit for bit."""
    name, _, attributes = call.partition(" ")
    names = [f"k{index}" for index in range(len(inputs))]
    exact = name in evaluate.EXACT
    for opset in {max(first, 9), last}:
        # A Neg of zeros and the like would tell a run of the graph from its folding; it has nothing to be fed.
        before = model_of(
            f"{{ y = {name} {attributes} ({', '.join(names)}) }}",
            io="() => (float[A] y)",
            opset=opset,
            tensors=zip(names, inputs, strict=True),
        )
        before.graph.output[0].type.Clear()
        before = onnx.shape_inference.infer_shapes(before, data_prop=True)
        assert before.graph.output[0].type.HasField("tensor_type")
        after = folded(before)
        assert count_ops(after) == {"Constant": 1}, opset
        expected, found = run(before)[0], numpy_helper.to_array(after.graph.node[0].attribute[0].t)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if exact:
            np.testing.assert_array_equal(found, expected)
            assert found.tobytes() == expected.tobytes() or call in {"Relu", "Round"}  # the sign of zero
        else:
            np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_every_operator_is_tried() -> None:
    tried = {call.partition(" ")[0] for call, *_ in CALLS} | {"Split"}
    assert tried == evaluate.EXACT | evaluate.WIDE


@pytest.mark.parametrize(
    ("opset", "call"), [(11, "Split <split = [1, 3], axis = 1> (w)"), (13, "Split <axis = 1> (w, s)")]
)
def test_several_outputs(opset, call) -> None:
    """1: each is a constant of its own."""
    tensors = {"w": F} | ({"s": np.array([1, 3])} if opset == 13 else {})
    before = model_of(
        f"{{ a, b = {call} c = Mul (x, a) y = Add (c, b) }}",
        io="(float[2,3] x) => (float[2,3] y)",
        opset=opset,
        tensors=tensors,
    )
    after = folded(before)
    assert {each.name: list(each.dims) for each in after.graph.initializer} == {"a": [2, 1], "b": [2, 3]}


def test_names_stay_and_float16_stays() -> None:
    """1, 2: chains become one constant under the name that its reader knows; Constant nodes become initializers."""
    before = model_of(
        "{ k = Constant <value_floats = [1.0, 2.0]> () two = Constant <value_int = 2> () s = Cast <to = 10> (k)"
        " t = Cast <to = 10> (two) a = Mul (s, t) b = Sqrt (a) y = Mul (x, b) }",
        io="(float16[N,2] x) => (float16[N,2] y)",
    )
    after = folded(before)
    assert count_ops(after) == {"Mul": 1}
    (weight,) = after.graph.initializer
    assert (weight.name, weight.data_type) == ("b", TensorProto.FLOAT16)
    feeds = {"x": np.float16([[1, 3]])}
    np.testing.assert_array_equal(run(after, feeds)[0], run(before, feeds)[0])


def test_sums_are_rounded_once() -> None:
    """In float32 the second number would be lost in the first."""
    weights = np.array([1e8, 1, -1e8, 1], np.float32)
    model = model_of("{ y = ReduceMean <keepdims = 0> (w) }", io="() => (float y)", tensors={"w": weights})
    (node,) = ir.from_proto(model).graph
    (found,) = evaluate.evaluate(node, 17, [weights]) or ()
    assert found == 0.5
    assert sum(weights) / np.float32(4) == 0.25


def test_outputs_of_the_graph() -> None:
    """3: a Constant node under the output's name."""
    after = folded(
        model_of(
            "{ y = Relu (x) z = Sqrt (w) }",
            io="(float[N] x) => (float[N] y, float[2] z)",
            tensors={"w": np.float32([4, 9])},
        )
    )
    assert count_ops(after) == {"Constant": 1, "Relu": 1}
    assert [value.name for value in after.graph.output] == ["y", "z"]
    np.testing.assert_array_equal(run(after, {"x": np.zeros(1, np.float32)})[1], [2, 3])


@pytest.mark.parametrize("operator", sorted(RANDOM))
def test_random_operators_stay(operator) -> None:
    """10."""
    assert operator not in evaluate.EXACT | evaluate.WIDE


@pytest.mark.parametrize(
    "body",
    [
        "{ a = mine.F (w) y = Mul (x, a) }",
        "<float s = {0.5}, uint8 z = {0}> { q = QuantizeLinear (w, s, z) d = DequantizeLinear (q, s, z)"
        " y = Mul (x, d) }",
        "<bool c = {1}> { a = If (c) <then_branch = t () => (float[2] p) { p = Neg (w) }, else_branch = e () =>"
        " (float[2] q) { q = Exp (w) }> y = Mul (x, a) }",
    ],
)
def test_other_nodes_stay(body) -> None:
    """10, 16."""
    stays(model_of(body, tensors={"w": np.float32([4, 9])}))


def test_what_a_caller_may_give_stays() -> None:
    """11."""
    stays(
        model_of(
            "{ a = Sqrt (w) y = Mul (x, a) }",
            io="(float[N] x, float[1] w) => (float[N] y)",
            tensors={"w": np.float32([4])},
        )
    )


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        # 4 MiB out of 4 bytes; out of 4 MiB that stay for another node; out of 4 MiB that go.
        (
            "<int64[1] n = {1048576}> { a = ConstantOfShape (n) y = Add (x, a) }",
            {"Add": 1, "ConstantOfShape": 1},
        ),
        ("{ a = Sqrt (w) b = Add (x, w) y = Mul (a, b) }", {"Add": 1, "Mul": 1, "Sqrt": 1}),
        ("{ a = Sqrt (w) y = Add (x, a) }", {"Add": 1}),
        # Two that share what they read go together, if what comes out is no larger; and not if it is.
        ("{ a = Sqrt (w) b = Abs (w) c = Mul (a, b) y = Add (x, c) }", {"Add": 1}),
        (
            "{ a = Sqrt (w) b = Abs (w) c = Mul (x, a) y = Add (b, c) }",
            {"Abs": 1, "Add": 1, "Mul": 1, "Sqrt": 1},
        ),
        # What is small is worth it in any case.
        ("{ a = ReduceMax <keepdims = 0> (w) b = Add (x, w) y = Mul (a, b) }", {"Add": 1, "Mul": 1}),
    ],
)
def test_the_file_does_not_grow(body, ops) -> None:
    """12."""
    tensors = {"w": np.arange(1 << 20, dtype=np.float32)} if "w" in body else {}
    before = model_of(body, io="(float[1048576] x) => (float[1048576] y)", tensors=tensors)
    after, (report, *_) = optimize(before, [fold_constants])
    assert report.refused is None
    assert count_ops(after) == ops
    assert after.ByteSize() <= before.ByteSize() + 200
    with journal.recorded() as refusals:
        assert fold_constants(read(after)) == 0
    assert bool(refusals) == (after is before)


def test_weights_are_worth_it() -> None:
    """12: 4 MiB out of 8 bytes that no pass could read otherwise."""
    before = model_of(
        "<int64[2] n = {1024, 1024}> { a = ConstantOfShape (n) y = MatMul (x, a) }",
        io="(float[N,1024] x) => (float[N,1024] y)",
    )
    after, _ = optimize(before, [fold_constants])
    assert count_ops(after) == {"MatMul": 1}
    # As data it is no weight.
    stays(
        model_of(
            "<int64[2] n = {1024, 1024}> { a = ConstantOfShape (n) y = MatMul (a, x) }",
            io="(float[1024,4] x) => (float[1024,4] y)",
        )
    )


@pytest.mark.parametrize(("call", "inputs", "first", "last"), CALLS, ids=[call for call, *_ in CALLS])
def test_the_bound_holds(call, inputs, first, last) -> None:
    """12: known before anything is computed, also where the file gives no shapes."""
    name, _, attributes = call.partition(" ")
    names = [f"k{index}" for index in range(len(inputs))]
    model = model_of(
        f"{{ y = {name} {attributes} ({', '.join(names)}) }}",
        io="() => (float y)",
        opset=max(first, 9),
        tensors=zip(names, inputs, strict=True),
    )
    model.graph.output[0].type.Clear()
    (node,) = ir.from_proto(model).graph
    arrays = [np.asarray(array) for array in inputs]
    results = evaluate.evaluate(node, max(first, 9), arrays)
    bound = evaluate.largest_result(node, arrays)
    assert results is not None
    assert bound is not None
    assert sum(result.size for result in results) <= bound


def test_huge_results_are_not_even_computed() -> None:
    """12: 8 TiB."""
    stays(
        model_of(
            "<int64[2] n = {1048576, 1048576}> { a = ConstantOfShape (n) y = ReduceSum (a) z = Relu (x) }",
            io="(float[N] x) => (float[A,B] y, float[N] z)",
        )
    )


@pytest.mark.parametrize(
    ("call", "numbers"),
    [
        ("Div (w, o)", np.int64([1, 2])),
        ("Cast <to = 6> (w)", np.float32([np.nan, 1])),
        ("Cast <to = 6> (w)", np.float32([1e20, 1])),
        ("Cast <to = 10> (w)", np.float32([1e20, 1])),
    ],
)
def test_what_is_not_defined_stays(call, numbers) -> None:
    """13: runtimes disagree on it, or fail."""
    tensors = {"w": numbers} | ({"o": np.int64([0, 1])} if "o)" in call else {})
    stays(model_of(f"{{ a = {call} b = Cast <to = 1> (a) y = Mul (x, b) }}", tensors=tensors))


def test_a_shape_that_the_file_contradicts_stays() -> None:
    """13: whatever is wrong there is not made the file's own."""
    before = model_of("{ a = Sqrt (w) y = Mul (x, a) }", tensors={"w": np.float32([4, 9])})
    before.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [3]))
    assert fold_constants(ir.from_proto(before)) == 0


def test_text_and_bfloat16_stay() -> None:
    """14: while a Constant of bfloat16 is lifted as it is."""
    body = (
        '{ k = Constant <value_string = "a"> () z = Identity (k) h = Constant <value = float[1] {1.0}> ()'
        " a = Abs (h) b = Cast <to = 1> (a) y = Mul (x, b) }"
    )
    before = model_of(body, io="(float[N] x) => (float[N] y, string z)")
    tensor = numpy_helper.from_array(np.ones(1, ml_dtypes.bfloat16))
    before.graph.node[2].attribute[0].t.CopyFrom(tensor)
    after = folded(before)
    assert count_ops(after) == {"Abs": 1, "Cast": 1, "Constant": 1, "Identity": 1, "Mul": 1}
    assert [each.data_type for each in after.graph.initializer] == [TensorProto.BFLOAT16]


def test_old_files_keep_constant_nodes() -> None:
    """15."""
    before = model_of(
        "{ k = Constant <value = float[1] {4.0}> () a = Sqrt (k) b = Mul (w, a) y = Mul (x, b) }",
        io="(float[N] x, float[1] w) => (float[N] y)",
        opset=9,
        ir_version=3,
        tensors={"w": np.float32([3])},
    )
    after = folded(before)
    assert count_ops(after) == {"Constant": 1, "Mul": 2}
    assert [each.name for each in after.graph.initializer] == ["w"]


def test_captured_constants_are_followed() -> None:
    """A subgraph that reads what was computed reads the initializer."""
    before = model_of(
        "<bool c = {1}> { a = Sqrt (w) y = If (c) <then_branch = t () => (float[N] p) { p = Mul (x, a) },"
        " else_branch = e () => (float[N] q) { q = Neg (x) }> }",
        io="(float[N] x) => (float[N] y)",
        tensors={"w": np.float32([4])},
    )
    after = folded(before)
    assert [each.name for each in after.graph.initializer] == ["c", "a"]
    assert run(after, {"x": np.float32([3])})[0] == 6


def test_the_callers_model_is_not_renamed() -> None:
    """2: a Constant's tensor has a name of its own in the file, and keeps it there."""
    before = model_of("{ k = Constant <value = float[1] own {4.0}> () y = Mul (x, k) }")
    text = before.SerializeToString()
    folded(before)
    assert before.SerializeToString() == text


def test_a_wrong_operator_is_caught(monkeypatch) -> None:
    """Planted fault: an evaluation that is off does not agree with the runtime."""
    monkeypatch.setattr(folder, "evaluate", lambda node, opset, arrays: [np.sqrt(arrays[0]) + 1])
    before = model_of(
        "{ a = Sqrt (w) y = Mul (x, a) }", io="(float[N] x) => (float[N] y)", tensors={"w": np.float32([4])}
    )
    after = folded(before)
    feeds = {"x": np.float32([3])}
    assert not np.allclose(run(after, feeds)[0], run(before, feeds)[0])

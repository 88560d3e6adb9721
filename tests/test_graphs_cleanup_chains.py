"""merge_chains and inline_branches before and after; the numbers are those of their docstrings."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.clean import merge_chains as chains
from cnnport.graphs.clean.inline_branches import inline_branches
from cnnport.graphs.clean.merge_chains import merge_chains

IO = "(float[N,4,6,6] x) => (float[A,B,C,D] y)"


def model_of(body, *, io=IO, opset=17, ir_version=8):
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> g {io} {body}')
    onnx.checker.check_model(model)
    return model


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def same(before, after) -> bool:
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)}
    pairs = zip(run(before, feeds), run(after, feeds), strict=True)
    return all(one.shape == other.shape and (one == other).all() for one, other in pairs)


def changed(before, one_pass):
    after, (report, *_) = optimize(before, [one_pass])
    assert report.refused is None
    onnx.checker.check_model(after)
    assert optimize(after, [one_pass])[0] is after
    assert same(before, after)
    return after


def stays(before, one_pass) -> None:
    after, (report, *_) = optimize(before, [one_pass])
    assert report.refused is None
    assert after is before


NUMBERS = ", ".join(f"int64[1] p{number} = {{{number}}}" for number in (0, 1, 2, 3, 5, 9))
NUMBERS += ", int64[1] m1 = {-1}, int64[2] m12 = {-1, -2}, int64[2] far = {9, 4}"


@pytest.mark.parametrize("opset", [10, 13, 20])
@pytest.mark.parametrize(
    "body",
    [
        "a = Slice (x, p1, p9, p2, p2) y = Slice (a, p0, p5, p3, p2)",
        "a = Slice (x, p1, p3) y = Slice (a, p2, p9, m1)",
        "a = Slice (x, p1, p9, p1) b = Slice (a, p1, m1, p2) y = Slice (b, p0, p2, m1)",
    ],
)
def test_slices(body, opset) -> None:
    """1: on axes counted from either end, with steps and without."""
    after = changed(model_of(f"<{NUMBERS}> {{ {body} }}", opset=opset), merge_chains)
    assert count_ops(after) == {"Slice": 1}


def test_slices_of_a_slice() -> None:
    """1: as where an image is taken apart into its even and odd rows and columns."""
    pick = "e{0} = Slice (x, p{0}, p9, p2, p2) a{0} = Slice (e{0}, p0, p9, p3, p2)"
    pick += " b{0} = Slice (e{0}, p1, p9, p3, p2)"
    body = " ".join(pick.format(number) for number in (0, 1))
    after = changed(
        model_of(f"<{NUMBERS}> {{ {body} y = Concat <axis = 1> (a0, b0, a1, b1) }}"), merge_chains
    )
    assert count_ops(after) == {"Concat": 1, "Slice": 4}


def test_slices_of_opset_9() -> None:
    """1: by attributes."""
    upper, lower = ("starts = [1], ends = [9], axes = [1]", "starts = [0], ends = [2], axes = [-1]")
    body = f"{{ a = Slice <{upper}> (x) y = Slice <{lower}> (a) }}"
    assert count_ops(changed(model_of(body, opset=9), merge_chains)) == {"Slice": 1}


def test_concats() -> None:
    """2: in place, counted from either end."""
    body = "{ e = Exp (x) a = Concat <axis = 1> (x, e) y = Concat <axis = -3> (e, a, x) }"
    after = changed(model_of(body), merge_chains)
    assert list(after.graph.node[-1].input) == ["e", "x", "e", "x"]


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("a = Slice (x, p1, p9, p2) y = Slice (a, p0, p5, p3) z = Relu (a)", 2),
        ("a = Slice (x, p1, p9, p2) z = Slice (a, p0, p5, p2) y = Slice (a, p0, p5, p3)", 2),
        ("z = Slice (x, p1, p9, p2) y = Slice (z, p0, p5, p3)", 2),
        ("a = Slice (x, p1, p9, p2) y = Slice (a, p0, p5, p2)", 1),
        ("a = Slice (x, p1, p9, p2) y = Slice (a, p0, p5, m12)", 0),
        ("a = Concat <axis = 1> (x, x) y = Concat <axis = 2> (a, a)", 1),
        ("a = Concat <axis = 1> (x, x) y = Concat <axis = 1> (a, a)", 1),
    ],
)
def test_other_chains_stay(body, outputs) -> None:
    """10, 11."""
    if outputs == 0:  # -2 is the axis that is cut already
        body = body.replace("p0, p5, m12", "m12, far, m12")
    io = IO if outputs < 2 else IO.replace(" y)", " y, float[A,B,E,F] z)")
    stays(model_of(f"<{NUMBERS}> {{ {body} }}", io=io), merge_chains)


def test_a_captured_slice_stays() -> None:
    """10."""
    body = (
        "{ a = Slice (x, p1, p9, p2) b = Slice (a, p0, p5, p3) c = If (t) <then_branch = t () => (float[N,4,5,6] p)"
        " { p = Relu (a) }, else_branch = e () => (float[N,4,5,6] q) { q = Neg (a) }> d = Slice (c, p0, p5, p3)"
        " y = Add (b, d) }"
    )
    stays(model_of(f"<bool t = {{1}}, {NUMBERS}> {body}"), merge_chains)


def test_swapped_slices_are_caught(monkeypatch) -> None:
    """Planted fault: starts and ends exchanged."""
    real = chains._slice_of
    monkeypatch.setattr(chains, "_slice_of", lambda node, opset: [(p := real(node, opset))[1], p[0], *p[2:]])
    before = model_of(f"<{NUMBERS}> {{ a = Slice (x, p1, p9, p2) y = Slice (a, p0, p5, p3) }}")
    after, _ = optimize(before, [merge_chains])
    assert after is not before
    assert not same(before, after)


def branches(
    condition: str, then: str = "k1 = Exp (x) p = Relu (k1)", other: str = "k1 = Neg (x) q = Relu (k1)"
) -> str:
    return (
        f"If ({condition}) <then_branch = t () => (float[N,4,6,6] p) {{ {then} }},"
        f" else_branch = e () => (float[N,4,6,6] q) {{ {other} }}>"
    )


@pytest.mark.parametrize(("value", "operator"), [(1, "Exp"), (0, "Neg")])
def test_branches(value, operator) -> None:
    """The branch that is taken, twice with the same names inside; one gives an output of the graph."""
    body = f"<bool c = {{{value}}}> {{ a = {branches('c')} b = {branches('c')} z = Add (a, b) y = {branches('c')} }}"
    after = changed(model_of(body, io=IO.replace(" y)", " y, float[A,B,C,D] z)")), inline_branches)
    assert count_ops(after) == {"Add": 1, "Relu": 3} | {operator: 3}
    names = [name for node in after.graph.node for name in node.output]
    assert len(set(names)) == len(names)


def test_branches_within_branches_and_with_weights() -> None:
    """Captured values and initializers move along."""
    body = (
        "<bool c = {1}> { b = Exp (x) y = If (c) <then_branch = t () => (float[N,4,6,6] p) { p = If (c) <then_branch"
        " = u () => (float[N,4,6,6] i) <float w = {2.0}> { i = Mul (b, w) }, else_branch = v () => (float[N,4,6,6] j)"
        " { j = Neg (b) }> }, else_branch = e () => (float[N,4,6,6] q) { q = Neg (x) }> }"
    )
    before = model_of(body)
    text = before.SerializeToString()
    after = changed(before, inline_branches)
    assert before.SerializeToString() == text  # names and all
    assert count_ops(after) == {"Exp": 1, "Mul": 1}
    assert [tensor.dims for tensor in after.graph.initializer] == [[]]


def test_computed_conditions_stay() -> None:
    """10."""
    stays(model_of(f"{{ y = {branches('c')} }}", io=IO.replace(") =>", ", bool c) =>")), inline_branches)
    body = "<float k = {0.0}> { s = ReduceSum <keepdims = 0> (x) c = Greater (s, k) y = BRANCHES }"
    stays(model_of(body.replace("BRANCHES", branches("c"))), inline_branches)


def test_a_branch_that_hands_on_stays() -> None:
    """11, 12: what it does not make itself."""
    body = (
        "<bool c = {1}> { a = Exp (x) y = If (c) <then_branch = t () => (float[N] a) {}, else_branch = e ()"
        " => (float[N] q) { q = Neg (a) }> }"
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) {body}'
    )
    assert inline_branches(ir.from_proto(model)) == 0
    weights = (
        "<bool c = {1}> { y = If (c) <then_branch = t () => (float[1] p) <float[1] p = {1.0}> {}, else_branch"
        " = e () => (float[1] q) { q = Neg (x) }> }"
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) {weights}'
    )
    assert inline_branches(ir.from_proto(model)) == 0

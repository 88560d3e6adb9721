"""remove_dead_code before and after; the numbers are those of its docstring."""

import onnx
import onnx_ir as ir
import pytest

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.clean.remove_dead_code import remove_dead_code

IO = "(float[N,4,6,6] x) => (float[N,4,6,6] y)"


def model_of(body: str, *, io: str = IO, opset: int = 17, valid: bool = True) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}, "mine" : 1]> g {io} {body}'
    )
    if valid:
        onnx.checker.check_model(model)
    return model


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    after, (report, *_) = optimize(model, [remove_dead_code])
    assert report.refused is None
    onnx.checker.check_model(after)
    assert optimize(after, [remove_dead_code])[0] is after
    return after


def test_chains_constants_and_initializers_go() -> None:
    """1, 2: also what only dead nodes read, Constants and random numbers."""
    after = cleaned(
        model_of(
            "<float w = {2.0}, float unused = {3.0}> { k = Constant <value_float = 1.0> () a = Mul (x, w)"
            " b = Add (a, k) r = RandomNormalLike (b) y = Relu (x) }"
        )
    )
    assert count_ops(after) == {"Relu": 1}
    assert not after.graph.initializer


def test_what_only_a_dead_subgraph_reads_goes_at_once() -> None:
    """1: onnx-ir still counts its nodes among the readers."""
    body = (
        "<bool c = {1}, float w = {2.0}> { a = Mul (x, w) b = If (c) <then_branch = t () => (float[N,4,6,6] p)"
        " { p = Relu (a) }, else_branch = e () => (float[N,4,6,6] q) { q = Neg (a) }> y = Relu (x) }"
    )
    after = cleaned(model_of(body))
    assert count_ops(after) == {"Relu": 1}
    assert not after.graph.initializer


@pytest.mark.parametrize(
    ("call", "opset"),
    [
        ("y, indices = MaxPool <kernel_shape = [1, 1]> (x)", 9),
        ("y, mask = Dropout (x)", 11),
        ("y, mask = Dropout (x)", 20),
        ("y, mean, spread = LayerNormalization (x, scale)", 18),
        ("y, mean, var = BatchNormalization <training_mode = 0> (x, s, s, s, s)", 15),
    ],
)
def test_outputs_that_nobody_reads_go(call: str, opset: int) -> None:
    """3."""
    before = model_of(
        f"<float[6] scale = {{1,1,1,1,1,1}}, float[4] s = {{1,1,1,1}}> {{ {call} }}", opset=opset
    )
    assert [len(node.output) for node in cleaned(before).graph.node] == [1]


def test_inputs_stay() -> None:
    """10: used or not, with a default or without."""
    before = model_of("<float w> { y = Relu (x) }", io="(float[N] x, float[N] idle, float w) => (float[N] y)")
    before.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [], [1.0]))
    assert optimize(before, [remove_dead_code])[0] is before


def test_what_subgraphs_read_stays() -> None:
    """11: an inner node reads ``a``; a subgraph's output names ``b``, which onnx-ir does not count as a use."""
    body = (
        "<bool c = {1}> { a = Exp (x) y = If (c) <then_branch = t () => (float[N] p) { p = Relu (a) },"
        " else_branch = e () => (float[N] q) { q = Neg (x) }> }"
    )
    before = model_of(body, io="(float[N] x) => (float[N] y)")
    assert optimize(before, [remove_dead_code])[0] is before
    named = ir.from_proto(
        model_of(
            "<bool c = {1}> { b = Exp (x) y = If (c) <then_branch = t () => (float[N] b) { },"
            " else_branch = e () => (float[N] q) { q = Neg (x) }> }",
            io="(float[N] x) => (float[N] y)",
            valid=False,  # says the checker, but there are such files
        )
    )
    assert remove_dead_code(named) == 0


def test_custom_operators_stay() -> None:
    """12: with what they read."""
    before = model_of("{ a = Exp (x) seen = mine.Watch (a) y = Relu (x) }")
    assert optimize(before, [remove_dead_code])[0] is before


@pytest.mark.parametrize(
    ("call", "opset"),
    [
        ("y, mean, var, saved_mean, saved_var = BatchNormalization (x, s, s, s, s)", 13),
        ("y, mean, var = BatchNormalization <training_mode = 1> (x, s, s, s, s)", 15),
        ("y, other = Split <axis = 1> (d)", 11),
    ],
)
def test_outputs_that_mean_something_stay(call: str, opset: int) -> None:
    """13, 14."""
    weights = "" if "Split" in call else "<float[4] s = {1,1,1,1}>"
    body = f"{weights} {{ d = Concat <axis = 1> (x, x) z = Relu (d) {call} }}"
    before = model_of(body, io=IO.replace(" y)", " y, float[N,8,6,6] z)"), opset=opset)
    assert optimize(before, [remove_dead_code])[0] is before


def test_an_unread_output_in_front_of_a_read_one_stays() -> None:
    """14."""
    before = model_of(
        "<float[6] scale = {1,1,1,1,1,1}> { n, m, y = LayerNormalization (x, scale) }",
        io="(float[N,4,6,6] x) => (float[N,4,6,1] y)",
    )
    assert optimize(before, [remove_dead_code])[0] is before


def test_subgraphs_are_left_alone() -> None:
    """15."""
    before = model_of(
        "<bool c = {1}> { y = If (c) <then_branch = t () => (float[N] p) { idle = Exp (x) p = Relu (x) },"
        " else_branch = e () => (float[N] q) { q = Neg (x) }> }",
        io="(float[N] x) => (float[N] y)",
    )
    assert optimize(before, [remove_dead_code])[0] is before

"""fold_shapes before and after; the numbers are those of its docstring."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.clean import fold_shapes as folder
from cnnport.graphs.clean.fold_shapes import fold_shapes

IO = "(float[N,4,6,6] x) => (float[A,B] y)"
# What old exporters write for x.view(x.size(0), -1).
FLATTEN = """{ s = Shape (x) zero = Constant <value_int = 0> () n = Gather (s, zero)
    rest = Constant <value_ints = [-1]> () TARGET y = Reshape (x, target) }"""
UNSQUEEZED = {
    9: "m = Unsqueeze <axes = [0]> (n) target = Concat <axis = 0> (m, rest)",
    13: "a = Constant <value_ints = [0]> () m = Unsqueeze (n, a) target = Concat <axis = 0> (m, rest)",
}


def model_of(body, *, io=IO, opset=17, ir_version=8):
    body = body.replace("value_int = 0", "value = int64 {0}").replace(
        "value_ints = [-1]", "value = int64[1] {-1}"
    )
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> g {io} {body}')
    onnx.checker.check_model(model)
    return model


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def folded(before, *shapes):
    after, (report, *_) = optimize(before, [fold_shapes])
    assert report.refused is None
    onnx.checker.check_model(after)
    assert optimize(after, [fold_shapes])[0] is after
    for shape in shapes or ((1, 4, 6, 6), (3, 4, 6, 6)):
        feeds = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
        for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
            np.testing.assert_array_equal(found, expected)
    return after


def stays(before):
    after, (report, *_) = optimize(before, [fold_shapes])
    assert report.refused is None
    assert after is before


def target_of(model):
    (node,) = (node for node in model.graph.node if node.op_type in {"Reshape", "Expand"})
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    return numpy_helper.to_array(tensor).tolist()


@pytest.mark.parametrize("opset", [9, 11, 13, 18, 20])
def test_flatten_with_an_open_batch(opset) -> None:
    """2: the batch is the input's own."""
    after = folded(model_of(FLATTEN.replace("TARGET", UNSQUEEZED[13 if opset >= 13 else 9]), opset=opset))
    assert target_of(after) == [0, -1]


@pytest.mark.parametrize("dims", ["N,4,6,6", ",4,6,6", "N,4,H,W"])
def test_the_batch_needs_no_name(dims) -> None:
    """2: a dimension without a name is still itself."""
    io = IO.replace("N,4,6,6", dims) if dims[0] == "N" else IO
    before = model_of(FLATTEN.replace("TARGET", UNSQUEEZED[13]), io=io)
    if dims[0] != "N":
        before.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    assert target_of(folded(before)) == [0, -1]


def test_a_channel_shuffle() -> None:
    """1, 2: channels, height and width are numbers, groups are computed from them, and so on down the graph."""
    shuffle = """ s{0} = Shape (x{0}) n{0} = Gather (s{0}, i0) c{0} = Gather (s{0}, i1) hw{0} = Slice (s{0}, i2, end)
        half{0} = Div (c{0}, two) five{0} = Concat <axis = 0> (n{0}, two, half{0}, hw{0}) four{0} = Concat <axis = 0>
        (n{0}, c{0}, hw{0}) a{0} = Reshape (x{0}, five{0}) b{0} = Transpose <perm = [0, 2, 1, 3, 4]> (a{0})
        d{0} = Reshape (b{0}, four{0}) x{1} = Relu (d{0})"""
    before = model_of(
        "<int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] end = {9}, int64[1] two = {2}>"
        " { x0 = Exp (x)"
        + "".join(shuffle.format(place, place + 1) for place in range(3))
        + " y = Identity (x3) }",
        io="(float[N,4,6,6] x) => (float[A,B,C,D] y)",
    )
    after, reports = optimize(before, [fold_shapes])
    ops = count_ops(after)
    assert {name: ops.get(name, 0) for name in ("Reshape", "Div", "Slice")} == {
        "Reshape": 6,
        "Div": 0,
        "Slice": 0,
    }
    assert [report.rewrites > 0 for report in reports] == [True]
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 4, 6, 6)).astype(np.float32)}
    np.testing.assert_array_equal(run(after, feeds)[0], run(before, feeds)[0])


def test_expand_to_its_own_sizes() -> None:
    """3: what is its own size is not changed."""
    before = model_of(
        "<int64[2] hw = {7, 7}, int64[1] z = {0}, int64[1] t = {2}> { p = GlobalAveragePool (x) s = Shape (x)"
        " nc = Slice (s, z, t) target = Concat <axis = 0> (nc, hw) y = Expand (p, target) }",
        io="(float[N,4,6,6] x) => (float[A,B,C,D] y)",
    )
    assert target_of(folded(before)) == [1, 4, 7, 7]


def test_size_and_scalars() -> None:
    """1: Size of what is known, Gather of a scalar, Squeeze, Cast."""
    before = model_of(
        "<int64[2] shape = {2, 3}, int64 one = {1}, int64[1] z = {0}> { w = ConstantOfShape (shape) k = Size (w)"
        " s = Shape (x) c = Gather (s, one) l = Unsqueeze (c, z) q = Squeeze (l) i = Cast <to = 7> (q) t = Add (k, i)"
        " f = Cast <to = 1> (t) y = Mul (x, f) }",
        io="(float[N,4,6,6] x) => (float[N,4,6,6] y)",
    )
    after, _ = optimize(before, [fold_shapes])
    ops = count_ops(after)
    assert not {"Shape", "Gather", "Size", "Add", "Squeeze"} & set(ops)
    feeds = {"x": np.ones((2, 4, 6, 6), np.float32)}
    assert run(after, feeds)[0].flat[0] == 10 == run(before, feeds)[0].flat[0]


def test_minus_one_becomes_the_batch() -> None:
    """4."""
    assert target_of(folded(model_of("<int64[2] t = {-1, 144}> { y = Reshape (x, t) }"))) == [0, 144]


@pytest.mark.parametrize("target", ["4, -1", "-1, 72", "0, -1", "-1, 0"])
def test_minus_one_that_is_not_the_batch_stays(target) -> None:
    """4: another axis, other factors, a 0 that is open itself."""
    io = IO.replace("N,4,6,6", "N,4,N,6") if target == "-1, 0" else IO
    stays(model_of(f"<int64[2] t = {{{target}}}> {{ y = Reshape (x, t) }}", io=io))


@pytest.mark.parametrize(
    ("dims", "body"),
    [
        # 10: two open sizes; a size of another tensor; a caller's.
        (
            "N,4,H,6",
            "{ s = Shape (x) r = Slice (s, i0, i4) t = Concat <axis = 0> (i1, r) u = Slice (t, i2, i4)"
            " e = Concat <axis = 0> (i1, u) n = Slice (s, i0, i1) h = Slice (s, i2, i3)"
            " target = Concat <axis = 0> (h, n, im) y = Reshape (x, target) z = Cast <to = 1> (e) }",
        ),
        # 11: the other size may be 0 itself.
        (
            "N,4,H,6",
            "{ s = Shape (x) n = Slice (s, i0, i1) h = Slice (s, i2, i3) t = Mul (h, i4)"
            " target = Concat <axis = 0> (n, t, i6) y = Reshape (x, target) z = Relu (x) }",
        ),
        # 12: zero is zero.
        (
            "N,4,6,6",
            "{ s = Shape (x) n = Slice (s, i0, i1) target = Concat <axis = 0> (n, im)"
            " y = Reshape <allowzero = 1> (x, target) z = Relu (x) }",
        ),
    ],
)
def test_what_is_open_stays_open(dims, body) -> None:
    constants = ", ".join(f"int64[1] i{number} = {{{number}}}" for number in (0, 1, 2, 3, 4, 6))
    before = model_of(
        f"<{constants}, int64[1] im = {{-1}}> {body}", io=f"(float[{dims}] x) => (float y, float z)"
    )
    for output in before.graph.output:
        output.type.tensor_type.ClearField("shape")
    after, _ = optimize(before, [fold_shapes])
    names = {tensor.name for tensor in after.graph.initializer}
    assert not [node for node in after.graph.node if node.op_type == "Reshape" and node.input[1] in names]


def test_a_target_that_a_caller_may_give_stays() -> None:
    """10."""
    before = model_of("{ y = Reshape (x, t) }", io="(float[N,4,6,6] x, int64[2] t) => (float[A,B] y)")
    before.graph.initializer.append(helper.make_tensor("t", TensorProto.INT64, [2], [-1, 144]))
    stays(before)


def test_a_negative_division_stays() -> None:
    """Integer division rounds towards zero, not down; only sizes are divided."""
    body = "<int64[1] a = {-7}, int64[1] b = {2}> { q = Div (a, b) f = Cast <to = 1> (q) y = Mul (x, f) }"
    stays(model_of(body, io="(float[N] x) => (float[N] y)"))


def test_numbers_that_do_not_fit_stay() -> None:
    """1: the runtime wraps, Python does not."""
    body = "<int64[1] a = {9223372036854775807}> { q = Mul (a, a) f = Cast <to = 1> (q) y = Mul (x, f) }"
    stays(model_of(body, io="(float[N] x) => (float[N] y)"))


def test_a_shape_that_is_a_dimension_of_another_tensor() -> None:
    """2: the same name is the same size; without a name it is not the same."""
    body = """<int64[1] z = {0}, int64[1] o = {1}, int64[1] im = {-1}> { s = Shape (w) n = Slice (s, z, o)
        target = Concat <axis = 0> (n, im) y = Reshape (x, target) }"""
    after, _ = optimize(model_of(body, io="(float[N,4,6,6] x, float[N] w) => (float[A,B] y)"), [fold_shapes])
    assert target_of(after) == [0, -1]
    stays(model_of(body, io="(float[N,4,6,6] x, float[K] w) => (float[A,B] y)"))


def test_an_output_with_another_number_of_dimensions_than_stated_stays() -> None:
    """13: a runtime would not load it."""
    body = """<int64[1] z = {0}, int64[1] o = {1}, int64[1] im = {-1}> { s = Shape (x) n = Slice (s, z, o)
        target = Concat <axis = 0> (n, im) y = Reshape (x, target) }"""
    stays(model_of(body, io="(float[N,4,6,6] x) => (float[N,4,36] y)"))


def test_subgraphs_and_old_files_stay() -> None:
    """14, and IR version 3."""
    stays(
        model_of(
            "{ s = Shape (x) y = Cast <to = 1> (s) }",
            io="(float[3,4] x) => (float[2] y)",
            opset=9,
            ir_version=3,
        )
    )
    stays(
        model_of(
            "<bool c = {1}> { y = If (c) <then_branch = t () => (int64[2] p) { p = Shape (x) },"
            " else_branch = e () => (int64[2] q) { r = Shape (x) q = Neg (r) }> }",
            io="(float[3,4] x) => (int64[2] y)",
        )
    )


def test_a_wrong_target_is_caught(monkeypatch) -> None:
    """Planted fault: 1 for 0 is another shape as soon as the batch is not 1."""
    monkeypatch.setattr(folder, "_reshaped", lambda source, elements: [1, -1])
    before = model_of(FLATTEN.replace("TARGET", UNSQUEEZED[13]))
    with pytest.raises(AssertionError):
        folded(before)
    assert fold_shapes(ir.from_proto(before)) > 0

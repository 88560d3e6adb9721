"""remove_noops before and after; the numbers are those of its docstring."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, journal, optimize
from cnnport.graphs.clean import neutral
from cnnport.graphs.clean.remove_noops import remove_noops

IO = "(float[N,4,6,6] x) => (float[A,B,C,D] y)"
ONES = ", ".join(
    f"float[{','.join(str(size) for size in shape)}] one{len(shape)} = {{{', '.join(['1'] * number)}}}"
    for shape, number in (((4, 1, 1), 4), ((1, 4, 1, 1), 4))
)
CONSTANTS = (
    f"float one = {{1.0}}, float zero = {{0.0}}, float six = {{6.0}}, float below = {{-1.0}}, {ONES}, "
    "int64[8] nothing = {0,0,0,0,0,0,0,0}, int64[4] once = {1,1,1,1}, int64[1] i0 = {0}, int64[1] i1 = {1},"
    "int64[1] i2 = {2}, int64[1] far = {9223372036854775807}, int64[1] six_rows = {6}, int64[4] all = {0,1,2,3},"
    "int64[2] hw = {2, 3}, int64[0] none = {}, int64[4] keep = {0, 0, -1, 6}, int64[4] infer = {-1, 4, 6, 6},"
    "int64[3] tail = {4, 1, 6}, int64[4] six_six = {1, 1, 6, 6}, int64[2] sizes = {6, 6},"
    "float[4] scales = {1.0, 1.0, 1.0, 1.0}, bool no = {0}, bool yes = {1}, float half = {0.5}"
)


def model_of(body, *, io=IO, opset=17, ir_version=8):
    used = [each for each in split(CONSTANTS) if each.split(" = ")[0].split()[-1] in names_of(body)]
    weights = f"<{', '.join(used)}>" if used else ""
    model = onnx.parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "mine" : 1]> g {io} {weights} {{ {body} }}'
    )
    onnx.checker.check_model(model)
    return model


def split(constants: str) -> list[str]:
    """Declarations, of which some hold commas."""
    return [f"{each.lstrip(', ')}}}" for each in constants.split("}")[:-1]]


def names_of(body: str) -> set[str]:
    return set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def removed(before, batch=2):
    after, (report, *_) = optimize(before, [remove_noops])
    assert report.refused is None
    onnx.checker.check_model(after)
    assert optimize(after, [remove_noops])[0] is after
    feeds = {"x": np.random.default_rng(0).normal(size=(batch, 4, 6, 6)).astype(np.float32)}
    for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
        np.testing.assert_array_equal(found, expected)
    return after


def stays(before):
    after, (report, *_) = optimize(before, [remove_noops])
    assert report.refused is None
    assert after is before


GONE = [
    # 1
    ("Identity (a)", 9, 22),
    ("Dropout (a)", 9, 22),
    ("Dropout <ratio = 0.3> (a)", 9, 11),
    ("Dropout (a, half, no)", 13, 22),
    ("Cast <to = 1> (a)", 9, 22),
    ("CastLike (a, x)", 15, 22),
    ("Concat <axis = 1> (a)", 9, 22),
    *[(f"{name} (a)", 9, 22) for name in ["Max", "Min", "Mean", "Sum"]],
    ("Split <axis = 1> (a)", 9, 11),
    ("Split <axis = 1, num_outputs = 1> (a)", 18, 22),
    ("DepthToSpace <blocksize = 1> (a)", 9, 22),
    # 2
    *[(f"{name} (a, one)", 9, 22) for name in ["Mul", "Div", "Pow"]],
    ("Mul (one3, a)", 9, 22),
    ("Mul (a, one4)", 9, 22),
    ("Add (zero, a)", 9, 22),
    ("Sub (a, zero)", 9, 22),
    # 3
    ("MaxPool <kernel_shape = [1, 1]> (a)", 9, 22),
    ("AveragePool <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0], ceil_mode = 1> (a)", 10, 22),
    ('MaxPool <kernel_shape = [1, 1], auto_pad = "SAME_UPPER"> (a)', 9, 22),
    ("ReduceSum <noop_with_empty_axes = 1> (a)", 13, 22),
    ("ReduceMean <noop_with_empty_axes = 1> (a, none)", 18, 22),
    # 5
    ("Pad <pads = [0, 0, 0, 0, 0, 0, 0, 0]> (a)", 9, 10),
    ('Pad <mode = "edge"> (a, nothing)', 11, 22),
    ("Tile (a, once)", 9, 22),
    ("Expand (a, once)", 9, 22),
    ("Expand (a, tail)", 9, 22),
    ("Expand (a, six_six)", 9, 22),
    ("Transpose <perm = [0, 1, 2, 3]> (a)", 9, 22),
    ("Slice <starts = [0, -6], ends = [9, 6], axes = [1, 3]> (a)", 9, 9),
    ("Slice (a, i0, far, i0)", 10, 22),
    ("Slice (a, i0, six_rows, i2, i1)", 10, 22),
    ("Gather <axis = 1> (a, all)", 9, 22),
    ("Reshape (a, keep)", 9, 22),
    ("Reshape (a, infer)", 9, 22),
    ("Upsample <scales = [1.0, 1.0, 1.0, 1.0]> (a)", 7, 8),
    ("Upsample (a, scales)", 9, 9),
    ("Resize (a, scales)", 10, 10),
    ('Resize <mode = "cubic"> (a, , scales)', 13, 22),
    ('Resize <axes = [2, 3], mode = "linear"> (a, , , sizes)', 18, 22),
]


@pytest.mark.parametrize(("call", "first", "last"), GONE, ids=[call for call, *_ in GONE])
def test_operators_that_change_nothing(call, first, last) -> None:
    """1 to 3, 5: between others, and at an output of the graph, whose name the node above takes over."""
    tail = call.replace("(a, tail)", "(a, once)")
    for opset in {first, last}:
        after = removed(model_of(f"a = Exp (x) b = {tail} y = Neg (b)", opset=opset))
        assert count_ops(after) == {"Exp": 1, "Neg": 1}, opset
        after = removed(
            model_of(
                f"a = Exp (x) y = {tail} z = Neg (a)",
                io=IO.replace(" y)", " y, float[A,B,C,D] z)"),
                opset=opset,
            )
        )
        assert count_ops(after) == {"Exp": 1, "Neg": 1}, opset
        assert [value.name for value in after.graph.output] == ["y", "z"]


SMALL = "a = GlobalAveragePool (x)"


@pytest.mark.parametrize(
    ("head", "call", "opset"),
    [
        (SMALL, "GlobalMaxPool (a)", 13),
        (SMALL, "GlobalAveragePool (a)", 13),
        (SMALL, "ReduceMean <axes = [2, -1]> (a)", 13),
        (SMALL, "ReduceMax (a, hw)", 18),
        (SMALL, "Transpose <perm = [0, 1, 3, 2]> (a)", 13),
        ("a = Flatten (x)", "Flatten (a)", 9),
        ("a = Flatten (x)", "Flatten <axis = -1> (a)", 13),
        ("a = Relu (x)", "Relu (a)", 9),
        ("a = Relu (x)", "LeakyRelu (a)", 9),
        ("a = Relu (x)", "Elu (a)", 9),
        ("a = Relu (x)", "Abs (a)", 9),
        ("a = Relu (x)", "Clip <min = 0.0> (a)", 9),
        ("a = Relu (x)", "Clip (a, zero)", 12),
        ("a = Relu (x)", "Clip (a, below)", 12),
        ("a = Relu (x)", "Clip (a)", 12),
        ("a = Clip (x, zero, six)", "Clip (a, below, six)", 12),
        ("a = Sigmoid (x)", "Relu (a)", 9),
        ("a = Sigmoid (x)", "Clip <min = 0.0, max = 1.0> (a)", 9),
        (
            "r = Relu (x) m = MaxPool <kernel_shape = [2, 2]> (r) s = Sigmoid (x)"
            " t = MaxPool <kernel_shape = [2, 2]> (s) u = Mul (m, t) a = Concat <axis = 1> (u, m)",
            "Relu (a)",
            13,
        ),
        ("r = Relu (x) s = Abs (x) a = Add (r, s)", "Relu (a)", 13),
    ],
)
def test_where_the_value_says_so(head, call, opset) -> None:
    """3, 4, 5: sizes of 1, matrices, and what cannot be negative or larger."""
    io = IO.replace("A,B,C,D", "A,B") if "Flatten" in head else IO
    before = model_of(f"{head} b = {call} y = Neg (b)", io=io, opset=opset)
    after = removed(before)
    assert len(after.graph.node) == len(before.graph.node) - 1


@pytest.mark.parametrize(
    ("clip", "opset", "kept"),
    [
        ("Clip <min = 0.0, max = 6.0> (a)", 9, False),
        ("Clip (a, zero, six)", 13, False),
        ("Clip (a, half, six)", 13, False),
        ("Clip (a, below, six)", 13, True),
        ("Clip (a, , six)", 13, True),
        ("Clip (a, six, zero)", 13, True),
    ],
)
def test_relu_in_front_of_clip(clip, opset, kept) -> None:
    """4: Relu6 as exporters write it; 14: where the Clip lets negative numbers through."""
    after = removed(model_of(f"b = Neg (x) a = Relu (b) y = {clip}", opset=opset))
    assert ("Relu" in count_ops(after)) == kept


@pytest.mark.parametrize(
    ("type_", "limit", "gone"),
    [
        ("float16", np.float16(65504), 1),
        ("float", np.float32(3.4028235e38), 1),
        ("double", np.float64(3.4028235e38), 0),
    ],
)
def test_the_largest_number_of_each_type_is_no_limit(type_, limit, gone) -> None:
    """4: as old exporters write it; that of float32 is one for float64."""
    io = IO.replace("float[", f"{type_}[").replace(") =>", f", {type_} top) =>")
    model = model_of("a = Exp (x) b = Clip (a, , top) y = Neg (b)", io=io)
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(np.array(limit), "top"))
    assert remove_noops(ir.from_proto(onnx.shape_inference.infer_shapes(model))) == gone


def test_relu_with_several_readers() -> None:
    """4: all cut off, or it stays; through what is removed itself."""
    io = IO.replace(" y)", " y, float[A,B,C,D] z)")
    after = removed(model_of("a = Relu (x) i = Identity (a) y = Clip (i, zero, six) z = Relu (a)", io=io))
    assert count_ops(after) == {"Clip": 1, "Relu": 1}
    stays(model_of("a = Relu (x) y = Clip (a, zero, six) z = Neg (a)", io=io))
    stays(model_of("z = Relu (x) y = Clip (z, zero, six)", io=io))
    stays(
        model_of(
            "a = Relu (x) y = Clip (six, zero, a) z = Neg (x)".replace(
                "(six, zero, a)", "(a, zero, six)"
            ).replace("Neg (x)", "Add (a, x)"),
            io=io,
        )
    )


def test_interface_names_stay() -> None:
    """10: between an input, an output or an initializer and an output; with the reason."""
    io = IO.replace(" y)", " y, float[A,B,C,D] z)")
    for body in ("y = Identity (x) z = Neg (x)", "y = Exp (x) z = Identity (y)"):
        stays(model_of(body, io=io))
    stays(model_of("y = Exp (x) z = Identity (one)", io=IO.replace(" y)", " y, float z)")))
    with journal.recorded() as refusals:
        remove_noops(ir.from_proto(model_of("y = Identity (x)")))
    assert [refusal.candidate for refusal in refusals] == ["Identity y"]


def test_initializers_behind_identity() -> None:
    """1: exporters share weights that way."""
    after = removed(model_of("w = Identity (one3) a = Mul (x, half) y = Add (a, w)"))
    assert count_ops(after) == {"Add": 1, "Mul": 1}
    assert {tensor.name for tensor in after.graph.initializer} == {"half", "one3"}


def test_other_outputs_that_are_read() -> None:
    """11."""
    stays(model_of("a = Exp (x) y, m = Dropout (a)", io=IO.replace(" y)", " y, bool[A,B,C,D] m)")))
    stays(
        model_of(
            "y, i = MaxPool <kernel_shape = [1, 1]> (x) j = Cast <to = 1> (i) z = Neg (j)",
            io=IO.replace(" y)", " y, float[A,B,C,D] z)"),
        )
    )
    after = removed(model_of("a = Exp (x) b, m = Dropout (a) y = Neg (b)"))
    assert count_ops(after) == {"Exp": 1, "Neg": 1}


@pytest.mark.parametrize(
    ("call", "opset"),
    [
        # 12: wider, unknown, of another value, from a caller
        ("Mul (a, w)", 13),
        ("Mul (a, five)", 13),
        ("Add (a, one)", 13),
        ("Sub (zero, a)", 13),
        ("Div (one, a)", 13),
        ("Pow (one, a)", 13),
        ("Mul (a, almost)", 13),
        ("Cast <to = 11> (a)", 13),
        ("Pad (a, one_row)", 13),
        ("Tile (a, twice)", 13),
        ("Expand (a, three)", 13),
        ("Expand (a, five_dims)", 13),
        ("Transpose <perm = [0, 1, 3, 2]> (a)", 13),
        ("Transpose (a)", 13),
        ("Slice (a, i0, m1, i2)", 13),
        ("Slice (a, i1, far, i2)", 13),
        ("Slice (a, m1, back, i2, m1)", 13),
        ("Slice (a, i0, i2, i0)", 13),
        ("Gather <axis = 1> (a, some)", 13),
        ("Reshape (a, other)", 13),
        ("Reshape (a, two_open)", 13),
        ("Concat <axis = 1> (a, a)", 13),
        ("MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (a)", 13),
        ("AveragePool <kernel_shape = [1, 1], pads = [0, 0, 1, 1]> (a)", 13),
        ('MaxPool <kernel_shape = [2, 2], auto_pad = "SAME_UPPER"> (a)', 13),
        ("LpPool <kernel_shape = [1, 1]> (a)", 13),
        ("GlobalAveragePool (a)", 13),
        ("ReduceMean <axes = [2], keepdims = 1> (a)", 13),
        ("ReduceSum <noop_with_empty_axes = 0> (a)", 13),
        ("ReduceL2 <noop_with_empty_axes = 1> (a)", 18),
        # 13
        ("Dropout (a, half, yes)", 13),
        ('Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn"> (a, roi, scales)', 11),
        ('Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (a, roi, scales)', 13),
        ("Resize (a, , bigger)", 13),
        ('Resize <keep_aspect_ratio_policy = "not_larger", axes = [2]> (a, , , sizes1)', 18),
        # 14
        ("Relu (a)", 13),
        ("LeakyRelu (a)", 13),
        ("Clip (a, zero, six)", 13),
        ("mine.Identity (a)", 13),
    ],
)
def test_operators_that_change_something(call, opset) -> None:
    extra = {
        "five": (TensorProto.FLOAT, [1, 1, 1, 1, 1], [1]),
        "almost": (TensorProto.FLOAT, [4, 1, 1], [1, 1, 1, 1.0000001]),
        "one_row": (TensorProto.INT64, [8], [0, 0, 1, 0, 0, 0, 0, 0]),
        "twice": (TensorProto.INT64, [4], [1, 2, 1, 1]),
        "three": (TensorProto.INT64, [4], [3, 1, 1, 1]),
        "five_dims": (TensorProto.INT64, [5], [1, 1, 1, 1, 1]),
        "m1": (TensorProto.INT64, [1], [-1]),
        "back": (TensorProto.INT64, [1], [-7]),
        "some": (TensorProto.INT64, [4], [0, 1, 3, 2]),
        "other": (TensorProto.INT64, [4], [0, 4, 36, 1]),
        "two_open": (TensorProto.INT64, [4], [-1, 4, 9, 4]),
        "roi": (TensorProto.FLOAT, [8], [0, 0, 0, 0, 1, 1, 1, 1]),
        "bigger": (TensorProto.FLOAT, [4], [1, 1, 1, 1.05]),
        "sizes1": (TensorProto.INT64, [1], [6]),
        "w": (TensorProto.FLOAT, [1], [1]),
    }
    tensors = [helper.make_tensor(name, *given) for name, given in extra.items() if name in names_of(call)]
    io = IO.replace(") =>", ", float[1] w) =>") if "w)" in call else IO
    used = [each for each in split(CONSTANTS) if each.split(" = ")[0].split()[-1] in names_of(call)]
    weights = f"<{', '.join(used)}>" if used else ""
    # Whatever type comes out, the output of the graph is a float.
    tail = "y = Cast <to = 1> (b)" if "to = 11" in call else "c = Cast <to = 11> (b) y = Cast <to = 1> (c)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}, "mine" : 1]> g {io} {weights}'
        f" {{ a = Neg (x) b = {call} {tail} }}"
    )
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model)
    stays(model)


def test_unknown_sizes_stay() -> None:
    """12: without a shape nothing is known."""
    head = "k = mine.F (x)"
    for call in (
        "Mul (k, one3)",
        "Expand (k, once)",
        "Reshape (k, keep)",
        "Flatten (k)",
        "Slice (k, i0, six_rows, i2)",
    ):
        stays(model_of(f"{head} b = {call} y = Neg (b)"))
    open_batch = IO.replace("N,4,6,6", "N,M,6,6")
    stays(model_of("a = Neg (x) b = Mul (a, one3) y = Neg (b)", io=open_batch))
    open_height = IO.replace("6,6", "H,6")
    stays(model_of("a = Neg (x) b = Reshape (a, infer) y = Neg (b)", io=open_height))
    assert count_ops(removed(model_of("a = Exp (x) b = Reshape (a, keep) y = Neg (b)", io=open_height))) == {
        "Exp": 1,
        "Neg": 1,
    }


def test_subgraphs() -> None:
    """15: nodes inside stay, and a captured value is followed."""
    body = (
        "a = Exp (x) b = Identity (a) y = If (yes) <then_branch = t () => (float[N,4,6,6] p) { i = Identity (b)"
        " p = Relu (i) }, else_branch = e () => (float[N,4,6,6] q) { q = Neg (b) }>"
    )
    assert count_ops(removed(model_of(body))) == {"Exp": 1, "Identity": 1, "If": 1, "Neg": 1, "Relu": 1}


def test_a_wrong_rule_is_caught(monkeypatch) -> None:
    """Planted fault: 0 taken for neutral in a product."""
    monkeypatch.setitem(neutral._NEUTRAL, "Mul", 0)
    with pytest.raises(AssertionError):
        removed(model_of("a = Exp (x) b = Mul (a, zero) y = Neg (b)"))

"""fold_affine before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import affine, count_ops, optimize
from cnnport.graphs.fold import fold_affine, linear

# Constants by the beginning of their name: scalars, one number a channel (4 or 8), on other axes.
SHAPES = {
    "s": (),
    "o": (1,),
    "q": (1, 1, 1, 1),
    "c4": (4, 1, 1),
    "c8": (8, 1, 1),
    "n8": (1, 8, 1, 1),
    "l8": (8,),
    "l4": (4,),
    "h": (1, 1, 6, 1),
    "map": (4, 6, 6),
    "batch": (2, 1, 1, 1),
    "five": (1, 1, 1, 1, 1),
    "w": (8, 4, 3, 3),
    "u": (4, 8, 2, 2),
    "g": (8, 2, 3, 3),
    "d": (4, 1, 3, 3),
    "m": (4, 8),
    "k": (8, 5),
    "bn": (8,),
}
INPUT = "float[N,4,6,6] x"


def build(body, *, inputs=INPUT, outputs="float[A,B,C,D] y", dtype=np.float32, opset=17, **values):
    """A model of a body in ONNX text; constants are drawn, away from 0, unless given."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    made = {name for node in model.graph.node for name in node.output} | {
        each.name for each in model.graph.input
    }
    rng = np.random.default_rng(0)
    for name in sorted({name for node in model.graph.node for name in node.input} - made - {""}):
        if name in values:
            array = values[name]
        else:
            shape = SHAPES[max((start for start in SHAPES if name.startswith(start)), key=len)]
            array = rng.uniform(0.5, 2, shape) * (1 if name == "bn4" else rng.choice([-1, 1], shape))
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype), name))
    onnx.checker.check_model(model)
    return model


def feeds_of(model):
    rng, given_ = np.random.default_rng(1), {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: rng.normal(
            size=[size.dim_value or 2 for size in value.type.tensor_type.shape.dim]
        ).astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
        if value.name not in given_
    }


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def assert_agree(before, after, tolerance=2e-5):
    feeds = feeds_of(before)
    for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1))


def summary(model):
    return ", ".join(op if count == 1 else f"{count} {op}" for op, count in count_ops(model).items())


MATRIX = "float[N,4] x => float[A,B] y"
ROWS = "float[N,6,4] x => float[A,B,C] y"
MAPS = "float[N,4,6,6] x => float[A,B,C,D] y"
BN = "BatchNormalization (c, bn1, bn2, bn3, bn4)"

FIRES = {
    "1-every-operator": (
        "v = Conv (x, w) a = Add (v, c8) b = Sub (a, s) c = Mul (c8b, b) y = Div (c, q)",
        "Conv",
    ),
    "1-other-side": (
        "v = Conv <pads=[1,1,1,1]> (x, w, l8) a = Sub (s, v) b = Neg (a) y = Add (n8, b)",
        "Conv",
    ),
    "1-transposed": ("v = ConvTranspose <group=2> (x, u) y = Mul (v, s)", "ConvTranspose"),
    "1-grouped": ("v = Conv <group=2> (x, g) a = Div (v, n8) y = Sub (a, c8)", "Conv"),
    "1-residual": ("v = Conv <group=4, pads=[1,1,1,1]> (x, d) a = Mul (v, s) y = Add (x, a)", "Add, Conv"),
    "1-gemm": ("v = Gemm <alpha=0.5, beta=2.0> (x, m, l8) a = Mul (v, l8b) y = Sub (s, a)", "Gemm", MATRIX),
    "1-gemm-row": ("v = Gemm (x, m) y = Add (v, o)", "Gemm", MATRIX),
    "1-matmul": ("v = MatMul (x, m) y = Add (l8, v)", "Gemm", MATRIX),
    "1-matmul-scale": ("v = MatMul (x, m) y = Mul (l8, v)", "MatMul", MATRIX),
    "1-layer-scale": (
        "l = Transpose <perm=[0,2,3,1]> (x) v = MatMul (l, m) a = Add (v, l8) t = Transpose <perm=[0,3,1,2]> (a) "
        "y = Mul (c8, t)",
        "Add, MatMul, 2 Transpose",
    ),
    "1-batch-norm": (
        f"r = Conv (x, w) c = Relu (r) e = {BN} a = Mul (e, c8) y = Add (a, s)",
        "BatchNormalization, Conv, Relu",
    ),
    "1-other-arithmetic": (
        "t = Tanh (x) a = Mul (t, s) p = AveragePool <kernel_shape=[2,2]> (a) b = Mul (p, c4) y = Tanh (b)",
        "AveragePool, Mul, 2 Tanh",
    ),
    "1-other-division": (
        "t = Tanh (x) a = Div (t, map) p = Identity (a) b = Mul (p, c4) y = Tanh (b)",
        "Identity, Mul, 2 Tanh",
    ),
    "1-other-offset": (
        "t = Tanh (x) a = Sub (t, map) p = Identity (a) b = Add (p, c4) y = Tanh (b)",
        "Identity, Sub, 2 Tanh",
    ),
    "1-positive-over-relu": ("v = Conv (x, w) r = Relu (v) y = Mul (r, s)", "Conv, Relu", MAPS, {"s": 0.3}),
    "1-max-pool": (
        "v = Conv (x, w) r = MaxPool <kernel_shape=[2,2]> (v) a = Mul (r, s) y = Add (a, c8)",
        "Conv, MaxPool",
        MAPS,
        {"s": 0.3},
    ),
    "1-uniform-over-anything": (
        "v = MatMul (x, m) t = Constant <value_ints=[-1,2,4,2]> () r = Reshape (v, t) "
        "p = Transpose <perm=[0,3,1,2]> (r) a = Mul (p, s) y = Add (a, q)",
        "Constant, Gemm, Reshape, Transpose",
        "float[N,4] x => float[A,B,C,D] y",
    ),
    "1-concat-uniform": (
        "v = Conv (x, w) k = Conv (x, w) j = Concat <axis=2> (v, k) y = Mul (j, s)",
        "Concat, 2 Conv",
    ),
    "1-concat-channels": (
        "v = Conv (x, w1) k = Conv (x, w2) j = Concat <axis=1> (v, k) y = Mul (j, both)",
        "Concat, 2 Conv",
        MAPS,
        {
            "w1": np.ones((3, 4, 3, 3)),
            "w2": np.full((5, 4, 3, 3), 0.5),
            "both": np.arange(1, 9).reshape(8, 1, 1),
        },
    ),
    "2-conv": ("a = Sub (x, c4) b = Div (a, c4b) y = Conv (b, w)", "Conv"),
    "2-padded-scale": ("a = Div (x, s) y = Conv <pads=[1,1,1,1]> (a, w)", "Conv"),
    "2-transposed-scale": ("a = Mul (x, c4) y = ConvTranspose (a, u)", "ConvTranspose"),
    "2-every-reader": ("a = Mul (x, c4) c = Conv (a, w) e = Conv (a, w2) y = Add (c, e)", "Add, 2 Conv"),
    "2-shared-source": (
        "r = Relu (x) a = Add (r, c4) c = Conv (a, w) e = Conv (r, w) y = Add (c, e)",
        "Add, 2 Conv, Relu",
    ),
    "2-gemm": ("a = Mul (x, l4) b = Sub (s, a) y = Gemm <alpha=0.5, beta=2.0> (b, m, l8)", "Gemm", MATRIX),
    "2-matmul": ("a = Mul (x, l4) b = Sub (s, a) y = MatMul (b, m)", "Gemm", MATRIX),
    "2-matmul-rows": ("a = Mul (x, l4) y = MatMul (a, m)", "MatMul", ROWS),
    "2-batch-norm": (
        f"v = Conv (x, w) r = Relu (v) a = Mul (r, c8) c = Add (a, s) y = {BN}",
        "BatchNormalization, Conv, Relu",
    ),
    "2-gather": (
        "t = Tanh (x) a = Mul (t, s) i = Constant <value_ints=[3,1,2,0]> () b = Gather <axis=1> (a, i) "
        "y = Conv <pads=[1,1,1,1]> (b, w)",
        "Constant, Conv, Gather, Tanh",
    ),
    "2-split": (
        "t = Tanh (x) a = Mul (t, s) b, e = Split <axis=1> (a) c = Conv (b, w2) f = Conv (e, w2) y = Add (c, f)",
        "Add, 2 Conv, Split, Tanh",
        MAPS,
        {"w2": np.ones((3, 2, 3, 3))},
    ),
    "2-concat-uniform": (
        "t = Tanh (x) a = Mul (t, s) k = Concat <axis=1> (x, a) y = Conv (k, w2)",
        "Concat, Conv, Tanh",
        MAPS,
        {"w2": np.ones((3, 8, 3, 3))},
    ),
    "3-stack": ("v = MatMul (x, m) a = Add (v, l8) y = Mul (a, l8b)", "Add, MatMul", ROWS),
    "4-picture": ("a = Sub (x, c4) b = Div (a, c4b) y = Conv <pads=[1,1,1,1]> (b, w)", "Add, Conv"),
    "5-both": (
        "t = Tanh (x) a = Mul (t, c4) b = Add (a, s) c = Div (b, o) e = Sub (c4, c) y = Tanh (e)",
        "Add, Mul, 2 Tanh",
    ),
    "5-sub": ("t = Tanh (x) a = Neg (t) b = Add (a, s) y = Tanh (b)", "Sub, 2 Tanh"),
    "5-scale": ("t = Tanh (x) a = Mul (t, s) b = Neg (a) y = Tanh (b)", "Mul, 2 Tanh"),
    "5-shift": ("t = Tanh (x) a = Add (t, s) b = Sub (a, c4) y = Tanh (b)", "Add, 2 Tanh"),
    "5-nothing": ("t = Tanh (x) a = Sub (s, t) y = Sub (s, a)", "Tanh"),
    "5-source-used": ("t = Tanh (x) a = Mul (t, s) b = Mul (a, c4) y = Add (b, t)", "Add, Mul, Tanh"),
    "5-given-out": ("a = Neg (x) b = Mul (a, s) y = Neg (b)", "Mul"),
}


def case(entry):
    body, expected, io, values = (*entry, *(MAPS, {})[len(entry) - 2 :])
    inputs, outputs = io.split(" => ")
    return build(body, inputs=inputs, outputs=outputs, **values), expected


@pytest.mark.parametrize("id_", FIRES)
def test_fires(id_):
    """1 to 8: what is left is what the case says, the numbers stay, and a second run finds nothing."""
    before, expected = case(FIRES[id_])
    pristine = before.SerializeToString(deterministic=True)
    after, (report, *_) = optimize(before, [fold_affine.fold_affine])
    assert before.SerializeToString(deterministic=True) == pristine
    assert report.refused is None
    assert summary(after) == expected
    assert report.rewrites == sum(count_ops(before).values()) - sum(count_ops(after).values())
    onnx.checker.check_model(after, full_check=True)
    assert_agree(before, after)
    used = {name for node in after.graph.node for name in node.input}
    assert all(tensor.name in used for tensor in after.graph.initializer)
    model = ir.from_proto(after)
    assert fold_affine.fold_affine(model) == 0


@pytest.mark.parametrize("id_", ["1-gemm", "1-every-operator", "4-picture", "5-both"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64], ids=["float16", "float64"])
def test_fires_in_other_types(id_, dtype):
    body, expected, io = (*FIRES[id_], MAPS)[:3]
    name = {np.float16: "float16", np.float64: "double"}[dtype]
    inputs, outputs = io.replace("float", name).split(" => ")
    before = build(body, inputs=inputs, outputs=outputs, dtype=dtype)
    after, _ = optimize(before, [fold_affine.fold_affine])
    assert summary(after) == expected
    assert {tensor.data_type for tensor in after.graph.initializer} == {
        helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    }
    feeds = feeds_of(before)
    (was,), (found,) = (ReferenceEvaluator(model).run(None, feeds) for model in (before, after))
    tolerance = {np.float16: 3e-2, np.float64: 1e-12}[dtype] * max(np.abs(was).max(), 1)
    np.testing.assert_allclose(found.astype(np.float64), was.astype(np.float64), rtol=0, atol=tolerance)


def test_shared_weights():
    """8: a weight that another convolution uses stays; the rewritten one gets its own, with names of its own."""
    before = build("v = Conv (x, w) a = Mul (v, c8) e = Conv (x, w) y = Add (a, e)")
    after, _ = optimize(before, [fold_affine.fold_affine])
    assert summary(after) == "Add, 2 Conv"
    assert sorted(tensor.name for tensor in after.graph.initializer) == ["w", "w_affine"]
    assert after.graph.node[0].output[0] == "a"
    assert_agree(before, after)


def test_names_of_what_changed():
    """What is added to in front of the convolution is another value than before, and has another name."""
    before, _ = case(FIRES["4-picture"])
    after, _ = optimize(before, [fold_affine.fold_affine])
    add, conv = after.graph.node
    assert (add.op_type, list(add.input), list(conv.output)) == ("Add", ["x", "c4b_affine"], ["y"])
    assert add.output[0] not in {"a", "b"}
    (offset,) = (tensor for tensor in after.graph.initializer if tensor.name == "c4b_affine")
    (mean,) = (tensor for tensor in before.graph.initializer if tensor.name == "c4")
    np.testing.assert_array_equal(numpy_helper.to_array(offset), -numpy_helper.to_array(mean))


STAYS = {
    "20-dimensions": ("v = Conv (x, w) a = Mul (v, five) t = Tanh (a) y = Squeeze (t, ax)", "which axis"),
    "20-batch-of-one": ("v = Conv (x, w) a = Mul (v, batch) y = Tanh (a)", "more than channels"),
    "20-larger": (
        "v = Conv (x, one) a = Mul (v, c8) y = Tanh (a)",
        "keep the shape",
        MAPS,
        {"one": np.ones((1, 4, 3, 3))},
    ),
    "21-map": ("t = Tanh (x) a = Mul (t, map) y = Tanh (a)", "more than channels"),
    "21-rows": (
        "v = Conv (x, w3) a = Mul (v, h) y = Tanh (a)",
        "another axis",
        MAPS,
        {"w3": np.ones((8, 4, 1, 1))},
    ),
    "21-other-axis": ("t = Tanh (x) a = Mul (t, c4) b = Add (a, h) y = Tanh (b)", "Tanh"),
    "21-last-of-maps": (
        "v = Conv (x, w6) a = Mul (v, six) y = Tanh (a)",
        "another axis",
        MAPS,
        {"w6": np.ones((6, 4, 1, 1)), "six": np.full(6, 2)},
    ),
    "22-reciprocal": ("v = Conv (x, w) a = Div (s, v) y = Tanh (a)", "divides by"),
    "22-zero": (
        "v = Conv (x, w) a = Div (v, c8) y = Tanh (a)",
        "no finite",
        MAPS,
        {"c8": np.zeros((8, 1, 1))},
    ),
    "22-infinite": ("v = Conv (x, w) a = Mul (v, s) y = Tanh (a)", "no finite", MAPS, {"s": np.inf}),
    "22-overflow": (
        "v = Conv (x, w) a = Mul (v, s) y = Tanh (a)",
        "overflow",
        MAPS,
        {"w": np.full((8, 4, 3, 3), 1e30), "s": 1e30},
    ),
    "22-zero-scale-before-padding": (
        "t = Tanh (x) a = Mul (t, c4) b = Add (a, s) y = Conv <pads=[1,1,1,1]> (b, w)",
        "a scale is 0",
        MAPS,
        {"c4": np.zeros((4, 1, 1))},
    ),
    "23-integers": (
        "a = Mul (x, i) b = Add (a, i) y = Neg (b)",
        "floating-point",
        "int64[N,4] x => int64[A,B] y",
    ),
    "24-used-elsewhere": ("v = Conv (x, w) a = Mul (v, s) y = Add (a, v)", "v is used elsewhere"),
    "24-two-readers": (
        "t = Tanh (x) a = Mul (t, s) c = Conv (a, w) r = ReduceSum (a) y = Add (c, r)",
        "ReduceSum",
    ),
    "24-given-out": (
        "v = Conv (x, w) y = Mul (v, s)",
        "v is used elsewhere",
        "float[N,4,6,6] x => float[A,B,C,D] y, float[E,F,G,H] v",
    ),
    "25-padded": ("a = Add (x, s) y = Conv <pads=[1,1,1,1]> (a, w)", "pads with zeros"),
    "25-transposed": ("a = Add (x, s) y = ConvTranspose (a, u)", "a map with a shift"),
    "26-one": ("t = Tanh (x) a = Mul (t, s) y = Tanh (a)", "Tanh is not linear"),
    "26-two": ("t = Tanh (x) a = Mul (t, c4) b = Add (a, s) y = Tanh (b)", "Tanh is not linear"),
    "26-stack": (
        "v = MatMul (x, m) y = Mul (v, rows)",
        "just two matrices",
        ROWS,
        {"rows": np.full((6, 1), 2.0)},
    ),
    "26-bias": ("v = MatMul (x, m) y = Add (v, l8)", None, ROWS),
    "26-negative-over-relu": (
        "v = Conv (x, w) r = Relu (v) a = Mul (r, s) y = Tanh (a)",
        "Relu is not linear",
        MAPS,
        {"s": -0.3},
    ),
    "26-shift-over-max-pool-down": (
        "t = Tanh (x) a = Mul (t, s) p = MaxPool <kernel_shape=[2,2]> (a) y = Conv (p, w)",
        "MaxPool is not linear",
        MAPS,
        {"s": -0.3},
    ),
}


def stays(id_):
    body, reason, io, values = (*STAYS[id_], *(MAPS, {})[len(STAYS[id_]) - 2 :])
    inputs, outputs = io.split(" => ")
    if id_ == "23-integers":
        model = build(body.replace("i)", "s)"), inputs=inputs, outputs=outputs, dtype=np.int64)
    elif id_ == "20-dimensions":
        model = build(body.replace(", ax)", ", z)").replace("t =", "z = Constant <value_ints=[0]> () t ="))
    else:
        model = build(body, inputs=inputs, outputs=outputs, **values)
    return model, reason


@pytest.mark.parametrize("id_", STAYS)
def test_stays(id_):
    """20 to 26: nothing is touched, and for the reason that the case is about."""
    before, reason = stays(id_)
    after, (report,) = optimize(before, [fold_affine.fold_affine])
    assert after is before
    assert (report.rewrites, report.refused) == (0, None)
    if reason is None:
        assert not report.left
        return
    assert any(reason in refusal.reason for refusal in report.left), report.left


def test_constants_of_a_caller_stay():
    """23: an initializer that is also an input may be overridden; before IR version 4 every one is."""
    before = build("v = Conv (x, w) y = Mul (v, s)")
    before.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, []))
    assert optimize(before, [fold_affine.fold_affine])[0] is before
    del before.graph.input[-1]
    before.ir_version = 3
    assert fold_affine.fold_affine(ir.from_proto(before)) == 0


def test_mixed_types():
    """23: numbers of another type than the weights, which a checker would not let pass, are left alone."""
    before = ir.from_proto(build("v = Conv (x, w) y = Mul (v, s)"))
    before.graph.initializers["s"].const_value = ir.tensor(np.float64(0.5), name="s")
    assert fold_affine.fold_affine(before) == 0


def test_captured():
    """24: what a subgraph reads is used elsewhere too, also as what it hands on."""
    for nodes, out in (([helper.make_node("Relu", ["v"], ["t"])], "t"), ([], "v")):
        before = build("v = Conv (x, w) y = Mul (v, s) yes = Constant <value = bool {1}> ()")
        branch = helper.make_graph(
            nodes, "b", [], [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)]
        )
        before.graph.node.append(
            helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)
        )
        before.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
        assert fold_affine.fold_affine(ir.from_proto(before)) == 0


def test_missing_shapes():
    """20: without shapes numbers for channels are not known to keep the shape; a single number is."""
    model = ir.from_proto(build("v = Conv (x, w) y = Mul (v, c8)"))
    assert fold_affine.fold_affine(model) == 0
    model = ir.from_proto(build("v = Conv (x, w) y = Mul (v, s)"))
    assert fold_affine.fold_affine(model) == 1


def unpadded(node, affine):
    pads = node.attributes.pop("pads")
    rewrite = CONV_INPUTS(node, affine)
    node.attributes["pads"] = pads
    return rewrite


def swapped(self, later):
    return THEN(later, self)


CONV_INPUTS, THEN = linear._AT_INPUTS["Conv"], affine.Affine.then
STRAY = {"25-padded": STAYS["25-padded"][0], "5-both": FIRES["5-both"][0], "4-picture": FIRES["4-picture"][0]}


@pytest.mark.parametrize(
    ("id_", "plant"),
    [
        ("25-padded", lambda patch: patch.setitem(linear._AT_INPUTS, "Conv", unpadded)),
        ("5-both", lambda patch: patch.setattr(affine.Affine, "then", swapped)),
        (
            "4-picture",
            lambda patch: patch.setattr(fold_affine, "_before", lambda _, whole: whole.without_scale()),
        ),
    ],
)
def test_a_planted_fault_shows(id_, plant, monkeypatch):
    """Borders forgotten, a chain composed from the wrong end, an offset not divided: the comparison notices."""
    before = build(STRAY[id_])
    plant(monkeypatch)
    after, (report, *_) = optimize(before, [fold_affine.fold_affine])
    assert report.rewrites
    with pytest.raises(AssertionError):
        assert_agree(before, after)

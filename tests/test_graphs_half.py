"""Graphs in halves: what becomes half, what stays, how many Casts, and that the file says what it computes."""

import itertools
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

from cnnport.errors import CnnportError
from cnnport.graphs.convert_opset import problem
from cnnport.graphs.half import BF16, FP16, Conversion, HalfFormat, check_opset, convert
from cnnport.graphs.half import conversion as converting
from cnnport.graphs.half.conversion import able_nodes
from cnnport.graphs.half.emulate import emulate
from cnnport.graphs.half.numbers import loss_of
from cnnport.graphs.half.plan import Plan, plan
from cnnport.graphs.protos import read, write

IO = "(float[N,4,6,6] x) => (float[N,4,6,6] y)"
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def model_of(body: str, *, io: str = IO, opset: int = 20, functions: str = "", **weights: np.ndarray):
    """A model in ONNX's text, with a 4x4 kernel ``w`` unless there are other weights."""
    imports = f'"" : {opset}, "own" : 1'
    text = f"<ir_version: 10, opset_import: [{imports}]> g {io} {{ {body} }} {functions}"
    model = onnx.parser.parse_model(text)
    if " w" in body and "w" not in weights:
        weights["w"] = np.random.default_rng(0).normal(size=(4, 4, 1, 1)) / 2
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
    return model


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


def halved(
    model,
    half: HalfFormat = FP16,
    *,
    keep: Mapping[str, str] | None = None,
    feeds: Mapping[str, np.ndarray] | None = None,
    **options: bool,
) -> tuple[onnx.ModelProto, Conversion]:
    """Convert, check the file, and hold what it computes against the model."""
    before = model.SerializeToString()
    graph = read(model)
    done = convert(graph, half, keep=keep, **options)
    made = write(graph)
    assert model.SerializeToString() == before
    again = read(model)
    convert(again, half, keep=keep, **options)
    assert write(again) == made
    assert problem(made) is None
    assert [value.name for value in made.graph.input] == [value.name for value in model.graph.input]
    assert [value.name for value in made.graph.output] == [value.name for value in model.graph.output]
    assert casts(made) - casts(model) == done.casts
    if not options.get("half_io"):
        assert list(made.graph.input) == list(model.graph.input)
        assert list(made.graph.output) == list(model.graph.output)
    if feeds is None:
        feeds = {"x": np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)}
    expected, found = run(model, feeds), run(emulate(read(made)), feeds)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, atol=12 * half.roundoff * np.abs(value).max())
    with pytest.raises(CnnportError, match="already"):
        convert(read(made), half)
    return made, done


def casts(model) -> int:
    return sum(node.op_type == "Cast" for node in model.graph.node)


def types(model) -> dict[str, int]:
    """The element type of every value that the file, or inference, knows."""
    full = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    found = {
        value.name: value.type.tensor_type.elem_type
        for value in (*full.graph.input, *full.graph.value_info, *full.graph.output)
    }
    return found | {tensor.name: tensor.data_type for tensor in full.graph.initializer}


def test_a_network_has_a_cast_at_either_end() -> None:
    model = model_of(
        """c = Conv (x, w, b)
        r = Relu (c)
        k = Clip (r, low, high)
        a = Add (k, c)
        y = Conv (a, w, b)""",
        b=np.ones(4),
        low=np.array(-3.4e38),
        high=np.array(6.0),
    )
    model.doc_string = "kept"
    model.metadata_props.add(key="a", value="b")
    model.graph.node[1].name = "relu"
    made, done = halved(model)
    assert (done.casts, done.half, dict(done.kept), done.spared) == (2, 5, {}, ())
    assert [node.op_type for node in made.graph.node] == [
        "Cast",
        *("Conv", "Relu", "Clip", "Add", "Conv"),
        "Cast",
    ]
    found = types(made)
    assert {name: found[name] for name in ("x", "c", "r", "k", "a", "w", "b", "y")} == {
        **dict.fromkeys(("c", "r", "k", "a", "w", "b"), HALF),
        **dict.fromkeys("xy", FLOAT),
    }
    assert (made.doc_string, made.metadata_props[0].value, made.graph.node[2].name) == ("kept", "b", "relu")
    # No bound is a bound: the largest number stands for it.
    low = next(tensor for tensor in made.graph.initializer if tensor.name == "low")
    assert float(numpy_helper.to_array(low)) == -65504


def test_inputs_and_outputs_may_be_halves() -> None:
    made, done = halved(model_of("c = Conv (x, w) y = Relu (c)"), half_io=True)
    assert done.casts == 0
    assert types(made) == dict.fromkeys(("x", "c", "y", "w"), HALF)


def test_a_cast_is_shared_by_all_who_read_it() -> None:
    body = "c = Conv (x, w) e = Exp (c) t = Cos (c) s = Sin (c) a = Sum (e, t, s) y = Conv (a, w)"
    keep = dict.fromkeys(("e", "t", "s"), "planted")
    made, done = halved(model_of(body), keep=keep)
    # x, c for all three, what they make together, y.
    assert (done.casts, dict(done.kept), done.spared) == (4, keep, ("a",))
    assert types(made)["c"] == HALF


def test_what_lies_between_kept_nodes_stays_where_that_spares_casts() -> None:
    body = (
        "c = Conv (x, w) e = Sigmoid (c) r = Neg (e) s = Sqrt (e) m = Mul (r, s) l = Tanh (m) y = Conv (l, w)"
    )
    _, done = halved(model_of(body), keep={"e": "planted", "l": "planted"})
    assert (done.casts, done.spared) == (4, ("r", "s", "m"))
    # A convolution is worth its Casts.
    body = body.replace("Neg (e)", "Conv (e, w)")
    _, done = halved(model_of(body), keep={"e": "planted", "l": "planted"})
    assert "r" not in done.spared
    assert done.casts == 6


def test_a_value_that_is_given_out_and_read_has_its_name_outside() -> None:
    io = "(float[N,4,6,6] x) => (float[N,4,6,6] c, float[N,4,6,6] y)"
    made, done = halved(model_of("c = Conv (x, w) r = Relu (c) y = Conv (r, w)", io=io))
    assert done.casts == 3
    (maker,) = (node for node in made.graph.node if "c" in node.output)
    assert maker.op_type == "Cast"
    assert next(node for node in made.graph.node if node.op_type == "Relu").input == maker.input


def test_constants_are_converted_not_cast() -> None:
    """And copied only where somebody needs them in float32."""
    body = """k = Constant <value_float = 0.5> ()
    s = Constant <value = float[1] {0.25}> ()
    c = Conv (x, w)
    m = Mul (c, k)
    e = Mul (m, s)
    f = Sub (e, s)
    d = Conv (f, w)
    y = Mul (d, k)"""
    made, done = halved(model_of(body), keep={"e": "planted", "d": "planted"})
    assert (done.casts, done.spared) == (2, ("f", "y"))
    found = types(made)
    assert {name: found[name] for name in ("k", "k_fp16", "w", "w_fp16", "s")} == {
        **dict.fromkeys(("k", "w", "s"), FLOAT),
        **dict.fromkeys(("k_fp16", "w_fp16"), HALF),
    }


@pytest.mark.parametrize(
    ("body", "more", "kept"),
    [
        # Scales are float32 by the standard, and regions of interest are positions.
        (
            'c = Conv (x, w) y = Resize <mode = "nearest"> (c, roi, scales)',
            {"roi": np.zeros(0), "scales": np.ones(4)},
            {},
        ),
        ("c = Conv (x, w) p = Pad (c, pads, v) y = Slice (p, from, to)", {"v": np.array(0.3)}, {}),
        # A range has no float16.
        (
            """c = Conv (x, w) a = Constant <value_float = 0.0> () b = Constant <value_float = 6.0> ()
            d = Constant <value_float = 1.0> () r = Range (a, b, d) y = Add (c, r)""",
            {},
            {"r": "no fp16 in the standard: Range at opset 20"},
        ),
        ("s = Shape (x) o = ConstantOfShape (s) a = Add (x, o) y = Conv (a, w)", {}, {}),
        (
            "s = Shape (x) o = ConstantOfShape <value = float[1] {0.1}> (s) a = Add (x, o) y = Conv (a, w)",
            {},
            {},
        ),
        # What may be a size stays, and so does what is computed with it.
        (
            """s = Shape (x) f = Cast <to = 1> (s) k = Constant <value_float = 2049.0> ()
            m = Mul (f, k) d = Div (m, k) i = Cast <to = 7> (d) r = Reshape (x, i) y = Conv (r, w)""",
            {},
            dict.fromkeys("fi", "sizes or positions: Cast from or to wide integers"),
        ),
        ("b = Cast <to = 9> (x) f = Cast <to = 1> (b) y = Conv (f, w)", {}, {}),
        (
            "c = Conv (x, w) y = CumSum (c, axis)",
            {},
            {"y": "running sums: CumSum"},
        ),
        (
            """n = ReduceMax <keepdims = 0> (x) z = Constant <value_float = 0.0> () p = Greater (n, z)
            c = Conv (x, w)
            i = If (p) <
                then_branch = g () => (float[N,4,6,6] t) { t = Relu (c) },
                else_branch = h () => (float[N,4,6,6] e) { e = Neg (c) }
            >
            y = Conv (i, w)""",
            {},
            {"i": "subgraphs are left as they are: If"},
        ),
        (
            "c = Conv (x, w) y = BatchNormalization (c, s, b, m, v)",
            {"s": np.ones(4), "b": np.zeros(4), "m": np.full(4, 0.1), "v": np.ones(4)},
            {},
        ),
        ("c = Conv (x, w) p = Pow (c, two) y = Relu (p)", {"two": np.array(2.0)}, {}),
        (
            "c = Conv (x, w) i = ArgMax (c) f = Cast <to = 6> (i) z = Cast <to = 1> (f) y = Add (z, c)",
            {},
            None,
        ),
    ],
    ids=[
        "resize",
        "pad",
        "range",
        "shape",
        "shape-value",
        "size",
        "bool",
        "cumsum",
        "if",
        "batchnorm",
        "pow",
        "argmax",
    ],
)
def test_operators_with_rules_of_their_own(body, more, kept) -> None:
    model = model_of(body, **more)
    for name, value in (("pads", [0, 0, 1, 1, 0, 0, 1, 1]), ("from", [0, 0, 1, 1]), ("to", [9, 4, 7, 7])):
        if name in body:
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    if "axis" in body:
        model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.int64), "axis"))
    made, done = halved(model)
    if kept is not None:
        assert dict(done.kept) == kept
    found = types(made)
    if "to = 9" in body:
        # What comes of the Cast that was there is half at once.
        assert (done.casts, found["f"]) == (1, HALF)
    if "Resize" in body:
        assert (found["scales"], found["roi"], found["c"]) == (FLOAT, FLOAT, HALF)
    if "2049" in body:
        # The product is not whole in halves; it stays because that spares Casts.
        assert done.spared == ("m", "d")


@pytest.mark.parametrize("mixed", [False, True])
def test_parameters_of_a_batch_norm_may_stay(mixed: bool) -> None:
    parameters = {"s": np.ones(4), "b": np.zeros(4), "m": np.zeros(4), "v": np.ones(4)}
    body = "c = Conv (x, w) y = BatchNormalization (c, s, b, m, v)"
    made, _ = halved(model_of(body, **parameters), mixed=mixed)
    found = types(made)
    assert {found[name] for name in "sbmv"} == {FLOAT if mixed else HALF}
    assert found["c"] == HALF
    # Before they had types of their own, they follow.
    made, _ = halved(model_of(body, opset=14, **parameters), mixed=mixed)
    assert {types(made)[name] for name in "sb"} == {HALF}


def test_custom_operators_and_local_functions_stay() -> None:
    functions = '<domain: "own", opset_import: ["" : 20]> Twice (a) => (b) { b = Add (a, a) }'
    model = model_of("c = Conv (x, w) f = own.Twice (c) y = Conv (f, w)", functions=functions)
    # Without the type of what it gives, nothing is known of its reader either.
    _, done = halved(model)
    assert done.kept["f"] == "no operator of the standard: own.Twice"
    value = onnx.helper.make_tensor_value_info("f", FLOAT, ["N", 4, 6, 6])
    model.graph.value_info.append(value)
    made, done = halved(model)
    assert dict(done.kept) == {"f": "no operator of the standard: own.Twice"}
    assert done.casts == 4
    assert [each.name for each in made.functions] == ["Twice"]


def test_initializers_that_callers_may_override_are_cast() -> None:
    model = model_of("c = Conv (x, w) y = Relu (c)")
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", FLOAT, [4, 4, 1, 1]))
    made, done = halved(model)
    assert done.casts == 3
    assert types(made)["w"] == FLOAT


def test_the_file_has_right_types_and_only_the_shapes_that_it_had() -> None:
    model = model_of("c = Conv (x, w) r = Relu (c) s = Relu (r) y = Conv (s, w)")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("c", FLOAT, ["N", 4, 6, 6]))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("r", FLOAT, None))
    made, _ = halved(model)
    assert {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info} == {
        **dict.fromkeys("cr", HALF),
        **{value.name: HALF for value in made.graph.value_info if value.name not in "crs"},
    }
    assert "s" not in {value.name for value in made.graph.value_info}


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("y = Conv (x, w)", {"w": np.full((4, 4, 1, 1), 7e4)}, "constants beyond the largest number: w"),
        ("y = Conv (x, w)", {"w": np.full((4, 4, 1, 1), 1e-8)}, "constants near zero: w loses 100%"),
        # An epsilon that vanishes.
        ("c = Conv (x, w) y = Add (c, e)", {"e": np.array(1e-12)}, "constants near zero: e loses 100%"),
        # A few small ones among larger ones, and a bias that is next to nothing beside what it is added to.
        ("y = Conv (x, w)", {"w": np.r_[np.full(15, 0.1), 1e-9].reshape(4, 4, 1, 1)}, None),
        ("y = Conv (x, w, b)", {"b": np.full(4, 1e-9)}, None),
        ("c = Conv (x, w) y = Max (c, e)", {"e": np.array(-1e30)}, None),
        ("c = Conv (x, w) y = Mul (c, e)", {"e": np.array(np.inf)}, None),
    ],
)
def test_constants_that_halves_do_not_hold(body, weights, reason) -> None:
    model = model_of(body + " z = Conv (y, v)", v=np.eye(4).reshape(4, 4, 1, 1), **weights)
    graph = read(model)
    done = convert(graph, FP16)
    assert problem(write(graph)) is None
    assert [each[: len(reason)] for each in done.kept.values()] == [reason] if reason else not done.kept
    if reason is None and body == "y = Conv (x, w)":
        assert done.weakened["w"] == (1, 0)


def test_losses_are_counted() -> None:
    loss = loss_of(np.array([1e5, 1.0, 1e-6, 1e-9, 0, np.inf], np.float32), FP16)
    assert (loss.overflows, loss.weakened, loss.vanishes) == (1, 1, 1)
    assert loss.largest == pytest.approx(1e5)


def test_what_is_no_float32_file_is_refused() -> None:
    halves = model_of("y = Conv (x, w)", io=IO.replace("float", "float16"))
    halves.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(halves.graph.initializer[0]).astype(np.float16), "w")
    )
    with pytest.raises(CnnportError, match="in float16 already"):
        convert(read(halves), FP16)
    body = "q = QuantizeLinear (x, s) d = DequantizeLinear (q, s) y = Conv (d, w)"
    with pytest.raises(CnnportError, match="quantized already: it has QuantizeLinear"):
        convert(read(model_of(body, s=np.array(0.1))), FP16)
    with pytest.raises(CnnportError, match="no convolution and no matrix product"):
        convert(read(model_of("y = Relu (x)")), FP16)
    with pytest.raises(CnnportError, match="no float32 numbers"):
        convert(read(model_of("y = Neg (x)", io=IO.replace("float", "int32"))), FP16)


def test_bfloat16_needs_the_opset_that_has_it() -> None:
    body = "c = Conv (x, w) r = Relu (c) y = MaxPool <kernel_shape = [1, 1]> (r)"
    with pytest.raises(CnnportError, match="Conv takes no bfloat16 at opset 20\nfrom opset 22 on it does"):
        convert(read(model_of(body)), BF16)
    with pytest.raises(CnnportError, match="from opset 22"):
        check_opset(BF16, 21)
    check_opset(FP16, 9)
    check_opset(BF16, 22)
    made, done = halved(model_of(body, opset=22), BF16)
    assert (done.casts, types(made)["c"]) == (2, TensorProto.BFLOAT16)


def test_the_plan_has_the_fewest_casts_there_are() -> None:
    """Against all choices, over random graphs; the nodes that have to stay are planted at random."""
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(60):
        values, body = ["x"], []
        for index in range(7):
            left, right = (str(rng.choice(values[-3:])) for _ in range(2))
            op = rng.choice(["Conv", "Add", "Sin", "Mul"], p=[0.2, 0.3, 0.2, 0.3])
            name = "y" if index == 6 else f"v{index}"
            second = {"Conv": ", w", "Sin": ""}.get(op, f", {right}")
            body.append(f"{name} = {op} ({left}{second})")
            values.append(name)
        model = model_of(" ".join(["z = Conv (x, w)", *body]), w=np.eye(4).reshape(4, 4, 1, 1))
        parsed = read(model)
        graph = parsed.graph
        able, _ = able_nodes(parsed, FP16)
        free = [node for node in able if rng.random() > 0.3 or node.outputs[0].name == "z"]
        able = {node: able[node] for node in free}
        found = plan(graph, able, half_io=False)
        cheap = [node for node in free if node.op_type != "Conv"]
        counts = []
        for choice in itertools.product((False, True), repeat=len(cheap)):
            stays = {node for node, kept in zip(cheap, choice, strict=True) if kept}
            half = {node: able[node] for node in free if node not in stays}
            counts.append(needed(graph, Plan(half, (), half_io=False)))
        assert needed(graph, found) == min(counts)
        # With everything in halves that can be there is often a Cast too many, which is counted.
        better += needed(graph, found) < needed(graph, Plan(able, (), half_io=False))
    assert better > 10


def needed(graph: ir.Graph, chosen: Plan) -> int:
    """The Casts that a plan needs, counted value by value."""
    count = 0
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        is_half = chosen.makes_half(value)
        other = any(chosen.wants_half(node, index) != is_half for node, index in value.uses())
        count += other or (value.is_graph_output() and is_half)
    return count


def test_a_wrong_type_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests look at sees a Cast left out."""
    model = model_of("c = Conv (x, w) e = Exp (c) y = Conv (e, w)")
    monkeypatch.setattr(converting._Rewrite, "_cast", lambda self, value, to_half: value)
    graph = read(model)
    convert(graph, FP16, keep={"e": "planted"})
    assert problem(write(graph)) is not None


def test_emulation_agrees_with_the_standard_in_halves() -> None:
    """onnx's own reference computes in NumPy's float16; ONNX Runtime's CPU does not round at all."""
    from onnx.reference import ReferenceEvaluator

    body = """c = Conv <pads = [1, 1, 1, 1]> (x, v)
    r = Relu (c)
    s = Sigmoid (r)
    m = Mul (r, s)
    a = Add (m, c)
    y = Conv (a, v)"""
    kernel = np.random.default_rng(2).normal(size=(4, 4, 3, 3)) / 6
    made, _ = halved(model_of(body, io=IO.replace("6,6] y", "4,4] y"), v=kernel))
    feeds = {"x": np.random.default_rng(3).normal(size=(2, 4, 6, 6)).astype(np.float32)}
    rounded = run(emulate(read(made)), feeds)["y"]
    exact = ReferenceEvaluator(made).run(None, feeds)[0]
    unrounded = run(made, feeds)["y"]
    assert np.abs(rounded - exact).max() <= 4 * FP16.roundoff * np.abs(exact).max()
    assert np.array_equal(rounded, rounded.astype(np.float16))
    # Weights alone: what ONNX Runtime computes from the file.
    plain = run(emulate(read(made), weights_only=True), feeds)["y"]
    np.testing.assert_allclose(plain, unrounded, atol=1e-5)
    assert not np.array_equal(plain, rounded)

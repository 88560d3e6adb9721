"""move_transposes before and after, on graphs in ONNX text. The numbers are those of its docstring."""

import re
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.journal import recorded
from cnnport.graphs.layout.move_transposes import move_transposes
from cnnport.graphs.layout.operators import OPERATORS

NHWC = "[0, 2, 3, 1]"
NCHW = "[0, 3, 1, 2]"


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its random constants, and how many Transposes are left of it.

    Attributes:
        id: The rule's number and what it shows.
        body: Nodes from ``x``, which is N x 4 x 6 x 3, to ``y``.
        y: The type of ``y``.
        left: Transposes afterwards.
        shapes: Of random float constants.
        integers: Constants by name.
        opset: Of the file.
    """

    id: str
    body: str
    left: int
    y: str = "float[N, 4, 6, 3]"
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    integers: dict[str, list[int]] = field(default_factory=dict)
    opset: int = 18


def between(work: str, **changes: object) -> Case:
    """What works on ``a``, which is N x 3 x 4 x 6, and gives ``b``: it may as well work on ``x``."""
    rule = changes.pop("id")
    body = f"a = Transpose <perm = {NCHW}> (x) {work} y = Transpose <perm = {NHWC}> (b)"
    return Case(str(rule), body, 0, **changes)  # type: ignore[arg-type]


WEIGHTS = {"w": (5, 3, 3, 3), "v": (3, 5, 1, 1)}
CASES = (
    Case(
        "1-three-in-a-row",
        """
        a = Transpose <perm = [3, 0, 1, 2]> (x)  b = Transpose <perm = [2, 3, 0, 1]> (a)
        y = Transpose <perm = [3, 2, 1, 0]> (b)
        """,
        1,
        "float[N, 3, 6, 4]",
    ),
    Case(
        "1-equal-ones",
        f"""
        a = Transpose <perm = {NCHW}> (x)  b = Transpose <perm = {NCHW}> (x)
        c = Conv <pads = [1, 1, 1, 1]> (a, w)  d = Conv <pads = [1, 1, 1, 1]> (b, w)
        y = Add (c, d)
        """,
        1,
        "float[N, 5, 4, 6]",
        WEIGHTS,
    ),
    Case(
        "1-of-a-constant",
        "t = Transpose <perm = [3, 2, 0, 1]> (k)  y = Conv <pads = [1, 1, 1, 1]> (x, t)",
        0,
        "float[N, 5, 6, 3]",
        {"k": (3, 3, 4, 5)},
    ),
    between("b = Relu (a)", id="2-relu"),
    between("c = Cast <to = 11> (a)  d = Exp (c)  b = Cast <to = 1> (d)", id="2-cast"),
    between("c = Dropout (a)  d = Identity (c)  b = Clip (d, low, low)", id="2-dropout", shapes={"low": ()}),
    between(
        "c = Mul (a, s)  d = Add (k, c)  e = Sub (d, z)  b = PRelu (e, s)",
        id="3-constants",
        shapes={"s": (3, 1, 1), "k": (1, 3, 1, 6), "z": ()},
    ),
    between(
        "c = Sigmoid (a)  d = GlobalAveragePool (a)  e = GlobalMaxPool (a)  f = Sub (d, e)  g = Mul (c, f)"
        " b = Add (g, a)",
        id="3-gate",
    ),
    Case(
        "3-residual",
        f"""
        a = Transpose <perm = {NCHW}> (x)  c = Conv <pads = [1, 1, 1, 1]> (a, w)
        d = Transpose <perm = {NHWC}> (c)  e = Relu (d)
        f = Transpose <perm = {NCHW}> (e)  g = Conv (f, v)
        h = Transpose <perm = {NHWC}> (g)  i = Add (h, x)  j = Relu (i)
        k = Transpose <perm = {NCHW}> (j)  l = Conv <pads = [1, 1, 1, 1]> (k, w)
        m = Transpose <perm = {NHWC}> (l)  n = Add (j, x)  o = ReduceMean (n, last)  y = Mul (m, o)
        """,
        2,
        "float[N, 4, 6, 5]",
        WEIGHTS,
        {"last": [3]},
    ),
    Case(
        "3-where",
        f"""
        a = Transpose <perm = {NCHW}> (x)  c = Less (a, k)  d = Where (c, k, a)
        y = Transpose <perm = {NHWC}> (d)
        """,
        0,
        shapes={"k": (3, 1, 6)},
    ),
    between(
        "c = Concat <axis = 1> (a, a)  d, e = Split <axis = -3> (c, halves)  b = Add (d, e)",
        id="4-concat-split",
        integers={"halves": [3, 3]},
    ),
    between(
        "c = Slice (a, zero, two, axes, steps)  b = Tile (c, times)",
        id="4-slice-tile",
        y="float[N, 8, 3, 4]",
        integers={"zero": [0, 0], "two": [2, 6], "axes": [1, -1], "times": [1, 2, 2, 1], "steps": [1, 2]},
    ),
    between(
        "c = Slice (a, start, end)  b = Pad (c, pads, half)",
        id="4-slice-without-axes-pad",
        y="float[N, 5, 9, 2]",
        shapes={"half": ()},
        integers={"start": [0, 1], "end": [9, 3], "pads": [0, 0, 1, 0, 0, 0, 0, 3]},
    ),
    between(
        "c = Slice <axes = [1], starts = [1], ends = [9]> (a)  d = Pad <pads = [0, 0, 1, 0, 0, 1, 0, 0]> (c)"
        " b = Slice <starts = [0, 0, 1], ends = [9, 9, 9]> (d)",
        id="4-attributes",
        y="float[N, 4, 6, 3]",
        opset=9,
    ),
    between(
        "c = Pad (a, pads, , axes)  d = Gather <axis = 1> (c, order)  b, i = TopK <axis = 2> (d, one)",
        id="4-pad-axes-gather-topk",
        y="float[N, 1, 8, 4]",
        integers={"pads": [1, 1], "axes": [3], "order": [2, 0, 1, 0], "one": [1]},
    ),
    between(
        "c = ArgMax <axis = 1> (a)  b = Cast <to = 1> (c)", id="4-argmax", y="float[N, 4, 6, 1]", opset=13
    ),
    between(
        "c = ReduceMean (a, space)  d = ReduceMax <keepdims = 1> (a, space)  e = ReduceSum (a)  f = Add (c, d)"
        " b = Mul (f, e)",
        id="5-reductions",
        y="float[N, 1, 1, 3]",
        integers={"space": [-1, 2]},
    ),
    Case(
        "5-without-axes-left",
        f"a = Transpose <perm = {NCHW}> (x)  c = Relu (a)  y = ReduceMean <keepdims = 0, axes = [2, 3]> (c)",
        0,
        "float[N, 3]",
        opset=13,
    ),
    between("b = Softmax <axis = 1> (a)", id="6-softmax-to-the-last-axis"),
    Case(
        "6-layernorm-matmul-batchnorm",
        """
        a = Transpose <perm = [0, 2, 1, 3]> (x)  c = LayerNormalization (a, s, s)  d = MatMul (c, m)
        e = Transpose <perm = [0, 2, 1, 3]> (d)  f = Transpose <perm = [0, 1, 3, 2]> (e)
        g = BatchNormalization (f, p, p, p, p)  y = Transpose <perm = [0, 1, 3, 2]> (g)
        """,
        0,
        "float[N, 4, 6, 3]",
        {"s": (3,), "m": (3, 3), "p": (4,)},
    ),
    between(
        "c = QuantizeLinear <axis = 1> (a, s, z)  d = DequantizeLinear <axis = -3> (c, s, z)"
        " e = QuantizeLinear (d, u, v)  b = DequantizeLinear (e, u, v)",
        id="7-quantize",
    ),
    Case(
        "7-quantized-weights",
        "q = DequantizeLinear <axis = 3> (t, s, z)  p = Transpose <perm = [3, 2, 0, 1]> (q)  y = Conv (x, p)",
        0,
        "float[N, 3, 5, 2]",
    ),
    Case(
        "8-squeeze",
        f"""
        a = Transpose <perm = {NCHW}> (x)  b = Conv <strides = [4, 6]> (a, v)  c = Transpose <perm = {NHWC}> (b)
        y = Squeeze (c, space)
        """,
        1,
        "float[N, 5]",
        {"v": (5, 3, 4, 6)},
        integers={"space": [1, 2]},
    ),
    Case(
        "8-attributes",
        f"""
        a = ReduceMean <axes = [1, 2], keepdims = 0> (x)  b = Unsqueeze <axes = [1, 2]> (a)
        c = Transpose <perm = {NCHW}> (b)  d = Conv (c, v)  e = Transpose <perm = {NHWC}> (d)
        y = Squeeze <axes = [1, -2]> (e)
        """,
        0,
        "float[N, 5]",
        {"v": (5, 3, 1, 1)},
        opset=11,
    ),
    Case(
        "8-reshape-of-single-places",
        f"""
        a = Transpose <perm = {NCHW}> (x)  b = Conv <strides = [4, 6]> (a, v)  c = Transpose <perm = {NHWC}> (b)
        y = Reshape (c, flat)
        """,
        1,
        "float[N, 5]",
        {"v": (5, 3, 4, 6)},
        integers={"flat": [0, -1]},
    ),
    Case(
        "8-gate-by-reshape",
        f"""
        a = ReduceMean <keepdims = 0> (x, space)  b = Reshape (a, wide)  c = Transpose <perm = {NCHW}> (b)
        d = Conv (c, v)  e = Transpose <perm = {NHWC}> (d)  f = Sigmoid (e)  g = Unsqueeze (a, space)
        h = Transpose <perm = {NCHW}> (g)  i = Conv (h, v)  j = Transpose <perm = {NHWC}> (i)
        y = Add (f, j)
        """,
        1,
        "float[N, 1, 1, 5]",
        {"v": (5, 3, 1, 1)},
        {"space": [1, 2], "wide": [-1, 1, 1, 3]},
    ),
    Case(
        "8-shape",
        f"""
        a = Transpose <perm = {NCHW}> (x)  r = Relu (a)  s = Shape (r)  b = Gather (s, places)
        t = Transpose <perm = {NHWC}> (r)  y = Expand (t, b)
        """,
        0,
        integers={"places": [0, 2, -1, 1]},
    ),
    Case(
        "9-flatten",
        f"""
        a = Transpose <perm = {NCHW}> (x)  b = Conv (a, v)  c = Transpose <perm = {NHWC}> (b)
        d = Flatten (c)  e = Relu (d)  y = Gemm <transB = 1> (e, m)
        """,
        1,
        "float[N, 7]",
        {"v": (2, 3, 1, 1), "m": (7, 48)},
    ),
    Case(
        "9-reshape",
        f"a = Transpose <perm = {NCHW}> (x)  b = Reshape (a, flat)  y = MatMul (b, m)",
        0,
        "float[N, 7]",
        {"m": (72, 7)},
        {"flat": [-1, 72]},
    ),
)


def model_of(case: Case) -> onnx.ModelProto:
    text = f"g (float[N, 4, 6, 3] x) => ({case.y} y) {{ {case.body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {case.opset}]> {text}')
    rng = np.random.default_rng(0)
    for name, shape in case.shapes.items():
        array = np.asarray(rng.normal(size=shape), np.float32)
        array = np.abs(array) + 0.5 if name == "p" else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    if "7-" in case.id:
        arrays = {
            "s": np.array([0.1, 0.02, 0.3], np.float32),
            "z": np.array([3, 0, -7], np.int8),
            "u": np.array(0.05, np.float32),
            "v": np.array(1, np.int8),
            "t": rng.integers(-99, 99, size=(2, 2, 4, 3), dtype=np.int8),
        }
        for name, array in arrays.items():
            if re.search(rf"\b{name}\b", case.body):
                model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, numbers in case.integers.items():
        if re.search(rf"\b{name}\b", case.body):
            model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, batch: int = 2) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng, feeds = np.random.default_rng(batch), {}
    for given in session.get_inputs():
        shape = [size if isinstance(size, int) else batch for size in given.shape]
        feeds[given.name] = rng.normal(size=shape).astype(np.float32)
    return session.run(None, feeds)


def check(before: onnx.ModelProto, left: int) -> onnx.ModelProto:
    """Same numbers, same interface, that many Transposes, and nothing left to do."""
    after, (report, *_) = optimize(before, [move_transposes])
    assert report.refused is None
    assert count_ops(after).get("Transpose", 0) == left
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    for batch in (2, 3):
        for found, expected in zip(run(after, batch), run(before, batch), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    again, _ = optimize(after, [move_transposes])
    assert again is after
    return after


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fires(case: Case) -> None:
    before = model_of(case)
    assert count_ops(before)["Transpose"] > case.left
    check(before, case.left)


def test_the_input_of_the_graph_may_be_given_out_as_it_is() -> None:
    """Both names stay, so an Identity takes the place of the last Transpose."""
    case = Case("6", f"a = Transpose <perm = {NCHW}> (x)  y = Transpose <perm = {NHWC}> (a)", 0)
    after = check(model_of(case), 0)
    assert count_ops(after) == {"Identity": 1}


def test_outputs_of_the_graph_keep_their_names_and_orders() -> None:
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 4, 6, 3] x) => (float[N, 3, 4, 6] p, float[N, 4, 6, 3] q, float[N, 4, 6, 3] r, float[N] s) {{
            a = Transpose <perm = {NCHW}> (x)
            p = Relu (a)
            q = Transpose <perm = {NHWC}> (p)
            r = Transpose <perm = {NHWC}> (p)
            t = Transpose <perm = {NHWC}> (p)
            e = Exp (t)
            s = ReduceSum <keepdims = 0> (e, axes)
        }}
        """
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"))
    after = check(model, 1)
    assert [output.name for output in after.graph.output] == ["p", "q", "r", "s"]


@pytest.mark.parametrize(
    ("body", "y"),
    [
        # 20
        (f"a = Transpose <perm = {NCHW}> (x)  b = MaxPool <kernel_shape = [2, 2]> (a)"
         f"  y = Transpose <perm = {NHWC}> (b)",
         "float[N, 3, 5, 3]"),
        (f"a = Transpose <perm = {NCHW}> (x)  b = CumSum (a, one)  y = Transpose <perm = {NHWC}> (b)", None),
        # 21
        (f"a = Transpose <perm = {NCHW}> (x)  f = Flatten <axis = 3> (a)  r = ReduceMax <keepdims = 0> (f, zero)"
         f"  b = Add (a, r)  y = Transpose <perm = {NHWC}> (b)", None),
        # 22
        (f"a = Transpose <perm = {NCHW}> (x)  h = Shape <start = 3, end = 4> (a)  e = Div (h, h)"
         f"  b = ReduceMean (a, e)  y = Transpose <perm = {NHWC}> (b)", "float[N, h, w, c]"),
        # 24
        (f"a = Relu (x)  y = Transpose <perm = {NCHW}> (a)", "float[N, 3, 4, 6]"),
        (f"a = Softmax (x)  b = Transpose <perm = {NCHW}> (a)  y = Sigmoid (b)", "float[N, 3, 4, 6]"),
        ("a = Transpose <perm = [0, 2, 1, 3]> (x)  b = LayerNormalization <axis = 1> (a, one_f)"
         "  y = Transpose <perm = [0, 2, 1, 3]> (b)", None),
        # Elements that change their place: no Reshape keeps them.
        (f"a = Transpose <perm = {NCHW}> (x)  y = Reshape (a, flat)", "float[N, 72]"),
        (f"a = Transpose <perm = {NCHW}> (x)  y = Flatten (a)", "float[N, 72]"),
        (f"a = Transpose <perm = {NCHW}> (x)  b = Flatten (a)  c = MatMul (b, m)  d = Exp (b)  e = MatMul (d, m)"
         "  f = Softmax (b)  g = MatMul (f, m)  h = Sum (c, e, g)  y = Relu (h)", "float[N, 2]"),
    ],
)  # fmt: skip
def test_stays(body: str, y: str | None) -> None:
    shapes = {"one_f": (1,), "m": (72, 2)}
    case = Case(
        "stays", body, 0, y or "float[N, 4, 6, 3]", shapes, {"one": [1], "zero": [0], "flat": [0, -1]}
    )
    before = model_of(case)
    if "CumSum" in body:
        axis = next(tensor for tensor in before.graph.initializer if tensor.name == "one")
        axis.CopyFrom(numpy_helper.from_array(np.array(1, np.int64), "one"))
    after, (report, *_) = optimize(before, [move_transposes])
    assert report.refused is None
    assert after is before


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_of_an_old_opset_is_over_all_axes_from_one_on(axis: int) -> None:
    body = f"""
        a = Transpose <perm = [0, 2, 1, 3]> (x)  b = Softmax <axis = {axis}> (a)
        y = Transpose <perm = [0, 2, 1, 3]> (b)
    """
    check(model_of(Case("22", body, 0, opset=11)), 0 if axis == 3 else 2)


def test_what_a_subgraph_captures_stays_as_it_is() -> None:
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 4, 6, 3] x, bool c) => (float[N, 4, 6, 3] y) {{
            a = Transpose <perm = {NCHW}> (x)
            r = Relu (a)
            p = Transpose <perm = {NHWC}> (r)
            q = If (c) <
                then_branch = t () => (float[A, B, C, D] u) {{ u = Transpose <perm = {NHWC}> (r) }},
                else_branch = e () => (float[A, B, C, D] v) {{ v = Exp (p) }}
            >
            y = Add (p, q)
        }}
        """
    )
    onnx.checker.check_model(model, full_check=True)
    # The Relu may work on x as it is; the subgraph goes on reading it in the other order.
    after, (report, *_) = optimize(model, [move_transposes])
    assert report.refused is None
    assert [node.op_type for node in after.graph.node].count("Transpose") == 1
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    for chosen in (True, False):
        feeds = {"x": x, "c": np.array(chosen)}
        sessions = (
            ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
            for each in (model, after)
        )
        expected, found = (session.run(None, feeds)[0] for session in sessions)
        np.testing.assert_array_equal(found, expected)


def test_an_initializer_that_a_caller_may_override_is_no_constant() -> None:
    body = f"a = Transpose <perm = {NCHW}> (x)  b = Add (a, s)  y = Transpose <perm = {NHWC}> (b)"
    model = model_of(Case("21", body, 0, shapes={"s": (3, 1, 1)}))
    model.graph.input.append(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [3, 1, 1]))
    after, _ = optimize(model, [move_transposes])
    assert after is model


def test_a_reason_is_given_for_what_stands_between_inverses() -> None:
    body = f"a = Transpose <perm = {NCHW}> (x)  b = CumSum (a, k)  y = Transpose <perm = {NHWC}> (b)"
    text = f"g (float[N, 4, 6, 3] x, int64 k) => (float[N, 4, 6, 3] y) {{ {body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    with recorded() as refusals:
        assert move_transposes(ir.from_proto(model)) == 0
    assert ["CumSum" in refusal.reason for refusal in refusals] == [True]


def converted(batch: str = "N") -> onnx.ModelProto:
    """What a converter makes of a network that was written for N x H x W x C: Transposes around every convolution."""
    nodes: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}
    integers = {"pads": [0, 1, 1, 0, 0, 1, 1, 0], "space": [1, 2], "wide": [-1, 1, 1, 8], "flat": [-1, 8]}

    def conv(source: str, name: str, weight: tuple[int, ...], attributes: str = "") -> str:
        shapes[f"{name}_w"], shapes[f"{name}_b"] = weight, (weight[0],)
        nodes.append(f"{name}_i = Transpose <perm = {NCHW}> ({source})")
        nodes.append(f"{name}_c = Conv {attributes} ({name}_i, {name}_w, {name}_b)")
        nodes.append(f"{name} = Transpose <perm = {NHWC}> ({name}_c)")
        return name

    def then(text: str) -> str:
        nodes.append(text)
        return text.split(maxsplit=1)[0]

    shapes["k"], shapes["o"], shapes["m"], shapes["n"] = (8,), (1, 1, 1, 1), (8, 5), (5,)
    x = then("stem_p = Pad (x, pads)")
    x = conv(x, "stem", (8, 3, 3, 3), "<strides = [2, 2]>")
    x = then(f"stem_r = Relu ({x})")
    for block in ("one", "two"):
        start = x
        x = then(f"{block}_p = Pad ({x}, pads)")
        x = conv(x, f"{block}_d", (8, 1, 3, 3), "<group = 8>")
        x = then(f"{block}_h = Mul ({x}, k)")
        x = then(f"{block}_l = LeakyRelu ({x})")
        x = conv(x, f"{block}_e", (8, 8, 1, 1))
        mean = then(f"{block}_m = ReduceMean <keepdims = 0> ({x}, space)")
        mean = then(f"{block}_q = Reshape ({mean}, wide)")
        gate = conv(mean, f"{block}_g", (8, 8, 1, 1))
        gate = then(f"{block}_s = Sigmoid ({gate})")
        x = then(f"{block}_t = Mul ({x}, {gate})")
        x = then(f"{block}_a = Add ({start}, {x})")
    x = then(f"join = Concat <axis = 3> ({x}, stem_r)")
    x = conv(x, "last", (8, 16, 1, 1))
    map_ = then(f"map = Softmax <axis = 3> ({x})")
    assert map_ == "map"
    x = then(f"pool = ReduceMean ({x}, space)")
    x = then(f"row = Reshape ({x}, flat)")
    x = then(f"product = MatMul ({x}, m)")
    then(f"y = Add ({x}, n)")
    outputs = f"(float[{batch}, 5] y, float[{batch}, 6, 6, 8] map)"
    text = f"g (float[{batch}, 12, 12, 3] x) => {outputs} {{ {'  '.join(nodes)} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) == 4 else 1.0
        model.graph.initializer.append(
            numpy_helper.from_array((rng.normal(size=shape) * scale).astype(np.float32), name)
        )
    for name, numbers in integers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("batch", ["N", "2"])
def test_a_converted_network_is_left_with_transposes_at_its_interface(batch: str) -> None:
    before = converted(batch)
    assert count_ops(before)["Transpose"] == 16
    if batch == "2":
        after, _ = optimize(before, [move_transposes])
        np.testing.assert_allclose(run(after)[0], run(before)[0], rtol=1e-4, atol=1e-5)
    else:
        after = check(before, 2)
    # One where the image comes in, and one where the map goes out: its Softmax wants the channels last.
    assert [node.op_type for node in after.graph.node].count("Transpose") == 2
    others = {name: count for name, count in count_ops(before).items() if name != "Transpose"}
    assert {name: count for name, count in count_ops(after).items() if name != "Transpose"} == others


@pytest.mark.parametrize(
    ("wrong", "right", "rule"),
    [("Concat", "Relu", "4-concat"), ("Pad", "Relu", "4-slice-without"), ("ReduceMean", "Relu", "5-reductions"),
     ("Mul", "Relu", "3-constants"), ("Tile", "Relu", "4-slice-tile")],
)  # fmt: skip
def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch, wrong: str, right: str, rule: str) -> None:
    """Planted: an operator that is taken for one that treats all axes alike."""
    case = next(case for case in CASES if case.id.startswith(rule))
    monkeypatch.setitem(OPERATORS, wrong, OPERATORS[right])  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        check(model_of(case), case.left)


def test_a_wrong_order_of_features_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: matrices that keep their rows although the features move."""
    monkeypatch.setattr("cnnport.graphs.layout.reshapes.apply", lambda edits, scope: None)
    case = next(case for case in CASES if case.id == "9-reshape")
    with pytest.raises(AssertionError):
        check(model_of(case), case.left)

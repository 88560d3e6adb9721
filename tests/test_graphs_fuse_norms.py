"""fuse_norms before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.fuse import local_response as module
from cnnport.graphs.fuse.fuse_norms import fuse_norms

RNG = np.random.default_rng(3)
PADDED = "kernel_shape = [5, 1, 1], pads = [2, 0, 0, 2, 0, 0], count_include_pad = 1"
TAIL = "t = Mul (m, alpha) s = Add (t, bias) d = Pow (s, beta) y = Div (x, d)"
LRN = {"alpha": 0.3, "bias": 2, "beta": 0.75}
MOMENTS = "m = ReduceMean (x, axes) c = Sub (x, m) q = Pow (c, two) v = ReduceMean (q, axes) e = Add (v, eps)"
LAYER = {"two": 2, "eps": 0.01, "g": RNG.normal(size=6), "b": RNG.normal(size=6)}
CHANNELS = {**LAYER, "g": RNG.normal(size=(7, 1, 1)), "b": RNG.normal(size=(1, 7, 1, 1))}


@dataclass(frozen=True)
class Case:
    """A graph from x to y; float constants by their names, integers in ``integers``."""

    id: str
    body: str
    constants: Mapping[str, object]
    integers: Mapping[str, list[int]] = field(default_factory=dict)
    expected: str = ""
    attributes: Mapping[str, float] = field(default_factory=dict)
    shape: str = "N, 7, 5, 6"
    opset: int = 20
    dtype: int = TensorProto.FLOAT
    outputs: tuple[str, ...] = ("y",)


LRN_PARAMETERS = {"alpha": 0.3, "bias": 2.0, "beta": 0.75, "size": 5}
FIRES = [
    Case(
        "1-unsqueeze",
        f"q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u) m = Squeeze (p, one) {TAIL}",
        LRN,
        {"one": [1]},
        "LRN",
        LRN_PARAMETERS,
    ),
    Case(
        "1-pad",
        """q = Pow (x, two) u = Unsqueeze (q, one) z = Pad (u, pads)
         p = AveragePool <kernel_shape = [5, 1, 1]> (z) m = Squeeze (p, one) t = Mul (alpha, m) s = Add (bias, t)
         d = Pow (s, beta) y = Div (x, d)""",
        {**LRN, "two": 2},
        {"one": [1], "pads": [0, 0, 2, 0, 0, 0, 0, 2, 0, 0]},
        "LRN",
        LRN_PARAMETERS,
    ),
    Case(
        "1-reshape",
        f"q = Mul (x, x) u = Reshape (q, rows) p = AveragePool <{PADDED}> (u) m = Reshape (p, back) {TAIL}",
        LRN,
        {"rows": [-1, 1, 7, 5, 6], "back": [-1, 7, 5, 6]},
        "LRN",
        LRN_PARAMETERS,
        opset=12,
    ),
    Case(
        "1-flat-rows",
        f"""q = Mul (x, x) u = Reshape (q, rows) p = AveragePool <kernel_shape = [5, 1],
         pads = [2, 0, 2, 0], count_include_pad = 1> (u) m = Reshape (p, back) {TAIL}""",
        LRN,
        {"rows": [0, 1, 7, 30], "back": [0, 7, 5, 6]},
        "LRN",
        LRN_PARAMETERS,
    ),
    Case(
        "1-open-sizes",
        f"q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u) m = Squeeze (p, one) {TAIL}",
        LRN,
        {"one": [1]},
        "LRN",
        LRN_PARAMETERS,
        shape="N, 7, H, W",
    ),
    Case(
        "1-root",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u) m = Squeeze (p, one)
         s = Add (m, bias) d = Sqrt (s) y = Div (x, d)""",
        LRN,
        {"one": [1]},
        "LRN",
        {"alpha": 1.0, "bias": 2.0, "beta": 0.5, "size": 5},
    ),
    Case(
        "1-negative-power",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u)
         m = Squeeze (p, one) s = Add (m, bias) d = Pow (s, beta) y = Mul (d, x)""",
        {**LRN, "beta": -0.75},
        {"one": [1]},
        "LRN",
        {"alpha": 1.0, "bias": 2.0, "beta": 0.75, "size": 5},
    ),
    Case(
        "2-all",
        f"{MOMENTS} r = Sqrt (e) n = Div (c, r) k = Mul (n, g) y = Add (k, b)",
        LAYER,
        {"axes": [-1]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
    ),
    Case(
        "2-old-axes",
        """m = ReduceMean <axes = [3, 2]> (x) c = Sub (x, m) q = Mul (c, c) v = ReduceMean <axes = [2, -1]> (q)
         e = Add (v, eps) r = Sqrt (e) n = Div (c, r) k = Mul (g, n) y = Add (b, k)""",
        {**LAYER, "g": RNG.normal(size=(5, 6))},
        {},
        "LayerNormalization",
        {"axis": -2, "epsilon": 0.01},
        opset=17,
    ),
    Case(
        "2-computed-twice",
        """m = ReduceMean (x, axes) c = Sub (x, m) o = ReduceMean (x, axes) d = Sub (x, o)
         q = Pow (d, two) v = ReduceMean (q, axes) e = Add (eps, v) r = Pow (e, half) n = Div (c, r) k = Mul (n, g)
         y = Add (k, b)""",
        {**LAYER, "half": 0.5},
        {"axes": [3]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
    ),
    Case(
        "2-reciprocal",
        f"{MOMENTS} r = Sqrt (e) i = Reciprocal (r) n = Mul (i, c) y = Mul (n, g)",
        LAYER,
        {"axes": [3]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
    ),
    Case(
        "2-one-over",
        f"{MOMENTS} r = Sqrt (e) i = Div (unit, r) n = Mul (c, i) y = Add (n, b)",
        {**LAYER, "unit": 1},
        {"axes": [3]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
    ),
    Case(
        "2-negative-power",
        f"{MOMENTS} r = Pow (e, half) n = Mul (c, r) k = Mul (n, g) y = Add (k, b)",
        {**LAYER, "half": -0.5},
        {"axes": [3]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
    ),
    Case(
        "2-float16",
        f"{MOMENTS} r = Sqrt (e) n = Div (c, r) k = Mul (n, g) y = Add (k, b)",
        LAYER,
        {"axes": [-1]},
        "LayerNormalization",
        {"axis": -1, "epsilon": float(np.float16(0.01))},
        dtype=TensorProto.FLOAT16,
    ),
    Case(
        "3-all",
        f"{MOMENTS} r = Sqrt (e) n = Div (c, r) k = Mul (n, g) y = Add (k, b)",
        CHANNELS,
        {"axes": [2, 3]},
        "InstanceNormalization",
        {"epsilon": 0.01},
    ),
    Case(
        "3-pooled",
        """m = GlobalAveragePool (x) c = Sub (x, m) q = Mul (c, c) v = GlobalAveragePool (q) e = Add (v, eps)
         r = Sqrt (e) n = Div (c, r) k = Mul (n, g) y = Add (k, b)""",
        CHANNELS,
        {},
        "InstanceNormalization",
        {"epsilon": 0.01},
        opset=9,
    ),
    Case(
        "3-one-axis",
        f"{MOMENTS} r = Sqrt (e) n = Div (c, r) k = Mul (n, g) y = Add (k, b)",
        {**LAYER, "g": RNG.normal(size=(7, 1)), "b": 0.5},
        {"axes": [2]},
        "InstanceNormalization",
        {"epsilon": 0.01},
        "N, 7, 6",
    ),
    Case(
        "4-bare",
        f"{MOMENTS} r = Sqrt (e) y = Div (c, r)",
        LAYER,
        {"axes": [2, 3]},
        "InstanceNormalization",
        {"epsilon": 0.01},
        "N, 7, H, W",
    ),
    Case(
        "4-bare-sequence",
        f"{MOMENTS} r = Sqrt (e) y = Div (c, r)",
        LAYER,
        {"axes": [2]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
        "N, L, 6",
    ),
    Case(
        "4-numbers",
        f"{MOMENTS} r = Sqrt (e) n = Div (c, r) k = Mul (n, g) y = Add (k, b)",
        {**LAYER, "g": [[[2.0]]], "b": 3},
        {"axes": [3]},
        "LayerNormalization",
        {"axis": -1, "epsilon": 0.01},
    ),
]

EVEN = "kernel_shape = [4, 1, 1], pads = [2, 0, 0, 1, 0, 0], count_include_pad = 1"
STAYS = [
    Case(
        "20-float64",
        f"q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u) m = Squeeze (p, one) {TAIL}",
        LRN,
        {"one": [1]},
        "DOUBLE",
        dtype=TensorProto.DOUBLE,
    ),
    Case(
        "21-given-out",
        f"{MOMENTS} r = Sqrt (e) y = Div (c, r)",
        LAYER,
        {"axes": [3]},
        "c within it is used elsewhere",
        outputs=("y", "c"),
    ),
    Case(
        "21-read",
        f"q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u) m = Squeeze (p, one) "
        f"t = Mul (m, alpha) s = Add (t, bias) d = Pow (s, beta) n = Div (x, d) y = Mul (n, s)",
        LRN,
        {"one": [1]},
        "s within it is used elsewhere",
    ),
    Case(
        "22-even",
        f"q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{EVEN}> (u) m = Squeeze (p, one) {TAIL}",
        LRN,
        {"one": [1]},
    ),
    Case(
        "22-lopsided",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <kernel_shape = [5, 1, 1],
         pads = [3, 0, 0, 1, 0, 0], count_include_pad = 1> (u) m = Squeeze (p, one) {TAIL}""",
        LRN,
        {"one": [1]},
    ),
    Case(
        "22-not-counted",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <kernel_shape = [5, 1, 1],
         pads = [2, 0, 0, 2, 0, 0]> (u) m = Squeeze (p, one) {TAIL}""",
        LRN,
        {"one": [1]},
    ),
    Case(
        "22-not-counted-by-its-attribute",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <kernel_shape = [5, 1, 1],
         pads = [2, 0, 0, 2, 0, 0], count_include_pad = 0> (u) m = Squeeze (p, one) {TAIL}""",
        LRN,
        {"one": [1]},
    ),
    Case(
        "22-padded-by-ones",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) z = Pad (u, pads, alpha)
         p = AveragePool <kernel_shape = [5, 1, 1]> (z) m = Squeeze (p, one) {TAIL}""",
        LRN,
        {"one": [1], "pads": [0, 0, 2, 0, 0, 0, 0, 2, 0, 0]},
    ),
    Case(
        "22-rows",
        f"""q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <kernel_shape = [1, 5, 1],
         pads = [0, 2, 0, 0, 2, 0], count_include_pad = 1> (u) m = Squeeze (p, one) {TAIL}""",
        LRN,
        {"one": [1]},
        shape="N, 7, 7, 6",
    ),
    Case(
        "22-mixed-rows",
        f"q = Mul (x, x) u = Reshape (q, rows) p = AveragePool <{PADDED}> (u) m = Reshape (p, back) {TAIL}",
        LRN,
        {"rows": [-1, 5, 7, 1, 6], "back": [-1, 7, 5, 6]},
    ),
    Case(
        "22-other-square",
        f"""a = Abs (x) q = Mul (x, a) u = Unsqueeze (q, one) p = AveragePool <{PADDED}> (u)
         m = Squeeze (p, one) {TAIL}""",
        LRN,
        {"one": [1]},
    ),
    Case(
        "23-epsilon-outside",
        """m = ReduceMean (x, axes) c = Sub (x, m) q = Pow (c, two) v = ReduceMean (q, axes)
         r = Sqrt (v) e = Add (r, eps) y = Div (c, e)""",
        LAYER,
        {"axes": [3]},
    ),
    Case(
        "23-sums",
        """m = ReduceMean (x, axes) c = Sub (x, m) q = Pow (c, two) v = ReduceSum (q, axes) e = Add (v, eps)
         r = Sqrt (e) y = Div (c, r)""",
        LAYER,
        {"axes": [3]},
    ),
    Case(
        "23-other-axes",
        """m = ReduceMean (x, axes) c = Sub (x, m) q = Pow (c, two) v = ReduceMean (q, two_axes)
         e = Add (v, eps) r = Sqrt (e) y = Div (c, r)""",
        LAYER,
        {"axes": [3], "two_axes": [2, 3]},
    ),
    Case(
        "23-scaled-variance",
        f"{MOMENTS.replace('Add (v, eps)', 'Add (w, eps)').replace('e =', 'w = Mul (v, two) e =')}"
        " r = Sqrt (e) y = Div (c, r)",
        LAYER,
        {"axes": [3]},
    ),
    Case("24-channels-first", f"{MOMENTS} r = Sqrt (e) y = Div (c, r)", LAYER, {"axes": [1]}),
    Case(
        "24-old-opset",
        """m = ReduceMean <axes = [3]> (x) c = Sub (x, m) q = Mul (c, c) v = ReduceMean <axes = [3]> (q)
         e = Add (v, eps) r = Sqrt (e) y = Div (c, r)""",
        LAYER,
        {},
        "needs opset 17",
        opset=16,
    ),
    Case("26-length", "l = ReduceL2 <axes = [1]> (x) y = Div (x, l)", {}, opset=13),
]


def model_of(case: Case) -> onnx.ModelProto:
    kind = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "double"}[
        case.dtype
    ]
    results = ", ".join(f"{kind}[{case.shape}] {output}" for output in case.outputs)
    text = f"g ({kind}[{case.shape}] x) => ({results}) {{ {case.body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {case.opset}]> {text}')
    dtype = helper.tensor_dtype_to_np_dtype(case.dtype)
    arrays = {name: np.asarray(value, dtype) for name, value in case.constants.items()}
    arrays |= {name: np.asarray(value, np.int64) for name, value in case.integers.items()}
    for name in sorted(set(re.findall(r"\w+", case.body)) & set(arrays)):
        model.graph.initializer.append(numpy_helper.from_array(arrays[name], name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else index + 2 for index, size in enumerate(given.shape)]
    kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}[
        given.type
    ]
    return session.run(None, {"x": np.random.default_rng(0).normal(1, 2, shape).astype(kind)})[0]


def difference(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    one, two = run(before), run(after)
    assert one.shape == two.shape
    return float(np.abs(one - two).max() / np.abs(one).max())


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.id)
def test_becomes_one_operator(case: Case) -> None:
    before = model_of(case)
    after, reports = optimize(before, [fuse_norms])
    assert not any(report.refused or report.left for report in reports)
    assert count_ops(after) == {case.expected: 1}
    (node,) = after.graph.node
    found = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert found == pytest.approx(case.attributes)
    assert [tensor.name for tensor in after.graph.initializer] == list(node.input[1:])
    assert difference(before, after) < (4e-3 if case.dtype == TensorProto.FLOAT16 else 3e-6)


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report,) = optimize(before, [fuse_norms])
    assert report.refused is None
    assert after is before
    assert [case.expected in refusal.reason for refusal in report.left] == [True] * bool(case.expected)


@pytest.mark.parametrize("size", [3, 5])
def test_1_what_torch_computes(size: int) -> None:
    """The operator that the pass writes, against torch's own definition."""
    half = size // 2
    pool = f"kernel_shape = [{size}, 1, 1], pads = [{half}, 0, 0, {half}, 0, 0], count_include_pad = 1"
    body = f"q = Mul (x, x) u = Unsqueeze (q, one) p = AveragePool <{pool}> (u) m = Squeeze (p, one) {TAIL}"
    after, _ = optimize(model_of(Case("torch", body, LRN, {"one": [1]})), [fuse_norms])
    assert count_ops(after) == {"LRN": 1}
    image = torch.from_numpy(np.random.default_rng(0).normal(1, 2, (2, 7, 5, 6)).astype(np.float32))
    expected = torch.nn.functional.local_response_norm(image, size, alpha=0.3, beta=0.75, k=2.0)
    np.testing.assert_allclose(run(after), expected.numpy(), rtol=0, atol=2e-6)


def test_25_what_follows_stays_where_it_does_not_fit() -> None:
    """A gamma that a caller gives, or that is one number a row, is no gamma of the operator."""
    for extra, constants in (("", {"g": RNG.normal(size=(7, 5, 6))}), (", float[6] g", {})):
        case = Case(
            "25",
            f"{MOMENTS} r = Sqrt (e) n = Div (c, r) y = Mul (n, g)",
            constants | {"two": 2, "eps": 0.1},
            {"axes": [3]},
        )
        text = f"g (float[N, 7, 5, 6] x{extra}) => (float[N, 7, 5, 6] y) {{ {case.body} }}"
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 20]> {text}')
        for name, value in {**case.constants, **case.integers}.items():
            array = np.asarray(value, np.int64 if name == "axes" else np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        after, _ = optimize(model, [fuse_norms])
        assert count_ops(after) == {"LayerNormalization": 1, "Mul": 1}


def test_27_subgraphs_stay_and_nothing_is_found_twice() -> None:
    text = f"""g (float[N, 7, 5, 6] x, bool f) => (float[N, 7, 5, 6] y) <int64[1] axes = {{3}}, float two = {{2}},
        float eps = {{0.1}}> {{ y = If (f) <then_branch = t () => (float[N, 7, 5, 6] p) {{ {MOMENTS} r = Sqrt (e)
        p = Div (c, r) }}, else_branch = o () => (float[N, 7, 5, 6] z) {{ z = Neg (x) }}> }}"""
    inner = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 20]> {text}')
    assert optimize(inner, [fuse_norms])[0] is inner
    annotated = ir.from_proto(onnx.shape_inference.infer_shapes(model_of(FIRES[0])))
    assert fuse_norms(annotated) == 1
    assert fuse_norms(annotated) == 0


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows taken for channels give other numbers, and these tests see it."""
    monkeypatch.setattr(module, "_is_channel_axis", lambda window, x: True)
    before = model_of(next(case for case in STAYS if case.id == "22-rows"))
    after, _ = optimize(before, [fuse_norms])
    assert count_ops(after) == {"LRN": 1}
    assert difference(before, after) > 1e-2

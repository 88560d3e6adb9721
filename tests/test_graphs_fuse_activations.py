"""fuse_activations before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.fuse import fuse_activations as module
from cnnport.graphs.fuse.fuse_activations import fuse_activations

THIRD = np.random.default_rng(1).uniform(-0.5, 0.9, (3, 1, 1))


@dataclass(frozen=True)
class Case:
    """A graph from x to y; words in capitals of ``constants`` are its initializers."""

    id: str
    body: str
    constants: Mapping[str, object]
    expected: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    opset: int = 22
    dtype: int = TensorProto.FLOAT
    outputs: tuple[str, ...] = ("y",)


def model_of(case: Case) -> onnx.ModelProto:
    kind = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "double"}
    name = kind[case.dtype]
    results = ", ".join(f"{name}[N, 3, 4, 5] {output}" for output in case.outputs)
    text = f"g ({name}[N, 3, 4, 5] x) => ({results}) {{ {case.body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {case.opset}]> {text}')
    for constant in sorted(set(re.findall(r"\w+", case.body)) & set(case.constants)):
        value = case.constants[constant]
        array = np.asarray(value, helper.tensor_dtype_to_np_dtype(case.dtype))
        model.graph.initializer.append(numpy_helper.from_array(array, constant))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dtype = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    # Both sides of every bend, and 0 itself.
    image = np.linspace(-6, 6, 121)[:120].reshape(2, 3, 4, 5).astype(dtype)
    return session.run(None, {"x": image})


RELU6 = {"T": 3, "S": 6, "Z": 0, "I": 1 / 6, "H": 0.5}
GELU = {"R": 2**-0.5, "Q": 2**0.5, "U": 1, "H": 0.5}
TANH = {
    "K": 0.044715,
    "F": (2 / np.pi) ** 0.5,
    "U": 1,
    "H": 0.5,
    "P": 3,
    "W": 2,
    "KF": 0.044715 * (2 / np.pi) ** 0.5,
}
SIXTH = {"alpha": 1 / 6, "beta": 0.5}

FIRES = [
    # 1
    Case("1-clip-div", "a = Add (x, T) c = Clip (a, Z, S) y = Div (c, S)", RELU6, "HardSigmoid", SIXTH),
    Case("1-clip-mul", "a = Add (T, x) c = Clip (a, Z, S) y = Mul (I, c)", RELU6, "HardSigmoid", SIXTH, 13),
    Case(
        "1-relu-min", "a = Add (x, T) r = Relu (a) c = Min (r, S) y = Mul (c, I)", RELU6, "HardSigmoid", SIXTH
    ),
    Case(
        "1-min-max",
        "a = Sub (x, M) b = Min (S, a) c = Max (Z, b) y = Div (c, S)",
        {**RELU6, "M": [[-3]]},
        "HardSigmoid",
        SIXTH,
    ),
    Case(
        "1-old-clip",
        "a = Add (x, T) c = Clip <min = 0.0, max = 6.0> (a) y = Div (c, S)",
        RELU6,
        "HardSigmoid",
        SIXTH,
        9,
    ),
    Case(
        "1-own-slope",
        "m = Mul (x, A) a = Add (m, H) c = Clip (a, Z, U) y = Neg (c) ",
        {"A": -0.2, "H": -0.5, "Z": -1, "U": 0},
        "HardSigmoid",
        {"alpha": 0.2, "beta": 0.5},
    ),
    Case(
        "1-float16",
        "a = Add (x, T) c = Clip (a, Z, S) y = Mul (c, I)",
        RELU6,
        "HardSigmoid",
        {"alpha": float(np.float16(1 / 6)), "beta": 3 * float(np.float16(1 / 6))},
        17,
        TensorProto.FLOAT16,
    ),
    # 2
    Case(
        "2-hard-sigmoid",
        "h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul (x, h)",
        {},
        "HardSwish",
    ),
    Case(
        "2-divided-first",
        "a = Add (x, T) c = Clip (a, Z, S) d = Div (c, S) y = Mul (d, x)",
        RELU6,
        "HardSwish",
        {},
        14,
    ),
    Case(
        "2-divided-last",
        "a = Add (x, T) c = Clip (a, Z, S) m = Mul (x, c) y = Div (m, S)",
        RELU6,
        "HardSwish",
    ),
    Case(
        "2-divided-x",
        "a = Add (x, T) r = Relu (a) c = Min (r, S) d = Mul (x, I) y = Mul (d, c)",
        RELU6,
        "HardSwish",
    ),
    Case(
        "2-float16",
        "a = Add (x, T) c = Clip (a, Z, S) m = Mul (x, c) y = Mul (m, I)",
        RELU6,
        "HardSwish",
        {},
        17,
        TensorProto.FLOAT16,
    ),
    # 3
    Case("3-softplus", "s = Softplus (x) t = Tanh (s) y = Mul (x, t)", {}, "Mish", {}, 18),
    Case("3-log", "e = Exp (x) a = Add (U, e) s = Log (a) t = Tanh (s) y = Mul (t, x)", {"U": 1}, "Mish"),
    # 4
    Case(
        "4-half-first",
        "h = Mul (x, H) m = Mul (x, R) e = Erf (m) a = Add (e, U) y = Mul (h, a)",
        GELU,
        "Gelu",
        {"approximate": b"none"},
        20,
    ),
    Case(
        "4-sum",
        "h = Mul (x, H) m = Mul (x, R) e = Erf (m) a = Sum (U, e) y = Mul (h, a)",
        GELU,
        "Gelu",
        {"approximate": b"none"},
    ),
    Case(
        "4-half-last",
        "m = Div (x, Q) e = Erf (m) a = Add (U, e) p = Mul (x, a) y = Mul (p, H)",
        GELU,
        "Gelu",
        {"approximate": b"none"},
    ),
    Case(
        "4-half-inside",
        "m = Div (x, Q) e = Erf (m) a = Add (e, U) h = Mul (H, a) y = Mul (x, h)",
        GELU,
        "Gelu",
        {"approximate": b"none"},
    ),
    Case(
        "4-tanh-pow",
        """c = Pow (x, P) k = Mul (K, c) s = Add (x, k) f = Mul (F, s) t = Tanh (f) a = Add (U, t)
         h = Mul (H, x) y = Mul (h, a)""",
        TANH,
        "Gelu",
        {"approximate": b"tanh"},
    ),
    Case(
        "4-tanh-products",
        """c = Mul (x, x) d = Mul (x, c) k = Mul (K, d) s = Add (x, k) f = Mul (F, s)
         t = Tanh (f) a = Add (U, t) h = Mul (H, a) y = Mul (x, h)""",
        TANH,
        "Gelu",
        {"approximate": b"tanh"},
    ),
    Case(
        "4-tanh-horner",
        """c = Pow (x, W) k = Mul (KF, c) s = Add (F, k) f = Mul (x, s) t = Tanh (f)
         a = Add (t, U) p = Mul (x, a) y = Mul (p, H)""",
        TANH,
        "Gelu",
        {"approximate": b"tanh"},
    ),
    # 5
    Case(
        "5-prelu",
        "n = Neg (x) r = Relu (n) m = Mul (A, r) p = Relu (x) y = Sub (p, m)",
        {"A": THIRD},
        "PRelu",
    ),
    Case(
        "5-prelu-keras",
        "n = Neg (x) r = Relu (n) m = Mul (r, A) p = Relu (x) y = Add (m, p)",
        {"A": [-THIRD]},
        "PRelu",
        {},
        9,
    ),
    Case(
        "5-prelu-abs",
        """b = Abs (x) d = Sub (x, b) m = Mul (A, d) h = Mul (m, H) p = Relu (x)
         y = Add (p, h)""",
        {"A": THIRD, "H": 0.5},
        "PRelu",
    ),
    Case(
        "5-prelu-where",
        "g = Greater (x, Z) m = Mul (A, x) y = Where (g, x, m)",
        {"A": THIRD, "Z": 0},
        "PRelu",
    ),
    Case("5-prelu-max", "m = Mul (x, A) y = Max (x, m)", {"A": abs(THIRD)}, "PRelu"),
    Case(
        "5-leaky-where",
        "g = GreaterOrEqual (Z, x) n = Not (g) m = Mul (A, x) y = Where (n, x, m)",
        {"A": -1.5, "Z": [0]},
        "LeakyRelu",
        {"alpha": -1.5},
    ),
    Case("5-leaky-max", "m = Mul (x, A) y = Max (m, x)", {"A": [[[0.2]]]}, "LeakyRelu", {"alpha": 0.2}),
    Case(
        "5-leaky-sum",
        "n = Min (x, Z) r = Mul (n, A) p = Max (x, Z) y = Add (p, r)",
        {"A": 1.5, "Z": 0},
        "LeakyRelu",
        {"alpha": 1.5},
    ),
    Case("5-relu-abs", "b = Abs (x) d = Add (x, b) y = Mul (d, H)", {"H": 0.5}, "Relu"),
    Case("5-relu-where", "g = Less (x, Z) y = Where (g, Z, x)", {"Z": 0}, "Relu"),
    # 6
    Case(
        "6-where",
        "e = Exp (x) s = Sub (e, U) m = Mul (A, s) g = Greater (x, Z) y = Where (g, x, m)",
        {"U": 1, "A": 0.7, "Z": 0},
        "Elu",
        {"alpha": 0.7},
    ),
    Case(
        "6-sum",
        "n = Min (x, Z) e = Exp (n) s = Sub (e, U) p = Relu (x) y = Add (p, s)",
        {"U": 1, "Z": 0},
        "Elu",
        {"alpha": 1.0},
    ),
    Case(
        "6-min",
        "e = Exp (x) s = Sub (e, U) m = Mul (A, s) n = Min (Z, m) p = Max (x, Z) y = Add (p, n)",
        {"U": 1, "Z": 0, "A": 0.5},
        "Elu",
        {"alpha": 0.5},
    ),
    Case(
        "6-selu",
        """e = Exp (x) s = Sub (e, U) m = Mul (A, s) g = Greater (x, Z) w = Where (g, x, m)
         y = Mul (G, w)""",
        {"U": 1, "A": 1.6732632, "Z": 0, "G": 1.050701},
        "Selu",
        {"alpha": 1.6732632, "gamma": 1.050701},
    ),
    Case(
        "6-selu-where",
        """e = Exp (x) m = Mul (A, e) s = Sub (m, A) h = Mul (x, G) t = Mul (s, G)
         g = Less (x, Z) y = Where (g, t, h)""",
        {"A": 2, "Z": 0, "G": 3},
        "Selu",
        {"alpha": 2.0, "gamma": 3.0},
    ),
    # 7
    Case("7-sigmoid", "n = Neg (x) e = Exp (n) a = Add (U, e) y = Div (U, a)", {"U": 1}, "Sigmoid"),
    Case(
        "7-sigmoid-float64",
        "n = Neg (x) e = Exp (n) a = Add (U, e) y = Reciprocal (a)",
        {"U": 1},
        "Sigmoid",
        {},
        17,
        TensorProto.DOUBLE,
    ),
    Case(
        "7-sigmoid-tanh",
        "h = Mul (x, H) t = Tanh (h) a = Add (t, U) y = Mul (a, H)",
        {"U": 1, "H": 0.5},
        "Sigmoid",
    ),
    Case("7-softplus", "e = Exp (x) a = Add (e, U) y = Log (a)", {"U": [1]}, "Softplus", {}, 9),
    Case("7-softsign", "b = Abs (x) a = Add (b, U) y = Div (x, a)", {"U": 1}, "Softsign"),
    # 8
    Case("8-clip", "a = Max (x, L) y = Min (a, S)", {"L": [[-2]], "S": 3}, "Clip"),
    Case("8-clip-crosswise", "a = Min (x, S) y = Max (a, L)", {"L": [[-2]], "S": 3}, "Clip", {}, 12),
    Case("8-clip-old", "a = Relu (x) y = Min (a, S)", {"S": 3}, "Clip", {"min": 0.0, "max": 3.0}, 9),
    Case("8-clip-one-sided", "y = Min (x, S)", {"S": 3}, "Clip"),
    Case("8-clip-twice", "a = Relu (x) y = Clip (a, L, S)", {"L": -2, "S": 4}, "Clip"),
    Case(
        "8-clip-float64",
        "a = Max (x, L) y = Min (a, S)",
        {"L": -2, "S": 3},
        "Clip",
        {},
        17,
        TensorProto.DOUBLE,
    ),
    Case("8-relu-max", "y = Max (Z, x)", {"Z": 0}, "Relu"),
    Case("8-relu-clip", "y = Clip (x, Z)", {"Z": 0}, "Relu"),
    Case("8-relu-old-clip", "y = Clip <min = 0.0, max = 3.4028235e38> (x)", {}, "Relu", {}, 9),
    Case("8-relu-twice", "a = Relu (x) y = Relu (a)", {}, "Relu"),
]

STAYS = [
    Case(
        "20-hard-swish",
        "h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul (x, h)",
        {},
        "HardSwish, which needs opset 14",
        {},
        13,
    ),
    Case("20-mish", "s = Softplus (x) t = Tanh (s) y = Mul (x, t)", {}, "Mish, which needs opset 18", {}, 17),
    Case(
        "20-gelu",
        "h = Mul (x, H) m = Mul (x, R) e = Erf (m) a = Add (e, U) y = Mul (h, a)",
        GELU,
        "Gelu, which needs opset 20",
        {},
        19,
    ),
    Case(
        "21-float64",
        "a = Add (x, T) c = Clip (a, Z, S) y = Div (c, S)",
        RELU6,
        "HardSigmoid, which runtimes do not have for DOUBLE",
        {},
        17,
        TensorProto.DOUBLE,
    ),
    Case(
        "22-given-out",
        "s = Softplus (x) t = Tanh (s) y = Mul (x, t)",
        {},
        "Mish, but t within it is used",
        {},
        18,
        outputs=("y", "t"),
    ),
    Case(
        "22-read",
        "b = Abs (x) a = Add (b, U) d = Div (x, a) y = Mul (d, a)",
        {"U": 1},
        "Softsign, but a within it is used",
    ),
    Case(
        "22-captured",
        """b = Abs (x) a = Add (b, U) d = Div (x, a) s = ReduceSum <keepdims = 0> (d)
         g = Cast <to = 9> (s)
         i = If (g) <then_branch = t () => (float[N, 3, 4, 5] p) { p = Neg (a) },
                     else_branch = f () => (float[N, 3, 4, 5] q) { q = Abs (d) }>
         y = Add (d, i)""",
        {"U": 1},
        "Softsign, but a within it is used",
    ),
    Case(
        "23-other-sixth",
        "a = Add (x, T) c = Clip (a, Z, S) m = Mul (x, c) y = Mul (m, I)",
        {**RELU6, "I": 0.1667},
    ),
    Case(
        "23-other-root",
        "h = Mul (x, H) m = Mul (x, R) e = Erf (m) a = Add (e, U) y = Mul (h, a)",
        {**GELU, "R": 0.7},
    ),
    Case(
        "23-other-cubic",
        """c = Pow (x, P) k = Mul (K, c) s = Add (x, k) f = Mul (F, s) t = Tanh (f) a = Add (U, t)
         h = Mul (H, x) y = Mul (h, a)""",
        {**TANH, "K": 0.0447},
    ),
    Case("23-other-half", "h = Mul (x, H) t = Tanh (h) a = Add (t, U) y = Mul (a, H)", {"U": 1, "H": 0.4}),
    Case("23-other-one", "e = Exp (x) a = Add (e, U) y = Log (a)", {"U": 2}),
    Case("23-other-sign", "e = Exp (x) a = Add (U, e) y = Div (U, a)", {"U": 1}),
    Case("23-other-x", "b = Abs (x) n = Neg (x) a = Add (b, U) y = Div (n, a)", {"U": 1}),
    Case("23-other-threshold", "g = Greater (x, Z) m = Mul (A, x) y = Where (g, x, m)", {"A": 0.2, "Z": 0.5}),
    Case(
        "23-two-factors", "m = Mul (x, A) y = Mul (m, B)", {"A": np.ones((3, 1, 1)), "B": np.ones((3, 1, 1))}
    ),
    Case(
        "23-other-slopes",
        "n = Neg (x) r = Relu (n) m = Mul (A, r) p = Relu (x) q = Mul (A, p) y = Sub (q, m)",
        {"A": THIRD},
    ),
    Case("23-leaky-below-one", "m = Mul (x, A) y = Max (x, m)", {"A": 1.5}),
    Case(
        "23-wider-than-one",
        "a = Add (x, T) c = Clip (a, Z, S) y = Div (c, S)",
        {**RELU6, "S": 7, "T": 3, "Z": 1},
    ),
    Case("23-bounds-cross", 'a = Clip (x, L) y = Clip (a, "", S)', {"L": 3, "S": -2}),
    Case("23-computed", "c = ReduceMin <keepdims = 1> (x) y = Max (x, c)", {}),
    Case("25-swish", "s = Sigmoid (x) y = Mul (x, s)", {}, "", {}, 22),
    Case("25-swish-late", "s = Sigmoid (x) y = Mul (x, s)", {}, "Swish, which ONNX Runtime", {}, 25),
]


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.id)
def test_becomes_one_operator(case: Case) -> None:
    before = model_of(case)
    after, reports = optimize(before, [fuse_activations])
    assert not any(report.refused or report.left for report in reports)
    assert count_ops(after) == {case.expected: 1}
    (node,) = after.graph.node
    found = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert found == pytest.approx(case.attributes) if "approximate" not in found else found == case.attributes
    assert [tensor.name for tensor in after.graph.initializer] == [name for name in node.input[1:] if name]
    tolerance = {TensorProto.FLOAT: 2e-6, TensorProto.FLOAT16: 4e-3, TensorProto.DOUBLE: 1e-14}[case.dtype]
    (expected,), (result,) = run(before), run(after)
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * max(float(abs(expected).max()), 1))


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report,) = optimize(before, [fuse_activations])
    assert report.refused is None
    assert after is before
    assert [case.expected in refusal.reason for refusal in report.left] == [True] * bool(case.expected)


def test_24_a_constant_that_widens_x_stays() -> None:
    for shape in ((1, 1, 1), (3, 1), (2, 5)):
        text = "g (float[N, 5] x) => (float[A, B, C] y) { m = Mul (x, A) y = Max (x, m) }"
        text = text.replace("A, B, C", "A, B, C" if len(shape) == 3 else "A, B")
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
        model.graph.initializer.append(numpy_helper.from_array(np.full(shape, 0.1, np.float32), "A"))
        assert optimize(model, [fuse_activations])[0] is model


def test_23_a_constant_that_a_caller_may_override_stays() -> None:
    text = "g (float[N, 5] x, float Z) => (float[N, 5] y) <float Z = {0}> { y = Max (x, Z) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    assert optimize(model, [fuse_activations])[0] is model


def test_26_integers_stay() -> None:
    text = "g (int64[N, 5] x) => (int64[N, 5] y) <int64 Z = {0}> { y = Max (x, Z) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    assert optimize(model, [fuse_activations])[0] is model


def test_a_network_keeps_what_is_shared_and_its_names() -> None:
    """Two activations that share a constant and an input, between convolutions."""
    text = """
        g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) <float T = {3}, float S = {6}, float Z = {0}> {
            c = Conv (x, W)
            a = Add (c, T)  k = Clip (a, Z, S)  m = Mul (c, k)  first = Div (m, S)
            b = Add (c, T)  l = Clip (b, Z, S)  second = Div (l, S)
            s = Add (first, second)
            y = Add (s, T)
        }
    """
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    weights = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "W"))
    after, (report, *_) = optimize(model, [fuse_activations])
    assert report.rewrites == 2
    assert count_ops(after) == {"Add": 2, "Conv": 1, "HardSigmoid": 1, "HardSwish": 1}
    assert {output for node in after.graph.node for output in node.output} == {
        "c",
        "first",
        "second",
        "s",
        "y",
    }
    assert {tensor.name for tensor in after.graph.initializer} == {"W", "T"}


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With constants that are not compared, the cases of other constants are rewritten, and give other numbers."""
    monkeypatch.setattr(module, "_is_met", lambda found, dtype: True)
    case = next(case for case in STAYS if case.id == "23-other-root")
    before = model_of(case)
    after, _ = optimize(before, [fuse_activations])
    assert count_ops(after) == {"Gelu": 1}
    assert np.abs(run(after)[0] - run(before)[0]).max() > 1e-3


def test_it_finds_nothing_twice() -> None:
    model = ir.from_proto(model_of(FIRES[0]))
    assert fuse_activations(model) == 1
    assert fuse_activations(model) == 0

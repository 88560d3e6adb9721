"""merge_linear_chain before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.merge import merge_linear_chain as module
from cnnport.graphs.merge.merge_linear_chain import merge_linear_chain

IMAGE = "float[N, 4, 9, 8] x => float[N, A, B, C] y"
ROWS = "float[N, 6] x => float[N, A] y"


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its random weights, and the operators afterwards, or why it stays."""

    id: str
    body: str
    shapes: Mapping[str, tuple[int, ...]]
    expected: str
    io: str = IMAGE


W, V = {"w": (5, 4, 1, 1), "a": (5,)}, {"v": (2, 5, 3, 3), "b": (2,)}
U = {"u": (9, 4, 3, 3), "a": (9,), "v": (2, 9, 1, 1), "b": (2,)}
G = {"w": (6, 8), "a": (8,), "v": (8, 3), "b": (3,)}

FIRES = [
    Case("1-biases", "c = Conv (x, w, a) y = Conv (c, v, b)", W | V, "Conv:1"),
    Case("1-no-bias", "c = Conv (x, w) y = Conv (c, v)", W | V, "Conv:1"),
    Case("1-first-bias", "c = Conv (x, w, a) y = Conv (c, v)", W | V, "Conv:1"),
    Case(
        "1-padded",
        "c = Conv (x, w) y = Conv <pads = [1, 0, 1, 1], strides = [2, 1]> (c, v, b)",
        W | V,
        "Conv:1",
    ),
    Case(
        "1-padded-zero-bias",
        "c = Conv (x, w, zero) y = Conv <pads = [1, 1, 1, 1], dilations = [2, 2]> (c, v, b)",
        W | V | {"zero": (5,)},
        "Conv:1",
    ),
    Case(
        "1-strides-of-the-first",
        """c = Conv <strides = [3, 2]> (x, w, zero)
         y = Conv <pads = [1, 1, 1, 1], strides = [1, 2]> (c, v, b)""",
        {**V, "w": (90, 4, 1, 1), "v": (2, 90, 3, 3), "zero": (90,)},
        "Conv:1",
    ),
    Case(
        "1-same",
        """c = Conv (x, w) y = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (c, v, b)""",
        W | V,
        "Conv:1",
    ),
    Case("2-biases", "c = Conv <pads = [1, 1, 1, 1]> (x, u, a) y = Conv (c, v, b)", U, "Conv:1"),
    Case(
        "2-strides",
        """c = Conv <pads = [2, 0, 1, 1], strides = [1, 2], dilations = [2, 1]> (x, u, a)
         y = Conv <strides = [2, 3]> (c, v)""",
        U,
        "Conv:1",
    ),
    Case("2-same", """c = Conv <auto_pad = "SAME_UPPER"> (x, u, a) y = Conv (c, v, b)""", U, "Conv:1"),
    Case(
        "2-padded-points",
        "c = Conv <pads = [1, 1, 1, 1]> (x, w, a) y = Conv (c, v, b)",
        W | {"v": (2, 5, 1, 1), "b": (2,)},
        "Conv:1",
    ),
    Case(
        "3-same-groups",
        "c = Conv <group = 2> (x, w, a) y = Conv <group = 2> (c, v, b)",
        {"w": (6, 2, 1, 1), "a": (6,), "v": (4, 3, 3, 3), "b": (4,)},
        "Conv:1",
    ),
    Case(
        "3-depthwise-point",
        "c = Conv <group = 4> (x, w, a) y = Conv (c, v, b)",
        {"w": (4, 1, 1, 1), "a": (4,), "v": (3, 4, 3, 3), "b": (3,)},
        "Conv:1",
    ),
    Case(
        "3-depthwise-behind",
        "c = Conv <group = 2> (x, w, a) y = Conv <group = 6> (c, v, b)",
        {"w": (6, 2, 3, 3), "a": (6,), "v": (6, 1, 1, 1), "b": (6,)},
        "Conv:1",
    ),
    Case(
        "3-dense-in-front",
        "c = Conv <group = 2> (x, w, a) y = Conv (c, v)",
        {"w": (8, 2, 3, 3), "a": (8,), "v": (2, 8, 1, 1)},
        "Conv:1",
    ),
    Case("4-gemm", "c = Gemm (x, w, a) y = Gemm (c, v, b)", G, "Gemm:1", ROWS),
    Case(
        "4-factors",
        """c = Gemm <alpha = 0.5, beta = 3.0> (x, w, s) y = Gemm <transB = 1, beta = 2.0> (c, v, r)""",
        G | {"s": (1, 1), "v": (3, 8), "r": (1, 3)},
        "Gemm:1",
        ROWS,
    ),
    Case("4-matmul-gemm", "c = MatMul (x, w) y = Gemm (c, v, b)", G, "Gemm:1", ROWS),
    Case("4-gemm-matmul", "c = Gemm (x, w, s) y = MatMul (c, v)", G | {"s": ()}, "Gemm:1", ROWS),
    Case(
        "4-matmul",
        "c = MatMul (x, w) y = MatMul (c, v)",
        G,
        "MatMul:1",
        "float[N, 5, 6] x => float[N, 5, A] y",
    ),
    Case(
        "5-shared",
        "c = Conv (x, w) d = Conv (c, v) s = Relu (d) e = Conv (s, v) y = Conv (e, v)",
        {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1)},
        "Conv:2 Relu:1",
    ),
    Case(
        "6-chain",
        "c = Conv (x, w, a) d = Conv (c, v, b) y = Conv (d, w)",
        {"w": (4, 4, 1, 1), "a": (4,), "v": (4, 4, 3, 3), "b": (4,)},
        "Conv:1",
    ),
]

STAYS = [
    Case(
        "20-squeezed",
        "c = Conv (x, w) y = Conv (c, v)",
        {"w": (1, 4, 1, 1), "v": (9, 1, 1, 1)},
        "multiply-adds",
    ),
    Case(
        "20-separable",
        "c = Conv <group = 4> (x, w) y = Conv (c, v)",
        {"w": (4, 1, 3, 3), "v": (6, 4, 1, 1)},
        "3.60 times the multiply-adds",
    ),
    Case(
        "20-products",
        "c = Gemm (x, w) y = Gemm (c, v)",
        {"w": (6, 2), "v": (2, 6)},
        "36 weights for 24",
        ROWS,
    ),
    Case(
        "20-weights-stay",
        "c = Conv (x, w) y = Conv (c, v) d = Conv (x, v)",
        {"w": (4, 4, 1, 1), "v": (4, 4, 3, 3)},
        "have 16 of their own",
        IMAGE + ", float[N, A, B, C] d",
    ),
    Case(
        "20-no-sizes",
        "c = Conv (x, w) y = Conv <pads = [3, 3, 3, 3]> (c, v)",
        W | V,
        "does not say how large",
        "float[N, 4, H, K] x => float[N, A, B, C] y",
    ),
    Case("21-given-out", "c = Conv (x, w) y = Conv (c, v)", W | V, "", IMAGE + ", float[N, A, 9, 8] c"),
    Case(
        "21-read",
        "c = Conv (x, w) d = Conv (c, v) e = Shape (c) y = Expand (d, e)",
        W | {"v": (5, 5, 1, 1)},
        "",
    ),
    Case(
        "21-captured",
        """c = Conv (x, w) d = Conv (c, v) k = ReduceSum <keepdims = 0> (d) g = Cast <to = 9> (k)
         y = If (g) <then_branch = t () => (float[N, A, B, C] p) { p = Neg (c) },
                     else_branch = f () => (float[N, A, B, C] q) { q = Abs (c) }>""",
        W | V,
        "",
    ),
    Case(
        "22-padded", "c = Conv (x, w, a) y = Conv <pads = [1, 1, 1, 1]> (c, v, b)", W | V, "pads with zeros"
    ),
    Case(
        "23-two-kernels", "c = Conv (x, u) y = Conv (c, v)", {"u": (9, 4, 3, 3), "v": (2, 9, 3, 3)}, "one tap"
    ),
    Case("23-padded-point", "c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Conv (c, v)", W | V, "one tap"),
    Case(
        "23-same",
        """c = Conv (x, w) y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (c, v)""",
        W | V,
        "does not give",
        "float[N, 4, H, K] x => float[N, A, B, C] y",
    ),
    Case("24-computed", "n = Neg (w) c = Conv (x, n) y = Conv (c, v)", W | V, "not constant"),
    Case(
        "24-a-caller",
        "c = Conv (x, w) y = Conv (c, v)",
        W | V,
        "not constant",
        "float[N, 4, 9, 8] x, float[5, 4, 1, 1] w => float[N, A, B, C] y",
    ),
    Case(
        "25-transposed",
        "c = Gemm (w, x) y = Gemm <transA = 1> (c, v)",
        {"w": (4, 7), "v": (4, 2)},
        "not a constant",
        "float[7, 6] x => float[6, 2] y",
    ),
    Case(
        "25-transposed-left",
        "c = Gemm <transA = 1> (x, w) y = Gemm (c, v)",
        {"w": (7, 8), "v": (8, 2)},
        "transposes",
        "float[7, 6] x => float[6, 2] y",
    ),
    Case(
        "25-rows",
        "c = Gemm (x, w, r) y = Gemm (c, v)",
        G | {"r": (3, 8)},
        "between rows",
        "float[3, 6] x => float[3, A] y",
    ),
    Case(
        "26-overflow",
        "c = Conv (x, large) y = Conv (c, huge)",
        {"large": (5, 4, 1, 1), "huge": (2, 5, 3, 3)},
        "overflow",
    ),
    Case(
        "27-subgraph",
        """k = ReduceSum <keepdims = 0> (x) g = Cast <to = 9> (k)
         y = If (g) <then_branch = t () => (float[N, A, B, C] p) { p = Neg (x) },
                     else_branch = f () => (float[N, A, B, C] q) { c = Conv (x, w) q = Conv (c, v) }>""",
        W | V,
        "",
    ),
]


def model_of(case: Case) -> onnx.ModelProto:
    inputs, outputs = case.io.split(" => ")
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {case.body} }}'
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in sorted(case.shapes.items()):
        scale = {"large": 1e30, "huge": 1e30, "zero": 0.0}.get(name, 1.0)
        array = np.asarray(scale * rng.normal(size=shape), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model)
    return model


def difference(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """The largest difference of the outputs in float64, relative to the largest number."""
    shape = [size.dim_value or 2 for size in before.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    (one, *_), (two, *_) = (ReferenceEvaluator(model).run(None, feeds) for model in (before, after))
    assert one.shape == two.shape
    return float(np.abs(one - two).max() / np.abs(one).max())


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.id)
def test_merged(case: Case) -> None:
    before = model_of(case)
    after, reports = optimize(before, [merge_linear_chain])
    assert not any(report.refused for report in reports)
    assert " ".join(f"{op}:{count}" for op, count in count_ops(after).items()) == case.expected
    assert difference(before, after) < 1e-5
    # No biases where there were none, and no weights left behind or added.
    sizes = [
        sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if len(tensor.dims) > 1)
        for model in (before, after)
    ]
    assert sizes[1] <= sizes[0]
    if case.id == "1-no-bias":
        assert len(after.graph.node[0].input) == 2


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report,) = optimize(before, [merge_linear_chain])
    assert report.refused is None
    assert after is before
    assert [case.expected in refusal.reason for refusal in report.left] == [True] * bool(case.expected)


def test_it_finds_nothing_twice() -> None:
    model = ir.from_proto(model_of(FIRES[0]))
    assert merge_linear_chain(model) == 1
    assert merge_linear_chain(model) == 0


@pytest.mark.parametrize("name", ["22-padded", "1-first-bias"])
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bias that comes through the second operator the numbers are others, padded or not."""

    def forgetful(conv: ir.Node, geometry: object) -> tuple[np.ndarray, np.ndarray]:
        taps, bias = numbers_of(conv, geometry)
        return taps, np.zeros_like(bias)

    numbers_of = module.numbers_of
    monkeypatch.setattr(module, "numbers_of", forgetful)
    before = model_of(next(case for case in (*FIRES, *STAYS) if case.id == name))
    after, (report, *_) = optimize(before, [merge_linear_chain])
    assert report.rewrites == 1
    assert difference(before, after) > 1e-2

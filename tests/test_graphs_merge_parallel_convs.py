"""merge_parallel_convs before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.merge import merge_parallel_convs as module
from cnnport.graphs.merge.merge_parallel_convs import merge_parallel_convs


@dataclass(frozen=True)
class Case:
    """A graph in text; w and b with a number are weights of 1 x 1 on four channels and their biases."""

    id: str
    body: str
    expected: str = ""
    io: str = "float[N, 4, 6, 6] x => float[N, A, 6, 6] y"
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    opset: int = 20


WIDTHS = {"1": 3, "2": 5, "3": 2, "4": 6}
HEADS = "a = Conv (x, w1, b1) b = Conv (x, w2, b2) c = Conv (x, w3)"

FIRES = [
    Case(
        "1-sum-of-parts",
        f"{HEADS} p = Conv (a, v1) q = Conv (b, v2) r = Conv (c, v3) y = Sum (p, q, r)",
        "Conv:4 Split:1 Sum:1",
        shapes={"v1": (2, 3, 3, 3), "v2": (2, 5, 3, 3), "v3": (2, 2, 3, 3)},
        io="float[N, 4, 6, 6] x => float[N, 2, 4, 4] y",
    ),
    Case(
        "1-old-split",
        "a = Conv (x, w1) b = Conv (x, w2) p = Conv (a, v1) q = Conv (b, v2) y = Add (p, q)",
        "Add:1 Conv:3 Split:1",
        shapes={"v1": (2, 3, 1, 1), "v2": (2, 5, 1, 1)},
        io="float[N, 4, 6, 6] x => float[N, 2, 6, 6] y",
        opset=11,
    ),
    Case(
        "1-same-padding-in-other-words",
        """a = Conv <pads = [1, 1, 1, 1]> (x, u1) b = Conv <auto_pad = "SAME_UPPER", strides = [1, 1]> (x, u2)
         s = Sigmoid (a) t = Tanh (b) y = Add (s, t)""",
        "Add:1 Conv:1 Sigmoid:1 Split:1 Tanh:1",
        shapes={"u1": (3, 4, 3, 3), "u2": (3, 4, 3, 3)},
    ),
    Case(
        "2-activations",
        f"""{HEADS} d = Relu (a) e = Relu (b) f = Relu (c) p = MaxPool <kernel_shape = [2, 2]> (d)
         q = MaxPool <kernel_shape = [2, 2]> (e) r = AveragePool <kernel_shape = [2, 2]> (f)
         y = Concat <axis = 1> (p, r, q)""",
        "AveragePool:1 Concat:1 Conv:1 MaxPool:2 Relu:1 Split:1",
        io="float[N, 4, 6, 6] x => float[N, 10, 5, 5] y",
    ),
    Case(
        "2-two-layers",
        """a = Conv (x, w1) b = Conv (x, w2) d = Clip (a, , high) g = Clip (b, , high)
         e = LeakyRelu <alpha = 0.2> (d) h = LeakyRelu <alpha = 0.2> (g) f = Exp (e) i = Abs (h)
         y = Concat <axis = 1> (i, f)""",
        "Abs:1 Clip:1 Concat:1 Conv:1 Exp:1 LeakyRelu:1 Split:1",
        shapes={"high": ()},
    ),
    Case(
        "2-other-activations",
        """a = Conv (x, w1) b = Conv (x, w2) d = Relu (a) e = LeakyRelu (b)
         y = Concat <axis = 1> (d, e)""",
        "Concat:1 Conv:1 LeakyRelu:1 Relu:1 Split:1",
    ),
    Case(
        "2-other-constants",
        """a = Conv (x, w1) b = Conv (x, w2) d = Clip (a, , high) e = Clip (b, , other)
         y = Concat <axis = 1> (d, e)""",
        "Clip:2 Concat:1 Conv:1 Split:1",
        shapes={"high": (), "other": ()},
    ),
    Case(
        "3-all",
        """a = Conv (x, w1, b1) b = Conv (x, w2, b2) d = Relu (a) e = Relu (b)
         y = Concat <axis = -3> (e, d)""",
        "Conv:1 Relu:1",
    ),
    Case(
        "3-next-to-others",
        f"{HEADS} s = Relu (x) y = Concat <axis = 1> (s, c, a, b, x)",
        "Concat:1 Conv:1 Relu:1",
    ),
    Case(
        "3-some",
        f"""{HEADS} d = Conv (x, w4) k = Conv (c, v1) y = Concat <axis = 1> (b, k, d, a)""",
        "Concat:1 Conv:2 Split:1",
        shapes={"v1": (7, 2, 1, 1)},
    ),
    Case(
        "3-two-places",
        f"""{HEADS} d = Conv (x, w4) y = Concat <axis = 1> (d, c, x, a, b)""",
        "Concat:1 Conv:1 Split:1",
    ),
    Case(
        "4-outputs",
        "y = Conv (x, w1) z = Conv (x, w2) p = Relu (z) q = Relu (y) s = Concat <axis = 1> (q, p)",
        "Concat:1 Conv:1 Relu:2 Split:1",
        io="float[N, 4, 6, 6] x => float[N, 3, 6, 6] y, float[N, 5, 6, 6] z, float[N, 8, 6, 6] s",
    ),
    Case(
        "4-captured",
        """a = Conv (x, w1) b = Conv (x, w2) k = ReduceSum <keepdims = 0> (b) g = Cast <to = 9> (k)
         y = If (g) <then_branch = t () => (float[N, 3, 6, 6] p) { p = Neg (a) },
                     else_branch = f () => (float[N, 3, 6, 6] q) { q = Abs (a) }>""",
        "Abs:1 Cast:1 Conv:1 If:1 Neg:1 ReduceSum:1 Split:1",
    ),
    Case(
        "4-out-of-order",
        """a = Conv (x, w1) b = Conv (x, w2) e = Relu (b) k = Conv (e, v1) d = Relu (a)
         m = Conv (d, v2) y = Add (k, m)""",
        "Add:1 Conv:3 Relu:1 Split:1",
        shapes={"v1": (2, 5, 1, 1), "v2": (2, 3, 1, 1)},
    ),
    Case(
        "5-shared",
        """a = Conv (x, w1) b = Conv (x, w1, b1) s = Abs (x) c = Conv (s, w1)
         y = Concat <axis = 1> (a, c, b)""",
        "Abs:1 Concat:1 Conv:2 Split:1",
    ),
]

STAYS = [
    Case(
        "10-kernels",
        """a = Conv (x, w1) b = Conv <pads = [1, 1, 1, 1]> (x, u1) y = Concat <axis = 1> (a, b)""",
        shapes={"u1": (3, 4, 3, 3)},
    ),
    Case(
        "10-strides",
        """a = Conv <strides = [2, 2]> (x, w1) b = Conv (x, w2) p = MaxPool <kernel_shape = [1, 1],
         strides = [2, 2]> (b) y = Concat <axis = 1> (a, p)""",
        io="float[N, 4, 6, 6] x => float[N, 8, 3, 3] y",
    ),
    Case(
        "10-paddings",
        """a = Conv <pads = [0, 0, 2, 2]> (x, u1) b = Conv <pads = [1, 1, 1, 1]> (x, u2)
         y = Concat <axis = 1> (a, b)""",
        shapes={"u1": (3, 4, 3, 3), "u2": (3, 4, 3, 3)},
    ),
    Case(
        "10-dilations",
        """a = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, u1)
         b = Conv <pads = [1, 1, 1, 1]> (x, u2) y = Concat <axis = 1> (a, b)""",
        shapes={"u1": (3, 4, 3, 3), "u2": (3, 4, 3, 3)},
    ),
    Case("10-inputs", "s = Relu (x) a = Conv (x, w1) b = Conv (s, w2) y = Concat <axis = 1> (a, b)"),
    Case(
        "11-groups",
        "a = Conv <group = 2> (x, u1) b = Conv <group = 2> (x, u2) y = Concat <axis = 1> (a, b)",
        shapes={"u1": (4, 2, 1, 1), "u2": (4, 2, 1, 1)},
    ),
    Case("12-computed", "n = Neg (w1) a = Conv (x, n) b = Conv (x, w2) y = Concat <axis = 1> (a, b)"),
    Case(
        "12-computed-bias", "n = Neg (b1) a = Conv (x, w1, n) b = Conv (x, w2) y = Concat <axis = 1> (a, b)"
    ),
    Case(
        "12-a-caller",
        "a = Conv (x, w1) b = Conv (x, w2) y = Concat <axis = 1> (a, b)",
        io="float[N, 4, 6, 6] x, float[3, 4, 1, 1] w1 => float[N, A, 6, 6] y",
    ),
    Case(
        "13-subgraph",
        """k = ReduceSum <keepdims = 0> (x) g = Cast <to = 9> (k)
         y = If (g) <then_branch = t () => (float[N, A, 6, 6] p) { p = Neg (x) },
                     else_branch = f () => (float[N, A, 6, 6] q)
                     { a = Conv (x, w1) b = Conv (x, w2) q = Concat <axis = 1> (a, b) }>""",
    ),
]


def model_of(case: Case) -> onnx.ModelProto:
    inputs, outputs = case.io.split(" => ")
    body = case.body.replace("(a, , ", '(a, "", ').replace("(b, , ", '(b, "", ')
    text = f'<ir_version: 8, opset_import: ["" : {case.opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    shapes = dict(case.shapes)
    for kind, number in re.findall(r"\b([wb])([1-4])\b", body):
        shapes[kind + number] = (WIDTHS[number], 4, 1, 1) if kind == "w" else (WIDTHS[number],)
    rng = np.random.default_rng(0)
    for name, shape in sorted(shapes.items()):
        array = np.asarray(rng.normal(size=shape), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(
        None, {"x": np.random.default_rng(batch).normal(size=(batch, 4, 6, 6)).astype(np.float32)}
    )


def same(before: onnx.ModelProto, after: onnx.ModelProto) -> bool:
    pairs = [pair for batch in (1, 3) for pair in zip(run(before, batch), run(after, batch), strict=True)]
    return all(one.shape == two.shape and np.abs(one - two).max() < 1e-5 for one, two in pairs)


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.id)
def test_merged(case: Case) -> None:
    before = model_of(case)
    after, reports = optimize(before, [merge_parallel_convs])
    assert not any(report.refused for report in reports)
    assert " ".join(f"{op}:{count}" for op, count in count_ops(after).items()) == case.expected
    assert same(before, after)
    read = {name for node in after.graph.node for name in node.input}
    read |= {
        name
        for node in after.graph.node
        for each in node.attribute
        for inner in each.g.node
        for name in inner.input
    }
    assert {tensor.name for tensor in after.graph.initializer} <= read


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report,) = optimize(before, [merge_parallel_convs])
    assert report.refused is None
    assert after is before


def test_it_finds_nothing_twice_and_keeps_names() -> None:
    model = ir.from_proto(model_of(FIRES[0]))
    assert merge_parallel_convs(model) == 2
    assert merge_parallel_convs(model) == 0
    (split,) = (node for node in model.graph if node.op_type == "Split")
    assert {value.name for value in split.outputs} == {"a", "b", "c"}


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in another order than the parts give other numbers, and these tests see it."""
    stacked = module._stacked
    monkeypatch.setattr(module, "_stacked", lambda convs, *rest: stacked(convs[::-1], *rest))
    before = model_of(next(case for case in FIRES if case.id == "3-all"))
    after, (report, *_) = optimize(before, [merge_parallel_convs])
    assert report.rewrites == 1
    assert not same(before, after)

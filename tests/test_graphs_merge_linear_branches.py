"""merge_linear_branches before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import journal, optimize
from cnnport.graphs.merge import merge_linear_branches
from cnnport.graphs.merge.branches import Reading
from cnnport.graphs.merge.merge_linear_branches import merge_linear_branches as merge

Shape = tuple[int, ...]
WIDE = "double[N,4,H,W] x => double[N,4,A,B] y"
K3, K1, A13, A31, DW, C4 = (4, 4, 3, 3), (4, 4, 1, 1), (4, 4, 1, 3), (4, 4, 3, 1), (4, 1, 3, 3), (4, 1, 1)


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its constants, and what is left of it, with the shapes of the weights.

    ``BN.n (v)`` is a BatchNormalization of four channels with its own parameters.
    """

    id: str
    text: str
    constants: Mapping[str, Shape]
    left: str = ""
    io: str = WIDE
    opset: int = 17
    size: Shape = (6, 7)
    reason: str | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def build(self, dtype: type = np.float64, scale: float = 1.0) -> onnx.ModelProto:
        rng = np.random.default_rng(0)
        arrays = {name: rng.normal(size=shape) * scale for name, shape in self.constants.items()}
        for name in re.findall(r"BN\.(\w+)", self.text):
            arrays |= {f"{name}_{each}": rng.normal(size=4) for each in "gbm"}
            arrays[f"{name}_v"] = rng.uniform(0.2, 3, 4)
        body = re.sub(
            r"BN\.(\w+) \((\w+)\)",
            r"BatchNormalization <epsilon=0.01> (\2, \1_g, \1_b, \1_m, \1_v)",
            self.text,
        )
        inputs, outputs = self.io.split(" => ")
        text = f'<ir_version: 8, opset_import: ["" : {self.opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
        kind = {np.float64: "double", np.float32: "float", np.float16: "float16"}[dtype]
        model = onnx.parser.parse_model(text.replace("double", kind))
        for name, array in arrays.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        for name, array in self.extra.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        onnx.checker.check_model(model, full_check=True)
        return model

    def feeds(self, model: onnx.ModelProto) -> dict[str, np.ndarray]:
        rng, given = np.random.default_rng(1), {each.name for each in model.graph.initializer}
        found = {}
        for value in model.graph.input:
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
            shape = [size or (2, 4, *self.size)[axis] for axis, size in enumerate(sizes)]
            if value.name not in given:
                found[value.name] = rng.normal(size=shape).astype(kind)
        return found


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return ReferenceEvaluator(model).run(None, dict(feeds))


def in_runtime(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def described(model: onnx.ModelProto) -> str:
    """Operators in order of their names, convolutions with the shapes of their weights."""
    shapes = {each.name: "x".join(map(str, each.dims)) for each in model.graph.initializer}
    return " ".join(
        sorted(
            f"Conv[{shapes.get(node.input[1], '?')}]" if node.op_type == "Conv" else node.op_type
            for node in model.graph.node
        )
    )


def products(model: onnx.ModelProto) -> int:
    """Multiply-adds of all convolutions for each number of their outputs, if all have the same number."""
    shapes = {each.name: each.dims for each in model.graph.initializer}
    return sum(int(np.prod(shapes[node.input[1]][1:])) for node in model.graph.node if node.op_type == "Conv")


def assert_agree(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> None:
    for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(np.abs(expected).max(), 1))


PAD, SAME = "<pads=[1,1,1,1]>", '<auto_pad="SAME_UPPER">'
REP = f"a = Conv {PAD} (x, w, b) c = Conv (x, v) s = Add (a, c)"
FIRES = [
    Case("1", REP.replace("s =", "y ="), {"w": K3, "b": (4,), "v": K1}, "Conv[4x4x3x3]"),
    Case(
        "1-other-way-round",
        f"a = Conv {PAD} (x, w) c = Conv (x, v, b) y = Add (c, a)",
        {"w": K3, "b": (4,), "v": K1},
        "Conv[4x4x3x3]",
    ),
    Case(
        "1-even",
        "a = Conv <pads=[0,1,1,0]> (x, w) c = Conv <pads=[1,1,0,0]> (x, v) d = Conv <pads=[1,1,1,1]> (x, u) "
        "s = Add (a, c) y = Add (d, s)",
        {"w": (4, 4, 2, 2), "v": (4, 4, 2, 2), "u": K3},
        "Conv[4x4x3x3]",
    ),
    Case(
        "1-one-side",  # taps of the past only, as in causal convolutions
        "a = Conv <pads=[2,0]> (x, w) c = Conv <pads=[1,0]> (x, v) y = Add (a, c)",
        {"w": (4, 4, 3), "v": (4, 4, 2)},
        "Conv[4x4x3]",
        io="double[N,4,L] x => double[N,4,M] y",
        size=(7,),
    ),
    Case(
        "1-three-dimensions",
        "a = Conv <pads=[1,1,1,1,1,1]> (x, w) c = Conv (x, v) y = Add (a, c)",
        {"w": (4, 4, 3, 3, 3), "v": (4, 4, 1, 1, 1)},
        "Conv[4x4x3x3x3]",
        io="double[N,4,D,H,W] x => double[N,4,A,B,C] y",
        size=(3, 4, 3),
    ),
    Case(
        "1-same-size-in-this-file",  # 3 x 3 with padding and 2 x 2 without halve an even size alike
        "a = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w) c = Conv <strides=[2,2]> (x, v) y = Add (a, c)",
        {"w": K3, "v": (4, 4, 2, 2)},
        "Conv[4x4x3x3]",
        io="double[N,4,6,8] x => double[N,4,A,B] y",
    ),
    Case(
        "1-other-channels",
        f"a = Conv {PAD} (x, w) c = Conv (x, v) y = Add (a, c)",
        {"w": (3, 4, 3, 3), "v": (3, 4, 1, 1)},
        "Conv[3x4x3x3]",
        io="double[N,4,H,W] x => double[N,3,A,B] y",
    ),
    Case(
        "2",
        f"a = Conv <pads=[0,1,0,1]> (x, p) c = Conv <pads=[1,0,1,0]> (x, q) s = Add (a, c) "
        f"d = Conv {PAD} (x, w) y = Add (s, d)",
        {"p": A13, "q": A31, "w": K3},
        "Conv[4x4x3x3]",
    ),
    Case(
        "3",
        "a = Conv <strides=[2,1], pads=[1,1,1,1]> (x, w) c = Conv <strides=[2,1]> (x, v) y = Add (a, c)",
        {"w": K3, "v": K1},
        "Conv[4x4x3x3]",
    ),
    Case(
        "4",
        f"a = Conv {PAD} (x, w, b) n = BN.n (a) m = BN.m (n) c = Conv (x, v) i = Identity (c) k = Mul (f, i) "
        "o = BN.o (k) d = Dropout (o) p = Mul (d, h) s = Add (t, p) q = BN.q (s) y = Sub (m, q)",
        {"w": K3, "b": (4,), "v": K1, "f": (1, 4, 1, 1), "h": (), "t": C4},
        "Conv[4x4x3x3]",
    ),
    Case(
        "4-two-subtractions",
        f"a = Conv {PAD} (x, w) c = Conv (x, v, b) s = Sub (x, c) y = Sub (a, s)",
        {"w": K3, "b": (4,), "v": K1},
        "Conv[4x4x3x3]",
    ),
    Case("5", f"a = Conv {PAD} (x, w) y = Add (x, a)", {"w": K3}, "Conv[4x4x3x3]"),
    Case("5-1x1", "a = Conv (x, v) y = Add (x, a)", {"v": K1}, "Conv[4x4x1x1]"),
    Case("5-negative", f"a = Conv {PAD} (x, w) y = Sub (a, x)", {"w": K3}, "Conv[4x4x3x3]"),
    Case("5-BN", f"{REP} n = BN.n (x) y = Add (s, n)", {"w": K3, "b": (4,), "v": K1}, "Conv[4x4x3x3]"),
    Case(
        "5-factor",
        f"a = Conv {PAD} (x, w) m = Mul (x, f) y = Add (m, a)",
        {"w": K3, "f": C4},
        "Conv[4x4x3x3]",
    ),
    Case("5-twice", f"a = Conv {PAD} (x, w) t = Add (x, x) y = Sum (t, a, x)", {"w": K3}, "Conv[4x4x3x3]"),
    Case(
        "6-depthwise",
        "a = Conv <group=4, pads=[1,1,1,1]> (x, w) c = Conv <group=4> (x, v) s = Sum (a, c, x)  n = BN.n (x) "
        "y = Add (n, s)",
        {"w": DW, "v": (4, 1, 1, 1)},
        "Conv[4x1x3x3]",
    ),
    Case(
        "6-grouped-identity", "a = Conv <group=2> (x, v) y = Add (x, a)", {"v": (4, 2, 1, 1)}, "Conv[4x2x1x1]"
    ),
    Case(
        "6-grouped-into-dense",
        f"a = Conv {PAD} (x, w) c = Conv <group=2> (x, v) d = Conv <group=4, pads=[1,1,1,1]> (x, u, b) "
        "y = Sum (a, c, d)",
        {"w": K3, "v": (4, 2, 1, 1), "u": DW, "b": (4,)},
        "Conv[4x4x3x3]",
    ),
    Case(
        "6-more-outputs",
        "a = Conv <group=2, pads=[1,1,1,1]> (x, w) c = Conv <group=4> (x, v) y = Add (a, c)",
        {"w": (8, 2, 3, 3), "v": (8, 1, 1, 1)},
        "Conv[8x2x3x3]",
        io="double[N,4,H,W] x => double[N,8,A,B] y",
    ),
    Case(
        "7",
        "a = Conv <pads=[2,2,2,2]> (x, w) c = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, v) y = Add (a, c)",
        {"w": (4, 4, 5, 5), "v": K3},
        "Conv[4x4x5x5]",
    ),
    Case(
        "7-stays-dilated",
        "a = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, w) c = Conv <dilations=[5,3]> (x, v) s = Add (a, c) "
        "y = Add (s, x)",
        {"w": K3, "v": K1},
        "Conv[4x4x3x3]",
    ),
    Case(
        "8",
        "a = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w) c = AveragePool "
        "<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2], count_include_pad=1> (x) n = BN.n (c) y = Add (a, n)",
        {"w": K3},
        "Conv[4x4x3x3]",
    ),
    Case(
        "8-no-padding",
        "a = Conv <group=4> (x, w) c = AveragePool <kernel_shape=[3,2], pads=[0,0,0,0]> (x) y = Add (a, c)",
        {"w": (4, 1, 3, 2)},
        "Conv[4x1x3x2]",
    ),
    Case(
        "9",
        f"{REP} d = Add (s, k) e = Sub (l, d) y = Add (e, m)",
        {"w": K3, "b": (4,), "v": K1, "k": C4, "l": (1, 4, 1, 1), "m": (1,)},
        "Conv[4x4x3x3]",
    ),
    Case(
        "10",
        f"a = Conv {PAD} (x, w) r = Relu (x) d = Add (a, r) c = Conv (x, v) y = Add (d, c)",
        {"w": K3, "v": K1},
        "Add Conv[4x4x3x3] Relu",
    ),
    Case(
        "10-subtracted",
        f"a = Conv {PAD} (x, w) r = Relu (x) z = Exp (x) d = Sub (r, a) e = Sub (d, z) c = Conv (x, v) "
        "y = Sub (e, c)",
        {"w": K3, "v": K1},
        "Add Conv[4x4x3x3] Exp Relu Sub",
    ),
    Case(
        "10-two-sources",
        "r = Relu (x) a = Conv (x, w) c = Conv (r, v) d = Conv (x, p) e = Conv (r, q) y = Sum (a, c, d, e)",
        {"w": K1, "v": K1, "p": K1, "q": K1},
        "Add Conv[4x4x1x1] Conv[4x4x1x1] Relu",
    ),
    Case(
        "10-one-sum-stays-one",
        f"a = Conv {PAD} (x, w) c = Conv (x, v) r = Relu (x) z = Exp (x) y = Sum (r, a, z, c)",
        {"w": K3, "v": K1},
        "Conv[4x4x3x3] Exp Relu Sum",
    ),
    Case(
        "11",
        f'a = Conv {SAME} (x, w) c = Conv <auto_pad="VALID"> (x, v) d = Conv <auto_pad="SAME_LOWER"> (x, u) '
        "y = Sum (a, c, d)",
        {"w": K3, "v": K1, "u": (4, 4, 2, 3)},
        "Conv[4x4x3x3]",
    ),
    Case(
        "11-stride",
        'a = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w) c = Conv <strides=[2,2]> (x, v) y = Add (a, c)',
        {"w": K3, "v": K1},
        "Conv[4x4x3x3]",
        io="double[N,4,6,7] x => double[N,4,A,B] y",
    ),
    Case(
        "12-small-one",
        f"{REP} r = Relu (c) y = Add (r, s)",
        {"w": K3, "b": (4,), "v": K1},
        "Add Conv[4x4x1x1] Conv[4x4x3x3] Relu",
    ),
    Case(
        "12-output",
        f"{REP} y = Identity (s)",
        {"w": K3, "b": (4,), "v": K1},
        "Conv[4x4x1x1] Conv[4x4x3x3] Identity",
        io=f"{WIDE}, double[N,4,A,B] c",
    ),
    Case(
        "12-normalised-input",  # what the others read is computed once, for them
        "n = BN.n (x) a = Conv <pads=[1,1,1,1]> (x, w) s = Add (n, a) r = Relu (n) y = Mul (s, r)",
        {"w": K3},
        "BatchNormalization Conv[4x4x3x3] Mul Relu",
    ),
    Case(
        "12-two-sums",  # the second merge sets the first one free
        "a = Conv (x, v) b = Conv <pads=[1,1,1,1]> (x, w) c = Conv <pads=[2,2,2,2]> (x, u) s = Add (a, b) "
        "r = Relu (s) t = Add (b, c) y = Add (r, t)",
        {"v": K1, "w": K3, "u": (4, 4, 5, 5)},
        "Add Conv[4x4x3x3] Conv[4x4x5x5] Relu",
    ),
    Case(
        "13",
        f"{REP} d = Conv (s, v) r = Relu (d) y = Conv <pads=[1,1,1,1]> (r, w, b)",
        {"w": K3, "b": (4,), "v": K1},
        "Conv[4x4x1x1] Conv[4x4x3x3] Conv[4x4x3x3] Relu",
    ),
    Case(
        "21-own-sum",
        f"a = Conv {PAD} (x, w) c = Conv (x, v) s = Add (a, x) y = Sub (c, s)",
        {"w": K3, "v": K1},
        "Conv[4x4x1x1] Conv[4x4x3x3] Sub",
        io=f"{WIDE}, double[N,4,A,B] s",
    ),
    Case(
        "27",
        f"{REP} t = Add (s, k) u = Sub (t, l) y = Add (u, m)",
        {"w": K3, "b": (4,), "v": K1, "k": C4, "l": (7,), "m": (1, 1, 1, 1, 1)},
        "Add Conv[4x4x3x3] Sub",
        io="double[N,4,H,W] x => double[A,B,C,D,E] y",
    ),
    Case(
        "24-what-fits",  # 1 x 3 and 3 x 1 do not fit into each other, the identity fits into one of them
        "a = Conv <pads=[0,1,0,1]> (x, p) c = Conv <pads=[1,0,1,0]> (x, q) y = Sum (a, x, c)",
        {"p": A13, "q": A31},
        "Add Conv[4x4x1x3] Conv[4x4x3x1]",
    ),
    Case("opset-7", REP.replace("s =", "y ="), {"w": K3, "b": (4,), "v": K1}, "Conv[4x4x3x3]", opset=7),
    Case("opset-22", REP.replace("s =", "y ="), {"w": K3, "b": (4,), "v": K1}, "Conv[4x4x3x3]", opset=22),
]

BOTH = {"w": K3, "v": K1}
TWO = f"a = Conv {PAD} (x, w) c = Conv (x, v)"
STAYS = [
    Case("20-inputs", f"r = Relu (x) a = Conv {PAD} (x, w) c = Conv (r, v) y = Add (a, c)", BOTH),
    Case("20-nonlinear", f"{TWO} r = Relu (c) y = Add (a, r)", BOTH),
    Case("20-product", f"{TWO} m = Mul (c, x) y = Add (a, m)", BOTH),
    Case(
        "21-output",
        f"{TWO} r = Relu (x) s = Add (a, r) y = Sub (c, s)",
        BOTH,
        io=f"{WIDE}, double[N,4,A,B] s",
    ),
    Case("21-used", f"{TWO} r = Relu (x) s = Add (a, r) t = Sub (c, s) y = Mul (s, t)", BOTH),
    Case(
        "22-strides",
        "a = Conv (x, w) c = Conv <strides=[2,2]> (x, v) y = Add (a, c)",
        BOTH,
        io="double[N,4,4,4] x => double[N,4,A,B] y",
        reason="branches of x cannot be one convolution: they differ in strides",
    ),
    Case(
        "22-sizes",  # of a single row and column the smaller output is broadcast
        "a = Conv (x, w) y = Add (a, x)",
        {"w": K3},
        io="double[N,4,3,3] x => double[N,4,3,3] y",
        reason="branches of x cannot be one convolution: their outputs are not known to be of the same size",
    ),
    Case(
        "22-sizes-open",
        "a = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w) c = Conv <strides=[2,2]> (x, v) y = Add (a, c)",
        {"w": K3, "v": (4, 4, 2, 2)},
        size=(6, 8),
        reason="branches of x cannot be one convolution: their outputs are not known to be of the same size",
    ),
    Case("22-channels", f"{TWO} y = Add (a, c)", {"w": K3, "v": (1, 4, 1, 1)}),
    Case(
        "22-one-channel",
        "a = Conv (x, w) y = Add (a, x)",
        {"w": (4, 1, 1, 1)},
        io="double[N,1,H,W] x => double[N,4,A,B] y",
        reason="branches of x cannot be one convolution: they differ in channels or types",
    ),
    Case("23-computed", f"z = Exp (w) a = Conv {PAD} (x, z) y = Add (a, x)", {"w": K3}),
    Case("23-computed-bias", "z = Exp (b) a = Conv (x, v, z) y = Add (a, x)", {"v": K1, "b": (4,)}),
    Case(
        "23-overridable",
        "a = Conv (x, v) y = Add (a, x)",
        {"v": K1},
        io="double[N,4,H,W] x, double[4,4,1,1] v => double[N,4,A,B] y",
    ),
    Case(
        "23-training",
        "a = Conv (x, v) n, mm, vv = BatchNormalization <training_mode=1> (x, g, b, m, s) y = Add (a, n)",
        {"v": K1, "g": (4,), "b": (4,), "m": (4,), "s": (4,)},
        reason="a branch of x stays: it does not run in inference mode on channels",
    ),
    Case(
        "24-asymmetric",
        "a = Conv <pads=[0,1,0,1]> (x, p) c = Conv <pads=[1,0,1,0]> (x, q) y = Add (a, c)",
        {"p": A13, "q": A31},
        reason="one convolution for what is left of the branches of x would take 36 operations for each number of "
        "its output instead of 25",
    ),
    Case(
        "24-dense-and-depthwise",
        "a = Conv <group=4, pads=[1,1,1,1]> (x, w) c = Conv (x, v) y = Add (a, c)",
        {"w": DW, "v": K1},
    ),
    Case(
        "24-used", f"{TWO} s = Add (a, c) r = Relu (a) y = Add (r, s)", BOTH, io=f"{WIDE}, double[N,4,A,B] s"
    ),
    Case(
        "24-dilated",
        "a = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, w) c = Conv <pads=[1,1,1,1]> (x, v) y = Add (a, c)",
        {"w": K3, "v": K3},
    ),
    Case("25", "n = BN.n (x) s = Add (x, n) y = Add (s, x)", {}),
    Case(
        "25-averages",
        "a = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (x) y = Sub (a, x)",
        {},
    ),
    Case(
        "26-edge",
        f"a = Conv {PAD} (x, w) c = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x) y = Add (a, c)",
        {"w": K3},
        reason="a branch of x stays: the windows of AveragePool c are not known to divide by the same number "
        "everywhere",
    ),
    Case(
        "26-ceil",
        "a = Conv <strides=[2,2]> (x, w) c = AveragePool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x) "
        "y = Add (a, c)",
        {"w": (4, 4, 2, 2)},
        io="double[N,4,6,8] x => double[N,4,A,B] y",
    ),
    Case("29-in-a-row", f"{TWO} d = Conv (a, u) y = Relu (d)", {**BOTH, "u": K1}),
    Case("29-residual", f"a = Conv {PAD} (x, w) r = Relu (a) c = Conv (r, v) y = Add (x, c)", BOTH),
    Case("opset-6", "a = Conv (x, v) y = Add (a, x)", {"v": K1}, opset=6),
]


def merged(case: Case) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    before = case.build()
    after, (report, *_) = optimize(before, [merge])
    assert report.refused is None
    return before, after


def reasons(model: onnx.ModelProto) -> list[str]:
    with journal.recorded() as refusals:
        assert merge(ir.from_proto(model)) == 0
    return [each.reason for each in refusals]


def check(case: Case) -> None:
    """What a case that fires has to give: the operators, the numbers, and nothing more to do."""
    before, after = merged(case)
    assert described(after) == case.left
    assert products(after) <= products(before)
    assert_agree(before, after, case.feeds(before))
    onnx.checker.check_model(after, full_check=True)
    again, _ = optimize(after, [merge])
    assert again is after
    read = {name for node in after.graph.node for name in node.input}
    assert {each.name for each in after.graph.initializer} <= read


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.id)
def test_fires(case: Case) -> None:
    check(case)


def test_runtime_agrees() -> None:
    """ONNX Runtime, which has its own reading of padding and groups, gets the same numbers before and after."""
    for case in FIRES:
        before = case.build(np.float32)
        after, (report, *_) = optimize(before, [merge])
        assert report.rewrites
        feeds = case.feeds(before)
        for expected, found in zip(in_runtime(before, feeds), in_runtime(after, feeds), strict=True):
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=2e-5 * max(np.abs(expected).max(), 1), err_msg=case.id
            )


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before, after = merged(case)
    assert after is before
    if case.reason:
        assert reasons(before) == [case.reason]
    run(before, case.feeds(before))


def test_captured_by_a_subgraph_stays() -> None:
    """Inner results that a branch of an If reads (rule 21), or hands on as its output."""
    case = Case(
        "",
        f"{TWO} s = Add (a, c) "
        "i = If (q) <then_branch = t () => (double[A1,B1,C1,D1] p) {{ p = Relu (s) }}, "
        "else_branch = e () => (double[A2,B2,C2,D2] o) {{ o = Relu (c) }}> z = Relu (x) t2 = Add (s, z) "
        "y = Add (t2, i)".replace("{{", "{").replace("}}", "}"),
        BOTH,
        "Add Add Conv[4x4x1x1] Conv[4x4x3x3] If Relu",
        io="double[N,4,H,W] x, bool q => double[A,B,C,D] y",
    )
    before, after = merged(case)
    assert described(after) == case.left
    image = np.random.default_rng(0).normal(size=(2, 4, 5, 5))
    for truth in (True, False):
        assert_agree(before, after, {"x": image, "q": np.array(truth)})


def test_quantised_weights_stay() -> None:
    case = Case(
        "",
        f"w = DequantizeLinear (wq, step) a = Conv {PAD} (x, w) y = Add (a, x)",
        {},
        extra={"wq": np.ones(K3, np.int8), "step": np.float32(0.1)},
    )
    before = case.build(np.float32)
    after, _ = optimize(before, [merge])
    assert after is before
    assert reasons(before) == [
        "a branch of x stays: the weights of Conv a are not constant and of a floating-point type"
    ]


def test_overflow_and_underflow_stay() -> None:
    case = Case("", f"{TWO} s = Mul (a, k) t = Mul (c, k) y = Add (s, t)", {**BOTH, "k": ()})
    for scale, word in ((300.0, "overflow"), (3e-4, "underflow")):
        before = case.build(np.float16, scale)
        after, _ = optimize(before, [merge])
        assert after is before
        assert word in reasons(before)[0]


def test_float16_is_rounded_once() -> None:
    before = FIRES[0].build(np.float16)
    after, _ = optimize(before, [merge])
    (kernel,) = (numpy_helper.to_array(each) for each in after.graph.initializer if len(each.dims) == 4)
    numbers = {each.name: numpy_helper.to_array(each).astype(np.float64) for each in before.graph.initializer}
    numbers["w"][:, :, 1:2, 1:2] += numbers["v"]
    assert kernel.dtype == np.float16
    np.testing.assert_array_equal(kernel, numbers["w"].astype(np.float16))


def test_names_and_notes_stay() -> None:
    """Outputs keep their names, the largest convolution its own; what has other numbers has another name."""
    before = next(case for case in FIRES if case.id == "10").build()
    names = {value for node in before.graph.node for value in node.output}
    before.graph.node[0].name = "large"
    before.graph.node[0].metadata_props.add(key="from", value="layer1")
    after, _ = optimize(before, [merge])
    (conv,) = (node for node in after.graph.node if node.op_type == "Conv")
    assert conv.name == "large"
    assert [each.value for each in conv.metadata_props] == ["layer1"]
    assert conv.output[0] not in names
    assert not {each.name for each in after.graph.initializer} & {"w", "v"}


def random_sum(rng: np.random.Generator) -> Case:
    """A sum of two to five random branches of x, all of one stride and output size."""
    stride = int(rng.integers(1, 3))
    constants: dict[str, Shape] = {}
    lines, terms = ["r = Relu (x)"], []
    for place in range(rng.integers(2, 6)):
        group = int(rng.choice([1, 1, 2, 4]))
        kernel, dilations = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        span = dilations * (kernel - 1)
        begin = rng.integers(0, span + 1)
        pads = [*begin, *(span - begin)]
        constants |= {f"w{place}": (4, 4 // group, *kernel)}
        source = "r" if rng.random() < 0.15 else "x"
        bias = ""
        if rng.random() < 0.5:
            constants[f"b{place}"], bias = (4,), f", b{place}"
        lines.append(
            f"c{place} = Conv <group={group}, strides=[{stride},{stride}], "
            f"dilations=[{','.join(map(str, dilations))}], "
            f"pads=[{','.join(map(str, pads))}]> ({source}, w{place}{bias})"
        )
        terms.append(f"c{place}")
        if rng.random() < 0.3:
            lines.append(f"n{place} = BN.n{place} (c{place})")
            terms[-1] = f"n{place}"
        if rng.random() < 0.15:
            terms.append(f"c{place}")
    if stride == 1 and rng.random() < 0.5:
        terms.append(str(rng.choice(["x", "r"])))
    if rng.random() < 0.3:
        constants["k"] = C4
        terms.append("k")
    while len(terms) > 1:
        first, second = (terms.pop(int(rng.integers(len(terms)))) for _ in range(2))
        terms.append(f"s{len(terms)}")
        lines.append(f"{terms[-1]} = {rng.choice(['Add', 'Add', 'Sub', 'Sum'])} ({first}, {second})")
    return Case("", " ".join((*lines, f"y = Relu ({terms[0]})")), constants)


def test_random_sums() -> None:
    """The numbers stay, no multiply-adds are added, and most sums get shorter."""
    rng, fewer = np.random.default_rng(0), 0
    for _ in range(80):
        case = random_sum(rng)
        before, after = merged(case)
        if after is before:
            continue
        fewer += 1
        assert products(after) <= products(before)
        assert len(after.graph.node) < len(before.graph.node)
        assert_agree(before, after, case.feeds(before))
        again, _ = optimize(after, [merge])
        assert again is after
    assert fewer > 30


FAULTS = {
    "1": ("add_taps", lambda total, whole, part, taps: total.__iadd__(np.resize(taps, total.shape))),
    "4": ("numbers_of", lambda conv, part: (np.ones(part.shape), np.zeros(part.outputs))),
    "9": ("a_channel", lambda value, geometry: None),
    "24-what-fits": ("_saved", lambda pair: 1),
    "21-own-sum": ("Reading", type("Careless", (Reading,), {"is_private": lambda self, value: True})),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to get it wrong fails the check that its case passes."""
    case = next(case for case in FIRES if case.id == fault)
    check(case)
    monkeypatch.setattr(merge_linear_branches, *FAULTS[fault])
    with pytest.raises(AssertionError):
        check(case)

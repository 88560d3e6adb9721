"""merge_concatenated_branches before and after, on graphs in ONNX text. The numbers are those of its docstring."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from cnnport.graphs import optimize
from cnnport.graphs.merge import merge_concatenated_branches
from cnnport.graphs.merge.merge_concatenated_branches import merge_concatenated_branches as merge

Shape = tuple[int, ...]
WIDE = "float[N,4,H,W] x => float[N,C,A,B] y"


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its constants, and what is left of it, with the shapes of the weights."""

    id: str
    text: str
    constants: Mapping[str, Shape]
    left: str = ""
    io: str = WIDE

    def build(self) -> onnx.ModelProto:
        inputs, outputs = self.io.split(" => ")
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {self.text} }}'
        )
        rng = np.random.default_rng(0)
        for name, shape in self.constants.items():
            array = rng.normal(size=shape).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        onnx.checker.check_model(model, full_check=True)
        return model


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng, given = np.random.default_rng(1), {each.name for each in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if value.name not in given:
            array = rng.normal(size=[size or (2, 4, 6, 7)[axis] for axis, size in enumerate(sizes)])
            feeds[value.name] = array.astype(kind)
    return session.run(None, feeds)


def described(model: onnx.ModelProto) -> str:
    shapes = {each.name: "x".join(map(str, each.dims)) for each in model.graph.initializer}
    return " ".join(
        sorted(
            f"Conv[{shapes[node.input[1]]}]" if node.op_type == "Conv" else node.op_type
            for node in model.graph.node
        )
    )


TWO = "a = Conv <pads=[1,1,1,1]> (x, w, b) c = Conv <pads=[1,1,1,1]> (x, v, d)"
CONSTANTS = {"w": (3, 4, 3, 3), "b": (3,), "v": (2, 4, 3, 3), "d": (2,)}
FIRES = [
    Case("1", f"{TWO} y = Concat <axis=1> (a, c)", CONSTANTS, "Conv[5x4x3x3]"),
    Case("1-from-the-end", f"{TWO} y = Concat <axis=-3> (c, a)", CONSTANTS, "Conv[5x4x3x3]"),
    Case(
        "1-some",
        f"{TWO} r = Relu (x) e = Conv (r, u) f = Conv (r, t) y = Concat <axis=1> (x, a, c, r, e, f)",
        {**CONSTANTS, "u": (1, 4, 1, 1), "t": (2, 4, 1, 1)},
        "Concat Conv[3x4x1x1] Conv[5x4x3x3] Relu",
    ),
    Case(
        "1-padding-in-other-words",
        'a = Conv <auto_pad="SAME_UPPER"> (x, w) c = Conv <pads=[1,1,1,1], strides=[1,1], group=1> (x, v) '
        "y = Concat <axis=1> (a, c)",
        CONSTANTS,
        "Conv[5x4x3x3]",
    ),
    Case(
        "2",
        "a = Conv (x, w) c = Conv (x, v, d) e = Conv (x, w, b) y = Concat <axis=1> (a, c, e)",
        CONSTANTS,
        "Conv[8x4x3x3]",
    ),
    Case(
        "3",
        f"{TWO} r = LeakyRelu <alpha=0.2> (a) p = Clip (r, lo, hi) q = LeakyRelu <alpha=0.2> (c) "
        "s = Clip (q, lo, hi) t = Concat <axis=1> (p, s) y = Relu (t)",
        {**CONSTANTS, "lo": (), "hi": ()},
        "Clip Conv[5x4x3x3] LeakyRelu Relu",
    ),
    Case(
        "4",
        f"{TWO} t = Concat <axis=1> (a, c) e = Conv <pads=[1,1,1,1]> (x, w, b) s = Softmax <axis=1> (e) "
        "y = Concat <axis=1> (t, s)",
        CONSTANTS,
        "Concat Conv[3x4x3x3] Conv[5x4x3x3] Softmax",
    ),
    Case(
        "1-nested",
        f"{TWO} t = Concat <axis=1> (a, c) e = Conv <pads=[1,1,1,1]> (x, w, b) m = Concat <axis=1> (t, e) "
        "y = Relu (m)",
        CONSTANTS,
        "Conv[8x4x3x3] Relu",
    ),
]
STAYS = [
    Case("10-no-neighbours", f"{TWO} y = Concat <axis=1> (a, x, c)", CONSTANTS),
    Case("10-twice", "a = Conv (x, w) y = Concat <axis=1> (a, a)", CONSTANTS),
    Case("11-inputs", "r = Relu (x) a = Conv (x, w) c = Conv (r, v) y = Concat <axis=1> (a, c)", CONSTANTS),
    Case(
        "11-kernels",
        "a = Conv <pads=[1,1,1,1]> (x, w) c = Conv (x, u) y = Concat <axis=1> (a, c)",
        {**CONSTANTS, "u": (2, 4, 1, 1)},
    ),
    Case("11-activations", f"{TWO} r = Relu (c) y = Concat <axis=1> (a, r)", CONSTANTS),
    Case(
        "11-slopes",
        f"{TWO} r = LeakyRelu <alpha=0.1> (c) s = LeakyRelu <alpha=0.2> (a) y = Concat <axis=1> (r, s)",
        CONSTANTS,
    ),
    Case(
        "11-limits",
        f"{TWO} r = Clip (c, lo) s = Clip (a, hi) y = Concat <axis=1> (r, s)",
        {**CONSTANTS, "lo": (), "hi": ()},
    ),
    Case(
        "11-padding",
        "a = Conv <pads=[1,0,1,2]> (x, w) c = Conv <pads=[1,1,1,1]> (x, v) y = Concat <axis=1> (a, c)",
        CONSTANTS,
    ),
    Case(
        "12",
        "a = Conv <group=2> (x, u) c = Conv <group=2> (x, t) y = Concat <axis=1> (a, c)",
        {"u": (2, 2, 1, 1), "t": (2, 2, 1, 1)},
    ),
    Case("13-output", f"{TWO} y = Concat <axis=1> (a, c)", CONSTANTS, io=f"{WIDE}, float[N,3,A,B] a"),
    Case("13-used", f"{TWO} t = Concat <axis=1> (a, c) s = Concat <axis=1> (t, a) y = Relu (s)", CONSTANTS),
    Case(
        "14",
        "a = Conv (x, w) c = Conv (x, v) y = Concat <axis=1> (a, c)",
        {"w": (3, 4, 3, 3), "v": (2, 4, 3, 3)},
        io="float[N,4,H,W] x, float[2,4,3,3] v => float[N,C,A,B] y",
    ),
    Case(
        "15",
        "a = Conv (x, w) c = Conv (x, v) y = Concat <axis=2> (a, c)",
        {"w": (3, 4, 3, 3), "v": (3, 4, 3, 3)},
    ),
]


def check(case: Case) -> None:
    before = case.build()
    after, (report, *_) = optimize(before, [merge])
    assert report.refused is None
    assert described(after) == case.left
    onnx.checker.check_model(after, full_check=True)
    for expected, found in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    again, _ = optimize(after, [merge])
    assert again is after
    names = {value for node in before.graph.node for value in node.output}
    (output,) = (each.name for each in before.graph.output)
    made = {node.output[0] for node in after.graph.node if node.op_type == "Conv"}
    assert made & names <= {output, "t", "m", "e"}  # equal numbers: concatenated, or not touched


@pytest.mark.parametrize("case", FIRES, ids=lambda case: case.id)
def test_fires(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = case.build()
    after, (report, *_) = optimize(before, [merge])
    assert report.refused is None
    assert after is before
    run(before)


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds that say too little: what is left, or its numbers, are not those of the case."""
    biases = merge_concatenated_branches._biases
    monkeypatch.setattr(merge_concatenated_branches, "_biases", lambda branches: biases(branches[::-1]))
    with pytest.raises(AssertionError):
        check(FIRES[0])
    monkeypatch.undo()
    monkeypatch.setattr(merge_concatenated_branches, "_signature", lambda node: node.op_type)
    slopes = next(case for case in STAYS if case.id == "11-slopes")
    with pytest.raises(AssertionError):
        test_stays(slopes)

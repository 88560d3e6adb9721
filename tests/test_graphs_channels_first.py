"""channels_first before and after, on graphs in ONNX text. The numbers are those of its docstring."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.layout.channels_first import _Link, _link, channels_first
from cnnport.graphs.layout.move_transposes import move_transposes

SHAPES = {
    "d": (3, 1, 3, 3), "s": (3,), "w": (3, 8), "b": (8,), "v": (8, 3), "c": (1, 3), "k": (1, 1, 1, 3), "g": (),
    "n": (8, 2), "r": (6, 3), "z": (1,),
}  # fmt: skip
BLOCK = """
    l = Conv <group = 3, pads = [1, 1, 1, 1]> (x, d)  t = Transpose <perm = [0, 2, 3, 1]> (l)
    n = LayerNormalization (t, s, s)  p = MatMul (n, w)  q = Add (b, p)  a = Tanh (q)
    o = MatMul (a, v)  u = Add (o, c)  m = Mul (k, u)
"""
NCHW = "Transpose <perm = [0, 3, 1, 2]>"


@dataclass(frozen=True)
class Case:
    """Nodes from ``x``, N x 3 x 4 x 6, to ``y``, and the operators that are left of them."""

    id: str
    body: str
    left: dict[str, int] | None
    y: str = "float[N, 3, 4, 6]"


CASES = (
    Case("1-block", f"{BLOCK} e = {NCHW} (m)  y = Add (x, e)",
         {"Add": 1, "Conv": 3, "LayerNormalization": 1, "Mul": 1, "Tanh": 1, "Transpose": 2}),
    Case("1-numbers", f"t = Transpose <perm = [0, 2, 3, 1]> (x)  p = MatMul (t, w)  q = Add (p, b)  h = Sub (g, q)"
         f"  i = Div (h, z)  o = MatMul (i, v)  j = Add (o, g)  y = {NCHW} (j)",
         {"Conv": 2, "Div": 1, "Sub": 1, "Transpose": 2}),
    Case("1-one-space-axis", "i = Reshape (x, line)  t = Transpose <perm = [0, 2, 1]> (i)  p = MatMul (t, w)"
         "  q = Add (p, b)  o = MatMul (q, v)  j = Transpose <perm = [0, 2, 1]> (o)  y = Reshape (j, plane)",
         {"Conv": 2, "Reshape": 2, "Transpose": 2}),
    Case("2-inverse-in-front", f"t = Transpose <perm = [0, 2, 3, 1]> (x)  p = MatMul (t, w)  o = MatMul (p, v)"
         f"  y = {NCHW} (o)", {"Conv": 2, "Transpose": 2}),
    Case("2-nothing-saved", f"t = Transpose <perm = [0, 2, 3, 1]> (x)  n = Softmax (t)  p = MatMul (n, w)"
         f"  y = {NCHW} (p)", None, "float[N, 8, 4, 6]"),
    Case("10-more-to-transpose", f"t = Transpose <perm = [0, 2, 3, 1]> (x)  p = MatMul (t, w)  o = Softmax (p)"
         f"  i = MatMul (o, n)  j = Add (i, g)  y = {NCHW} (j)", None, "float[N, 2, 4, 6]"),
    Case("11-read-elsewhere", f"{BLOCK} e = {NCHW} (m)  f = ReduceMean <keepdims = 1> (o)  y = Add (f, e)", None),
    Case("11-other-axis", f"t = Transpose <perm = [0, 2, 3, 1]> (x)  p = MatMul (t, w)  o = MatMul (p, v)"
         f"  f = Add (o, r)  y = {NCHW} (f)", None),
    Case("11-other-order", "t = Transpose <perm = [0, 2, 3, 1]> (x)  p = MatMul (t, w)  q = Add (p, b)"
         "  y = Transpose <perm = [0, 3, 2, 1]> (q)", None, "float[N, 8, 6, 4]"),
)  # fmt: skip


def model_of(case: Case) -> onnx.ModelProto:
    text = f"g (float[N, 3, 4, 6] x) => ({case.y} y) {{ {case.body} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    rng = np.random.default_rng(0)
    used = {name for node in model.graph.node for name in node.input}
    made = {name for node in model.graph.node for name in node.output}
    for name, shape in SHAPES.items():
        if name in used - made:
            array = np.asarray(rng.normal(size=shape), np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, numbers in (("line", [0, 3, 24]), ("plane", [0, 3, 4, 6])):
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(1).normal(size=(2, 3, 4, 6)).astype(np.float32)})[0]


def check(case: Case) -> onnx.ModelProto:
    before = model_of(case)
    after, (report, *_) = optimize(before, [channels_first])
    assert report.refused is None
    assert count_ops(after) == case.left
    np.testing.assert_allclose(run(after), run(before), rtol=1e-4, atol=1e-5)
    assert optimize(after, [channels_first])[0] is after
    return after


@pytest.mark.parametrize("case", [case for case in CASES if case.left], ids=lambda case: case.id)
def test_fires(case: Case) -> None:
    after = check(case)
    names = {name for node in after.graph.node for name in node.input}
    assert {tensor.name for tensor in after.graph.initializer} <= names


@pytest.mark.parametrize("case", [case for case in CASES if case.left is None], ids=lambda case: case.id)
def test_stays(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [channels_first])
    assert report.refused is None
    assert after is before


@pytest.mark.parametrize("place", [1, 3])
def test_transposes_that_meet_are_removed_by_the_other_pass(place: int) -> None:
    after, _ = optimize(model_of(CASES[place]), [channels_first, move_transposes])
    assert "Transpose" not in count_ops(after)
    np.testing.assert_allclose(run(after), run(model_of(CASES[place])), rtol=1e-4, atol=1e-5)


def test_a_matrix_that_a_caller_may_override_stays() -> None:
    before = model_of(CASES[3])
    for name, shape in (("w", (3, 8)), ("v", (8, 3))):
        before.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    assert optimize(before, [channels_first])[0] is before


def test_a_matrix_the_wrong_way_round_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: rows for columns, in a matrix that is square."""
    monkeypatch.setitem(SHAPES, "w", (3, 3))
    monkeypatch.setitem(SHAPES, "b", (3,))
    monkeypatch.setitem(SHAPES, "v", (3, 3))
    assert check(CASES[0])

    def transposed(node: ir.Node, dims: int) -> _Link | None:
        found = _link(node, dims)
        return found if found is None or found.array is None else replace(found, array=found.array.T)

    monkeypatch.setattr("cnnport.graphs.layout.channels_first._link", transposed)
    with pytest.raises(AssertionError):
        check(CASES[0])

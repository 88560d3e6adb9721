"""Other opsets: a real conversion that computes the same, or the operator that stands in the way."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.graphs.convert_opset import NEWEST, OLDEST, check_supported, convert_opset, problem
from cnnport.onnxfile import default_opset, load_model

NETWORK = """
<ir_version: 8, opset_import: ["": 18]>
g (float[batch, 4, 6, 6] x) => (float[batch, 12] y)
<
  int64[2] axes = {2, 3}, int64[2] flat = {-1, 12}, int64[1] one = {1}, int64[2] last = {2, 3},
  float[4] scale = {1.0, 2.0, 3.0, 4.0}, float[4] bias = {0.5, 0.5, 0.5, 0.5},
  float[4] mean = {0.1, 0.2, 0.3, 0.4}, float[4] var = {1.0, 2.0, 3.0, 4.0},
  int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}
>
{
  padded = Pad(x, pads)
  normal = BatchNormalization<epsilon = 0.001>(padded, scale, bias, mean, var)
  left, right = Split<axis = 1, num_outputs = 2>(normal)
  joined = Concat<axis = 1>(right, left, right)
  pooled = ReduceMean<keepdims = 0>(joined, axes)
  wide = Unsqueeze(pooled, one)
  narrow = Squeeze(wide, one)
  top = ReduceMax<keepdims = 1>(joined, last)
  short = ReduceSum<keepdims = 0>(top, last)
  both = Concat<axis = 1>(narrow, short)
  shaped = Reshape<allowzero = 1>(both, flat)
  active = Relu(shaped)
  y = Softmax<axis = -1>(active)
}
"""


def run(model: onnx.ModelProto) -> np.ndarray:
    feed = np.random.default_rng(0).standard_normal((3, 4, 6, 6)).astype(np.float32)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": feed})[0]


@pytest.mark.parametrize("opset", range(OLDEST, NEWEST + 1))
def test_every_version_computes_the_same(opset: int) -> None:
    expected = run(parser.parse_model(NETWORK))
    moved = convert_opset(parser.parse_model(NETWORK), opset)
    assert default_opset(moved) == opset
    assert problem(moved) is None
    np.testing.assert_allclose(run(moved), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 17, 24])
def test_a_network_of_the_zoo(opset: int, exported: Callable[[str], Artifact]) -> None:
    model = load_model(exported("lenet5").path)
    feed = {"input": np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)}
    expected = ort.InferenceSession(model.SerializeToString()).run(None, feed)[0]
    moved = convert_opset(model, opset)
    assert problem(moved) is None
    got = ort.InferenceSession(moved.SerializeToString()).run(None, feed)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_the_file_format_is_the_oldest_that_serves() -> None:
    assert convert_opset(parser.parse_model(NETWORK), 11).ir_version == 6
    assert convert_opset(parser.parse_model(NETWORK), 20).ir_version == 9


def test_integers_that_became_attributes_are_gone() -> None:
    moved = convert_opset(parser.parse_model(NETWORK), 11)
    assert {tensor.name for tensor in moved.graph.initializer} == {
        "flat",
        "pads",
        "scale",
        "bias",
        "mean",
        "var",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("y = LayerNormalization(x, w)", "LayerNormalization .* needs 17"),
        ("y = HardSwish(x)", "HardSwish .* needs 14"),
        ("y = Softmax<axis = 1>(x)", "goes over axis 1"),
        ("y = BatchNormalization<training_mode = 1>(x, s, s, s, s)", "uses training_mode=1"),
        ("y = ReduceMean(x, d)", "has axes that are not constant"),
    ],
)
def test_what_has_no_equivalent_is_named(line: str, message: str) -> None:
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        g (float[2, 4, 6, 6] x, int64[1] d) => (float[a, b, c, e] y)
        <float[6] w = {{1, 1, 1, 1, 1, 1}}, float[4] s = {{1, 1, 1, 1}}> {{ {line} }}"""
    )
    with pytest.raises(CnnportError, match=message):
        convert_opset(model, 11)


def test_a_zero_in_a_reshape_is_not_taken_for_its_other_meaning() -> None:
    text = NETWORK.replace("flat = {-1, 12}", "flat = {0, 12}")
    with pytest.raises(CnnportError, match="uses allowzero=1"):
        convert_opset(parser.parse_model(text), 11)


@pytest.mark.parametrize("opset", [-1, 0, OLDEST - 1, NEWEST + 1, 1000])
def test_out_of_range(opset: int) -> None:
    with pytest.raises(CnnportError, match=f"from {OLDEST} to {NEWEST}"):
        check_supported(opset)


def test_problem_finds_one() -> None:
    model = parser.parse_model(NETWORK)
    assert problem(model) is None
    model.graph.node[0].op_type = "Padd"
    assert "Padd" in (problem(model) or "")
    model = parser.parse_model(NETWORK)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 13
    assert problem(model) is not None

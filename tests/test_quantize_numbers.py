"""Scales, weights and biases, and how far a graph of integers is from the one of floats."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from cnnport.errors import CnnportError
from cnnport.graphs.protos import read
from cnnport.graphs.quantize import quantize, wanted
from cnnport.graphs.quantize.biases import least_weight_scales, quantized_bias
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rules import RULES
from cnnport.graphs.quantize.scales import asymmetric, symmetric
from cnnport.graphs.quantize.weights import quantized as quantized_weights
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, get_runtime
from quantize_graphs import CONSTANTS, NETWORK, decibels, images, model_of, quantized, run

# Of the output, over the noise of 8 bits in some 15 layers.
LEAST_DECIBELS = {"ort": 23.0, "trt": 21.0, "openvino": 23.0}

finite = st.floats(0, 1e6, width=32)


@given(low=finite, high=finite)
@settings(max_examples=200, deadline=None)
def test_levels_reach_as_far_as_the_range_and_no_further(low: float, high: float) -> None:
    for make, first, last in ((asymmetric, 0, 255), (symmetric, -127, 127)):
        made = make(ValueRange(-low, high))
        assert made.scale > 0
        assert np.float32(made.scale) == made.scale
        assert first <= made.zero_point <= last
        if low + high < 1e-15:
            continue
        reach = made.range
        # Half a level is what rounding the zero point moves both ends by.
        assert reach.high >= high - made.scale * 0.51
        assert reach.low <= -low + made.scale * 0.51
        if low == 0 and first == 0:
            assert made.zero_point == 0
            # A bound that the quantizer takes the place of is not passed, in float32 either.
            assert np.float32(made.scale) * np.float32(255) <= np.float32(high)


def test_scales_of_nothing_and_of_next_to_nothing_are_usable() -> None:
    assert asymmetric(ValueRange(0, 0)).scale == 1
    assert symmetric(ValueRange(0, 0)).scale == 1
    assert asymmetric(ValueRange(0, 1e-30)).scale == pytest.approx(1e-18)
    half = symmetric(ValueRange(-1e-6, 1e-6), ir.DataType.FLOAT16)
    assert half.scale >= np.finfo(np.float16).tiny


def test_weights_have_a_scale_for_each_channel_and_lose_half_a_level() -> None:
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(4, 6, 3, 3)) * np.array([1e-3, 1, 50, 0])[:, None, None, None]).astype(
        np.float32
    )
    made = quantized_weights(weights, 0)
    assert made.levels.dtype == np.int8
    assert (np.abs(made.levels.astype(int)).max(axis=(1, 2, 3)) == [127, 127, 127, 0]).all()
    assert made.scales[3] == 1
    back = made.levels * made.scales[:, None, None, None]
    assert (np.abs(back - weights) <= made.scales[:, None, None, None] * 0.501).all()
    across = quantized_weights(weights, 1)
    assert across.scales.shape == (6,)
    assert np.abs(quantized_weights(weights, 0, levels=64).levels).max() == 64


def test_a_bias_too_large_for_its_weights_makes_their_scale_larger() -> None:
    weights = np.full((2, 3, 1, 1), 1e-9, np.float32)
    bias = np.array([1.0, 0.0], np.float32)
    made = quantized_weights(weights, 0, least=least_weight_scales(bias, 1e-3))
    levels, scales = quantized_bias(bias, 1e-3, made.scales)
    np.testing.assert_allclose(levels * scales.astype(np.float64), bias, rtol=1e-6)
    # Without it, 32 bits would not hold the bias.
    assert 1.0 / (1e-3 * quantized_weights(weights, 0).scales[0]) > 2**31


@pytest.mark.parametrize("target", RULES)
def test_a_network_is_as_near_as_8_bits_allow_with_optimisations_and_without(target: str) -> None:
    model = model_of(NETWORK, CONSTANTS)
    made, _ = quantized(model, target)
    feeds = images(model, 4)
    expected = run(model, feeds)
    for optimize in (True, False):
        assert decibels(expected, run(made, feeds, optimize=optimize)) > LEAST_DECIBELS[target]


def test_one_convolution_is_within_the_sum_of_its_roundings() -> None:
    text = "g (float[N, 8, 6, 6] x) => (float[N, 12, 6, 6] y) { c = Conv (x, w, b)  y = Tanh (c) }"
    model = model_of(text, {"w": (12, 8, 1, 1), "b": (12,)})
    made, report = quantized(model, "ort")
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    x_scale, y_scale = report.quantizers["x"].scale, report.quantizers["c"].scale
    image = np.clip(
        images(model, 2)["x"], report.quantizers["x"].range.low, report.quantizers["x"].range.high
    )
    weights = numpy_helper.to_array(model.graph.initializer[0])[:, :, 0, 0]
    exact = (
        np.einsum("nchw,oc->nohw", image, weights)
        + numpy_helper.to_array(model.graph.initializer[1])[None, :, None, None]
    )
    found = tapped(made, "c_dequantized", image)
    scales = arrays["w_scale"].astype(np.float64)
    sums = np.abs(image).sum(axis=1, keepdims=True)
    rounding = (
        x_scale / 2 * (np.abs(weights).sum(1) + 8 * scales / 2)[None, :, None, None]
        + sums * scales[None, :, None, None] / 2
        + (x_scale * scales / 2)[None, :, None, None]
        + y_scale * 0.51
    )
    reach = report.quantizers["c"].range
    inside = (exact > reach.low) & (exact < reach.high)
    assert inside.mean() > 0.9
    assert (np.abs(found - exact)[inside] <= np.broadcast_to(rounding, exact.shape)[inside]).all()


def tapped(model: onnx.ModelProto, value: str, image: np.ndarray) -> np.ndarray:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
    return run(copy, {"x": image.astype(np.float32)})


@pytest.mark.parametrize(
    "fault", ["a scale off by 2", "a zero point off by 20", "a wrong axis", "a shifted bias"]
)
def test_planted_faults_are_seen_in_the_numbers(fault: str) -> None:
    model = model_of(NETWORK, CONSTANTS)
    made, _ = quantized(model, "ort")
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}

    def change(name: str, to: np.ndarray) -> None:
        tensors[name].CopyFrom(numpy_helper.from_array(to, name))

    match fault:
        case "a scale off by 2":
            change("t_scale", numpy_helper.to_array(tensors["t_scale"]) / np.float32(2))
        case "a zero point off by 20":
            old = numpy_helper.to_array(tensors["x_zero_point"])
            # At the DequantizeLinear alone: on both sides it would only move what saturates.
            made.graph.initializer.append(numpy_helper.from_array((old - 20).astype(np.uint8), "moved"))
            node = next(each for each in made.graph.node if each.output[0] == "x_dequantized")
            node.input[2] = "moved"
        case "a wrong axis":
            node = next(each for each in made.graph.node if each.output[0] == "cw_dequantized")
            node.attribute[0].i = 1
        case _:
            change("ab_quantized", np.roll(numpy_helper.to_array(tensors["ab_quantized"]), 1))
    feeds = images(model, 4)
    assert decibels(run(model, feeds), run(made, feeds, optimize=False)) < LEAST_DECIBELS["ort"] - 5


def test_reduced_weights_saturate_nowhere_and_cost_a_bit() -> None:
    model = model_of(NETWORK, CONSTANTS)
    made, _ = quantized(model, "ort", reduce_range=True)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim > 1]
    assert weights
    assert max(np.abs(array.astype(int)).max() for array in weights) == 64
    feeds = images(model, 4)
    assert decibels(run(model, feeds), run(made, feeds)) > LEAST_DECIBELS["ort"] - 7


def test_shared_weights_get_biases_of_their_own(tmp_path: Path) -> None:
    text = """g (float[N, 8, 4, 4] x) => (float[N, 8, 4, 4] y) {
        a = Conv (x, w, b)  r = Relu (a)  c = Conv (r, w, b)  y = Tanh (c)
    }"""
    model = model_of(text, {"w": (8, 8, 1, 1), "b": (8,)})
    made, _ = quantized(model, "ort")
    feeds = images(model)
    assert decibels(run(model, feeds), run(made, feeds)) > 20
    names = [tensor.name for tensor in made.graph.initializer]
    assert {"b_quantized", "b_quantized_2"} <= set(names)
    assert not {"w", "b"} & set(names)


def test_half_precision_graphs_get_scales_of_their_own_type_for_tensorrt() -> None:
    text = """g (float16[N, 8, 4, 4] x) => (float16[N, 4, 4, 4] y) {
        a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v)
    }"""
    rng = np.random.default_rng(0)
    constants = {
        name: rng.normal(size=shape).astype(np.float16)
        for name, shape in (("w", (8, 8, 1, 1)), ("b", (8,)), ("v", (4, 8, 1, 1)))
    }
    model = model_of(text, constants)
    draft = read(model)
    report = quantize(draft, dict.fromkeys(wanted(draft, "trt"), ValueRange(-3, 3)), "trt")
    assert {each.scale_dtype for each in report.quantizers.values()} == {ir.DataType.FLOAT16}
    scales = [value for name, value in draft.graph.initializers.items() if name.endswith("_scale")]
    assert {value.dtype for value in scales} == {ir.DataType.FLOAT16}
    old = read(model_of(text, constants, opset=18))
    ranges = dict.fromkeys(wanted(old, "trt"), ValueRange(-3, 3))
    with pytest.raises(CnnportError, match="float16 graph needs opset 19"):
        quantize(old, ranges, "trt")
    with pytest.raises(CnnportError, match="nothing in this graph"):
        wanted(read(model), "ort")


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_computes_its_file_in_integers(tmp_path: Path) -> None:
    model = model_of(NETWORK, CONSTANTS)
    made, report = quantized(model, "openvino")
    assert {each.dtype for each in report.quantizers.values()} == {ir.DataType.UINT8, ir.DataType.INT8}
    onnx.save(made, tmp_path / "made.onnx")
    artifact = read_artifact(tmp_path / "made.onnx")
    feeds = images(model, 4)
    runtime = get_runtime("openvino")
    with runtime.open(artifact, Options(threads=1)) as session:
        found = session.run(feeds)["y"]
    assert decibels(run(model, feeds), found) > LEAST_DECIBELS["openvino"] - 3
    placed = [name for counts in runtime.placement(artifact, Options()).values() for name in counts]
    assert any(name.startswith("Convolution") and "8" in name for name in placed)

"""Rounding by what the inputs are: better sums, levels within bounds, biases that take up the rest."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cnnport.calibration import InputMoments, input_moments
from cnnport.calibration.samples import Feeds
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.graphs.protos import read, write
from cnnport.graphs.quantize import faults, quantize, rounding, wanted
from cnnport.graphs.quantize.moments import unfolded_size
from cnnport.graphs.quantize.plan import name_of
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rounding import reconstructed
from quantize_graphs import (
    CONSTANTS,
    NETWORK,
    Array,
    Constants,
    decibels,
    images,
    model_of,
    ranges_of,
    run,
    session,
)

Numbers = NDArray[np.float64]


def correlated(groups: int, columns: int, *, rank: int, seed: int = 0) -> Numbers:
    """Second moments of inputs that mostly go along with each other."""
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(groups, 4 * columns, rank)) @ rng.normal(size=(groups, rank, columns))
    rows = few + 0.2 * rng.normal(size=(groups, 4 * columns, columns)) + 1
    return rows.swapaxes(1, 2) @ rows / (4 * columns)


def problem(groups: int, outputs: int, columns: int) -> tuple[Numbers, Numbers, NDArray[np.int8]]:
    """Weights, scales and nearest levels."""
    weights = np.random.default_rng(3).normal(size=(groups, outputs, columns))
    scales = np.abs(weights).max(axis=2) / 7
    return weights, scales, np.rint(weights / scales[:, :, None]).astype(np.int8)


def objective(levels: NDArray[np.int8], weights: Numbers, scales: Numbers, gram: Numbers) -> Numbers:
    error = levels * scales[:, :, None] - weights
    return np.einsum("goj,gjk,gok->go", error, gram, error)


@pytest.mark.parametrize(("groups", "outputs", "columns"), [(1, 24, 150), (1, 1, 70), (4, 6, 36), (32, 1, 9)])
def test_sums_change_far_less_and_for_no_channel_more(groups: int, outputs: int, columns: int) -> None:
    weights, scales, nearest = problem(groups, outputs, columns)
    gram = correlated(groups, columns, rank=max(columns // 8, 1))
    found = reconstructed(weights, scales, nearest, gram, 7)
    assert found.dtype == np.int8
    assert np.abs(found).max() <= 7
    before, after = (objective(each, weights, scales, gram) for each in (nearest, found))
    assert (after <= before).all()
    assert after.sum() < 0.4 * before.sum()
    # Each group by itself.
    for group in range(groups):
        alone = reconstructed(*(each[group : group + 1] for each in (weights, scales, nearest, gram)), 7)
        np.testing.assert_array_equal(alone[0], found[group])
    # By the inputs of something else it is worse than the nearest levels.
    other = reconstructed(weights, scales, nearest, np.roll(gram, columns // 2 + 1, axis=2).swapaxes(1, 2), 7)
    assert objective(other, weights, scales, gram).sum() > 0.8 * before.sum()


def test_inputs_that_have_nothing_to_do_with_each_other_leave_the_nearest() -> None:
    weights, scales, nearest = problem(2, 8, 90)
    identity = np.broadcast_to(np.eye(90), (2, 90, 90))
    np.testing.assert_array_equal(reconstructed(weights, scales, nearest, identity, 7), nearest)
    np.testing.assert_array_equal(reconstructed(weights, scales, nearest, 0 * identity, 7), nearest)
    different = identity * np.random.default_rng(0).uniform(0, 9, 90)
    np.testing.assert_array_equal(reconstructed(weights, scales, nearest, different, 7), nearest)


def test_it_is_what_the_inverse_of_the_gram_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The update of optimal brain quantisation as it is written: one column after the other leaves the inverse."""
    weights, scales, nearest = problem(1, 12, 80)
    gram = correlated(1, 80, rank=10)
    damped = gram[0] + rounding._DAMPING * np.diagonal(gram[0]).mean() * np.eye(80)
    order = np.argsort(-np.diagonal(gram[0]), kind="stable")
    left = weights[0].copy()
    expected = np.zeros(left.shape)
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    for place, column in enumerate(order):
        expected[:, column] = np.clip(np.rint(left[:, column] / scales[0]), -7, 7)
        off = (left[:, column] - expected[:, column] * scales[0]) / inverse[0, 0]
        left[:, order[place:]] -= off[:, None] * inverse[0]
        inverse = inverse[1:, 1:] - np.outer(inverse[1:, 0], inverse[0, 1:]) / inverse[0, 0]
    before, after = (objective(each, weights, scales, gram)[0] for each in (nearest, expected[None]))
    expected = np.where((after < before)[:, None], expected, nearest[0])
    found = reconstructed(weights, scales, nearest, gram, 7)[0]
    # A tie within the last digits of float64 may fall either way.
    assert (found == expected).mean() > 0.99
    monkeypatch.setattr(rounding, "_BLOCK", 7)
    np.testing.assert_array_equal(reconstructed(weights, scales, nearest, gram, 7)[0], found)


class Batch:
    """The rows of one batch."""

    description, key, is_random = "given", "k", True

    def __init__(self, feeds: Mapping[str, Array]) -> None:
        self._feeds = feeds

    def __len__(self) -> int:
        return len(self._feeds["x"])

    def name(self, place: int) -> str:
        return f"row {place}"

    def load(self, place: int) -> Feeds:
        return {name: array[place : place + 1] for name, array in self._feeds.items()}


def moments_of(
    model: onnx.ModelProto, feeds: Mapping[str, Array], *, gram: bool = True
) -> dict[str, InputMoments]:
    names = [name_of(node) for node in read(model).graph if unfolded_size(node)]
    return input_moments(model, Batch(feeds), names, gram=gram)


def means_of(found: Mapping[str, InputMoments]) -> dict[str, InputMoments]:
    return {name: InputMoments(each.mean) for name, each in found.items()}


def made_of(
    model: onnx.ModelProto,
    target: str,
    ranges: Mapping[str, ValueRange],
    moments: Mapping[str, InputMoments],
    *,
    reduce_range: bool = True,
) -> onnx.ModelProto:
    draft = read(model)
    quantize(draft, ranges, target, moments=moments, reduce_range=reduce_range)
    made = write(draft)
    onnx.checker.check_model(made, full_check=True)
    return made


PRODUCTS: dict[str, tuple[str, Constants]] = {
    "Conv": (
        "c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)",
        {"w": (12, 8, 3, 3), "b": (12,)},
    ),
    "Conv without a bias": ("c = Conv (x, w)", {"w": (12, 8, 3, 3)}),
    "depthwise": ("c = Conv <group = 8, pads = [1, 1, 1, 1]> (x, w, b)", {"w": (16, 1, 3, 3), "b": (16,)}),
    "Gemm": (
        "p = Flatten (x)  c = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (p, w, b)",
        {"w": (12, 800), "b": (1,)},
    ),
    "Gemm without a bias": ("p = Flatten (x)  c = Gemm (p, w)", {"w": (800, 12)}),
}


def exact_inputs() -> dict[str, Array]:
    """Whole numbers, which quantizers of scale 1 change nothing of; neighbours go along with each other."""
    rng = np.random.default_rng(2)
    coarse = rng.normal(size=(16, 2, 5, 5)).repeat(4, axis=1).repeat(2, axis=2).repeat(2, axis=3)
    numbers = 3 + 3 * coarse + rng.normal(size=(16, 8, 10, 10))
    return {"x": np.rint(numbers).clip(-30, 30).astype(np.float32)}


def error_of(model: onnx.ModelProto, made: onnx.ModelProto, feeds: Mapping[str, Array]) -> Array:
    """What the product gives, before anything is done with it, less what it should give: outputs x the rest."""
    found = []
    for each in (model, made):
        copy = onnx.ModelProto()
        copy.CopyFrom(each)
        del copy.graph.output[:]
        copy.graph.output.append(helper.make_empty_tensor_value_info("c"))
        found.append(session(copy, optimize=False).run(None, dict(feeds))[0])
    error: Array = np.moveaxis(found[1].astype(np.float64) - found[0], 1, 0)
    return error.reshape(len(error), -1)


@pytest.mark.parametrize("target", ["ort", "trt"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_biases_take_up_means_and_rounding_takes_up_sums(name: str, target: str) -> None:
    text, constants = PRODUCTS[name]
    dims = "N, O" if "Gemm" in name else "N, O, P, Q"
    model = model_of(f"g (float[N, 8, 10, 10] x) => (float[{dims}] y) {{ {text}  y = Tanh (c) }}", constants)
    feeds = exact_inputs()
    reach = {"ort": ValueRange(-127, 128), "trt": ValueRange(-127, 127)}[target]
    ranges = dict.fromkeys(wanted(read(model), target), ValueRange(-500, 500)) | {"x": reach, "p": reach}
    found = moments_of(model, feeds)
    plain = error_of(model, made_of(model, target, ranges, {}), feeds)
    moved = error_of(model, made_of(model, target, ranges, means_of(found)), feeds)
    rounded = error_of(model, made_of(model, target, ranges, found), feeds)
    # A bias in integers is itself rounded; the float sums of a test have seven digits.
    step = np.abs(numpy_helper.to_array(model.graph.initializer[0])).max() / 64 if target == "ort" else 0
    for each in (moved, rounded):
        assert np.abs(each.mean(axis=1)).max() < 0.51 * step + 1e-4
    assert np.abs(plain.mean(axis=1)).max() > 0.06
    assert np.square(moved).mean() < np.square(plain).mean()
    # Nine weights can do less for each other.
    assert np.square(rounded).mean() < (0.9 if name == "depthwise" else 0.5) * np.square(moved).mean()
    # Means of the wrong sign make it worse, and so does a gram whose columns are somebody else's.
    wrong = {key: InputMoments(-each.mean) for key, each in found.items()}
    assert np.abs(error_of(model, made_of(model, target, ranges, wrong), feeds).mean(axis=1)).max() > 0.1
    mixed = {}
    for key, each in found.items():
        places = np.random.default_rng(0).permutation(each.mean.shape[1])
        assert each.gram is not None
        mixed[key] = InputMoments(each.mean, each.gram[:, places][:, :, places])
    others = error_of(model, made_of(model, target, ranges, mixed), feeds)
    assert np.square(others).mean() > (1.05 if name == "depthwise" else 2) * np.square(rounded).mean()


def test_what_cannot_take_a_bias_is_left_without() -> None:
    text = "g (float[N, 8] x) => (float[N, 5] y) { y = MatMul (x, w) }"
    model = model_of(text, {"w": (8, 5)})
    feeds = images(model, 32)
    ranges = {"x": ValueRange(-9, 9)}
    for target in ("ort", "trt"):
        made = made_of(model, target, ranges, moments_of(model, feeds))
        assert [node.op_type for node in made.graph.node].count("MatMul") == 1
        assert len(made.graph.node[-1].input) == 2
    text = "g (float[N, 8, 4, 4] x) => (float[N, 5, 4, 4] y) { e = Exp (b)  y = Conv (x, w, e) }"
    model = model_of(text, {"w": (5, 8, 1, 1), "b": (5,)})
    made = made_of(model, "trt", ranges, moments_of(model, images(model, 32)))
    assert made.graph.node[-1].input[2] == "e"


@pytest.mark.parametrize("target", ["ort", "trt", "openvino"])
def test_a_network_comes_closer(target: str) -> None:
    model = model_of(NETWORK, CONSTANTS)
    seen, feeds = images(model, 64, seed=11), images(model, 32)
    ranges = ranges_of(model, wanted(read(model), target))
    found = moments_of(model, seen)
    expected = run(model, feeds)
    plain, means, grams = (
        decibels(expected, run(weights_only(made_of(model, target, ranges, given)), feeds, optimize=False))
        for given in ({}, means_of(found), found)
    )
    assert means > plain
    assert grams > plain + 4
    made = made_of(model, target, ranges, found)
    levels = [
        numpy_helper.to_array(each)
        for each in made.graph.initializer
        if each.data_type == onnx.TensorProto.INT8
    ]
    assert max(np.abs(each.astype(int)).max() for each in levels if each.ndim > 1) == 64
    assert decibels(expected, run(made, feeds)) > decibels(expected, run(made, feeds, optimize=False)) - 1
    if target == "trt":
        assert not faults(read(made))
    again = made_of(model, target, ranges, found)
    assert again.SerializeToString() == made.SerializeToString()


def weights_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same file without the quantizers of activations, about which nothing is done here."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    passed: dict[str, str] = {}
    kept = []
    for node in bare.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = passed.get(name, name)
        if node.op_type == "QuantizeLinear" or (
            node.op_type == "DequantizeLinear" and node.input[0] in passed.values()
        ):
            passed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del bare.graph.node[:]
    bare.graph.node.extend(kept)
    return bare


def test_moments_of_others_are_refused() -> None:
    model = model_of(NETWORK, CONSTANTS)
    ranges = ranges_of(model, wanted(read(model), "ort"))
    mean = np.zeros((1, 72))
    with pytest.raises(UnknownNameError, match="moments of 'nobody', and no node is called that"):
        made_of(model, "ort", ranges, {"nobody": InputMoments(mean)})
    with pytest.raises(CnnportError, match="are of 1 groups and 71 columns, but its weights of 1 and 72"):
        made_of(model, "ort", ranges, {"Conv_0": InputMoments(mean[:, :71])})
    with pytest.raises(CnnportError, match="are of 1 groups"):
        made_of(model, "ort", ranges, {"Conv_0": InputMoments(mean, np.zeros((1, 71, 71)))})
    draft = read(model)
    kept = quantize(draft, ranges, "ort", keep=["Conv_0"], moments={"Conv_0": InputMoments(mean)})
    assert isinstance(draft.graph, ir.Graph)
    assert "Conv_0" in {each.node for each in kept.left}

"""Equalisation: the same function before and after, even ranges, and what that does for 8 bits."""

from importlib import import_module

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs.protos import read, write
from cnnport.graphs.quantize.equalize import equalize
from fuzz.properties import Broken, hold
from fuzz.run import model_of as generated
from fuzz.run import subject_of
from quantize_graphs import Array, Constants, decibels, images, model_of, quantized, session

# The package has a function of the same name.
module = import_module("cnnport.graphs.quantize.equalize")

IMAGE, MAP, VECTOR = "float[N, 6, 10, 10] x", "float[N, O, P, Q] y", "float[N, O] y"
# Text, constants, output, and how many pairs there are.
EVEN: dict[str, tuple[str, Constants, str, int]] = {
    "two convolutions": (
        "a = Conv <pads = [1, 1, 1, 1]> (x, aw, ab)  r = Relu (a)  y = Conv <strides = [2, 2]> (r, bw, bb)",
        {"aw": (8, 6, 3, 3), "ab": (8,), "bw": (4, 8, 3, 3), "bb": (4,)},
        MAP,
        1,
    ),
    "a depthwise one in between": (
        """a = Conv (x, aw)  r = PRelu (a, slope)  d = Conv <group = 8, pads = [1, 1, 1, 1]> (r, dw, db)
        m = MaxPool <kernel_shape = [2, 2]> (d)  p = Pad (m, pads)  y = Conv (p, bw)""",
        {
            "aw": (8, 6, 1, 1),
            "slope": np.full((8, 1, 1), 0.1, np.float32),
            "dw": (8, 1, 3, 3),
            "db": (8,),
            "pads": np.array([0, 0, 1, 1, 0, 0, 0, 2]),
            "bw": (4, 8, 3, 3),
        },
        MAP,
        2,
    ),
    "groups": (
        """a = Conv <group = 2> (x, aw, ab)  r = LeakyRelu (a)
        b = Conv <group = 4> (r, bw)  i = Identity (b)  y = Conv <group = 2> (i, cw)""",
        {"aw": (8, 3, 3, 3), "ab": (8,), "bw": (12, 2, 1, 1), "cw": (4, 6, 3, 3)},
        MAP,
        2,
    ),
    "a classifier on means": (
        """a = Conv (x, aw, ab)  r = Relu (a)  g = GlobalAveragePool (r)  f = Flatten (g)
        h = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (f, hw, hb)  t = Relu (h)  y = MatMul (t, yw)""",
        {"aw": (8, 6, 3, 3), "ab": (8,), "hw": (5, 8), "hb": (5,), "yw": (5, 3)},
        VECTOR,
        2,
    ),
    "a classifier on pixels": (
        """a = Conv (x, aw)  v = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a)
        f = Flatten (v)  h = Gemm (f, hw)  t = Relu (h)  y = Gemm (t, yw, yb)""",
        {"aw": (8, 6, 3, 3), "hw": (128, 5), "yw": (5, 3), "yb": np.ones((1, 1), np.float32)},
        VECTOR,
        2,
    ),
    "a reshape": (
        "a = Conv (x, aw, ab)  f = Reshape (a, to)  y = MatMul (f, hw)",
        {"aw": (4, 6, 3, 3), "ab": (4,), "to": np.array([0, -1]), "hw": (256, 3)},
        VECTOR,
        1,
    ),
}
CONV: Constants = {
    "aw": (8, 6, 3, 3),
    "ab": (8,),
    "bw": (4, 8, 3, 3),
    "six": np.float32(6),
    "zero": np.float32(0),
}
LEFT: dict[str, tuple[str, Constants]] = {
    "Relu6": ("a = Conv (x, aw, ab)  r = Clip (a, zero, six)  y = Conv (r, bw)", CONV),
    "Sigmoid": ("a = Conv (x, aw, ab)  r = Sigmoid (a)  y = Conv (r, bw)", CONV),
    "HardSwish": ("a = Conv (x, aw, ab)  r = HardSwish (a)  y = Conv (r, bw)", CONV),
    "read twice": (
        "a = Conv (x, aw, ab)  r = Relu (a)  b = Conv (r, bw)  c = Conv (r, bw)  y = Add (b, c)",
        CONV,
    ),
    "a sum": ("a = Conv (x, aw, ab)  c = Conv (x, aw)  s = Add (a, c)  y = Conv (s, bw)", CONV),
    "padding that is not zero": (
        "a = Conv (x, aw, ab)  r = Pad (a, pads, six)  y = Conv (r, bw)",
        {**CONV, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
    ),
    "padding with channels": (
        "a = Conv (x, aw, ab)  r = Pad (a, pads)  y = Conv (r, bw)",
        {**CONV, "pads": np.array([0, 1, 0, 0, 0, 1, 0, 0]), "bw": (4, 10, 3, 3)},
    ),
    "channels mixed": (
        "a = Conv (x, aw, ab)  r = Reshape (a, to)  y = Conv (r, bw)",
        {**CONV, "to": np.array([0, 16, 4, 8]), "bw": (4, 16, 3, 3)},
    ),
    "a bias that is computed": ("e = Exp (ab)  a = Conv (x, aw, e)  y = Conv (a, bw)", CONV),
}


def uneven(text: str, constants: Constants, outputs: str = MAP) -> onnx.ModelProto:
    """A graph whose weights differ from output channel to output channel, and from input to input."""
    model = model_of(f"g ({IMAGE}) => ({outputs}) {{ {text} }}", constants)
    rng = np.random.default_rng(5)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name.endswith("w"):
            array = array * np.exp2(rng.integers(-4, 5, (len(array), *[1] * (array.ndim - 1))))
            array = array * np.exp2(rng.integers(-4, 5, (1, array.shape[1], *[1] * (array.ndim - 2))))
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    return model


def equalized(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    draft = read(model)
    count = equalize(draft)
    made = write(draft)
    onnx.checker.check_model(made, full_check=True)
    return made, count


def difference(model: onnx.ModelProto, made: onnx.ModelProto) -> float:
    """Greatest, of all outputs, of their standard deviations."""
    feeds = images(model, 3)
    pairs = zip(*(session(each, optimize=False).run(None, feeds) for each in (model, made)), strict=True)
    return max(float(np.abs(one - other).max() / one.std()) for one, other in pairs)


def arrays(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def largest(array: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    return np.abs(array).max(axis=tuple(each for each in range(array.ndim) if each != axis))


@pytest.mark.parametrize("name", EVEN)
def test_it_computes_the_same_and_is_done_after_once(name: str) -> None:
    text, constants, outputs, pairs = EVEN[name]
    model = uneven(text, constants, outputs)
    made, count = equalized(model)
    assert count == pairs
    assert difference(model, made) < 2e-5
    assert [node.output for node in made.graph.node] == [node.output for node in model.graph.node]
    assert sorted(arrays(made)) == sorted(arrays(model))
    assert equalized(made)[1] == 0
    assert equalized(model)[0].SerializeToString() == made.SerializeToString()


def test_ranges_are_even_afterwards() -> None:
    found = {name: arrays(equalized(uneven(*EVEN[name][:3]))[0]) for name in EVEN}
    plain = found["two convolutions"]
    np.testing.assert_allclose(largest(plain["aw"], 0), largest(plain["bw"], 1), rtol=1e-5)
    chain = found["a depthwise one in between"]
    np.testing.assert_allclose(largest(chain["aw"], 0), largest(chain["dw"], 0), rtol=1e-2)
    np.testing.assert_allclose(largest(chain["dw"], 0), largest(chain["bw"], 1), rtol=1e-2)
    pixels = found["a classifier on pixels"]
    features = np.abs(pixels["hw"]).reshape(8, 16, 5).max(axis=(1, 2))
    np.testing.assert_allclose(largest(pixels["aw"], 0), features, rtol=1e-2)
    groups = found["groups"]
    read_by = np.concatenate([largest(part, 1) for part in np.split(groups["bw"], 4)])
    np.testing.assert_allclose(largest(groups["aw"], 0), read_by, rtol=1e-2)
    # Alpha is a part of the weights.
    means = found["a classifier on means"]
    np.testing.assert_allclose(largest(means["aw"], 0), 0.5 * largest(means["hw"], 1), rtol=1e-2)
    before = arrays(uneven(*EVEN["two convolutions"][:2]))
    assert np.ptp(np.log2(largest(before["aw"], 0) / largest(before["bw"], 1))) > 4


def test_generated_networks_compute_the_same_and_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> int:
        fired = 0
        for case in range(40):
            subject = subject_of(generated(7, case))
            fired += equalize(read(subject.model)) > 0
            hold(subject, [equalize])
        return fired

    assert check() > 6
    monkeypatch.setattr(module, "below", lambda _node, affine, _opset: affine)
    with pytest.raises(Broken):
        check()


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_homogeneous_stays(name: str) -> None:
    model = uneven(*LEFT[name])
    made, count = equalized(model)
    assert count == 0
    assert made.SerializeToString() == write(read(model)).SerializeToString()


def test_a_function_that_is_not_homogeneous_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_pads_space", lambda *_: True)
    model = uneven(*LEFT["Relu6"])
    made, count = equalized(model)
    assert count == 1
    assert difference(model, made) > 1e-2


def test_what_others_read_is_not_changed_for_them() -> None:
    text = """a = Conv (x, aw, ab)  r = Relu (a)  y = Conv (r, bw)  z = Conv (x, aw, ab)
    c = Conv (x, aw)  s = Relu (c)  q = Conv <pads = [1, 1, 1, 1]> (s, bw)"""
    model = uneven(text, CONV, ", ".join(MAP.replace("y", name) for name in "yzq"))
    made, count = equalized(model)
    assert count == 2
    assert difference(model, made) < 2e-5
    np.testing.assert_array_equal(arrays(made)["aw"], arrays(model)["aw"])
    assert {"aw_equalized", "aw_equalized_2"} <= set(arrays(made))
    # Both sides of a pair are one initializer.
    same = uneven("a = Conv (x, cw)  r = Relu (a)  y = Conv (r, cw)", {"cw": (6, 6, 3, 3)})
    made, count = equalized(same)
    assert count == 1
    assert difference(same, made) < 2e-5


def test_what_is_seen_from_outside_stays() -> None:
    given_out = uneven(
        "a = Conv (x, aw, ab)  r = Relu (a)  y = Conv (r, bw)", CONV, f"{MAP}, float[N, 8, 8, 8] r"
    )
    assert equalized(given_out)[1] == 0
    by_caller = uneven("a = Conv (x, aw, ab)  r = Relu (a)  y = Conv (r, bw)", CONV)
    by_caller.graph.input.append(helper.make_tensor_value_info("bw", TensorProto.FLOAT, [4, 8, 3, 3]))
    assert equalized(by_caller)[1] == 0


def test_channels_without_weights_stay() -> None:
    model = uneven("a = Conv (x, aw, ab)  r = Relu (a)  y = Conv (r, bw)", CONV)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by, read_by = arrays(model)["aw"].copy(), arrays(model)["bw"].copy()
    made_by[2], read_by[:, 5] = 0, 0
    for name, array in (("aw", made_by), ("bw", read_by)):
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    made, count = equalized(model)
    assert count == 1
    assert difference(model, made) < 2e-5
    for channel in (2, 5):
        np.testing.assert_array_equal(arrays(made)["aw"][channel], made_by[channel])
        np.testing.assert_array_equal(arrays(made)["bw"][:, channel], read_by[:, channel])
        assert arrays(made)["ab"][channel] == arrays(model)["ab"][channel]


def switched_off() -> onnx.ModelProto:
    """Channels of the same size, but for one whose weights are next to nothing and whose bias is not."""
    model = model_of(
        f"g ({IMAGE}) => ({MAP}) {{ a = Conv (x, aw, ab)  r = Relu (a)  y = Conv (r, bw) }}", CONV
    )
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights, bias = arrays(model)["aw"].copy(), arrays(model)["ab"].copy()
    weights[3] *= 1e-7
    bias[3] = 0.5
    for name, array in (("aw", weights), ("ab", bias)):
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("target", ["ort", "trt"])
def test_biases_do_not_explode(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = switched_off()
    feeds = images(model, 8)
    (expected,) = session(model).run(None, feeds)

    def quality(model: onnx.ModelProto) -> float:
        made, _ = quantized(model, target)
        return decibels(expected, session(made, optimize=False).run(None, feeds)[0])

    bounded, _ = equalized(model)
    assert np.abs(arrays(bounded)["ab"]).max() < 2
    assert quality(bounded) > quality(model) - 1
    monkeypatch.setattr(module, "_MOST_TIMES", 1e9)
    free, _ = equalized(model)
    assert difference(model, free) < 1e-3
    assert np.abs(arrays(free)["ab"]).max() > 100
    assert quality(free) < quality(bounded) - 10


@pytest.mark.parametrize("target", ["ort", "trt"])
def test_a_planted_imbalance_is_repaired(target: str) -> None:
    """Channels of which some are a thousand times as large as others, between layers that make up for it."""
    text = """a = Conv <pads = [1, 1, 1, 1]> (x, aw, ab)  r = Relu (a)
    d = Conv <group = 16, pads = [1, 1, 1, 1]> (r, dw, db)  s = Relu (d)  b = Conv (s, bw, bb)  y = Tanh (b)"""
    shapes: Constants = {
        "aw": (16, 6, 3, 3),
        "ab": (16,),
        "dw": (16, 1, 3, 3),
        "db": (16,),
        "bw": (8, 16, 1, 1),
        "bb": (8,),
    }
    model = model_of(f"g ({IMAGE}) => ({MAP}) {{ {text} }}", shapes)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    factors = np.geomspace(1, 1000, 16)
    first, second = (
        np.random.default_rng(0).permutation(factors),
        np.random.default_rng(1).permutation(factors),
    )
    planted = {
        "aw": arrays(model)["aw"] * first[:, None, None, None],
        "ab": arrays(model)["ab"] * first,
        "dw": arrays(model)["dw"] * (second / first)[:, None, None, None],
        "db": arrays(model)["db"] * second,
        "bw": arrays(model)["bw"] / second[None, :, None, None],
    }
    even = onnx.ModelProto()
    even.CopyFrom(model)
    for name, array in planted.items():
        tensors[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    assert difference(even, model) < 2e-5
    feeds = images(model, 8)
    (expected,) = session(model).run(None, feeds)

    def quality(model: onnx.ModelProto) -> float:
        made, _ = quantized(model, target)
        return decibels(expected, session(made, optimize=False).run(None, feeds)[0])

    repaired, count = equalized(model)
    assert count == 2
    assert quality(repaired) > quality(model) + 8
    assert quality(repaired) > quality(even) - 3

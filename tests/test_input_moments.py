"""Moments of the inputs of products, against loops over every position."""

import itertools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cnnport.calibration import InputMoments, input_moments, moments
from cnnport.calibration.samples import Feeds
from cnnport.errors import CheckFailedError, CnnportError, ImageError, UnknownNameError
from quantize_graphs import Array, Constants, model_of

INPUT = (4, 9, 10)


class Given:
    """Seeded normal numbers, around a mean for each channel."""

    description, key, is_random = "given", "k", True

    def __init__(
        self, count: int, load: Callable[[int], Feeds] | None = None, shape: tuple[int, ...] = INPUT
    ) -> None:
        self._count, self._shape, self._load = count, shape, load

    def __len__(self) -> int:
        return self._count

    def name(self, place: int) -> str:
        return f"sample {place}"

    def load(self, place: int) -> Feeds:
        return self._load(place) if self._load else self.make(place)

    def make(self, place: int) -> Feeds:
        rng = np.random.default_rng(place)
        means = np.arange(self._shape[0]).reshape(-1, *[1] * (len(self._shape) - 1))
        return {"x": (rng.normal(size=(1, *self._shape)) + means).astype(np.float32)}


def network(
    node: str, constants: Constants, *, shape: tuple[int, ...] = INPUT, batch: int | str = "N"
) -> onnx.ModelProto:
    """One product behind an Identity, named p."""
    output = ", ".join("NCDHW"[: 2 if node.startswith("Gemm") else len(shape) + 1])
    sizes = ", ".join(map(str, (batch, *shape)))
    made = model_of(
        f"g (float[{sizes}] x) => (float[{output}] y) {{ i = Identity (x)  y = {node} }}", constants
    )
    made.graph.node[1].name = "p"
    return made


def by_loop(
    found: Array,
    kernel: tuple[int, ...],
    *,
    groups: int = 1,
    strides: tuple[int, ...] = (1, 1, 1),
    dilations: tuple[int, ...] = (1, 1, 1),
    pads: tuple[tuple[int, int], ...] = ((0, 0),) * 3,
) -> InputMoments:
    """The definition: for every position the numbers that every tap meets, 0 where there are none."""
    dims = len(kernel)
    space, channels = found.shape[2:], found.shape[1] // groups
    sizes = [
        (space[axis] + sum(pads[axis]) - (kernel[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1
        for axis in range(dims)
    ]
    means, grams = [], []
    for group in range(groups):
        columns = []
        for one in found:
            for position in itertools.product(*map(range, sizes)):
                column = []
                for channel in range(group * channels, (group + 1) * channels):
                    for tap in itertools.product(*map(range, kernel)):
                        place = tuple(
                            position[axis] * strides[axis] + tap[axis] * dilations[axis] - pads[axis][0]
                            for axis in range(dims)
                        )
                        inside = all(0 <= at < size for at, size in zip(place, space, strict=True))
                        column.append(float(one[(channel, *place)]) if inside else 0.0)
                columns.append(column)
        rows = np.array(columns)
        means.append(rows.mean(axis=0))
        grams.append(rows.T @ rows / len(rows))
    return InputMoments(np.array(means), np.array(grams))


def off(found: InputMoments, expected: InputMoments) -> float:
    """Greatest difference, of the greatest number."""
    assert found.gram is not None
    assert expected.gram is not None
    assert found.mean.shape == expected.mean.shape
    assert found.gram.shape == expected.gram.shape
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in ((found.mean, expected.mean), (found.gram, expected.gram))
    )


CASES = {
    "Conv (i, w)": ((5, 4, 1, 1), {}),
    "Conv <strides = [2, 3], pads = [1, 0, 2, 1]> (i, w)": (
        (5, 4, 3, 2),
        {"strides": (2, 3), "pads": ((1, 2), (0, 1))},
    ),
    "Conv <dilations = [2, 1], pads = [2, 1, 2, 1], group = 2> (i, w)": (
        (6, 2, 3, 3),
        {"dilations": (2, 1), "pads": ((2, 2), (1, 1)), "groups": 2},
    ),
    "Conv <group = 4, strides = [2, 2], pads = [1, 1, 1, 1]> (i, w)": (
        (8, 1, 3, 3),
        {"groups": 4, "strides": (2, 2), "pads": ((1, 1), (1, 1))},
    ),
    'Conv <auto_pad = "SAME_UPPER", strides = [2, 3]> (i, w)': (
        (5, 4, 4, 3),
        {"strides": (2, 3), "pads": ((1, 2), (1, 1))},
    ),
    'Conv <auto_pad = "SAME_LOWER", strides = [1, 3]> (i, w)': (
        (5, 4, 2, 2),
        {"strides": (1, 3), "pads": ((1, 0), (1, 0))},
    ),
    'Conv <auto_pad = "VALID"> (i, w)': ((5, 4, 2, 2), {}),
}


@pytest.mark.parametrize("node", CASES)
def test_convolutions_are_unfolded_as_they_are_defined(node: str) -> None:
    shape, way = CASES[node]
    found = input_moments(network(node, {"w": shape}), Given(3), ["p"], gram=True)["p"]
    images = np.concatenate([Given(3).load(place)["x"] for place in range(3)])
    assert off(found, by_loop(images, shape[2:], **way)) < 1e-5
    assert found.mean.dtype == np.float64
    # What differs by one tap or one zero is seen.
    for wrong in ({"strides": (3, 2)}, {"dilations": (1, 1)}, {"pads": ((0, 0), (0, 0))}):
        changed = {**way, **wrong}
        if changed != way and way.keys() & wrong.keys():
            assert off(found, by_loop(images, shape[2:], **changed)) > 1e-2


def test_other_dimensions_and_matrices() -> None:
    line = (4, 12)
    made = network("Conv <pads = [1, 1], strides = [2]> (i, w)", {"w": (3, 4, 3)}, shape=line)
    found = input_moments(made, Given(3, shape=line), ["p"], gram=True)["p"]
    rows = np.concatenate([Given(3, shape=line).load(place)["x"] for place in range(3)])
    assert off(found, by_loop(rows, (3,), strides=(2,), pads=((1, 1),))) < 1e-5
    block = (2, 4, 3, 4)
    made = network("Conv <pads = [1, 0, 0, 0, 0, 1]> (i, w)", {"w": (3, 2, 2, 1, 3)}, shape=block)
    found = input_moments(made, Given(2, shape=block), ["p"], gram=True)["p"]
    blocks = np.concatenate([Given(2, shape=block).load(place)["x"] for place in range(2)])
    assert off(found, by_loop(blocks, (2, 1, 3), pads=((1, 0), (0, 0), (0, 1)))) < 1e-5
    features = (7,)
    vectors = np.concatenate([Given(9, shape=features).load(place)["x"] for place in range(9)])
    expected = InputMoments(vectors.mean(0)[None], (vectors.T @ vectors / 9)[None])
    for node, shape in (
        ("Gemm (i, w)", (7, 3)),
        ("Gemm <transB = 1> (i, w)", (3, 7)),
        ("MatMul (i, w)", (7, 3)),
    ):
        made = network(node, {"w": shape}, shape=features)
        found = input_moments(made, Given(9, shape=features), ["p"], gram=True)["p"]
        assert off(found, expected) < 1e-5
    table = (5, 7)
    made = network("MatMul (i, w)", {"w": (7, 3)}, shape=table)
    found = input_moments(made, Given(2, shape=table), ["p"], gram=True)["p"]
    rows = np.concatenate([Given(2, shape=table).load(place)["x"][0] for place in range(2)])
    assert off(found, InputMoments(rows.mean(0)[None], (rows.T @ rows / 10)[None])) < 1e-5


def test_some_positions_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = (4, 60, 60)
    model = network("Conv <pads = [1, 1, 1, 1]> (i, w)", {"w": (3, 4, 3, 3)}, shape=wide)
    samples = Given(4, shape=wide)
    monkeypatch.setattr(moments, "_LEAST_POSITIONS", 10**9)
    every = input_moments(model, samples, ["p"], gram=True)["p"]
    monkeypatch.setattr(moments, "_LEAST_POSITIONS", 2000)
    some = input_moments(model, samples, ["p"], gram=True)["p"]
    np.testing.assert_array_equal(some.mean, every.mean)
    assert 1e-4 < off(some, every) < 0.1
    assert some.gram is not None
    assert np.linalg.eigvalsh(some.gram[0]).min() > 0
    again = input_moments(model, samples, ["p"], gram=True)["p"]
    np.testing.assert_array_equal(again.gram, some.gram)


def test_chosen_places_are_even_and_differ() -> None:
    rng = np.random.default_rng(0)
    first, second = (moments._spread(1000, 30, rng) for _ in range(2))
    assert (np.searchsorted(np.arange(31) * 1000 // 30, first, side="right") == np.arange(1, 31)).all()
    assert (first != second).any()
    assert (moments._spread(20, 30, rng) == np.arange(20)).all()


def chain() -> onnx.ModelProto:
    """Products of which one reads what another writes, by two runs if there is little memory."""
    text = """g (float[N, 4, 9, 10] x) => (float[N, 3] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, aw)  r = Relu (a)
        d = Conv <group = 8> (r, dw)  t = ConvTranspose (d, tw)  v = GlobalAveragePool (t)
        f = Flatten (v)  y = Gemm (f, hw)
    }"""
    return model_of(text, {"aw": (8, 4, 3, 3), "dw": (8, 1, 3, 3), "tw": (8, 5, 2, 2), "hw": (5, 3)})


NAMES = ("Conv_0", "Conv_2", "ConvTranspose_3", "Gemm_6")


def test_memory_is_bounded_by_taking_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    progress: list[tuple[int, int]] = []
    together = input_moments(chain(), Given(20), NAMES, gram=True)
    assert list(together) == ["Conv_0", "Conv_2", "Gemm_6"]
    monkeypatch.setattr(moments, "_SUMS_BYTES", 1)
    monkeypatch.setattr(moments, "_MOST_WAITING", 7)
    apart = input_moments(
        chain(), Given(20), NAMES, gram=True, on_progress=lambda *done: progress.append(done)
    )
    assert all(off(apart[name], found) < 1e-5 for name, found in together.items())
    assert progress == sorted(progress)
    assert progress[-1] == (60, 60)
    assert off(apart["Conv_0"], InputMoments(apart["Conv_0"].mean, 1.1 * together["Conv_0"].gram)) > 1e-2
    monkeypatch.setattr(moments, "MOST_COLUMNS", 10)
    few = input_moments(chain(), Given(20), NAMES, gram=True)
    assert [name for name, found in few.items() if found.gram is None] == ["Conv_0"]


def test_a_fixed_batch_is_filled_up_and_what_fills_it_does_not_count() -> None:
    node, constants = "Conv <pads = [1, 1, 1, 1]> (i, w)", {"w": (5, 4, 3, 3)}
    expected = input_moments(network(node, constants), Given(5), ["p"], gram=True)["p"]
    for batch in (1, 3):
        found = input_moments(network(node, constants, batch=batch), Given(5), ["p"], gram=True)["p"]
        assert off(found, expected) < 1e-5
    fewer = input_moments(network(node, constants), Given(5), ["p"], count=3, gram=True)["p"]
    assert off(fewer, input_moments(network(node, constants), Given(3), ["p"], gram=True)["p"]) < 1e-5
    assert off(fewer, expected) > 1e-3


def test_samples_that_cannot_be_read_are_left_out() -> None:
    def broken(place: int) -> Feeds:
        if place in {0, 3}:
            raise ImageError(f"sample {place} is no picture")
        return Given(5).make(place)

    found = input_moments(chain(), Given(5, broken), ["Conv_0"])["Conv_0"]
    images = np.concatenate([Given(5).make(place)["x"] for place in (1, 2, 4)])
    padded = by_loop(images, (3, 3), pads=((1, 1), (1, 1)))
    np.testing.assert_allclose(found.mean, padded.mean, rtol=1e-5, atol=1e-6)
    assert found.gram is None

    def nothing(place: int) -> Feeds:
        raise ImageError("no picture")

    with pytest.raises(CnnportError, match="none of the 5 samples can be read: no picture"):
        input_moments(chain(), Given(5, nothing), ["Conv_0"])


def test_wrong_usage_is_clear() -> None:
    with pytest.raises(UnknownNameError, match="no node is called 'Conv_9'"):
        input_moments(chain(), Given(1), ["Conv_9"])
    with pytest.raises(CnnportError, match="Relu Relu_1 is no product"):
        input_moments(chain(), Given(1), ["Relu_1"])
    computed = chain()
    computed.graph.input.append(helper.make_tensor_value_info("aw", TensorProto.FLOAT, [8, 4, 3, 3]))
    with pytest.raises(CnnportError, match="Conv Conv_0 is no product"):
        input_moments(computed, Given(1), ["Conv_0"])

    def infinite(place: int) -> Feeds:
        numbers: NDArray[np.float32] = Given(1).make(place)["x"].astype(np.float32)
        numbers[0, 0, 0, 0] = np.inf
        return {"x": numbers}

    with pytest.raises(CheckFailedError, match="'x' becomes NaN or infinite for sample 0"):
        input_moments(chain(), Given(1, infinite), ["Conv_0"])

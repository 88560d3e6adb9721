"""The run over the data: what it finds is exact, the same however it is cut up, and bounded in memory."""

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cnnport.calibration import Calibration, calibrate
from cnnport.calibration.prepare import prepare
from cnnport.calibration.samples import Feeds
from cnnport.errors import (
    ArtifactError,
    CheckFailedError,
    CnnportError,
    FeedError,
    ImageError,
    UnknownNameError,
)

Load = Callable[[int], Feeds]


class Given:
    """Samples out of a function, which count how often they are loaded."""

    description, is_random = "given", False

    def __init__(
        self, count: int, load: Load | None = None, *, shape: tuple[int, ...] = (3, 67, 64), key: str = "k"
    ):
        self.count, self.key, self.shape, self.loads = count, key, shape, 0
        self._load = load or self.make

    def __len__(self) -> int:
        return self.count

    def name(self, place: int) -> str:
        return f"sample {place}"

    def load(self, place: int) -> Feeds:
        self.loads += 1
        return self._load(place)

    def make(self, place: int) -> Feeds:
        """Whole numbers, with which float32 is exact in any order."""
        numbers = np.random.default_rng(place).integers(-3, 4, (1, *self.shape))
        return {"x": numbers.astype(np.float32)}


def network(
    *,
    batch: int | str = "batch",
    size: tuple[int | str, int | str] = ("height", "width"),
    nodes: list[onnx.NodeProto] | None = None,
    output: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Three convolutions: wide maps with and without Relu, maps of an odd number of channels, and a vector."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.integers(-2, 3, (16, 3, 3, 3)),
        "w2": rng.integers(-2, 3, (32, 16, 1, 1)),
        "w3": rng.integers(-2, 3, (5, 32, 1, 1)),
    }
    nodes = nodes or [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"]),
        helper.make_node("MaxPool", ["c2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w3"], ["c3"]),
        helper.make_node("GlobalMaxPool", ["c3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, *size])],
        [helper.make_tensor_value_info(nodes[-1].output[0], output, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


VALUES = ["x", "c1", "r1", "c2", "p", "c3", "y"]


def plain(model: onnx.ModelProto, samples: Given) -> dict[str, NDArray[np.float32]]:
    """Every value for all samples, by the standard's own definitions."""
    from onnx.reference import ReferenceEvaluator

    told = onnx.ModelProto()
    told.CopyFrom(model)
    del told.graph.output[:]
    told.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in VALUES[1:])
    feeds = np.concatenate([samples.make(place)["x"] for place in range(len(samples))])
    return {
        "x": feeds,
        **dict(zip(VALUES[1:], ReferenceEvaluator(told).run(None, {"x": feeds}), strict=True)),
    }


def ends(found: Calibration) -> dict[str, tuple[float, float]]:
    return {name: (known.low, known.high) for name, known in found.statistics.items()}


# ---- What is found


def test_least_and_greatest_are_exact_and_the_sample_is_even(tmp_path: Path) -> None:
    model, samples = network(), Given(6)
    found = calibrate(model, samples, cache=False)
    expected = plain(model, samples)
    assert ends(found) == {
        name: (0.0 if name == "r1" else float(values.min()), float(values.max()))
        for name, values in expected.items()
    }
    assert found.count == 6
    for name, values in expected.items():
        known = found.statistics[name].histogram
        # Of values that are looked at inside the graph, a part is counted.
        assert (known.total < values.size) == (name in {"c1", "r1", "c2", "p"})
        assert known.total >= min(values.size, 6 * 7_000)
        points = np.percentile(values, [10, 30, 50, 70, 90])
        below = known.densities().below(points + 0.5) / known.total
        assert below == pytest.approx([np.mean(values < point + 0.5) for point in points], abs=0.02)
    # The large ones do not leave the graph.
    prepared = prepare(model, samples, None, tmp_path)
    assert {tap.value for tap in prepared.taps if tap.whole is None} == {"c1", "r1", "c2", "p"}
    assert [tap.value for tap in prepared.taps if tap.least is None and tap.whole is None] == ["r1"]


@pytest.mark.parametrize("place", [(0, 0), (0, 63), (66, 0), (66, 63), (30, 31)])
def test_one_pixel_is_never_missed(place: tuple[int, int]) -> None:
    """Also where the map does not divide into cells."""

    def spike(number: float) -> Given:
        def load(index: int) -> Feeds:
            image = np.zeros((1, 3, 67, 64), np.float32)
            image[0, 1, place[0], place[1]] = number if index == 3 else 0
            return {"x": image}

        return Given(5, load)

    nodes = [
        helper.make_node("Concat", ["x"] * 16, ["wide"], axis=1),
        helper.make_node("Log", ["wide"], ["log"]),
        helper.make_node("Mul", ["wide", "wide"], ["square"]),
        helper.make_node("Exp", ["square"], ["y"]),
    ]
    model = network(nodes=[nodes[0], nodes[2], nodes[3]])
    found = calibrate(model, spike(-7), ["wide", "square"], cache=False)
    assert ends(found) == {"wide": (-7.0, 0.0), "square": (0.0, 49.0)}
    with pytest.raises(CheckFailedError, match="value 'y' becomes NaN or infinite for sample 0 to sample 4"):
        calibrate(model, spike(99), cache=False)
    # NaN, which maxima may pass over.
    positive = Given(2, lambda _: {"x": abs(spike(-7).load(3)["x"]) * -2 + 1})
    with pytest.raises(CheckFailedError, match="value 'log' becomes NaN"):
        calibrate(network(nodes=nodes[:2]), positive, ["log", "wide"], cache=False)


def test_any_batch_gives_the_same() -> None:
    samples = Given(5)
    expected = calibrate(network(), samples, cache=False)
    for batch in (1, 2, 3):
        found = calibrate(network(batch=batch, size=(67, 64)), samples, cache=False)
        # What fills a fixed batch up is not counted.
        assert found.to_bytes() == expected.to_bytes()


def test_a_file_and_its_model_are_the_same(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "model.onnx")
    model = network()
    before = model.SerializeToString()
    assert (
        calibrate(tmp_path / "model.onnx", Given(2), cache=False).to_bytes()
        == calibrate(model, Given(2), cache=False).to_bytes()
    )
    assert model.SerializeToString() == before


def test_shards_merge_to_one_pass() -> None:
    every = Given(8)
    shards = [Given(4), Given(4, lambda place: every.make(place + 4))]
    first, second = (calibrate(network(), shard, cache=False) for shard in shards)
    whole = calibrate(network(), every, cache=False)
    assert first.merged(second).to_bytes() == whole.to_bytes()
    assert first.merged(first).to_bytes() != whole.to_bytes()


# ---- What is kept


def test_a_run_that_was_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path))

    fixed = network(batch=4, size=(67, 64))

    def killed(place: int) -> Feeds:
        if place == 13:
            raise KeyboardInterrupt
        if place in {2, 9}:
            raise ImageError(f"picture {place} is damaged")
        return Given(1).make(place)

    def whole(place: int) -> Feeds:
        return Given(1).make(13) if place == 13 else killed(place)

    with pytest.raises(KeyboardInterrupt):
        calibrate(fixed, Given(22, killed), save_every_s=0)
    rest = Given(22, whole)
    progress: list[tuple[int, int]] = []
    found = calibrate(fixed, rest, save_every_s=0, on_progress=lambda *done: progress.append(done))
    expected = calibrate(fixed, Given(22, whole), cache=False)
    assert found.to_bytes() == expected.to_bytes()
    # One sample settles the sizes.
    assert rest.loads == 1 + 10
    assert progress == [(12, 22), (16, 22), (20, 22), (22, 22)]
    assert [entry.name for entry in found.skipped] == ["sample 2", "sample 9"]
    assert found.count == 20


def test_the_cache_holds_what_it_is_asked_for_and_only_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path))

    def loads(model: onnx.ModelProto, values: list[str] | None = None, **more: str) -> int:
        samples = Given(3, **more)
        found = calibrate(model, samples, values)
        assert ends(found).items() <= ends(first).items()
        return samples.loads - 1

    first = calibrate(network(), Given(3), cache=False)
    assert [loads(network()) for _ in range(3)] == [3, 0, 0]
    named = network()
    named.doc_string, named.producer_name = "other words", "somebody"
    assert loads(named) == 0
    assert loads(network(), ["c1", "x"]) == 3
    assert loads(network(), ["x", "c1"]) == 0
    assert loads(network(), key="other") == 3
    other = network()
    other.graph.initializer[2].raw_data = other.graph.initializer[2].raw_data[:-4] + np.float32(9).tobytes()
    samples = Given(3)
    calibrate(other, samples)
    assert samples.loads == 4


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-9] + bytes(9)]
)
def test_a_damaged_entry_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path))
    first = calibrate(network(), Given(3))
    (entry,) = (tmp_path / "calibrations").glob("*.npz")
    entry.write_bytes(damage(entry.read_bytes()))
    samples = Given(3)
    assert calibrate(network(), samples).to_bytes() == first.to_bytes()
    assert samples.loads == 4


def test_of_two_at_once_one_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path))
    both = [Given(6), Given(6)]
    found: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda samples=samples: found.append(calibrate(network(), samples).to_bytes())
        )
        for samples in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(samples.loads for samples in both) == [1, 7]
    assert found[0] == found[1]


def test_memory_does_not_grow_with_the_data() -> None:
    kept: list[Feeds] = []

    def keeping(place: int) -> Feeds:
        kept.append(Given(1).make(place))
        return kept[-1]

    def peak(samples: Given) -> int:
        tracemalloc.start()
        calibrate(network(batch=4, size=(67, 64)), samples, ["r1", "c3"], cache=False)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # What is read ahead depends on who is faster; kept, the samples would be three times as much as all else.
    few = peak(Given(12))
    assert peak(Given(96)) < 1.8 * few
    assert peak(Given(96, keeping)) > 1.8 * few


# ---- What goes wrong


def test_samples_that_cannot_be_read_are_named_and_counted() -> None:
    def load(place: int) -> Feeds:
        if place % 2 == 0:
            raise ImageError(f"picture {place} is empty")
        return Given(1).make(place)

    found = calibrate(network(), Given(6, load), cache=False)
    assert [(entry.name, entry.reason) for entry in found.skipped] == [
        (f"sample {place}", f"picture {place} is empty") for place in (0, 2, 4)
    ]
    assert found.count == 3
    assert found.to_metadata()["skipped"] == 3

    def nothing(place: int) -> Feeds:
        raise ImageError("it is empty")

    with pytest.raises(CnnportError, match="none of the 6 samples can be read: it is empty"):
        calibrate(network(), Given(6, nothing), cache=False)


def test_wrong_usage_is_clear() -> None:
    with pytest.raises(UnknownNameError, match="no value 'c9'"):
        calibrate(network(), Given(1), ["c1", "c9"], cache=False)
    shaped = network(
        nodes=[helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Shape", ["r"], ["y"])],
        output=TensorProto.INT64,
    )
    assert list(calibrate(shaped, Given(1), cache=False).statistics) == ["x", "r"]
    with pytest.raises(ArtifactError, match="'y' is INT64: only float32"):
        calibrate(shaped, Given(1), ["y"], cache=False)
    with pytest.raises(FeedError, match="does not fit"):
        calibrate(network(size=(32, 32)), Given(1), cache=False)
    with pytest.raises(FeedError, match="no input is called 'image'"):
        calibrate(network(), Given(1, lambda _: {"image": np.zeros((1, 3, 8, 8), np.float32)}), cache=False)
    mixed = Given(3, lambda place: {"x": np.zeros((1, 3, 64 + 2 * (place // 2), 64), np.float32)})
    with pytest.raises(FeedError, match="sample 2 is of another size than sample 0"):
        calibrate(network(), mixed, cache=False)
    quantizer = helper.make_node("QuantizeLinear", ["x", "scale"], ["y"])
    with pytest.raises(ArtifactError, match="quantized already, it has QuantizeLinear"):
        calibrate(network(nodes=[quantizer]), Given(1), cache=False)

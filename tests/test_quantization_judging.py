"""What holds a file in 8 bits to the float network: what it sees, on which samples, and the limits."""

import math
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.calibration import Samples, open_samples
from cnnport.calibration.samples import Feeds
from cnnport.errors import CnnportError
from cnnport.onnxfile import read_artifact
from cnnport.quantization import Judgement, Limits, judging, quantize_file
from cnnport.quantization.judging import Judge, runner_of
from cnnport.runtimes import Options, get_runtime, require_runtime
from quantize_graphs import (
    CONSTANTS,
    NETWORK,
    model_of,
    saved,
    uneven,
)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return saved(model_of(NETWORK, CONSTANTS), tmp_path / "network.onnx")


def test_judgements_see_what_is_planted(tmp_path: Path) -> None:
    """The same file is at no distance; one whose scores stand in each other's place is, and has other classes."""
    source, given = uneven(tmp_path)
    judge = Judge(source, open_samples(given, read_artifact(source)))
    assert judge.classes > 2
    same = judge.judge(source, "ort-cpu", Options())
    assert (same.sqnr_db, same.agreement, same.drop) == (math.inf, 100.0, 0.0)
    assert same.to_json()["sqnr_db"] is None
    model = onnx.load(source)
    for each in model.graph.initializer:
        if each.name in {"hw", "hb"}:
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each)[::-1].copy(), each.name))
    other = judge.judge(saved(model, tmp_path / "turned.onnx"), "ort-cpu", Options())
    assert other.sqnr_db < 5
    assert other.drop > 50


class Labelled:
    """Samples of others, with labels, that count how often one is loaded."""

    is_random = False
    description = key = "labelled"

    def __init__(self, samples: Samples, labels: list[int]) -> None:
        self._samples, self._labels = samples, labels
        self.loaded = 0

    def __len__(self) -> int:
        return len(self._labels)

    def name(self, place: int) -> str:
        return self._samples.name(place)

    def load(self, place: int) -> Feeds:
        self.loaded += 1
        return self._samples.load(place)

    def label(self, place: int) -> int:
        return self._labels[place]

    def others(self, _count: int) -> None:
        return None


def test_labels_count_only_where_the_float_network_knows_them(tmp_path: Path) -> None:
    """Of labels that are none of its own, a network may lose all and still be right as often, by chance."""
    source, given = uneven(tmp_path)
    samples = open_samples(given, read_artifact(source))
    with require_runtime("ort-cpu").open(read_artifact(source), Options()) as opened:
        own = [int(opened.run(samples.load(place))["y"].argmax()) for place in range(len(samples))]
    known = Judge(source, Labelled(samples, own)).judge(source, "ort-cpu", Options())
    assert (known.top1_float, known.top1, known.drop) == (100.0, 100.0, 0.0)
    foreign = Labelled(samples, [(each + 1) % 6 for each in own])
    unknown = Judge(source, foreign).judge(source, "ort-cpu", Options())
    assert (unknown.top1_float, unknown.top1) == (None, None)
    assert unknown.agreement == 100.0


def test_samples_are_loaded_once_as_long_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, given = uneven(tmp_path)
    samples = open_samples(given, read_artifact(source))
    size = samples.load(0)["x"].nbytes
    for room, loads in ((2**28, 64), (10 * size, 64 + 2 * 54)):
        monkeypatch.setattr(judging, "_KEPT_BYTES", room)
        counted = Labelled(samples, [0] * len(samples))
        judge = Judge(source, counted)
        assert judge.judge(source, "ort-cpu", Options()).sqnr_db == math.inf
        assert judge.judge(source, "ort-cpu", Options()).sqnr_db == math.inf
        assert counted.loaded == loads


def test_a_network_that_only_names_its_class_cannot_be_judged(network: Path, tmp_path: Path) -> None:
    model = onnx.load(network)
    model.graph.node.add(op_type="ArgMax", input=["y"], output=["winner"], name="best")
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("winner", TensorProto.INT64, None))
    with pytest.raises(CnnportError, match="no output of floating-point numbers"):
        quantize_file(saved(model, tmp_path / "named.onnx"), tmp_path / "out.onnx", "random:2")


def test_limits() -> None:
    lossy = Judgement(12.0, 99.0, 98.0, 97.6, 500)
    assert lossy.drop == pytest.approx(0.4)
    assert Limits(0.5).are_met(lossy)
    assert not Limits(0.3).are_met(lossy)
    no_classes = Judgement(12.0, None, None, None, 500)
    assert no_classes.drop is None
    assert not Limits().are_met(no_classes)
    assert Limits().are_met(replace(no_classes, sqnr_db=25.0))


def test_openvino_is_judged_on_openvino_where_it_is() -> None:
    assert runner_of("openvino")[0] == ("ort-cpu" if get_runtime("openvino").missing() else "openvino")
    assert runner_of("ort") == ("ort-cpu", Options())
    assert not runner_of("trt")[1].optimize

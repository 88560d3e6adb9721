"""Whole evaluations: right, interrupted, broken, and of several networks at once."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cnnport.artifact import Artifact
from cnnport.digits import load_digits
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError
from cnnport.evaluation import Plan, Request, evaluate, local, parse_protocol
from cnnport.images import preprocess_image
from cnnport.metadata import preprocess_of
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime
from evaluation_files import EACH, result_of, write_digits


@pytest.fixture
def lenet5(exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))
    return exported("lenet5")


def on(artifact: Artifact, *runtimes: str, **options) -> list[Request]:
    return [Request(artifact, runtime, Options(**options)) for runtime in runtimes]


def altered(artifact: Artifact, path: Path, change) -> Artifact:
    model = onnx.load(artifact.path)
    change(model)
    onnx.save(model, path)
    return read_artifact(path)


def test_the_digits_as_one_run_by_hand_counts_them(lenet5: Artifact) -> None:
    from PIL import Image

    preprocess = preprocess_of(lenet5)
    digits = load_digits()
    inputs = np.stack([preprocess_image(Image.fromarray(scan), preprocess) for scan in digits.test_images])
    with require_runtime("ort-cpu").open(lenet5, Options()) as session:
        best = session.run({lenet5.inputs[0].name: inputs})["logits"].argmax(1)
    expected = np.mean(best == digits.test_labels)
    found = evaluate(on(lenet5, "ort-cpu", "openvino", "torch-cpu"), Plan("digits"))
    assert [each.metrics.top1 for each in found] == [expected] * 3
    assert found[0].metrics.count == 500
    assert found[0].metrics.top1 > 0.98


def test_classes_that_are_shuffled_leave_chance(lenet5: Artifact, tmp_path: Path) -> None:
    """Nothing but the answers decides."""
    (right,) = evaluate(on(lenet5, "ort-cpu"), Plan(str(write_digits(tmp_path / "right"))))
    (wrong,) = evaluate(on(lenet5, "ort-cpu"), Plan(str(write_digits(tmp_path / "wrong", shift=1))))
    assert right.metrics.top1 > 0.95
    assert wrong.metrics.top1 < 0.05
    assert right.metrics.count == wrong.metrics.count == 10 * EACH


@pytest.mark.parametrize("workers", [1, 4])
def test_neither_threads_nor_a_fixed_batch_change_a_digit(
    lenet5: Artifact, tmp_path: Path, workers: int
) -> None:
    folder = str(write_digits(tmp_path / "digits", 3))
    (one,) = evaluate(on(lenet5, "ort-cpu"), Plan(folder, batch=7))
    (other,) = evaluate(on(lenet5, "ort-cpu"), Plan(folder, batch=7, workers=workers, fresh=True))
    assert result_of(one) == result_of(other)

    def fix(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7

    fixed = altered(lenet5, tmp_path / "fixed.onnx", fix)
    (full,) = evaluate(on(fixed, "ort-cpu"), Plan(folder))
    assert full.batch == 7
    assert full.tally.confusion == one.tally.confusion


def test_pictures_are_decoded_once_for_all(
    lenet5: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[range] = []

    class Counting(local.Batch):
        def __init__(self, pictures, places, protocol, preprocess, picture) -> None:
            begun.append(places)
            super().__init__(pictures, places, protocol, preprocess, picture)

    monkeypatch.setattr(local, "Batch", Counting)
    folder = str(write_digits(tmp_path / "digits", 2))
    evaluate(on(lenet5, "ort-cpu", "openvino"), Plan(folder))
    assert sorted(place for places in begun for place in places) == list(range(20))
    # Of a network that is done, nothing is run again.
    begun.clear()
    again = evaluate(on(lenet5, "openvino", "ort-cpu"), Plan(folder))
    assert not begun
    assert [each.resumed for each in again] == [20, 20]
    evaluate(on(lenet5, "ort-cpu"), Plan(folder, fresh=True))
    assert sum(map(len, begun)) == 20


def test_broken_pictures_are_named_and_counted(lenet5: Artifact, tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    (folder / "4" / "broken.png").write_bytes(b"\x89PNG nothing more")
    (found,) = evaluate(on(lenet5, "ort-cpu"), Plan(str(folder)))
    assert found.tally.unreadable == 1
    ((name, reason),) = found.tally.reasons.values()
    assert name == "4/broken.png"
    assert "is not a JPEG, PNG" in reason
    assert found.metrics.count == 10 * EACH
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(CnnportError, match=r"none of the 121 pictures can be read: .* is empty"):
        evaluate(on(lenet5, "ort-cpu"), Plan(str(folder)))


def test_nan_is_a_failure_and_others_go_on(lenet5: Artifact, tmp_path: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        bias = next(each for each in model.graph.initializer if list(each.dims) == [10])
        bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))

    spoilt = altered(lenet5, tmp_path / "spoilt.onnx", spoil)
    plan = Plan(str(write_digits(tmp_path / "digits", 2)))
    with pytest.raises(
        CheckFailedError, match=r"spoilt\.onnx gives NaN or infinity for \d/\d+\.png on ort-cpu"
    ):
        evaluate(on(spoilt, "ort-cpu"), plan)
    good, bad = evaluate([*on(lenet5, "ort-cpu"), *on(spoilt, "ort-cpu")], plan)
    assert good.metrics.count == 20
    assert isinstance(bad.problem, CheckFailedError)
    assert bad.metrics is None


_EVALUATE = """
import sys
from pathlib import Path
from cnnport.evaluation import Plan, Request, evaluate, state
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options
state._SAVE_S = 0.0
state._SAVE_SHARE = 1e9
def tell(status):
    print(status.done, flush=True)
request = Request(read_artifact(Path(sys.argv[1])), "ort-cpu", Options())
evaluate([request], Plan(sys.argv[2], batch=2), on_status=tell)
"""


def test_a_killed_run_goes_on_and_ends_the_same(lenet5: Artifact, tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", 50)
    (folder / "4" / "broken.png").write_bytes(b"nothing")
    plan = Plan(str(folder), batch=2)
    os.environ["CNNPORT_CACHE"] = str(tmp_path / "unbroken")
    (expected,) = evaluate(on(lenet5, "ort-cpu"), plan)

    # The fixture sets it back.
    os.environ["CNNPORT_CACHE"] = str(tmp_path / "broken")
    kills = 0
    for least in (60, 200):
        command = [sys.executable, "-c", _EVALUATE, str(lenet5.path), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
            for line in process.stdout:
                if int(line) >= least:
                    process.send_signal(signal.SIGKILL)
                    break
        kills += process.returncode == -signal.SIGKILL
    assert kills == 2
    began = time.monotonic()
    (found,) = evaluate(on(lenet5, "ort-cpu"), plan)
    assert 100 < found.resumed < 501, time.monotonic() - began
    assert result_of(found) == result_of(expected)
    assert found.tally.unreadable == 1


def test_what_is_kept_is_of_this_file_data_and_protocol_alone(lenet5: Artifact, tmp_path: Path) -> None:
    plan = Plan(str(write_digits(tmp_path / "digits", 2)))
    evaluate(on(lenet5, "ort-cpu"), plan)

    def rename(model: onnx.ModelProto) -> None:
        model.doc_string = "another file"

    other = altered(lenet5, tmp_path / "other.onnx", rename)
    tried = [
        evaluate(on(other, "ort-cpu"), plan),
        evaluate(on(lenet5, "ort-cpu", threads=2), plan),
        evaluate(on(lenet5, "ort-cpu"), replace(plan, batch=3)),
        evaluate(on(lenet5, "ort-cpu"), replace(plan, protocol=parse_protocol("10", "36"))),
        evaluate(
            on(lenet5, "ort-cpu"), replace(plan, preprocess=replace(preprocess_of(lenet5), mean=(0.3,)))
        ),
        evaluate(on(lenet5, "ort-cpu"), replace(plan, count=10)),
    ]
    assert [each[0].resumed for each in tried] == [0] * len(tried)
    assert evaluate(on(lenet5, "ort-cpu"), plan)[0].resumed == 20


def test_a_damaged_state_is_begun_again(lenet5: Artifact, tmp_path: Path) -> None:
    plan = Plan(str(write_digits(tmp_path / "digits", 2)))
    (first,) = evaluate(on(lenet5, "ort-cpu"), plan)
    (kept,) = (tmp_path / "cache" / "evaluations").glob("*.state")
    kept.write_bytes(kept.read_bytes()[:-20])
    (again,) = evaluate(on(lenet5, "ort-cpu"), plan)
    assert again.resumed == 0
    assert result_of(again) == result_of(first)


def graph(path: Path, shape: list, output: list, inputs: int = 1) -> Artifact:
    names = [f"in{index}" for index in range(inputs)]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("ReduceMean", [names[0]], ["out"], axes=[2, 3], keepdims=0)],
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(model, path)
    return read_artifact(path)


@pytest.mark.parametrize(
    ("shape", "output", "inputs", "message"),
    [
        (["n", 3, 8, 8], ["n"], 1, "no classifier"),
        (["n", 3, 8, 8], ["n", 1], 1, "no classifier"),
        (["n", 3, 8, 8], ["n", 3, 8, 8], 1, "a map of scores"),
        (["n", 3, 8, 8], ["n", 3], 2, "does not take a batch of images"),
        (["n", 3, 8], ["n", 3], 1, "does not take a batch of images"),
        (
            ["n", 4, 8, 8],
            ["n", 4],
            1,
            "takes 4 channels and does not say how to prepare pictures for it: say",
        ),
        (["n", 1, 8, 8], ["n", 4], 1, "takes 1 channel and does not say how"),
    ],
)
def test_what_is_no_classifier_of_pictures(tmp_path: Path, shape, output, inputs: int, message: str) -> None:
    artifact = graph(tmp_path / "file.onnx", shape, output, inputs)
    with pytest.raises(ArtifactError, match=message):
        evaluate(on(artifact, "ort-cpu"), Plan("digits"))


def test_a_dense_form_over_whole_pictures(lenet5: Artifact, tmp_path: Path) -> None:
    """The trained network in its fully convolutional form, on scans that are made larger than its input."""
    from cnnport.exporting import export

    dense = export("lenet5", tmp_path / "dense.onnx", weights="default", dense=True).artifact
    folder = write_digits(tmp_path / "digits", 6)
    found = {}
    for text, scales in (("1", None), ("dense", "32"), ("dense", "36"), ("10+dense", "36")):
        plan = Plan(str(folder), protocol=parse_protocol(text, scales, flips=False))
        (each,) = evaluate(on(dense, "ort-cpu"), plan)
        found[text, scales] = each.metrics.top1
    # At the native size there is one window, and it is the only crop.
    assert found["1", None] == found["dense", "32"] > 0.95
    assert found["dense", "36"] > 0.8
    with pytest.raises(ArtifactError, match="cnnport export NETWORK --dense"):
        evaluate(on(lenet5, "ort-cpu"), Plan(str(folder), protocol=parse_protocol("dense", "36")))

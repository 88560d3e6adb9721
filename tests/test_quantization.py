"""Files in 8 bits: what is tried, what is taken, what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from cnnport.artifact import Artifact
from cnnport.calibration import open_samples
from cnnport.digits import load_digits
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, UnknownNameError
from cnnport.graphs.protos import read
from cnnport.graphs.quantize import faults
from cnnport.half_file import half_file
from cnnport.onnxfile import load_model, read_artifact
from cnnport.quantization import Limits, Recipe, as_markdown, quantize_file, report_of
from cnnport.quantization.sensitivity import sensitivities
from quantize_graphs import (
    CHAIN,
    CHAIN_CONSTANTS,
    CONSTANTS,
    NETWORK,
    images,
    model_of,
    saved,
    uneven,
)

TARGETS = ("ort", "trt", "openvino")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return saved(model_of(NETWORK, CONSTANTS), tmp_path / "network.onnx")


@pytest.fixture
def arrays(tmp_path: Path) -> str:
    """Samples of the network, of normal numbers around means that differ by channel, as real ones do."""
    feeds = images(model_of(NETWORK, CONSTANTS), 96)
    np.save(tmp_path / "samples.npy", feeds["x"])
    return f"{tmp_path / 'samples.npy'}:48"


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_quantized_judged_and_says_so(
    target: str, network: Path, arrays: str, tmp_path: Path
) -> None:
    done = quantize_file(network, tmp_path / "out.onnx", arrays, target=target)
    assert done.artifact.precision == "int8"
    assert done.is_held_out
    assert done.judgement.count == 48
    assert done.judgement.sqnr_db > 15
    assert done.judgement.top1 is None
    facts = json.loads(done.artifact.metadata["cnnport.quantization"])
    assert facts["target"] == target
    assert facts["steps"] == list(done.best.recipe.steps)
    assert facts["calibration"]["count"] == 48
    assert facts["judged"]["sqnr_db"] == round(done.judgement.sqnr_db, 2)
    assert "accuracy_claim" not in facts
    if target == "trt":
        assert not faults(read(load_model(done.artifact.path)))


def test_every_method_is_tried_and_the_nearest_taken(network: Path, arrays: str, tmp_path: Path) -> None:
    done = quantize_file(network, tmp_path / "out.onnx", arrays, repair=False)
    tried = {each.recipe.method: each.trial_db for each in done.found.attempts}
    assert set(tried) == {"minmax", "percentile", "entropy", "mse"}
    assert tried[done.best.recipe.method] == max(tried.values())
    assert len(set(tried.values())) > 1
    only = quantize_file(network, tmp_path / "only.onnx", arrays, method="entropy", repair=False)
    assert [each.recipe.method for each in only.found.attempts] == ["entropy"]


def test_the_same_command_gives_the_same_bytes(network: Path, arrays: str, tmp_path: Path) -> None:
    one, other = (quantize_file(network, tmp_path / name, arrays) for name in ("one.onnx", "other.onnx"))
    assert one.artifact.path.read_bytes() == other.artifact.path.read_bytes()


def test_uneven_channels_ruin_the_plain_form_and_equalising_repairs_it(tmp_path: Path) -> None:
    """The fault is planted: without repair much is lost, with it little."""
    source, samples = uneven(tmp_path)
    plain = quantize_file(source, tmp_path / "plain.onnx", samples, repair=False)
    repaired = quantize_file(source, tmp_path / "repaired.onnx", samples)
    assert repaired.best.recipe.equalized
    assert repaired.judgement.sqnr_db > plain.judgement.sqnr_db + 6
    assert repaired.judgement.drop < plain.judgement.drop
    judged = [each for each in repaired.found.attempts if each.recipe.equalized and each.judgement]
    assert judged[0].verdict.startswith("+")


def test_layers_stay_in_float_only_where_the_budget_asks_for_it(tmp_path: Path) -> None:
    source, samples = uneven(tmp_path)
    done = quantize_file(source, tmp_path / "out.onnx", samples, max_drop=0.0)
    assert done.judgement.drop <= 0
    kept = done.best.recipe.keep
    if kept:
        # As few as were found to be enough: one fewer was tried, and was not.
        fewer = [
            each for each in done.found.attempts if each.judgement and len(each.recipe.keep) == len(kept) - 1
        ]
        assert fewer
        assert all(each.judgement.drop > 0 for each in fewer)
    model = load_model(done.artifact.path)
    quantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.name in kept:
            assert node.input[1] not in quantized


def test_a_budget_that_cannot_be_kept_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, samples = uneven(tmp_path)
    monkeypatch.setattr(Limits, "are_met", lambda *_: False)
    with pytest.raises(CheckFailedError, match="no form in 8 bits keeps within 0 points"):
        quantize_file(source, tmp_path / "out.onnx", samples, max_drop=0.0)
    assert not (tmp_path / "out.onnx").exists()


def test_the_check_of_the_caller_prevents_the_file(network: Path, arrays: str, tmp_path: Path) -> None:
    seen: list[tuple[Path, Path, tuple[Path, ...]]] = []

    def refuse(floats: Path, written: Path, candidates: tuple[Path, ...]) -> None:
        assert all(read_artifact(path) for path in (floats, written, *candidates))
        seen.append((floats, written, candidates))
        raise CheckFailedError("too slow")

    (tmp_path / "out.onnx").write_bytes(b"before")
    with pytest.raises(CheckFailedError, match="too slow"):
        quantize_file(network, tmp_path / "out.onnx", arrays, overwrite=True, check=refuse)
    assert len(seen) == 1
    assert (tmp_path / "out.onnx").read_bytes() == b"before"


def test_random_samples_make_no_claim_and_repair_nothing(tmp_path: Path) -> None:
    source, _ = uneven(tmp_path)
    done = quantize_file(source, tmp_path / "out.onnx", "random:24")
    facts = json.loads(done.artifact.metadata["cnnport.quantization"])
    assert facts["accuracy_claim"] == "none: calibrated with random inputs"
    assert facts["calibration"]["random"]
    assert any("nothing follows" in note for note in done.notes)
    assert not done.best.recipe.equalized


def test_few_samples_judge_themselves_and_that_is_said(network: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", images(model_of(NETWORK, CONSTANTS), 8)["x"])
    done = quantize_file(network, tmp_path / "out.onnx", str(tmp_path / "few.npy"))
    assert not done.is_held_out
    assert done.judgement.count == 8
    assert any("too few other samples" in note for note in done.notes)


def test_the_most_sensitive_layer_is_found_first() -> None:
    noise = {"a": 1e-4, "b": 1e-2, "c": 1e-3}

    def sqnr(recipe: Recipe) -> float:
        return -10 * math.log10(sum(value for name, value in noise.items() if name not in recipe.keep))

    found = sensitivities(Recipe("minmax"), ("a", "b", "c"), sqnr)
    assert [each.node for each in found] == ["b", "c", "a"]
    assert found[0].noise == pytest.approx(1e-2)


def test_sensitivity_finds_the_layer_with_a_planted_fault(tmp_path: Path) -> None:
    """One layer's input has a huge outlier: in 8 bits that layer loses most."""
    model = model_of(CHAIN, CHAIN_CONSTANTS)
    for each in model.graph.initializer:
        if each.name == "bb":
            # A channel that is always on, and hardly read: its range is everybody's.
            bias = numpy_helper.to_array(each).copy()
            bias[0] = 500.0
            each.CopyFrom(numpy_helper.from_array(bias, "bb"))
    for each in model.graph.initializer:
        if each.name == "cw":
            weights = numpy_helper.to_array(each).copy()
            weights[:, 0] *= 1e-3
            each.CopyFrom(numpy_helper.from_array(weights, "cw"))
    np.save(tmp_path / "x.npy", np.random.default_rng(5).normal(size=(96, 4, 8, 8)).astype(np.float32))
    done = quantize_file(
        saved(model, tmp_path / "m.onnx"),
        tmp_path / "out.onnx",
        f"{tmp_path / 'x.npy'}:32",
        target="trt",
        method="minmax",
        repair=False,
        layers=True,
    )
    third = [node.name for node in model.graph.node if node.op_type == "Conv"][2]
    assert done.sensitivities[0].node == third
    assert done.sensitivities[0].sqnr_db < done.sensitivities[1].sqnr_db - 6


def test_a_report_has_everything_and_names_the_best_trades(
    network: Path, arrays: str, tmp_path: Path
) -> None:
    done = quantize_file(network, tmp_path / "out.onnx", arrays, layers=True)
    judged = [each for each in done.found.attempts if each.judgement]
    facts = report_of(done, {"ratio": 2.0}, [2.0, *(1.0 for _ in judged)])
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert {each["node"] for each in facts["layers"] if each["int8"]} >= {
        each.node for each in done.sensitivities
    }
    assert facts["pareto"][0]["steps"] == ["float32"]
    assert sum(point["is_best_trade"] for point in facts["pareto"]) >= 1
    slow = report_of(done, None, [2.0, *(3.0 for _ in judged)])
    best = [point["steps"] for point in slow["pareto"] if point["is_best_trade"]]
    assert best == [["float32"]]
    page = as_markdown(facts)
    assert all(each.node in page for each in done.sensitivities)
    assert "## What was tried" in page


def test_noise_for_files_of_a_fixed_batch(network: Path, tmp_path: Path) -> None:
    model = onnx.load(network)
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.shape.dim[0].dim_value = 3
    done = quantize_file(
        saved(model, tmp_path / "three.onnx"), tmp_path / "out.onnx", "random:4", method="minmax"
    )
    assert done.calibration.count == 4
    assert done.artifact.inputs[0].shape[0] == 3
    assert done.judgement.sqnr_db > 10


def test_notes_name_files_that_there_are(network: Path, arrays: str, tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    source = tmp_path / "apart" / "network.onnx"
    onnx.save(onnx.load(network), source, save_as_external_data=True, location="w", size_threshold=10)
    done = quantize_file(source, tmp_path / "out.onnx", arrays, method="minmax", repair=False)
    assert "network.onnx has its weights in another file, out.onnx has them in itself" in done.notes


def test_what_cannot_be_quantized_is_said_with_the_reason(tmp_path: Path) -> None:
    text = "g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { a = Conv (x, w)  y = Relu (a) }"
    source = saved(model_of(text, {"w": (4, 3, 1, 1)}), tmp_path / "net.onnx")
    with pytest.raises(CnnportError, match="of Conv Conv_0, its result is given out, in float"):
        quantize_file(source, tmp_path / "out.onnx", "random:2")


def test_pictures_that_nobody_can_read(tmp_path: Path) -> None:
    text = "g (float[N, 3, 8, 8] x) => (float[N, 2] y) { a = Conv (x, w)  f = Flatten (a)  y = Gemm (f, v) }"
    source = saved(model_of(text, {"w": (4, 3, 1, 1), "v": (256, 2)}), tmp_path / "net.onnx")
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "pictures" / name).write_bytes(b"no picture")
    with pytest.raises(CnnportError, match=r"none of the 2 samples can be read: .* is not a JPEG"):
        quantize_file(source, tmp_path / "out.onnx", str(tmp_path / "pictures"))
    Image.new("RGB", (9, 9), "red").save(tmp_path / "pictures" / "c.png")
    done = quantize_file(source, tmp_path / "out.onnx", str(tmp_path / "pictures"), method="minmax")
    assert any("and 1 more could not be read and were left out" in note for note in done.notes)


def test_an_input_without_a_place_for_samples(tmp_path: Path) -> None:
    text = "g (float[N, 2, 4, 4] x, float s) => (float[N, 3, 4, 4] y) { a = Mul (x, s)  y = Conv (a, w) }"
    source = saved(model_of(text, {"w": (3, 2, 1, 1)}), tmp_path / "scaled.onnx")
    with pytest.raises(CnnportError, match="one number for a whole batch"):
        quantize_file(source, tmp_path / "out.onnx", "random:2")


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"target": "cuda"}, "no int8 target"),
        ({"method": "median"}, "no calibration method"),
        ({"percentile": 99.0}, "goes with --method percentile"),
        ({"method": "percentile", "percentile": 40.0}, "above 50"),
        ({"max_drop": -1.0}, "from 0 to 100"),
        ({"max_drop": math.nan}, "from 0 to 100"),
    ],
)
def test_wishes_that_make_no_sense(
    wishes: dict[str, object], message: str, network: Path, arrays: str, tmp_path: Path
) -> None:
    with pytest.raises((CnnportError, UnknownNameError), match=message):
        quantize_file(network, tmp_path / "out.onnx", arrays, **wishes)
    assert not (tmp_path / "out.onnx").exists()


def test_a_budget_wants_classes(tmp_path: Path) -> None:
    text = (
        "g (float[N, 4, 8, 8] x) => (float[N, 1, 8, 8] y) { a = Conv (x, v) b = Conv (a, w) y = Sigmoid (b) }"
    )
    model = model_of(text, {"v": (8, 4, 1, 1), "w": (1, 8, 1, 1)})
    source = saved(model, tmp_path / "map.onnx")
    with pytest.raises(CnnportError, match="gives no scores of classes"):
        quantize_file(source, tmp_path / "out.onnx", "random:8", max_drop=1.0)
    source = saved(model_of(CHAIN, CHAIN_CONSTANTS), tmp_path / "one.onnx")
    with pytest.raises(CnnportError, match="puts all samples into one class"):
        quantize_file(source, tmp_path / "out.onnx", "random:8", max_drop=1.0)
    source = tmp_path / "map.onnx"
    done = quantize_file(source, tmp_path / "out.onnx", "random:8")
    assert done.judgement.agreement is None
    assert done.judgement.sqnr_db > 30


def test_what_is_no_float32_network_is_refused(network: Path, arrays: str, tmp_path: Path) -> None:
    done = quantize_file(network, tmp_path / "once.onnx", arrays)
    with pytest.raises(ArtifactError, match="is quantized already"):
        quantize_file(done.artifact.path, tmp_path / "twice.onnx", arrays)
    half = half_file(network, tmp_path / "half.onnx", "fp16")
    with pytest.raises(ArtifactError, match="is in fp16"):
        quantize_file(half.artifact.path, tmp_path / "twice.onnx", arrays)


def test_bad_samples(network: Path, exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    empty = tmp_path / "empty"
    empty.mkdir()
    lenet = exported("lenet5").path
    with pytest.raises(CnnportError, match="has no pictures"):
        quantize_file(lenet, out, str(empty))
    with pytest.raises(CnnportError, match="takes 8 channels"):
        quantize_file(network, out, "digits")
    bad = images(model_of(NETWORK, CONSTANTS), 4)["x"]
    bad[2, 0, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    with pytest.raises(CnnportError, match="NaN or infinity"):
        quantize_file(network, out, str(tmp_path / "nan.npy"))
    np.save(tmp_path / "channels.npy", np.zeros((4, 3, 12, 12), np.float32))
    with pytest.raises(CnnportError, match="does not fit input"):
        quantize_file(network, out, str(tmp_path / "channels.npy"))
    assert not out.exists()


def test_one_picture_among_many_that_cannot_be_read_is_named_and_left_out(
    exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    for place, image in enumerate(load_digits().train_images[:30]):
        (folder / str(place % 3)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(place % 3) / f"{place}.png")
    (folder / "0" / "broken.png").write_bytes(b"no picture")
    done = quantize_file(exported("lenet5").path, tmp_path / "out.onnx", str(folder))
    assert [each.name for each in done.calibration.skipped] == ["0/broken.png"]
    assert done.calibration.count == 30
    assert any("0/broken.png" in note and "left out" in note for note in done.notes)


def test_open_sizes_are_settled_or_refused(tmp_path: Path) -> None:
    """Nothing says how large the pictures of a network of others are: noise is drawn at a size that it takes."""
    text = CHAIN.replace("float[N, 4, 8, 8] x", "float[N, 4, H, W] x")
    source = saved(model_of(text, CHAIN_CONSTANTS), tmp_path / "open.onnx")
    done = quantize_file(source, tmp_path / "out.onnx", "random:8")
    assert done.artifact.inputs[0].shape[2:] == ("H", "W")
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 9, 9), np.float32) + np.arange(9, dtype=np.float32))
    done = quantize_file(source, tmp_path / "other.onnx", str(tmp_path / "a.npy"))
    assert done.calibration.count == 2


def test_others_are_others(tmp_path: Path, exported: Callable[[str], Artifact]) -> None:
    """What judges was never calibrated with, and none that is held out for evaluation is among either."""
    artifact = exported("lenet5")
    first = open_samples("digits:600", artifact)
    others = first.others(500)
    own, theirs = ({each.name(place) for place in range(len(each))} for each in (first, others))
    assert not own & theirs
    held_out = {f"digit {index}" for index in load_digits().test_indices}
    assert not held_out & (own | theirs)
    assert (len(own), len(theirs)) == (600, 500)
    assert first.key != others.key
    assert len(first.others(5000)) == 697
    assert open_samples("digits:1297", artifact).others(10) is None
    noise = open_samples("random:3", artifact)
    assert [noise.others(2).name(place) for place in range(2)] == ["seed 3", "seed 4"]
    assert noise.key != noise.others(3).key
    np.save(tmp_path / "a.npy", np.zeros((9, 1, 32, 32), np.float32))
    files = open_samples(f"{tmp_path / 'a.npy'}:5", artifact)
    names = {each.name(place) for each in (files, files.others(9)) for place in range(len(each))}
    assert len(names) == 9

"""The arithmetic of a comparison, held to plain NumPy and to the textbook."""

import math

import numpy as np
import pytest

from cnnport.agreement.inputs import InputSet
from cnnport.agreement.meter import Meter
from cnnport.agreement.metrics import Metrics
from cnnport.agreement.near_ties import find_near_ties
from cnnport.agreement.proportions import wilson_interval
from cnnport.agreement.rows import RowsWriter, read_rows
from cnnport.agreement.scales import ScaleMeter
from cnnport.agreement.tolerances import Tolerance, coarser, loosened, tolerance_of
from cnnport.artifact import Artifact
from cnnport.compare import compare
from cnnport.errors import CnnportError


def measure(expected, found, *, chunk=3, allowed=(0.0, 0.0)) -> Metrics:
    scale = ScaleMeter()
    for start in range(0, len(expected), chunk):
        scale.add(expected[start : start + chunk])
    meter = Meter("y", scale.scale(), allowed)
    for start in range(0, len(expected), chunk):
        meter.add(expected[start : start + chunk], found[start : start + chunk])
    return meter.metrics()


@pytest.fixture
def pair():
    draw = np.random.default_rng(1)
    expected = (1000 + draw.standard_normal((10, 20))).astype(np.float32)
    return expected, expected + (0.5 * draw.standard_normal(expected.shape)).astype(np.float32)


def test_chunks_add_up_to_the_whole(pair) -> None:
    expected, found = pair
    whole, plain = compare(expected, found), measure(expected, found)
    left, right = expected.astype(np.float64), found.astype(np.float64)
    assert plain.max_abs == whole.max_abs
    assert plain.mean_abs == pytest.approx(whole.mean_abs, rel=1e-12)
    assert plain.error_in_std == pytest.approx(whole.error, rel=1e-9)
    assert plain.cosine == pytest.approx(whole.cosine, rel=1e-12)
    assert plain.top1_agreement == whole.top1
    noise, power = np.square(left - right), np.square(left)
    assert plain.sqnr_db == pytest.approx(10 * np.log10(power.sum() / noise.sum()))
    assert plain.psnr_db == pytest.approx(10 * np.log10(np.ptp(left) ** 2 / noise.mean()))
    shares = [np.exp(each - each.max(1, keepdims=True)) for each in (left, right)]
    p, q = (each / each.sum(1, keepdims=True) for each in shares)
    assert plain.kl_mean == pytest.approx((p * np.log(p / q)).sum(1).mean())
    best, order = left.argmax(1), np.argsort(-right, axis=1)[:, :5]
    assert plain.top5_agreement == np.mean([each in row for each, row in zip(best, order, strict=True)])
    sample, index = np.unravel_index(np.abs(left - right).argmax(), left.shape)
    assert (plain.worst.sample, plain.worst.index) == (sample, (index,))


def test_the_clearest_flip_is_told(pair) -> None:
    expected = np.zeros((2, 3), np.float32)
    expected[0, 0], expected[1, 1] = 4.0, 1.0
    found = expected.copy()
    found[0, 2] = 5.0
    plain = measure(expected, found)
    assert plain.top1 == 1
    assert plain.widest_flip == pytest.approx(4.0 / expected.astype(np.float64).std())


def test_odd_numbers_count_only_where_they_are_alone() -> None:
    expected = np.ones((4, 6), np.float32)
    expected[1, 2], expected[2, 0] = np.nan, np.inf
    same = measure(expected, expected.copy())
    assert (same.misplaced, same.nan, same.inf, same.max_abs) == (0, 1, 1, 0.0)
    found = expected.copy()
    found[3, 5] = np.nan
    assert measure(expected, found).misplaced == 1
    assert measure(expected, found).worst.index == (5,)
    found = expected.copy()
    found[2, 0] = -np.inf
    assert measure(expected, found).misplaced == 1
    found[1, 2] = 1.0
    assert measure(expected, found, chunk=1).misplaced == 2


def test_integers_are_counted_where_they_differ() -> None:
    expected = np.arange(1000).reshape(10, 100)
    found = expected.copy()
    found[7, 3] += 500
    plain = measure(expected, found)
    assert (plain.max_abs, plain.beyond, plain.mean_abs) == (1.0, 1, 1e-3)


def test_wilson() -> None:
    # Of the literature: 9 of 10 gives 0.596 to 0.982.
    assert wilson_interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson_interval(0, 20)[0] == 0.0
    assert wilson_interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


def artifact(precision: str, **metadata: str) -> Artifact:
    from pathlib import Path

    return Artifact(Path("a.onnx"), "", "a", 20, precision, "ort", (), (), metadata)


def test_tolerances_follow_what_the_file_says() -> None:
    def of(precision: str, **metadata: str) -> Tolerance:
        return tolerance_of(artifact(precision, **metadata), precision, is_random=True)

    assert of("fp32").in_std == 1e-4
    assert of("fp16").in_std == 2e-2
    assert of("fp16", **{"cnnport.half": '{"tolerance_in_std": 0.08}'}).in_std == 0.08
    judged = {"cnnport.quantization": '{"judged": {"sqnr_db": 31.0}, "accuracy_claim": "none"}'}
    assert of("int8", **judged).sqnr_db == 25.0
    # Judged on noise, it says nothing of pictures.
    assert tolerance_of(artifact("int8", **judged), "int8", is_random=False).sqnr_db == 10.0
    assert of("int8", **{"cnnport.quantization": "{damaged"}).sqnr_db == 10.0
    assert coarser(of("fp32"), of("int8")).precision == "int8"
    assert coarser(of("fp16"), of("fp32")).precision == "fp16"
    assert loosened(of("int8")).sqnr_db is None
    assert loosened(of("fp16")) == of("fp16")
    assert all(of(each).reason for each in ("fp32", "tf32", "fp16", "bf16", "int8"))
    with pytest.raises(CnnportError, match="--atol"):
        tolerance_of(artifact("fp32"), "fp32", is_random=True, atol=-1.0)


def test_rows_are_cut_to_what_was_filled(tmp_path) -> None:
    with RowsWriter(tmp_path / "in" / "a.npy", 100) as writer:
        writer.add(np.arange(12).reshape(4, 3))
        writer.add(np.arange(3).reshape(1, 3))
    assert read_rows(tmp_path / "in" / "a.npy").shape == (5, 3)
    with RowsWriter(tmp_path / "b.npy", 9) as writer:
        writer.add(np.zeros((1, 3)))
        with pytest.raises(CnnportError, match="differ in shape"):
            writer.add(np.zeros((1, 4)))


def test_near_ties_are_found_where_the_class_changes(tmp_path) -> None:
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.2]], np.float32)
    with RowsWriter(tmp_path / "x.npy", 3) as writer:
        writer.add(images)
    samples = InputSet("samples", "", True, ("a", "b", "c"), {"x": tmp_path / "x.npy"})

    def run(feeds):
        rows = np.concatenate([each["x"] for each in feeds])
        return rows * np.array([3.0, 1.0])

    ties = find_near_ties(samples, run([{"x": images}]), run, 1.0)
    assert len(ties) == 1
    assert ties[0].lead <= 1e-3
    # 3 (1 - t) = t.
    assert ties[0].feeds["x"][0] == pytest.approx([0.25, 0.75], abs=1e-3)
    assert not find_near_ties(samples, np.array([[1.0, 0.0]] * 3), run, 1.0)
    assert math.isfinite(ties[0].lead)

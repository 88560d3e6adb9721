"""What calibrating costs beside running: the measurement runs, and its rows are what it found."""

from pathlib import Path

import pytest

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.measuring.studies import calibration_cost
from cnnport.measuring.studies.calibration_cost import line_of, measure
from cnnport.measuring.studies.pictures import write_pictures


def test_a_row_for_each_target_and_number_of_threads(exported, tmp_path: Path) -> None:
    artifact: Artifact = exported("squeezenet1_1")
    write_pictures(tmp_path / "pictures", 6, size=(500, 375), classes=8)
    rows = measure(artifact.path, tmp_path / "pictures", 6, rounds=2, targets=("trt",))
    assert [(row["target"], row["threads"]) for row in rows] == [("trt", 1), ("trt", 2)]
    for row in rows:
        assert len(row["ratios"]) == 2
        assert min(row["ratios"]) <= row["ratio"] <= max(row["ratios"])
        assert row["values"] > 20
        assert set(row["methods_s"]) == {"minmax", "percentile", "entropy", "mse"}
        assert row["peak_bytes"] > 2**26
        assert f"{row['ratio']:.2f} times" in line_of(row)


def test_a_process_that_fails_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    write_pictures(tmp_path / "pictures", 1, size=(500, 375), classes=8)
    with pytest.raises(CnnportError, match="running, 1 threads"):
        measure(tmp_path / "broken.onnx", tmp_path / "pictures", 1, rounds=1)


def test_ratios_are_of_the_same_round() -> None:
    """A machine that slows down to a half in the second round changes no ratio."""
    ran = [{"seconds": 10.0}, {"seconds": 20.0}]
    found = [
        {"seconds": seconds, "methods_s": {"mse": 0.1}, "values": 3, "peak_bytes": 5}
        for seconds in (12.0, 24.0)
    ]
    row = calibration_cost._row(1, "ort", ran, found)
    assert row["ratios"] == [1.2, 1.2]
    assert row["run_s"] == 15.0

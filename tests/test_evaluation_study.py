"""The study of whether decoding holds a runtime back: it runs, and its figures are of what was measured."""

from pathlib import Path

import pytest

from cnnport.errors import CnnportError
from cnnport.measuring.studies.evaluation import lines_of, measure
from cnnport.measuring.studies.pictures import write_pictures


def test_a_record_of_a_few_pictures(exported, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 60, size=(224, 224), classes=10)
    found = measure(exported("squeezenet1_1").path, tmp_path, 60, rounds=1)
    rates = {name: each["median"] for name, each in found["rates"].items()}
    assert set(rates) == {"decode", "run", "both", "decode_half", "run_half"}
    assert all(rate > 0 for rate in rates.values())
    assert found["of_slower"] == pytest.approx(
        rates["both"] / min(rates["decode_half"], rates["run_half"]), abs=1e-3
    )
    assert found["identical"]
    assert 0 < found["resumed"] < 60
    assert len(found["memory_bytes"]) == 10
    assert "identical" in lines_of(found)[-1]


def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 2, size=(224, 224), classes=10)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(CnnportError, match=r"decode: .*broken\.onnx"):
        measure(tmp_path / "broken.onnx", tmp_path, 2, rounds=1)

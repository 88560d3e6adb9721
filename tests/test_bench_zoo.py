"""The run over the zoo: rows, going on, and networks that fail."""

import json
from pathlib import Path

import pytest

from cnnport.measuring.studies import zoo
from cnnport.measuring.studies.alone import alone


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "docs"


def test_exports_verifies_measures_and_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.main(["--no-measure", str(folder), "lenet5"]) == 0
    (row,) = json.loads((folder / "zoo.json").read_text())["networks"]
    assert row["p50_ms"] is None
    assert "|  |" in (folder / "zoo.md").read_text()

    def again(*_: object) -> object:
        raise AssertionError("a finished network was exported again")

    monkeypatch.setattr(zoo.Zoo, "_exported", again)
    assert zoo.main([str(folder), "lenet5"]) == 0
    assert not list(folder.parent.rglob("*.onnx"))
    document = json.loads((folder / "zoo.json").read_text())
    (row,) = document["networks"]
    assert (row["name"], row["params"], row["problem"]) == ("lenet5", 61_706, None)
    assert row["error_in_std"] < 1e-4
    assert 1e-6 < row["fp16"]["error_in_std"] < 2e-2
    assert row["fp16"]["half"] == 12
    assert row["p50_ms"] > 0
    assert row["bytes"] > 200_000
    assert row["peak_bytes"] > 1e8
    assert row["ops"]["Gemm"] == 2
    assert document["environment"]["packages"]["torch"]
    assert "| lenet5 | 61,706 | 416,520 |" in (folder / "zoo.md").read_text()
    # What is measured needs neither its file nor another measurement.
    monkeypatch.setattr(zoo, "_p50_ms", again)
    assert zoo.main([str(folder), "lenet5"]) == 0


def test_a_lost_file_is_exported_again(folder: Path) -> None:
    assert zoo.main(["--no-measure", str(folder), "lenet_300_100"]) == 0
    (path,) = folder.parent.rglob("*.onnx")
    path.unlink()
    assert zoo.main(["--no-measure", str(folder), "lenet_300_100"]) == 0
    assert path.exists()


def test_a_network_that_fails_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = zoo.cnnport_command
    monkeypatch.setattr(
        zoo, "cnnport_command", lambda arguments: real([*arguments[:3], "--image-size", "8", *arguments[3:]])
    )
    assert zoo.main([str(folder), "lenet5"]) == 1
    (row,) = json.loads((folder / "zoo.json").read_text())["networks"]
    assert "cannot run on 1x8x8" in row["problem"]
    assert "- lenet5: the network cannot run on 1x8x8" in (folder / "zoo.md").read_text()
    # What failed is tried again.
    monkeypatch.setattr(zoo, "cnnport_command", real)
    assert zoo.main([str(folder), "lenet5"]) == 0


def test_a_network_that_float16_breaks_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "in_half", lambda path: {"problem": "the output is not finite"})
    assert zoo.main(["--no-measure", str(folder), "lenet_300_100"]) == 1
    (row,) = json.loads((folder / "zoo.json").read_text())["networks"]
    assert row["problem"] == "in float16: the output is not finite"


def test_a_file_that_cannot_be_half_says_so(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    path.write_bytes(b"not a network")
    assert "none.onnx" in zoo.in_half(path)["problem"]


def test_two_runs_do_not_share_a_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(folder / "zoo.json"):
        assert zoo.main(["--no-measure", str(folder), "lenet5"]) == 2
        with alone(folder / "other.json"):
            pass
    assert "another run is writing" in capsys.readouterr().err
    with alone(folder / "zoo.json"):
        pass


def test_a_foreign_file_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "zoo.json").write_text("[1, 2]")
    assert zoo.main([str(folder), "lenet5"]) == 2
    assert "not a record of this command" in capsys.readouterr().err
    assert (folder / "zoo.json").read_text() == "[1, 2]"

"""The benchmark of every way to run a network: files, rows, going on, what is missing, and the page."""

import json
from pathlib import Path

import pytest

from cnnport.measuring.studies import benchmarks
from cnnport.measuring.studies.benchmarks import VARIANTS, Variant
from cnnport.measuring.studies.benchmarks_page import markdown

pytest.importorskip("onnxruntime")

FEW = tuple(each for each in VARIANTS if each.name in {"torch", "torch.onnx", "cnnport"})


def case(threads: int, skipped: dict[str, str] | None = None, **p50_ms: float) -> dict[str, object]:
    turns = {name: [3 * value, value, value] for name, value in p50_ms.items()}
    facts = {"date_utc": "2026-01-02T03:04:05+00:00", "cpu_model": "A CPU", "rounds": 3}
    return {
        **facts,
        "threads": threads,
        "batch": 1,
        "skipped": skipped or {},
        "p50_ms": p50_ms,
        "turns_p50_ms": turns,
    }


def row(name: str, *cases: dict[str, object], problem: str | None = None) -> dict[str, object]:
    return {"name": name, "versions": {"cnnport": "1"}, "problem": problem, "cases": list(cases)}


def test_the_page_has_latencies_means_and_what_is_missing() -> None:
    rows = [
        row("one", case(1, torch=8.0, cnnport=4.0, int8=1.0), case(2, torch=4.0, cnnport=4.5)),
        row("two", case(1, {"int8": "no such runtime"}, torch=9.0, cnnport=1.0)),
        row("three", problem="it fell over"),
    ]
    one, two = markdown(rows, ["torch", "cnnport", "int8"]).split("## 2 threads")
    assert "| one | 8.000 | **4.000** | **1.000** |" in one
    # The mean of 2 and 9 times; int8 lacks a network.
    assert "| 2 networks | 1.00 | 4.24 |  |" in one
    assert "Without int8: no such runtime." in one
    assert "| one | **4.000** | 4.500 |  |" in two
    assert "| 1 network | 1.00 | 0.89 |  |" in two
    assert "- three: it fell over" in two


def test_makes_measures_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Variant("absent", "raw", "trt")
    monkeypatch.setattr(benchmarks, "VARIANTS", (*FEW, absent))
    monkeypatch.setattr(benchmarks, "THREADS", (1,))
    places = [f"--record={tmp_path / 'r.json'}", f"--page={tmp_path / 'p.md'}", f"--files={tmp_path / 'f'}"]
    run = ["lenet5", *places, "--rounds=1", "--duration=0.02"]
    assert benchmarks.main([*run, "--no-measure"]) == 0
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [
        "lenet5.ort.fp32.onnx",
        "lenet5.raw.onnx",
    ]
    assert benchmarks.main(run) == 0
    (found,) = json.loads((tmp_path / "r.json").read_text())["networks"]
    (measured,) = found["cases"]
    assert set(measured["p50_ms"]) == {"torch", "torch.onnx", "cnnport"}
    assert measured["p50_ms"]["cnnport"] < measured["p50_ms"]["torch"]
    assert "tensorrt" in measured["skipped"]["absent"]

    def again(*_: object) -> object:
        raise AssertionError("measured again")

    monkeypatch.setattr(benchmarks, "measure_cases_in_turn", again)
    assert benchmarks.main(run) == 0
    assert "1 of 1 complete" in capsys.readouterr().out


def test_what_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "VARIANTS", (Variant("cnnport", "nowhere.fp32", "ort-cpu"),))
    places = [f"--record={tmp_path / 'r.json'}", f"--page={tmp_path / 'p.md'}", f"--files={tmp_path / 'f'}"]
    assert benchmarks.main(["lenet5", *places]) == 1
    assert "- lenet5: nowhere.fp32: " in (tmp_path / "p.md").read_text()
    assert benchmarks.main(["no_such_network", *places]) == 2

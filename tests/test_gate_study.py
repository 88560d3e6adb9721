"""The study of the gate itself: what it plants, what it counts, and when it says that the gate is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cnnport.artifact import Artifact
from cnnport.measuring.studies import gate
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime


def counts(**verdicts: int) -> dict[str, int]:
    return {"pass": 0, "regression": 0, "inconclusive": 0, **verdicts}


@pytest.mark.parametrize(
    ("scenario", "found", "is_wrong"),
    [
        ("A/A", counts(**{"pass": 49, "regression": 1}), False),
        ("A/A", counts(**{"pass": 48, "regression": 2}), True),
        ("A/A", counts(inconclusive=50), False),
        ("planted", counts(regression=45, inconclusive=5), False),
        ("planted", counts(regression=44, inconclusive=6), True),
        ("planted under load", counts(inconclusive=10), False),
        ("planted under load", counts(**{"pass": 2, "inconclusive": 8}), True),
        ("A/A under load", counts(regression=2, inconclusive=8), True),
    ],
)
def test_what_the_gate_may_get_wrong(scenario: str, found: dict[str, int], is_wrong: bool) -> None:
    assert gate.is_wrong({scenario: found}) is is_wrong


def test_what_is_planted_costs_work_and_hardly_changes_scores(
    exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    source = exported("lenet5").path
    gate.plant(source, tmp_path / "planted.onnx", 5)
    before, after = (onnx.load(path).graph for path in (source, tmp_path / "planted.onnx"))
    added = [node.op_type for node in after.node][len(before.node) :]
    assert added.count("MatMul") == 7
    image = np.random.default_rng(0).random((2, 1, 32, 32), np.float32)
    answers = []
    for path in (source, tmp_path / "planted.onnx"):
        with require_runtime("ort-cpu").open(read_artifact(path), Options()) as session:
            answers.append(session.run({session.inputs[0].name: image})["logits"])
    assert answers[0].argmax(1).tolist() == answers[1].argmax(1).tolist()


def test_runs_are_counted_and_a_second_run_goes_on(
    exported: Callable[[str], Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def fake(baseline: Path, candidate: Path, threads: int, *, seed: int) -> dict[str, object]:
        asked.append((baseline.stem, candidate.stem, seed))
        verdict = "pass" if candidate.stem == "copy" else "regression"
        return {"verdict": verdict, "rounds": 5, "seconds": 1.0}

    monkeypatch.setattr(gate, "_gate", fake)
    monkeypatch.setattr(gate, "_planted", lambda *_: {"layers": 1, "cost": 0.1, "baseline_ms": 1.0})
    record = tmp_path / "gate.json"
    arguments = [str(exported("lenet5").path), "--out", str(record), "--folder", str(tmp_path / "files")]
    assert gate.main([*arguments, "--runs", "1", "--loaded-runs", "0"]) == 0
    assert gate.main([*arguments, "--runs", "2", "--loaded-runs", "0"]) == 0
    assert asked == [("baseline", name, seed) for seed in (0, 1) for name in ("copy", "planted")]
    found = json.loads(record.read_text())["counts"]
    assert (found["A/A"]["pass"], found["planted"]["regression"]) == (2, 2)
    capsys.readouterr()
    assert gate.main([str(tmp_path / "absent.onnx"), "--folder", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""The benchmark of GPUs, on the CPU: everything but the device."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, RuntimeMissingError
from cnnport.measuring.case import artifact_to_json
from cnnport.measuring.studies import gpu, gpu_parity
from cnnport.measuring.studies.gpu import Budget, OutOfTimeError
from cnnport.measuring.studies.gpu_record import Record, Variant

SUITE = """
import pytest

@pytest.mark.parametrize("name", ["ort-cpu", "torch-cpu", "openvino"])
def test_one(name):
    assert name != "openvino"

@pytest.mark.parametrize("name", ["ort-cpu"])
def test_two(name):
    pytest.skip("of no use here")
"""


@pytest.fixture
def files(tmp_path: Path, exported: Callable[[str], Artifact]) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "lenet5.onnx").write_bytes(exported("lenet5").path.read_bytes())
    return folder


def run(tmp_path: Path, files: Path, *more: str) -> tuple[int, dict[str, Any]]:
    out, suite = tmp_path / "gpu.json", tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    arguments = ["--out", str(out), "--files", str(files), "--suite", str(suite), "--models", "lenet5"]
    code = gpu.main([*arguments, "--runtimes", "ort-cpu", "--duration", "0.02", "--batches", "2", *more])
    return code, json.loads(out.read_text())


def test_one_document_has_it_all_and_a_second_run_adds_nothing(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, document = run(tmp_path, files)
    assert code == 0, document
    assert document["environment"]["packages"]["torch"]
    assert document["conformance"]["passed"] == 1
    assert document["conformance"]["skipped"] == ["test_two[ort-cpu]: of no use here"]
    # PyTorch is there because everything is held against it.
    assert [(row["runtime"], row["settings"]) for row in document["parity"]] == [
        ("torch-cpu", {}),
        ("ort-cpu", {}),
    ]
    for row in document["parity"]:
        assert [each["reference"] for each in row["against"]] == ["torch-cpu", "ort-cpu"]
        assert all(each["within"] for each in row["against"])
        assert row["deterministic"] is True
    assert document["parity"][1]["placement"]["CPUExecutionProvider"]["Conv"] == 3
    measured = [(row["model"], row["runtime"], row["settings"], row["batch"]) for row in document["latency"]]
    assert measured == [("lenet5", "ort-cpu", {}, 2)]
    assert all(row["latency_ms"]["p50"] > 0 and row["samples"] >= 10 for row in document["latency"])
    assert "samples_s" not in document["latency"][0]

    for name in ("ask", "bench"):
        monkeypatch.delattr(gpu, name)
    assert run(tmp_path, files) == (0, document)


def test_a_runtime_that_is_not_here_ends_with_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnport.runtimes.eager.driver", lambda: "no NVIDIA driver")
    assert gpu.main(["--out", str(tmp_path / "gpu.json"), "--runtimes", "torch-cuda"]) == 3
    assert not (tmp_path / "gpu.json").exists()


def test_a_record_of_another_machine_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    record = Record(path)
    record.document["devices"] = ["another GPU"]
    record.write()
    with pytest.raises(ArtifactError, match="another machine or software"):
        Record(path)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="no record of this benchmark"):
        Record(path)


def test_failures_are_named(tmp_path: Path) -> None:
    record = Record(tmp_path / "gpu.json")
    row = {"model": "lenet5", "runtime": "ort-cuda", "settings": {"nhwc": "1"}, "problem": None}
    record.document |= {
        "conformance": {"failures": ["test_x[ort-cuda]: assert 1 == 2"]},
        "problems": {"alexnet export": "no space left"},
        "parity": [
            {**row, "against": [{"within": True}, {"within": False}]},
            {**row, "against": [{"within": True}]},
            {**row, "problem": "GPU 0 has too little memory", "against": []},
        ],
    }
    assert record.failures() == [
        "test_x[ort-cuda]: assert 1 == 2",
        "alexnet export: no space left",
        "lenet5 on ort-cuda nhwc=1: departs",
        "lenet5 on ort-cuda nhwc=1: GPU 0 has too little memory",
    ]


def test_it_ends_with_what_it_has_when_the_time_is_used_up(tmp_path: Path, files: Path) -> None:
    code, document = run(tmp_path, files, "--budget-s", "1")
    assert (code, document["parity"], document["latency"]) == (0, [], [])
    with pytest.raises(OutOfTimeError):
        Budget(5).step_s()
    Budget(5).check()
    assert Budget(20).step_s() <= 20
    assert Budget(10_000).step_s() == 300


def test_outputs_that_differ_depart(
    exported: Callable[[str], Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: one runtime is off by a thousandth, another never gives the same bits twice."""
    made = iter(range(1, 100))

    def outputs(artifact: Artifact, runtime: str, options: Any, feeds: Any) -> dict[str, np.ndarray]:
        if runtime == "trt":
            raise RuntimeMissingError("runtime trt is not available")
        wrong = {"ort-cpu": 0.0, "torch-cpu": 1e-3, "null": next(made) * 1e-7}[runtime]
        return {"logits": np.linspace(-1, 1, 30).reshape(3, 10) * (1 + wrong)}

    monkeypatch.setattr(gpu_parity, "_outputs", outputs)
    question = {
        "artifact": artifact_to_json(replace(exported("lenet5"))),
        "variants": [{"runtime": name, "settings": {}} for name in ("ort-cpu", "torch-cpu", "null", "trt")],
        "references": [0],
        "batch": 3,
        "seed": 1,
        "device": 0,
        "threads": 1,
    }
    rows = gpu_parity.serve(question)["rows"]
    assert [[each["within"] for each in row["against"]] for row in rows] == [[True], [False], [True], []]
    assert math.isclose(rows[1]["against"][0]["max_abs"], 1e-3)
    assert [row["deterministic"] for row in rows] == [True, True, False, None]
    assert rows[3]["problem"] == "runtime trt is not available"


def test_variants_are_those_that_the_runtimes_offer() -> None:
    found = gpu.chosen_variants(["ort-cpu", "torch-cpu"])
    assert [str(each) for each in found] == ["torch-cpu", "ort-cpu", "torch-cpu layout=channels_last"]
    assert all(isinstance(each, Variant) for each in found)

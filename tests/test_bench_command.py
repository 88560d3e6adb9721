"""``cnnport bench`` on the command line: precisions, requests in flight, what is kept for a second run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnport import store
from cnnport.artifact import Artifact
from cnnport.measuring import journal as journal_module
from cnnport.measuring.request import Request, Told, cases_of

Run = Callable[..., tuple[int, str, str]]
Exported = Callable[[str], Artifact]
QUICK = ("--threads", "1", "--rounds", "1", "--warmup", "0", "--duration", "0.05")


def parsed(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_network_is_measured_in_each_precision_as_each_runtime_wants_it(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, told = [], []

    def artifact(model: str, *, precision: str, target: str | None, **_: object) -> Artifact:
        asked.append((model, precision, target))
        return exported("lenet5")

    monkeypatch.setattr("cnnport.measuring.request.artifact_of", artifact)
    runtimes = ("ort-cpu", "openvino")
    wanted = Request(
        ("lenet5", "resnet18"), runtimes, precisions=("fp32", "int8"), batches=(1,), threads=(1,)
    )
    assert [case.runtime for case in cases_of(wanted, Told(note=told.append))] == [*runtimes] * 4
    assert asked == [
        ("lenet5", "fp32", None),
        ("lenet5", "int8", "ort"),
        ("lenet5", "int8", "openvino"),
        ("resnet18", "fp32", None),
        ("resnet18", "int8", "ort"),
        ("resnet18", "int8", "openvino"),
    ]
    first, second = told
    assert first == "note: lenet5 in int8: ranges are found on digits"
    assert second.startswith("note: resnet18 in int8: ranges are found on random:64, which is for its speed")


def test_int8_of_the_zoo_is_made_and_kept(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.artifact_of("lenet5", weights="random", precision="int8", calibration="random:4")
    assert made.precision == "int8"
    monkeypatch.setattr(
        "cnnport.export_calibrated.export_calibrated", lambda *_, **__: pytest.fail("made again")
    )
    assert store.artifact_of("lenet5", weights="random", precision="int8", calibration="random:4") == made
    assert store.default_calibration("lenet5") == "digits"
    assert store.default_calibration("resnet18") == store.default_calibration("a.py:net") == "random:64"


@pytest.mark.parametrize(
    ("precision", "said"), [("int8", "is fp32, not int8"), ("fp16", "cnnport export --precision fp16")]
)
def test_a_file_is_what_it_is(cli: Run, exported: Exported, precision: str, said: str) -> None:
    path = exported("lenet5").path
    code, _, err = cli("bench", path, "--runtime", "null", "--precision", precision, *QUICK)
    assert code == 2
    assert said in err
    parsed(cli("bench", path, "--runtime", "null", "--precision", "fp32", *QUICK, "--json"))
    code, _, err = cli("bench", path, "--precision", "fp8")
    assert (code, "--precision is one of fp32, fp16, bf16, int8, not 'fp8'" in err) == (2, True)


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino"])
def test_requests_in_flight(cli: Run, exported: Exported, runtime: str) -> None:
    pytest.importorskip({"ort-cpu": "onnxruntime"}.get(runtime, runtime))
    document = parsed(
        cli("bench", exported("lenet5").path, "--runtime", runtime, "--concurrency", "1,3", *QUICK, "--json")
    )
    one, three = document["results"]
    assert (one["concurrency"], three["concurrency"]) == (1, 3)
    (entry,) = three["rounds"]
    assert three["throughput"] == pytest.approx(entry["samples"] / entry["elapsed_s"])
    assert one["throughput"] == pytest.approx(1e3 / one["latency_ms"]["mean"], rel=1e-4)
    # Three callers of one session share its CPUs, and each waits longer than one alone would.
    assert sum(three["samples_s"]) > 1.2 * entry["elapsed_s"]


def test_the_record_says_how_it_was_measured(
    cli: Run, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported("lenet5").path
    more = ("--seed", "5", "--transfers", "--warmup-max", "0.3")
    document = parsed(cli("bench", path, "--runtime", "null", *QUICK, *more, "--json"))
    method = document["method"]
    assert (method["seed"], method["rounds"], method["warmup_max_s"]) == (5, 1, 0.3)
    assert "medians of the last 3 windows" in method["rule"]
    assert method["command"].startswith(f"cnnport bench {path} --runtime null --threads 1 --")
    assert "--transfers" in method["command"]
    (row,) = document["results"]
    # Nothing is transferred where there is no device.
    assert (row["clock"], row["transfers"]) == ("wall", False)
    assert row["p50_interval_ms"]["confidence"] == 0.95


def test_what_was_measured_is_kept_until_the_result_is_there(
    cli: Run, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, partial = exported("lenet5").path, tmp_path / "r.json.partial.jsonl"
    command = ("bench", path, "--runtime", "null", "--batch", "1,2", *QUICK, "-o", "r.json")
    put = journal_module.Journal.put

    def killed(self: Any, key: str, answer: Any) -> None:
        put(self, key, answer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.Journal, "put", killed)
        assert cli(*command)[0] == 130
    assert partial.exists()
    code, _, err = cli(*command, "--seed", "1")
    assert (code, "a run with other seed" in err) == (2, True)
    document = parsed(cli(*command, "--json"))
    assert document["method"]["resumed"] == 1
    assert len(document["results"]) == 2
    assert not partial.exists()
    assert json.loads((tmp_path / "r.json").read_text()) == document
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]

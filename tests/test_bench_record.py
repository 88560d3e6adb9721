"""Statistics to the last bit, and records that survive being written and read."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnport.measuring import (
    Environment,
    Measurement,
    RecordError,
    Results,
    Round,
    Skipped,
    json_text,
    read_results,
)
from cnnport.measuring.comparison import Comparison, Verdict
from cnnport.measuring.environment import read_environment
from cnnport.measuring.measurement import Warmup
from cnnport.measuring.record import Method, percentile
from cnnport.measuring.sensors import Sensors

ROW = Measurement(
    model="lenet5",
    runtime="ort-cpu",
    precision="fp32",
    batch=4,
    threads=2,
    rounds=(
        Round((0.001, 0.002, 0.003), load_s=0.5, peak_memory_bytes=1000),
        Round((0.004,), load_s=0.1, peak_memory_bytes=3000),
        Round((0.005, 0.006), load_s=0.2, peak_memory_bytes=2000),
    ),
    weights="default",
    sha256="ab" * 32,
    cpus=(0, 2),
    runtime_version="onnxruntime 9.9",
    device="CPU",
)
RESULTS = Results(
    Environment(
        date_utc="2026-01-02T03:04:05+00:00", cpu_model="A CPU", cpus_allowed=(0, 2), packages={"numpy": "2"}
    ),
    (ROW, replace(ROW, runtime="null", rounds=(Round((1e-9,)),))),
    (Skipped("lenet5", "trt", "TensorRT is not installed: pip install it", "fp32", 1, 2, "random", 3),),
)

FULL = Results(
    Environment(),
    (
        replace(
            ROW,
            concurrency=3,
            clock="cuda-events",
            transfers=True,
            file="a/b.onnx",
            rounds=(
                Round(
                    (0.5, 0.25),
                    0.5,
                    10,
                    1.5,
                    20,
                    30,
                    0.375,
                    Warmup(0.25, 7, False),
                    Sensors(cpu_mhz=2600.0, package_joules=1.5),
                    Sensors(cpu_mhz=2500.0, gpu_throttled=1.0),
                    0.25,
                    0.5,
                ),
            ),
        ),
    ),
    (Skipped("m", "trt", "no", concurrency=3),),
    Method(3, 7, 0.5, 2.0, 3.0, 10, "a rule", "cnnport bench", 1),
    (
        Comparison(
            "m on r",
            "p50",
            "p50+5%",
            1.05,
            1.0,
            0.5,
            1.5,
            0.99,
            Verdict.INCONCLUSIVE,
            True,
            5,
            2.0,
            2.5,
            "ab",
            "new",
        ),
    ),
    (ROW,),
)

samples = st.lists(st.floats(1e-9, 1e4, allow_nan=False), min_size=1, max_size=50)


@given(samples, st.floats(0, 100))
def test_percentiles_are_numpys_to_the_last_bit(values, q):
    assert percentile(tuple(sorted(values)), q) == np.percentile(values, q)


@given(samples)
def test_figures_are_numpys(values):
    row = replace(ROW, rounds=(Round(tuple(values)),))
    figures = row.latency_s
    assert list(figures) == ["mean", "p50", "p90", "p95", "p99", "min", "max", "std"]
    assert figures["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert figures["std"] == pytest.approx(np.std(values), rel=1e-9, abs=1e-9 * max(values))
    assert (figures["min"], figures["max"]) == (min(values), max(values))
    assert [figures[f"p{q}"] for q in (50, 90, 95, 99)] == [row.p50_s, row.p90_s, row.p95_s, row.p99_s]
    assert row.throughput == 4 / row.mean_s


def test_figures_over_rounds():
    assert ROW.samples_s == (0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
    assert ROW.p50_s == 0.0035
    assert ROW.round_medians_s == (0.002, 0.004, 0.0055)
    assert ROW.load_s == 0.2
    assert ROW.peak_memory_bytes == 3000
    assert ROW.throughput == pytest.approx(4 / 0.0035)


def test_a_run_too_short_for_the_clock():
    row = replace(ROW, rounds=(Round((0.0, 0.0)),))
    assert row.throughput == math.inf
    assert row.to_json()["throughput"] is None
    assert Measurement.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_power_is_energy_over_time():
    row = Round((0.5, 0.5), before=Sensors(package_joules=3.0), after=Sensors(package_joules=8.0))
    assert row.package_watts == row.to_json()["package_watts"] == 5.0
    # The counter starts again from nothing now and then.
    assert replace(row, after=Sensors(package_joules=1.0)).package_watts is None
    assert replace(row, after=None).package_watts is None


def test_throughput_of_several_requests_is_counted():
    row = replace(ROW, concurrency=3, rounds=(Round((0.5, 0.5), elapsed_s=0.5), Round((1.0,), elapsed_s=1.0)))
    assert row.throughput == 4 * 3 / 1.5
    # Where nobody counted, all callers are taken to be busy all the time.
    assert replace(row, rounds=(Round((0.5,)),)).throughput == 4 * 3 / 0.5


def test_a_measurement_has_samples():
    with pytest.raises(ValueError, match="samples in every round"):
        replace(ROW, rounds=())
    with pytest.raises(ValueError, match="samples in every round"):
        replace(ROW, rounds=(Round(()),))


def test_json_has_the_shape_of_the_contract():
    document = json.loads(json_text(RESULTS))
    assert set(document) == {"environment", "method", "results", "skipped", "warnings"}
    assert {entry["code"] for entry in document["warnings"]} == {"few-samples", "rounds-differ"}
    assert all(set(entry) == {"code", "case", "message", "advice"} for entry in document["warnings"])
    row = document["results"][0]
    assert {
        "model": "lenet5",
        "runtime": "ort-cpu",
        "precision": "fp32",
        "batch": 4,
        "threads": 2,
    }.items() <= row.items()
    assert row["latency_ms"] == {
        "mean": 3.5,
        "p50": 3.5,
        "p90": 5.5,
        "p95": 5.75,
        "p99": 5.95,
        "min": 1.0,
        "max": 6.0,
        "std": 1.707825,
    }
    assert row["throughput"] == pytest.approx(4 / 0.0035)
    assert row["samples_s"] == [0.001, 0.002, 0.003, 0.004, 0.005, 0.006]
    assert row["weights"] == "default"
    assert {"model", "runtime", "reason"} <= set(document["skipped"][0])


def test_json_round_trip(tmp_path):
    for results in (
        RESULTS,
        FULL,
        replace(RESULTS, environment=read_environment()),
        Results(Environment(), ()),
    ):
        path = tmp_path / "results.json"
        path.write_text(json_text(results))
        assert read_results(path) == results
        assert Results.from_json(results.to_json()) == results


def test_fields_of_the_future_are_ignored():
    document = RESULTS.to_json()
    document["schema"] = 7
    document["environment"]["temperature_c"] = 60
    document["results"][0]["energy_j"] = {"mean": 1}
    document["results"][0]["rounds"][0]["clock_mhz"] = [1, 2]
    document["skipped"][0]["since"] = "tomorrow"
    assert Results.from_json(document) == RESULTS


def test_the_contracts_least_is_enough():
    row = {
        "model": "m",
        "runtime": "r",
        "precision": "fp32",
        "batch": 1,
        "threads": 1,
        "latency_ms": {},
        "throughput": 1,
        "samples_s": [1, 0.5],
    }
    document = {
        "environment": {},
        "results": [row],
        "skipped": [{"model": "m", "runtime": "trt", "reason": "no"}],
    }
    results = Results.from_json(document)
    assert results.results[0].rounds == (Round((1.0, 0.5)),)
    assert results.skipped == (Skipped("m", "trt", "no"),)
    assert results.environment == Environment()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: row.pop("model"), "'model'"),
        (lambda row: row.update(batch="one"), "'batch'"),
        (lambda row: row.update(batch=True), "'batch'"),
        (lambda row: row.update(samples_s=[]), "'samples_s'"),
        (lambda row: row.update(samples_s=[0.1, "x"]), "'samples_s'"),
        (lambda row: row.update(samples_s=[float("nan")]), "'samples_s'"),
        (lambda row: row.update(samples_s=[-1.0]), "'samples_s'"),
        (lambda row: row["rounds"][0].update(samples=99), "'rounds'"),
        (lambda row: row["rounds"][0].update(samples=None), "'samples'"),
        (lambda row: row.update(rounds=[1]), "'rounds'"),
        (lambda row: row.update(cpus=["zero"]), "'cpus'"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, damage, message):
    document = RESULTS.to_json()
    damage(document["results"][0])
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(RecordError, match=r"results\.json is not a cnnport benchmark") as error:
        read_results(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", json_text(RESULTS)[:-40], "[" * 100_000, "\x00\x01", "[]", '{"results": {}}', "3"]
)
def test_a_damaged_file_is_an_error_of_ours(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"results\.json is not"):
        read_results(path)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RecordError, match="damaged"):
        read_results(tmp_path / "results.json")
    with pytest.raises(RecordError, match="No such file"):
        read_results(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "wrong", [{"cores_logical": "two"}, {"cpu_flags": [1]}, {"load_average_start": "x"}, {"packages": []}]
)
def test_a_damaged_environment_is_named(wrong):
    with pytest.raises(RecordError, match=r"cores_logical|missing|load_average_start|packages"):
        Environment.from_json(wrong)

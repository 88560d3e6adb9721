"""The regression gate: limits, baselines, verdicts, and the rounds that it takes."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.measuring import Measurement, Round, Verdict, bench, json_text, make_cases
from cnnport.measuring.gate import (
    Baseline,
    append_summary,
    bench_against,
    find_baselines,
    parse_limit,
    summary_text,
)
from cnnport.measuring.gate import run as gate_module
from cnnport.measuring.gate.judge import compare_pair, compare_records, verdict_of, worst
from cnnport.measuring.gate.pairs import SIDES
from cnnport.measuring.journal import Journal
from cnnport.measuring.run import Plan
from cnnport.measuring.statistics import Interval, student_interval
from cnnport.onnxfile import read_artifact

Run = Callable[..., tuple[int, str, str]]
P50 = parse_limit("p50+5%")
PLAN = Plan(rounds=5, warmup_s=0.0, duration_s=0.05)


def convolution(path: Path, channels: int = 4) -> Artifact:
    weights = np.ones((channels, 3, 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", channels, 6, 6])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return read_artifact(path)


def row(*rounds_s: tuple[float, ...], **changed: Any) -> Measurement:
    return Measurement("m", "null", "fp32", 1, 1, tuple(map(Round, rounds_s)), **changed)


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("p50+5%", "p50", 1.05),
        (" P99 + 2.5 % ", "p99", 1.025),
        ("throughput-5%", "throughput", 0.95),
        ("memory+10%", "memory", 1.1),
    ],
)
def test_limits(text: str, name: str, bound: float) -> None:
    limit = parse_limit(text)
    assert (limit.metric.name, limit.bound) == (name, pytest.approx(bound))
    assert " " not in limit.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p50", r"takes METRIC\+N%"),
        ("p50+5", r"takes METRIC\+N%"),
        ("p50>5%", r"takes METRIC\+N%"),
        ("p42+5%", "knows no metric 'p42': it is one of p50, p90"),
        ("p50-5%", r"more p50 is worse, so write p50\+5%"),
        ("throughput+5%", r"less throughput is worse, so write throughput-5%"),
        ("throughput-100%", "cannot fall by 100%"),
    ],
)
def test_limits_that_are_none(text: str, said: str) -> None:
    with pytest.raises(CnnportError, match=said):
        parse_limit(text)


@pytest.mark.parametrize(
    ("low", "high", "latency", "throughput"),
    [
        (0.97, 1.04, Verdict.PASS, Verdict.PASS),
        (1.06, 1.09, Verdict.REGRESSION, Verdict.PASS),
        (1.04, 1.06, Verdict.INCONCLUSIVE, Verdict.PASS),
        (0.90, 0.94, Verdict.PASS, Verdict.REGRESSION),
        (0.94, 1.06, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (1.05, 1.05, Verdict.INCONCLUSIVE, Verdict.PASS),
    ],
)
def test_verdicts(low: float, high: float, latency: Verdict, throughput: Verdict) -> None:
    assert verdict_of(P50, Interval(low, high)) is latency
    assert verdict_of(parse_limit("throughput-5%"), Interval(low, high)) is throughput


def test_the_ratio_is_the_median_over_rounds_of_pairs() -> None:
    base = row((1.0, 1.0), (2.0, 2.0), (4.0, 4.0))
    other = row((1.1, 1.1), (2.4, 2.4), (4.2, 4.2))
    found = compare_pair("c", P50, base, other)
    assert found.ratio == pytest.approx(1.1)
    # The bootstrap's interval is 1.05 to 1.2; of three ratios Student knows less.
    assert 0.75 < found.low < 1.05 < 1.2 < found.high < 1.7
    assert (found.baseline, found.value) == (2000.0, 2400.0)
    assert (found.paired, found.rounds, found.confidence) == (True, 3, 0.99)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_figures_of_whole_processes() -> None:
    base = Measurement(
        "m", "null", "fp32", 2, 1, tuple(Round((0.5,), load_s=1.0, peak_memory_bytes=100) for _ in range(5))
    )
    other = Measurement(
        "m", "null", "fp32", 2, 1, tuple(Round((1.0,), load_s=1.2, peak_memory_bytes=120) for _ in range(5))
    )
    found = {
        text: compare_pair("c", parse_limit(text), base, other)
        for text in ("memory+10%", "memory+30%", "load+10%", "throughput-5%", "mean+200%", "p50+99%")
    }
    assert {text: (each.ratio, str(each.verdict)) for text, each in found.items()} == {
        "memory+10%": (1.2, "regression"),
        "memory+30%": (1.2, "pass"),
        "load+10%": (1.2, "regression"),
        "throughput-5%": (0.5, "regression"),
        "mean+200%": (2.0, "pass"),
        "p50+99%": (2.0, "regression"),
    }
    assert (found["throughput-5%"].baseline, found["throughput-5%"].value) == (4.0, 2.0)


def test_a_record_is_compared_as_a_whole() -> None:
    base = row(*[(1.0, 1.1, 1.2)] * 3, sha256="ab")
    found = compare_records("c", P50, base, row(*[(1.2, 1.3, 1.4)] * 3), "gone")
    assert found.ratio == pytest.approx(1.3 / 1.1)
    assert (found.paired, found.note, found.baseline_sha256) == (False, "gone", "ab")
    assert found.low < found.ratio < found.high


def test_of_one_round_nothing_follows() -> None:
    assert compare_pair("c", P50, row((1.0,)), row((2.0,))).verdict is Verdict.INCONCLUSIVE


def test_student_is_student() -> None:
    found = student_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    # The mean, and 4.604 times the standard error.
    assert (found.low, found.high) == (
        pytest.approx(3 - 4.604 * 0.5**0.5),
        pytest.approx(3 + 4.604 * 0.5**0.5),
    )
    # Of eight the lowest and the highest do not count, however far they are.
    spoilt = student_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1000.0])
    assert (spoilt.low, spoilt.high) == pytest.approx((4.5 - 4.032, 4.5 + 4.032))


def test_the_worst_verdict_counts() -> None:
    passed, failed = (
        compare_pair("c", P50, row((1.0,), (1.0,)), row((value,), (value,))) for value in (1.0, 2.0)
    )
    open_ = replace(passed, verdict=Verdict.INCONCLUSIVE)
    assert worst([]) is Verdict.PASS
    assert worst([passed, open_]) is Verdict.INCONCLUSIVE
    assert worst([passed, open_, failed]) is Verdict.REGRESSION


class Machine:
    """Stands in for the processes of a pair: noise of processes and of samples, and a new side slower by a factor."""

    def __init__(self, seed: int, slower: float, process: float = 0.01, noise: float = 0.05) -> None:
        self.generator = np.random.default_rng(seed)
        self.factors = {"baseline": 1.0, "new": slower}
        self.process, self.noise = process, noise
        self.rounds: list[int] = []

    def __call__(self, baseline: Any, new: Any, plan: Plan, number: int) -> dict[str, Any]:
        self.rounds.append(number)
        return {side: self.answer(factor) for side, factor in self.factors.items()}

    def answer(self, factor: float) -> dict[str, Any]:
        center = 1e6 * factor * np.exp(self.process * self.generator.standard_normal())
        samples = center * np.exp(self.noise * np.abs(self.generator.standard_normal(20)))
        return {
            "samples_ns": samples.astype(int).tolist(),
            "load_ns": 1,
            "peak_memory_bytes": 1,
            "cpus": [0],
            "runtime_version": "v",
            "device": "d",
        }


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return convolution(tmp_path / "conv.onnx")


def gated(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, machine: Machine, **changed: Any) -> Any:
    monkeypatch.setattr(gate_module, "measure_pair", machine)
    (case,) = make_cases([artifact], ["null"], [1], [1])
    return bench_against([case], [Baseline(case, None)], [P50], replace(PLAN), **changed)


@pytest.mark.parametrize("slower", [1.0, 1.1])
def test_verdicts_over_many_gates(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, slower: float) -> None:
    """Seeded machines whose processes differ by 1 % and whose samples by 5 %; of A/A tests none may fail."""
    verdicts = Counter(
        str(gated(artifact, monkeypatch, Machine(seed, slower)).comparisons[0].verdict) for seed in range(20)
    )
    assert verdicts["regression" if slower == 1 else "pass"] == 0
    assert verdicts["pass" if slower == 1 else "regression"] >= 18


def test_a_noisy_machine_is_inconclusive_rather_than_wrong(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = Counter()
    for seed in range(8):
        for slower, wrong in ((1.0, "regression"), (1.1, "pass")):
            machine = Machine(seed, slower, process=0.15, noise=0.3)
            (found,) = gated(artifact, monkeypatch, machine, max_rounds=6).comparisons
            verdicts["wrong" if found.verdict == wrong else str(found.verdict)] += 1
    assert verdicts["wrong"] == 0
    assert verdicts["inconclusive"] >= 12


def test_rounds_are_added_until_it_is_clear_and_no_longer(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = Machine(1, 2.0)
    results = gated(artifact, monkeypatch, clear)
    assert clear.rounds == [1, 2, 3, 4, 5]
    assert results.comparisons[0].verdict is Verdict.REGRESSION
    assert len(results.results[0].rounds) == len(results.baselines[0].rounds) == 5
    open_ = Machine(1, 1.05)
    results = gated(artifact, monkeypatch, open_, max_rounds=9)
    assert open_.rounds == list(range(1, 10))
    assert (results.comparisons[0].verdict, results.comparisons[0].rounds) == (Verdict.INCONCLUSIVE, 9)
    with pytest.raises(CnnportError, match="--max-rounds 4 must be at least --rounds 5"):
        gated(artifact, monkeypatch, open_, max_rounds=4)


def test_a_killed_gate_goes_on(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "r.partial.jsonl"

    class Killed(Machine):
        def __call__(self, *arguments: Any) -> dict[str, Any]:
            if len(self.rounds) == 3:
                raise KeyboardInterrupt
            return super().__call__(*arguments)

    first, second = Killed(1, 1.0), Machine(2, 1.0)
    journals = [Journal(path) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        gated(artifact, monkeypatch, first, journal=journals[0])
    journals[0].close()
    results = gated(artifact, monkeypatch, second, journal=journals[1])
    journals[1].close()
    assert (first.rounds, second.rounds[:2]) == ([1, 2, 3], [4, 5])
    third = Machine(3, 1.0)
    assert gated(artifact, monkeypatch, third, journal=journals[2]).results == results.results
    assert third.rounds == []
    journals[2].close()


def test_a_side_that_fails_is_a_row_with_its_reason(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gate_module, "measure_pair", lambda *_: {"error": "baseline side: it fell over", "exit_code": 1}
    )
    (case,) = make_cases([artifact], ["null"], [1], [1])
    results = bench_against([case], [Baseline(case, None)], [P50], PLAN)
    assert [row.reason for row in results.skipped] == ["baseline side: it fell over (round 1)"]
    assert results.comparisons == ()


def test_a_real_pair(artifact: Artifact, tmp_path: Path) -> None:
    (case,) = make_cases([artifact], ["null"], [2], [1])
    plan = Plan(rounds=2, warmup_s=0.0, duration_s=0.05)
    results = bench_against(
        [case], [Baseline(case, None)], [P50, parse_limit("memory+50%")], plan, max_rounds=2
    )
    (new,), (base,) = results.results, results.baselines
    for side in (new, base):
        assert len(side.rounds) == 2
        for entry in side.rounds:
            assert len(entry.samples_s) >= 10
            assert entry.warmup is not None
            assert entry.other_load is None or 0 <= entry.other_load <= 1
            assert entry.peak_memory_bytes > 0
    assert [each.metric for each in results.comparisons] == ["p50", "memory"]
    assert results.comparisons[1].ratio == pytest.approx(1, abs=0.1)
    artifact.path.write_bytes(b"changed")
    failed = bench_against([case], [Baseline(case, None)], [P50], plan, max_rounds=2)
    assert failed.skipped[0].reason.startswith(f"{SIDES[0]} side: ")


def recorded(artifact: Artifact, path: Path, *, rows: int = 1) -> Path:
    results = bench(make_cases([artifact], ["null"], [1], [1]), rounds=1, warmup_s=0, duration_s=0)
    path.write_text(json_text(replace(results, results=results.results * rows)))
    return path


def test_the_baseline_is_found_by_path_and_hash(artifact: Artifact, tmp_path: Path) -> None:
    record = recorded(artifact, tmp_path / "old.json")
    new = convolution(tmp_path / "new.onnx", 5)
    (case,) = make_cases([new], ["null"], [1], [1])
    (found,) = find_baselines([case], record)
    # The networks' names differ, and there is no other that could be meant.
    assert found.case.artifact.sha256 == artifact.sha256
    assert found.case.batch == 1
    # It lies beside the record elsewhere.
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "conv.onnx").write_bytes(artifact.path.read_bytes())
    artifact.path.write_bytes(b"another")
    (found,) = find_baselines([case], record)
    assert found.case is None
    assert "is not here as it was" in found.note
    (moved / "old.json").write_text(record.read_text())
    (found,) = find_baselines([case], moved / "old.json")
    assert found.case.artifact.path == moved / "conv.onnx"


def test_the_baseline_may_be_a_file(artifact: Artifact, tmp_path: Path) -> None:
    other = convolution(tmp_path / "new.onnx", 5)
    cases = make_cases([other], ["null"], [1, 4], [1])
    found = find_baselines(cases, artifact.path)
    assert [(each.case.artifact.sha256, each.case.batch) for each in found] == [
        (artifact.sha256, 1),
        (artifact.sha256, 4),
    ]
    with pytest.raises(CnnportError, match="2 are measured: give a record"):
        find_baselines([*cases, *make_cases([artifact], ["null"], [1], [1])], artifact.path)


def test_a_baseline_of_something_else(artifact: Artifact, tmp_path: Path) -> None:
    record = recorded(artifact, tmp_path / "old.json")
    cases = make_cases([artifact], ["null"], [1, 2], [1])
    assert [each is None for each in find_baselines(cases, record)] == [False, True]
    with pytest.raises(
        CnnportError, match=r"old\.json has no row for conv on null .*batch 2.*: it has conv on null"
    ):
        find_baselines(cases[1:], record)


def test_where_the_file_is_gone_the_record_is_taken_with_a_warning(
    artifact: Artifact, tmp_path: Path
) -> None:
    record = recorded(artifact, tmp_path / "old.json")
    artifact.path.unlink()
    new = convolution(tmp_path / "new.onnx", 5)
    cases = make_cases([new], ["null"], [1], [1])
    results = bench_against(
        cases, find_baselines(cases, record), [P50], Plan(rounds=1, warmup_s=0, duration_s=0)
    )
    (found,) = results.comparisons
    assert not found.paired
    warnings = results.to_json()["warnings"]
    assert "baseline-not-measured" in {each["code"] for each in warnings}
    assert "against the record" in summary_text(results)


def test_the_summary_is_appended(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "summary.md"
    target.write_text("before\n")
    results = gated(artifact, monkeypatch, Machine(1, 1.5))
    append_summary(results, target)
    text = target.read_text()
    assert text.startswith("before\n## cnnport bench: regression\n")
    (line,) = [line for line in text.splitlines() if line.startswith("| conv on null")]
    assert line.endswith("| +5.0% | 5 | regression |")
    assert summary_text(replace(results, comparisons=())) == ""


# On the command line, with a pair of processes that is none.


@pytest.fixture
def command(cli: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def run(slower: float, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(gate_module, "measure_pair", Machine(1, slower))
        options = ("--runtime", "null", "--threads", "1", "--warmup", "0", "--duration", "0")
        return cli("bench", *arguments, *options)

    return run


@pytest.mark.parametrize(
    ("slower", "more", "code", "said"),
    [
        (1.0, (), 0, ""),
        (1.2, (), 1, "error: conv on null (fp32, batch 1, threads 1): p50 +"),
        (1.2, ("--fail-if", "p50+50%"), 0, ""),
        (1.05, ("--max-rounds", "6"), 0, "--strict makes that a failure"),
        (1.05, ("--max-rounds", "6", "--strict"), 1, "inconclusive"),
        (1.0, ("--fail-if", "p50+5%,mean+5%", "--fail-if", "memory+1%"), 0, ""),
    ],
)
def test_exit_codes(
    command: Any, artifact: Artifact, slower: float, more: tuple[str, ...], code: int, said: str
) -> None:
    found, out, err = command(slower, artifact.path, "--baseline", artifact.path, "--json", *more)
    assert (found, said in err) == (code, True), err
    document = json.loads(out)
    assert document["comparisons"][0]["metric"] == "p50"
    assert len(document["baselines"]) == 1
    assert document["method"]["command"].startswith("cnnport bench")


def test_wrong_usage(cli: Run, artifact: Artifact) -> None:
    assert cli("bench", artifact.path, "--fail-if", "p50+5%")[0::2] == (
        2,
        "error: --fail-if goes with --baseline, which is missing\n",
    )
    code, _, err = cli(
        "bench", artifact.path, "--runtime", "null", "--baseline", artifact.path, "--fail-if", "p50"
    )
    assert code == 2
    assert "takes METRIC+N%" in err
    code, _, err = cli("bench", artifact.path, "--runtime", "null", "--baseline", "absent.json")
    assert code == 2
    assert "cannot read absent.json" in err

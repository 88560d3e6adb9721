"""Tuning: who wins and why, that what is fast and wrong does not, and that a killed search goes on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, OutputError
from cnnport.measuring.tuning import Candidate, Tuned, Variant, Wishes, as_markdown, report_of, search, tune
from cnnport.measuring.tuning.accuracy import Accuracy
from cnnport.measuring.tuning.deciding import winner_of
from cnnport.measuring.tuning.offers import OFFERS, candidates_of, plain_of, threads_of, variants_of
from cnnport.measuring.tuning.racing import MOST_ROUNDS, Race, Stage, race
from cnnport.measuring.tuning.state import State
from cnnport.measuring.tuning.writing import KEY, tuned_for, write_winner
from cnnport.onnxfile import load_model, read_artifact, write_foreign
from cnnport.verifying import verify

PLAIN = Candidate(Variant("portable", "fp32"), "ort-cpu", 2, "fp32")
FLOAT = Candidate(Variant("ort", "fp32"), "ort-cpu", 2, "fp32")
INT8 = Candidate(Variant("ort", "int8"), "ort-cpu", 2, "int8")
EXACT = Accuracy(0.0, None, "", "the same")


def raced(ms: float, *, scatter: float = 0.0, stage: str = "final", rounds: int = 5) -> Race:
    """A candidate that takes so many ms where the plain one takes 1, some rounds more and some less."""
    plain = tuple((1e-3,) * 4 for _ in range(rounds))
    own = tuple((ms * 1e-3 * (1 - scatter * (-1) ** number),) * 4 for number in range(rounds))
    return Race(stage, plain, own)


def decided(accuracies: dict[Candidate, Accuracy] | None = None, **races: Race) -> Candidate:
    named = {"plain": PLAIN, "float": FLOAT, "int8": INT8}
    found = {EXACT_NAME.run: EXACT for EXACT_NAME in named.values()}
    for each, accuracy in (accuracies or {}).items():
        found[each.run] = accuracy
    by_name = {named[name].name: each for name, each in races.items()}
    return winner_of(PLAIN, [named[name] for name in races], by_name, found)[0]


def test_the_fastest_wins_if_it_is_faster_by_more_than_noise():
    assert decided(float=raced(0.8)) == FLOAT
    assert decided(float=raced(0.98, scatter=0.1)) == PLAIN
    assert decided(float=raced(1.2)) == PLAIN
    assert decided() == PLAIN
    assert decided(float=raced(0.8), int8=raced(0.5)) == INT8


def test_less_accurate_arithmetic_has_to_pay():
    """Eight bits that are no faster than float by more than noise stay behind, whichever order they come in."""
    assert decided(float=raced(0.8), int8=raced(0.79, scatter=0.1)) == FLOAT
    assert decided(int8=raced(0.79, scatter=0.1), float=raced(0.8)) == FLOAT
    lossy = replace(FLOAT, variant=Variant("openvino", "fp32"))
    races = {FLOAT.name: raced(0.8), lossy.name: raced(0.79, scatter=0.1)}
    accuracies = {FLOAT.run: EXACT, lossy.run: replace(EXACT, drop=0.3)}
    assert winner_of(PLAIN, [lossy, FLOAT], races, accuracies)[0] == FLOAT
    # Of the same accuracy, the faster one wins.
    accuracies[lossy.run] = EXACT
    assert winner_of(PLAIN, [lossy, FLOAT], races, accuracies)[0] == lossy


def test_races_are_held_against_each_other_turn_by_turn():
    assert raced(0.5).speedup == pytest.approx(2.0)
    ratio, interval = raced(0.5).against(raced(0.8))
    assert ratio == pytest.approx(1.6)
    assert interval is not None
    # Of other turns nothing is paired.
    ratio, interval = raced(0.5).against(raced(0.8, rounds=3))
    assert ratio == pytest.approx(1.6)
    assert interval is None
    assert Race.from_json("final", json.loads(json.dumps(raced(0.5).to_json()))) == raced(0.5)


def test_what_is_tried():
    offers = [each for each in OFFERS if each.runtime in {"ort-cpu", "openvino"}]
    wanted = variants_of(offers)
    assert wanted[0] == Variant("portable", "fp32")
    assert [each.precision for each in wanted] == ["fp32"] * 3 + ["int8"] * 2
    found = candidates_of(offers, wanted, (1, 2), 4)
    names = {each.name for each in found}
    assert len(names) == len(found) == 2 * (3 + 1 + 3 * 3 + 2)
    assert "ort.int8 on ort-cpu, 1 thread" in names
    assert "portable.fp32 on openvino batch=4 precision=bf16, 2 threads" in names
    assert plain_of(offers, (1, 2), 4).name in names
    # Files that could not be made are not tried.
    assert not [
        each for each in candidates_of(offers, wanted[:1], (1,), 1) if each.variant.precision == "int8"
    ]
    assert threads_of([3, 3]) == (3,)


Latencies = dict[str, float]


@pytest.fixture
def racing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Races that last no time: latencies in ms by the beginning of a candidate's name; gives the groups that ran."""

    def give(latencies: Latencies, *, die_at: int | None = None, noisy: range = range(0)) -> list[list[str]]:
        groups: list[list[str]] = []

        def fake(plain: Candidate, group: Sequence[Candidate], _files: Any, stage: Stage, **_: Any) -> Any:
            if die_at == len(groups):
                raise KeyboardInterrupt
            scatter = 0.3 if len(groups) in noisy else 0.0
            groups.append([each.name for each in group])

            def one(name: str) -> Race:
                told = [ms for start, ms in latencies.items() if name.startswith(start)]
                return (
                    raced(told[0], scatter=scatter, stage=stage.name)
                    if told
                    else raced(1.0, stage=stage.name)
                )

            return {each.name: one(each.name) for each in (plain, *group)}

        monkeypatch.setattr(search, "race", fake)
        return groups

    return give


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Files that are copies of the base, each a little different; those that are told are wrong."""

    def give(*wrong: str) -> list[str]:
        made: list[str] = []

        def copy(floats: Path, variant: Variant, path: Path) -> None:
            made.append(variant.name)
            model = load_model(floats)
            model.doc_string = variant.name
            if variant.name in wrong:
                weights = model.graph.initializer[-1]
                noise = np.random.default_rng(0).normal(size=tuple(weights.dims)).astype(np.float32)
                weights.CopyFrom(numpy_helper.from_array(noise, weights.name))
            write_foreign(model, path)

        monkeypatch.setattr(
            search, "build_float", lambda source, variant, path, **_: copy(source.base.path, variant, path)
        )
        monkeypatch.setattr(
            search, "build_int8", lambda floats, variant, path, *_args, **_: copy(floats, variant, path)
        )
        return made

    return give


WISHES = Wishes("lenet5.onnx", calibration="digits:100", runtimes=("ort-cpu",), threads=(1,))


@pytest.fixture
def lenet(exported: Callable[[str], Artifact]) -> Artifact:
    return exported("lenet5")


def outcome(done: Tuned, start: str) -> str:
    return next(text for name, text in done.outcomes.items() if name.startswith(start))


def test_planted_what_is_fast_and_wrong_does_not_win(lenet: Artifact, tmp_path: Path, racing, building):
    """The file with another last layer is ten times as fast, and its answers are judged on real digits."""
    racing({"openvino.fp32": 0.1, "ort.int8": 0.5})
    building("openvino.fp32")
    done = tune(WISHES, lenet, tmp_path / "a.tune")
    assert done.winner.variant == Variant("ort", "int8")
    assert "points: over the budget of 0.5" in outcome(done, "openvino.fp32")
    lost = done.accuracies["openvino.fp32 on ort-cpu"].drop
    assert lost is not None
    assert lost > 50
    # Without the fault the same file wins.
    building()
    assert tune(WISHES, lenet, tmp_path / "b.tune").winner.variant == Variant("openvino", "fp32")
    # Within a budget of everything, so does the wrong one.
    building("openvino.fp32")
    done = tune(replace(WISHES, max_drop=100.0), lenet, tmp_path / "c.tune")
    assert done.winner.variant == Variant("openvino", "fp32")


def test_planted_it_does_not_win_on_noise_either(lenet: Artifact, tmp_path: Path, racing, building):
    racing({"ort.fp32": 0.1})
    building("ort.fp32")
    done = tune(replace(WISHES, calibration=None), lenet, tmp_path / "a.tune")
    assert done.winner == replace(PLAIN, threads=1)
    assert "its outputs are not the network's" in outcome(done, "ort.fp32")
    assert done.is_noise
    assert any("nothing follows from it about accuracy" in note for note in done.notes)
    # Without samples there are no 8 bits.
    assert any(note.startswith("ort.int8 was not made: 8 bits need samples") for note in done.notes)


def test_a_killed_search_goes_on(lenet: Artifact, tmp_path: Path, racing, building):
    latencies = {"ort.fp32": 0.8, "ort.int8": 0.5}
    made, groups = building(), racing(latencies, die_at=2)
    with pytest.raises(KeyboardInterrupt):
        tune(WISHES, lenet, tmp_path / "a.tune")
    assert len(made) == 3
    assert len(groups) == 2
    again, groups_again = building(), racing(latencies)
    done = tune(WISHES, lenet, tmp_path / "a.tune")
    assert done.is_resumed
    assert not again
    assert not [group for group in groups_again if group in groups]
    assert done.winner.variant == Variant("ort", "int8")
    # At once, and the same, when everything is done.
    last = racing({})
    finished = tune(WISHES, lenet, tmp_path / "a.tune")
    assert not last
    assert (finished.winner, finished.races, finished.why) == (done.winner, done.races, done.why)
    # Another search is not taken for it; nor is a file that has changed.
    racing(latencies)
    assert not tune(replace(WISHES, max_drop=1.0), lenet, tmp_path / "a.tune").is_resumed
    (tmp_path / "a.tune" / "ort.int8.onnx").write_bytes(b"")
    rebuilt = building()
    tune(replace(WISHES, max_drop=1.0), lenet, tmp_path / "a.tune")
    assert rebuilt == ["ort.int8"]


def test_the_final_goes_on_while_noise_hides_the_winner(lenet: Artifact, tmp_path: Path, racing, building):
    """Four groups run before the final; of that, the first rounds scatter by a third."""
    building()
    latencies = {"ort.fp32": 0.95}
    quiet = racing(latencies)
    assert tune(WISHES, lenet, tmp_path / "a.tune").winner.variant == Variant("ort", "fp32")
    final = len(quiet) - 1
    noisy = racing(latencies, noisy=range(final, final + 2))
    done = tune(WISHES, lenet, tmp_path / "b.tune")
    assert done.winner.variant == Variant("ort", "fp32")
    assert len(noisy) > len(quiet)
    assert len(done.races[done.winner.name].own_s) == 5 * (len(noisy) - final)
    # A machine that is never quiet ends it too, and the plain one stays.
    endless = racing(latencies, noisy=range(final, 1000))
    done = tune(WISHES, lenet, tmp_path / "c.tune")
    assert done.winner.variant == Variant("portable", "fp32")
    assert MOST_ROUNDS <= 5 * (len(endless) - final) < MOST_ROUNDS + 5


def test_a_budget_that_is_used_up_gives_the_best_so_far(lenet: Artifact, tmp_path: Path, racing, building):
    racing({"ort.int8": 0.5})
    building()
    done = tune(replace(WISHES, budget_s=1e-6), lenet, tmp_path / "a.tune")
    assert not done.is_complete
    assert done.winner.variant == Variant("portable", "fp32")
    assert any("used up: this is the best so far" in note for note in done.notes)
    done = tune(WISHES, lenet, tmp_path / "a.tune")
    assert done.is_resumed
    assert done.is_complete
    assert done.winner.variant == Variant("ort", "int8")
    with pytest.raises(CnnportError, match="more than 0"):
        tune(replace(WISHES, budget_s=0.0), lenet, tmp_path / "a.tune")


def test_the_most_accurate_that_is_fast_enough(lenet: Artifact, tmp_path: Path, racing, building):
    """With a latency to reach, less accurate files are not even made where float32 reaches it."""
    racing({"ort.fp32": 0.8, "ort.int8": 0.5})
    made = building()
    done = tune(replace(WISHES, target_ms=0.9), lenet, tmp_path / "a.tune")
    assert done.winner.variant == Variant("ort", "fp32")
    assert done.reaches_target
    assert "ort.int8" not in made
    done = tune(replace(WISHES, target_ms=0.6), lenet, tmp_path / "b.tune")
    assert done.winner.variant == Variant("ort", "int8")
    done = tune(replace(WISHES, target_ms=0.1), lenet, tmp_path / "c.tune")
    assert not done.reaches_target
    assert done.winner.variant == Variant("ort", "int8")


def test_a_file_that_cannot_be_made_or_run_costs_the_others_nothing(
    lenet: Artifact, tmp_path: Path, racing, building, monkeypatch: pytest.MonkeyPatch
):
    racing({"ort.fp32": 0.8})
    building()

    def refuse(*_args: object, **_rest: object) -> None:
        raise CheckFailedError("no form in 8 bits keeps within 0.5 points of accuracy; the best: 1.20 lost")

    monkeypatch.setattr(search, "build_int8", refuse)
    monkeypatch.setattr(
        search, "why_not", lambda candidate, _: "no" if candidate.variant.target == "openvino" else ""
    )
    done = tune(WISHES, lenet, tmp_path / "a.tune")
    assert done.winner.variant == Variant("ort", "fp32")
    assert outcome(done, "openvino.fp32") == "no"
    assert any("ort.int8 was not made: no form in 8 bits keeps within 0.5" in note for note in done.notes)


def test_a_real_race(lenet: Artifact):
    """In processes, with one that cannot run among them."""
    quick = Stage("quick", 1, 0.01, 1)
    broken = replace(FLOAT, runtime="torch-cpu", threads=1, settings={"mode": "backwards"})
    files = {"portable.fp32": lenet, "ort.fp32": lenet}
    plain = replace(PLAIN, threads=1)
    found = race(plain, [replace(FLOAT, threads=1), broken], files, quick, batch=1)
    assert "backwards" in str(found[broken.name])
    own = found["ort.fp32 on ort-cpu, 1 thread"]
    assert isinstance(own, Race)
    assert 0.3 < own.speedup < 3
    assert 1e-6 < own.latency_s < 0.1


def test_the_winners_file(lenet: Artifact, tmp_path: Path, racing, building):
    racing({})
    building()
    done = tune(WISHES, lenet, tmp_path / "a.tune")
    for path in (tmp_path / "one.onnx", tmp_path / "two.onnx"):
        write_winner(done, path)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    written = read_artifact(tmp_path / "one.onnx")
    assert json.loads(written.metadata[KEY]) == tuned_for(done)
    assert tuned_for(done)["runtime"] == "ort-cpu"
    assert all(each.ok for each in verify(written.path))
    report = report_of(done)
    json.dumps(report, allow_nan=False)
    assert report["candidates"][0]["latency_ms"] == 1.0
    page = as_markdown(report)
    assert "| portable.fp32 on ort-cpu, 1 thread | 1.000 |" in page
    assert done.why in page


def test_folders_and_files_that_are_refused(lenet: Artifact, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="no folder of cnnport tune's"):
        State(tmp_path / "mine", {})
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    with pytest.raises(ArtifactError, match="is in int8"):
        tune(WISHES, replace(lenet, precision="int8"), tmp_path / "a.tune")


def test_the_command(cli, lenet: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A whole search, in short stages: a file, a report, and an exit code for what is not reached."""
    monkeypatch.setattr(
        search,
        "STAGES",
        (Stage("screening", 1, 0.01, 2), Stage("second round", 1, 0.01, 1), Stage("final", 2, 0.02, 1)),
    )
    arguments = ["tune", lenet.path, "--calibration", "digits:60", "--runtime", "ort-cpu", "--threads", "1"]
    code, out, err = cli(*arguments, "-o", "best.onnx", "--report", "r.md", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["path"] == "best.onnx"
    assert found["is_complete"]
    assert {row["precision"] for row in found["candidates"]} == {"fp32", "int8"}
    assert found["winner"] in Path("r.md").read_text()
    assert KEY in {entry.key for entry in onnx.load("best.onnx").metadata_props}
    code, _, err = cli(*arguments, "-o", "best.onnx")
    assert (code, "exists" in err) == (2, True)
    code, out, err = cli(*arguments, "-o", "best.onnx", "--overwrite", "--target-latency", "0.000001")
    assert code == 1
    assert "reaches 1e-06 ms" in err
    assert "winner" in out
    assert cli(*arguments, "--threads", "0")[0] == 2
    assert cli(*arguments, "--max-drop", "many")[0] == 2

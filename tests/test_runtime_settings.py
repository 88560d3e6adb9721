"""What a runtime offers beside the common options: declared, checked, and refused in one line."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnport.artifact import Artifact
from cnnport.cli import main
from cnnport.errors import CnnportError, UnknownNameError
from cnnport.runtimes import Options, Runtime, Session
from cnnport.runtimes.settings import Setting, parse_settings, settle

DECLARED = (
    Setting("hint", "latency", "what to be fast at", ("latency", "throughput")),
    Setting("graph", "0", "replay one recorded run", ("0", "1")),
    Setting("streams", "", "runs side by side", ("N",)),
    Setting("most_on_cpu", "0", "share of nodes", ("X",)),
    Setting("cache", "", "a folder"),
)


def test_defaults_and_choices() -> None:
    settings = settle("any", DECLARED, {"graph": "on", "streams": "4", "cache": "/a b"})
    assert (settings.text("hint"), settings.flag("graph"), settings.number("streams")) == ("latency", True, 4)
    assert (settings.share("most_on_cpu"), settings.text("cache")) == (0.0, "/a b")
    assert settle("any", DECLARED, {}).number("streams") is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"hnt": "latency"},
            UnknownNameError,
            "runtime any has no setting called 'hnt': its settings are hint, graph",
        ),
        ({"hint": "speed"}, CnnportError, "setting hint takes latency, throughput, not 'speed'"),
        ({"graph": "2"}, CnnportError, "setting graph takes 0 or 1, not '2'"),
        ({"streams": "-1"}, CnnportError, "setting streams takes a whole number, not '-1'"),
        ({"most_on_cpu": "half"}, CnnportError, "setting most_on_cpu takes a share from 0 to 1, not 'half'"),
        # No share is more than this one, so that every network would pass.
        ({"most_on_cpu": "nan"}, CnnportError, "takes a share from 0 to 1, not 'nan'"),
        ({"most_on_cpu": "-0.1"}, CnnportError, "takes a share from 0 to 1, not '-0.1'"),
        ({"most_on_cpu": "30"}, CnnportError, "takes a share from 0 to 1, not '30'"),
    ],
)
def test_what_is_refused(given: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        settle("any", DECLARED, given)


def test_no_settings_at_all() -> None:
    with pytest.raises(UnknownNameError, match="it has none"):
        settle("null", (), {"hint": "latency"})


def test_the_command_lines_form() -> None:
    assert parse_settings(["hint=latency", "cache=/a=b"]) == {"hint": "latency", "cache": "/a=b"}
    for wrong, message in (("hint", "NAME=VALUE"), ("=1", "NAME=VALUE"), ("hint=", "NAME=VALUE")):
        with pytest.raises(CnnportError, match=message):
            parse_settings([wrong])
    with pytest.raises(CnnportError, match="hint twice"):
        parse_settings(["hint=a", "hint=b"])


def test_settings_of_several_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a setting takes it; one that nobody has is an error, not silence."""
    from cnnport.runtimes import RUNTIMES, settings_for

    monkeypatch.setattr(RUNTIMES["null"], "settings", DECLARED, raising=False)
    names = ["ort-cpu", "null"]
    assert settings_for(names, []) == {"ort-cpu": {}, "null": {}}
    assert settings_for(names, ["hint=throughput", "null.graph=on"]) == {
        "ort-cpu": {},
        "null": {"hint": "throughput", "graph": "1"},
    }
    for text, message in (
        ("zzz=1", "runtime ort-cpu has no setting called 'zzz'"),
        ("openvino.hint=latency", "runtime openvino is not in use"),
        ("null.zzz=1", "runtime null has no setting called 'zzz'"),
        ("graph=maybe", "setting graph takes 0 or 1"),
    ):
        with pytest.raises(CnnportError, match=message):
            settings_for(names, [text])


def test_settings_reach_session_and_record(exported: Callable[[str], Artifact]) -> None:
    """Through a benchmark's worker process, which knows only what the runtimes really have."""
    from cnnport.measuring import bench, make_cases

    cases = make_cases([exported("lenet5")], ["null"], settings={"null": {"hint": "latency"}})
    skipped = bench(cases, rounds=1, duration_s=0.01, warmup_s=0).skipped
    assert "has no setting called 'hint'" in skipped[0].reason
    assert skipped[0].to_json()["settings"] == {"hint": "latency"}


def test_deterministic_reaches_session_and_record(
    exported: Callable[[str], Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnport.measuring import make_cases
    from cnnport.measuring.run import question_of
    from cnnport.measuring.worker import open_case
    from cnnport.runtimes import RUNTIMES

    seen = spied(monkeypatch, RUNTIMES["null"])
    for wanted in (False, True):
        (case,) = make_cases([exported("lenet5")], ["null"], threads=[1], deterministic=wanted)
        question = {**question_of(case, 0, 0, 1), "cpus": sorted(os.sched_getaffinity(0))}
        open_case(json.loads(json.dumps(question))).session.close()
        assert case.skipped("", 1).settings == ({"deterministic": "1"} if wanted else {})
    assert [options.deterministic for options in seen] == [False, True]


def test_the_commands_take_deterministic(
    exported: Callable[[str], Artifact],
    digit_scans: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from cnnport.runtimes import RUNTIMES

    seen = spied(monkeypatch, RUNTIMES["ort-cpu"])
    file = str(exported("lenet5").path)
    assert main(["run", file, str(digit_scans[0])]) == 0
    assert main(["run", file, str(digit_scans[0]), "--deterministic"]) == 0
    assert [options.deterministic for options in seen] == [False, True]
    quick = [
        "bench",
        file,
        "--runtime",
        "null",
        "--duration",
        "0",
        "--warmup",
        "0",
        "--rounds",
        "1",
        "--json",
    ]
    for more, stated in (([], {}), (["--deterministic"], {"deterministic": "1"})):
        capfd.readouterr()
        assert main([*quick, *more]) == 0
        (row,) = json.loads(capfd.readouterr().out)["results"]
        assert row["settings"] == stated


def spied(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> list[Options]:
    """The options of every session that is opened from now on."""
    seen: list[Options] = []
    real = runtime.open

    def noted(artifact: Artifact, options: Options) -> Session:
        seen.append(options)
        return real(artifact, options)

    monkeypatch.setattr(runtime, "open", noted, raising=False)
    return seen


def test_the_commands_refuse_unknown_settings(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "lenet5", "--runtime", "ort-cpu", "--set", "zzz=1"]) == 2
    assert "runtime ort-cpu has no setting called 'zzz'" in capfd.readouterr().err


def _sections() -> dict[str, str]:
    """Of docs/runtimes.md, by each runtime that a heading names."""
    text = (Path(__file__).parents[1] / "docs" / "runtimes.md").read_text(encoding="utf-8")
    parts = [part.partition("\n") for part in text.split("\n## ")[1:]]
    return {name: body for heading, _, body in parts for name in heading.split(", ")}


def test_the_documents_name_every_setting() -> None:
    from cnnport.runtimes import RUNTIMES

    sections = _sections()
    for name, runtime in RUNTIMES.items():
        for setting in runtime.settings:
            assert f"| `{setting.name}`" in sections[name], f"{name}: {setting.name}"

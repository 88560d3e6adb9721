"""What a runtime offers beside the common options: declared, checked, and refused in one line."""

import pytest

from cnnport.errors import CnnportError, UnknownNameError
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
        ({"most_on_cpu": "half"}, CnnportError, "setting most_on_cpu takes a number, not 'half'"),
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

"""docs/quantization.md says of the rules what the code does."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cnnport.calibration import COUNT, METHODS, PERCENTILE
from cnnport.calibration.taps import SAMPLE
from cnnport.errors import CnnportError
from cnnport.graphs.half import FORMATS
from cnnport.graphs.half.guards import MARGIN
from cnnport.graphs.quantize import PREPARATION, RULES
from cnnport.graphs.quantize.rule import Reads, Rule, Writes
from cnnport.graphs.quantize.rules import PRINCIPLES
from cnnport.graphs.quantize.weights import LEVELS, REDUCED_LEVELS
from cnnport.measuring.studies import rules_page
from cnnport.measuring.studies.rules_page import filled, main, tables

PAGE = (Path(__file__).parents[1] / "docs" / "quantization.md").read_text(encoding="utf-8")


def test_the_page_holds_the_tables_as_they_are() -> None:
    assert filled(PAGE) == PAGE, "run python -m cnnport.measuring.studies.rules_page docs"


def test_a_table_that_was_changed_by_hand_shows_and_is_put_right() -> None:
    for name, text in tables().items():
        line = text.splitlines()[-1]
        assert PAGE.count(line) >= 1, name
        assert filled(PAGE.replace(line + "\n", "")) == PAGE
        assert filled(PAGE.replace(text, "")) == PAGE


@pytest.mark.parametrize(
    "change",
    [
        lambda rule: replace(rule, reason="something else"),
        lambda rule: replace(rule, operators=(*rule.operators, "Conv3")),
        lambda rule: replace(rule, reads=Reads.SKIP),
        lambda rule: replace(rule, writes=Writes.IF_READ),
    ],
)
@pytest.mark.parametrize("target", RULES)
def test_another_rule_makes_another_page(
    monkeypatch: pytest.MonkeyPatch, target: str, change: Callable[[Rule], Rule]
) -> None:
    first, *others = RULES[target]
    monkeypatch.setattr(rules_page, "RULES", {**RULES, target: (change(first), *others)})
    assert filled(PAGE) != PAGE


def test_every_rule_pass_and_subject_is_in_its_table() -> None:
    found = tables()
    for target, rules in RULES.items():
        rows = found[target].splitlines()[2:]
        assert len(rows) == len(rules) + 1
        for rule, row in zip(rules, rows, strict=False):
            assert row.startswith(f"| {', '.join(rule.operators)} |")
            assert row.endswith(f"| {rule.reason} |")
        assert rows[-1].startswith("| all others | float | float |")
    names = [f"`{each.__name__}`" for passes in PREPARATION.values() for each in passes]
    assert [name for name in names if name not in found["preparation"]] == []
    assert len(found["principles"].splitlines()) == 2 + len(PRINCIPLES)
    for text in found.values():
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()}) == 1


def test_what_is_told_in_prose_is_so() -> None:
    for words in (
        *(f"\n| `{method}` |" for method in METHODS),
        *(f"`{name}`" for name in FORMATS),
        f"{PERCENTILE:g} %",
        f"than {COUNT}.",
        f"{SAMPLE:,} numbers",
        f"2 x 255 x {LEVELS} = {2 * 255 * LEVELS:,}",
        f"2 x 255 x {REDUCED_LEVELS} = {2 * 255 * REDUCED_LEVELS:,}",
        f"{FORMATS['fp16'].largest:,.0f}",
    ):
        assert words in PAGE, words
    assert MARGIN == 4, "the page says a factor of four"


@pytest.mark.parametrize(
    "wrong",
    [
        PAGE.replace("<!-- ort -->\n", ""),
        PAGE.replace("<!-- end of trt -->", "<!-- end of ort -->"),
        PAGE + "<!-- ort -->\n<!-- end of ort -->\n",
        PAGE + "<!-- tpu -->\n<!-- end of tpu -->\n",
        PAGE.replace("<!-- openvino -->", "<!-- end of openvino -->"),
    ],
)
def test_places_that_are_wrong_are_refused(wrong: str) -> None:
    with pytest.raises(CnnportError, match="once for each of ort, trt, openvino"):
        filled(wrong)


def test_the_command_writes_the_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "quantization.md"
    page.write_text(re.sub(r"\| Conv \|.*\n", "", PAGE))
    assert page.read_text() != PAGE
    assert main([str(tmp_path)]) == 0
    assert page.read_text() == PAGE
    page.unlink()
    assert main([str(tmp_path)]) == 2
    assert capfd.readouterr().err.startswith("error: ")

"""The study of packages: what counts as the same answer, and that the page shows the record."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnnport.errors import ArtifactError, CnnportError
from cnnport.measuring.studies.embedding import MODES, NETWORKS, compared, study
from cnnport.measuring.studies.embedding_page import BEGIN, END, with_table
from cnnport.measuring.studies.embedding_ways import WAYS, Way, python

ROOT = Path(__file__).parents[1]
LOGITS = np.array([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def test_what_is_the_same_passes_and_what_is_off_does_not() -> None:
    off = np.array([1.0, 0, 0])
    good = compared(LOGITS, PROBABILITIES, PROBABILITIES + 5e-5 * off, "normalize")
    assert (good["pass"], good["top1_agreement"], good["allowed"]) == (True, 2, 1e-4)
    assert good["max_abs"] == pytest.approx(5e-5)
    assert not compared(LOGITS, None, PROBABILITIES + 2e-4 * off, "normalize")["pass"]
    assert not compared(LOGITS, None, PROBABILITIES * np.nan, "normalize")["pass"]
    assert not compared(LOGITS, None, PROBABILITIES[:, ::-1], "full")["pass"]
    with pytest.raises(CnnportError, match="probabilities, not"):
        compared(LOGITS, None, PROBABILITIES[:1], "full")


def test_what_is_allowed_of_full_follows_from_the_logits() -> None:
    """No change of every logit by a tenth of their deviation makes more than is allowed, and some make half of it."""
    allowed = compared(LOGITS, None, PROBABILITIES, "full")["allowed"]
    step = 0.1 * LOGITS.std(axis=1, keepdims=True)
    worst = 0.0
    for signs in np.ndindex(2, 2, 2):
        moved = np.exp(LOGITS + step * (2 * np.array(signs) - 1))
        worst = max(worst, float(np.abs(moved / moved.sum(axis=1, keepdims=True) - PROBABILITIES).max()))
    assert allowed / 2 < worst <= allowed


def test_a_package_is_run_and_one_that_is_wrong_is_found(tmp_path: Path) -> None:
    def wrong(folder: Path, shown: object) -> np.ndarray:
        return python(folder, shown)[::-1]  # type: ignore[arg-type]

    def missing(folder: Path, shown: object) -> np.ndarray:
        raise CnnportError("it is not here")

    # A Node.js package has no module for Python: the one beside it answers in its place, in the wrong order.
    beside = Way(
        "node", lambda folder, shown: wrong(folder.with_name(folder.name.replace("node", "python")), shown)
    )
    ways = [Way("python", python), beside, Way("triton", missing)]
    packages = tmp_path / "packages"
    packages.mkdir()
    record = study(["lenet5"], ways, packages, lambda *_: None, count=4)
    by_way = {(row["way"], row["preprocess"]): row for row in record["rows"]}
    for mode in MODES:
        assert by_way["python", mode]["pass"]
        assert by_way["python", mode]["max_abs_ort_cpu"] < 1e-6
        assert not by_way["node", mode]["pass"]
    assert [each["reason"] for each in record["skipped"]] == ["it is not here"] * 2
    page = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", {**record, "environment": {}})
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "old" not in page
    assert page.count("DEPARTS") == 2
    assert page.count("- not run: lenet5") == 2
    assert with_table(page, record) == page


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no place for the table"):
        with_table("a page", {"rows": [], "skipped": [], "count": 0, "networks": {}})


def test_the_page_shows_the_record_and_every_package_passes() -> None:
    document = json.loads((ROOT / "bench" / "results" / "embedding.json").read_text())
    page = (ROOT / "docs" / "packages.md").read_text()
    assert with_table(page, document) == page
    run = {(row["network"], row["preprocess"], row["way"]) for row in document["rows"]}
    assert run == {(name, mode, way.kind) for name in NETWORKS for mode in MODES for way in WAYS}
    assert all(row["pass"] for row in document["rows"])
    assert with_table(page, {**document, "rows": document["rows"][1:]}) != page

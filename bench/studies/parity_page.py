"""The page of a run of ``parity``, for people."""

from collections.abc import Iterator, Sequence

from cnnport.agreement.page import SHORT_COLUMNS, cells_of, markdown_table
from cnnport.measuring.record import Json

_COLUMNS = ("network", *SHORT_COLUMNS)
_TEXTS = ("network", "runtime", "precision", "agrees with itself", "result")


def markdown(rows: Sequence[Json]) -> str:
    """The rows as a page; what departs stands below the table with where it does."""
    done = [row for row in rows if not row["problem"]]
    lines = [
        "# Parity",
        "",
        "Made by `python -m cnnport.measuring.studies.parity docs`; every figure, versions and dates are in",
        "bench/results/parity.json.",
        "",
        "Each network against its PyTorch original in float32 on the CPU: the largest difference of any output in",
        "standard deviations of that output, the power of the output over that of the difference, the cosine of",
        "the two, and the share of inputs of the same class with its 95 % interval. Trained networks get scans of",
        "digits, the others have random weights and get seeded noise, for which classes lie close together. Every",
        "candidate also gets zeros, constants, values of 255, single spikes and near-ties between two classes, and",
        "is held against itself: eight images together and one by one, the same again, with one and two threads,",
        "opened anew. What is allowed: 1e-4 standard deviations in float32, unless float64 shows that float32",
        "itself is further off; in float16 twice what rounding the weights alone does; for 8 bits 6 dB less than",
        "the file was judged at.",
        "",
        *markdown_table(_COLUMNS, [cells for row in done for cells in _cells(row)], _TEXTS),
    ]
    if notes := [text for row in done for text in _notes(row)]:
        lines += ["", "## Where float32 itself is off", "", *notes]
    if failed := [text for row in rows for text in _failures(row)]:
        lines += ["", "## What departs", "", *failed]
    return "\n".join(lines) + "\n"


def _cells(row: Json) -> Iterator[tuple[str, ...]]:
    for each in row["parity"]["rows"]:
        yield (row["name"], *cells_of(each))


def _notes(row: Json) -> Iterator[str]:
    for each in row["parity"]["rows"]:
        for note in each["notes"]:
            yield f"- {row['name']}, {each['candidate']}: {note}"


def _failures(row: Json) -> Iterator[str]:
    if row["problem"]:
        yield f"- {row['name']}: {row['problem']}"
        return
    for check in row["parity"]["reference_checks"]:
        if check["pass"] is False:
            yield f"- {row['name']}, the reference against itself: {check['name']}: {check['detail']}"
    for each in row["parity"]["rows"]:
        for failure in each["failures"]:
            yield f"- {row['name']}, {each['candidate']}: {failure}"

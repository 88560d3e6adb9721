"""The page of a run of ``graphs``, for people."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from cnnport.measuring.record import Json

PEERS = ("raw", "onnxsim", "onnxslim")
CANDIDATES = (*PEERS, "cnnport")

BOUND = 0.98
"""Networks below this share of the best peer's speed are named."""

# Those of which the gain over torch.onnx at this number of threads is stated by itself.
_STATED = ("shufflenet_v2_x1_0", "shufflenet_v1_g3")
_STATED_THREADS = 2


def markdown(document: Json, representatives: Sequence[str]) -> str:
    """The record as a page; what is not measured yet stands in the first table only.

    Args:
        document: As ``graphs`` writes it.
        representatives: The networks of one of the two groups of geometric means; the other is the shuffle nets.
    """
    rows = document["networks"]
    measured = [row for row in rows if row["measured"] is not None]
    groups = {
        "representatives": [row for row in measured if row["name"] in representatives],
        "shuffle nets": [row for row in measured if row["name"].startswith("shufflenet_")],
    }
    lines = [
        "# Graphs against the other tools'",
        "",
        "Four files hold each network, with the same seeded weights, at opset 20 and with an open batch: raw is",
        "what torch.onnx gives, onnxsim and onnxslim are what these tools make of raw by default, cnnport is",
        f"what `{_command(rows)}` writes. Every file's outputs were held against raw's before it was measured.",
        "Made by `make bench-graphs`; latencies, operators, rounds, versions and dates are in graphs.json.",
        "",
        *_circumstances(document["environment"], measured),
        "## Nodes and bytes",
        "",
        "Seconds are those from graph to graph; cnnport's include onnxsim, which it begins with, and the check of",
        "every pass against PyTorch. Files of the same graph, `=`, differ at most in names, notes and shapes that",
        "follow from the rest; they were measured once. Those with `~` between them hold the same operators with the",
        "same connections in another order, and were measured each.",
        "",
        "| network | raw | onnxsim | onnxslim | cnnport | MB raw | MB cnnport | s onnxsim | s onnxslim | s cnnport | "
        "same graph |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
        *(_sizes(row) for row in rows),
    ]
    if failed := list(_failures(rows)):
        lines += ["", "Failed:", "", *failed]
    if measured:
        lines += [*_speeds(measured, groups), *_means(groups), *_slower(measured), *_stated(measured)]
    return "\n".join(lines) + "\n"


def _command(rows: Sequence[Json]) -> str:
    """What cnnport's files were made with; the same for all rows."""
    wanted = rows[0]["wanted"].items()
    return " ".join(["cnnport export", *(f"--{name} {value}" for name, value in wanted if value is not None)])


def _circumstances(environment: Json, measured: Sequence[Json]) -> Iterator[str]:
    packages = environment["packages"]
    tools = ("onnxruntime", "torch", "onnxsim", "onnxslim", "cnnport")
    versions = ", ".join(f"{name} {packages[name]}" for name in tools if name in packages)
    cpus = f"{environment['cpu_model']}, {environment['cores_logical']} CPUs"
    yield f"{cpus}; {versions}."
    if measured:
        dates = sorted(row["measured"]["date_utc"][:10] for row in measured)
        rounds = sorted({row["measured"]["rounds"] for row in measured})
        period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        yield f"Measured {period}, rounds: {' or '.join(map(str, rounds))}."
    yield ""


def _sizes(row: Json) -> str:
    made = {each: facts for each, facts in row["candidates"].items() if not facts["problem"]}

    def cell(candidate: str, key: str) -> str:
        if candidate not in made:
            return "failed" if candidate in row["candidates"] else ""
        value = made[candidate][key]
        if key == "ops":
            return str(sum(value.values()))
        return f"{value / 1e6:.2f}" if key == "bytes" else f"{value:.2f}"

    figures = [
        row["name"],
        *(cell(each, "ops") for each in CANDIDATES),
        cell("raw", "bytes"),
        cell("cnnport", "bytes"),
        *(cell(each, "seconds") for each in CANDIDATES[1:]),
        ", ".join(_alike(made)),
    ]
    return f"| {' | '.join(figures)} |"


def _alike(made: Mapping[str, Json]) -> Iterator[str]:
    """The candidates that hold the same graph, ``=``, or the same operators in another order, ``~``."""
    groups: dict[str, dict[str, list[str]]] = {}
    for candidate, facts in made.items():
        groups.setdefault(facts["operators"], {}).setdefault(facts["graph"], []).append(candidate)
    for orders in groups.values():
        text = " ~ ".join(" = ".join(same) for same in orders.values())
        if text not in made:
            yield text


def _failures(rows: Sequence[Json]) -> Iterator[str]:
    for row in rows:
        for candidate, facts in row["candidates"].items():
            if facts["problem"]:
                yield f"- {row['name']}, {candidate}: {_one_line(facts['problem'])}"
        if row["problem"]:
            yield f"- {row['name']}, measuring: {_one_line(row['problem'])}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _speeds(measured: Sequence[Json], groups: Mapping[str, Sequence[Json]]) -> Iterator[str]:
    yield from (
        "",
        "## Speed",
        "",
        "How many times faster cnnport's file is than the fastest of the three others, whose name stands behind it:",
        "the median over all turns of the ratio within a turn, in brackets the quartiles of that ratio. Where they",
        "lie on both sides of 1, the ratio says nothing. `=` is the same graph, `~` the same in another order.",
        "",
        *_header("network", measured),
    )
    for row in measured:
        yield _line(row["name"], (_over_best(row, case) for case in row["measured"]["cases"]))
    for name, members in groups.items():
        if members:
            yield _line(f"geometric mean, {name}", _geometric(members, lambda case: case["over_best_peer"]))
    yield from ("", "The same over raw:", "", *_header("network", measured))
    for row in measured:
        cells = (_quartiles(case["over_raw"]["cnnport"]) for case in row["measured"]["cases"])
        yield _line(row["name"], cells)


def _means(groups: Mapping[str, Sequence[Json]]) -> Iterator[str]:
    yield from ("", "Geometric means over raw of each tool, where it did not fail:", "")
    some = next(members for members in groups.values() if members)
    yield from _header("networks, tool", some)
    for name, members in groups.items():
        for candidate in CANDIDATES[1:]:
            fit = [row for row in members if not row["candidates"][candidate]["problem"]]
            if fit:
                means = _geometric(fit, partial(_over_raw, candidate))
                yield _line(f"{len(fit)} {name}, {candidate}", means)


def _slower(measured: Sequence[Json]) -> Iterator[str]:
    yield from ("", f"Under {BOUND} times the best of the others:", "")
    found = [
        f"- {row['name']}, {_title(case)}: {_over_best(row, case)}"
        for row in measured
        for case in row["measured"]["cases"]
        if case["over_best_peer"]["median"] < BOUND
    ]
    yield from found or ["none."]


def _stated(measured: Sequence[Json]) -> Iterator[str]:
    lines = [
        f"- {row['name']}, {_title(case)}: {_quartiles(case['over_raw']['cnnport'])}"
        for row in measured
        for case in row["measured"]["cases"]
        if row["name"] in _STATED and case["threads"] == _STATED_THREADS
    ]
    if lines:
        yield from ("", f"The shuffle nets over raw at {_STATED_THREADS} threads:", "", *lines)


def _header(first: str, rows: Sequence[Json]) -> tuple[str, str]:
    titles = [_title(case) for case in rows[0]["measured"]["cases"]]
    return _line(first, titles), "|---" + "|--:" * len(titles) + "|"


def _line(first: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join((first, *cells))} |"


def _title(case: Json) -> str:
    return f"batch {case['batch']}, {case['threads']} thread{'s' * (case['threads'] > 1)}"


def _over_best(row: Json, case: Json) -> str:
    best = case["best_peer"]
    theirs, ours = row["candidates"][best], row["candidates"]["cnnport"]
    if theirs["graph"] == ours["graph"]:
        return f"= {best}"
    mark = "~ " if theirs["operators"] == ours["operators"] else ""
    return f"{_quartiles(case['over_best_peer'])} {mark}{best}"


def _quartiles(ratio: Json) -> str:
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _over_raw(candidate: str, case: Json) -> Json:
    figures: Json = case["over_raw"][candidate]
    return figures


def _geometric(rows: Sequence[Json], figure: Callable[[Json], Json]) -> Iterator[str]:
    """One mean for each batch size and number of threads."""
    for cases in zip(*(row["measured"]["cases"] for row in rows), strict=True):
        logarithms = [math.log(figure(case)["median"]) for case in cases]
        yield f"{math.exp(math.fsum(logarithms) / len(logarithms)):.3f}"

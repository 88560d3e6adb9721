"""The page of a run of ``benchmarks``, for people."""

import math
from collections.abc import Iterator, Sequence

from cnnport.measuring.paired import ratio
from cnnport.measuring.record import Json

# What every other way is held against: what a user has before any export.
_BASE = "torch"

_WAYS = """\
- torch: the module, eager; torch.compile: the same compiled by Inductor for the sizes at hand.
- torch.onnx: what `torch.onnx.export` writes, on ONNX Runtime; onnxsim: that file after onnxsim, likewise.
- openvino: what torch.onnx writes, on OpenVINO compiled for one batch size.
- cnnport: the file of `cnnport export --target ort`, on ONNX Runtime; cnnport openvino: that of
  `--target openvino`, on OpenVINO compiled for one batch size; int8: what `cnnport quantize` makes of them."""


def markdown(rows: Sequence[Json], variants: Sequence[str]) -> str:
    """The rows as a page; networks that are not measured yet stand nowhere, what failed stands below the tables."""
    lines = [
        "# Benchmarks",
        "",
        "Every way to run a network on this CPU, side by side: one picture at a time, a process for each way, all of",
        "them in turn within each round. Weights are random: the figures say how fast each is, not how right int8 is",
        "(docs/quantization_results.md has that of trained networks).",
        "Made by `make benchmarks`; every turn, versions and dates are in bench/results/benchmarks.json.",
        "",
        *_WAYS.splitlines(),
    ]
    for threads in sorted({case["threads"] for row in rows for case in row["cases"]}):
        measured = [(row, case) for row in rows for case in row["cases"] if case["threads"] == threads]
        lines += ["", f"## {threads} thread{'s' * (threads > 1)}", "", *_tables(measured, variants)]
    if failed := [row for row in rows if row["problem"]]:
        lines += ["", "## Not measured", "", *(f"- {row['name']}: {row['problem']}" for row in failed)]
    return "\n".join(lines) + "\n"


def _tables(measured: Sequence[tuple[Json, Json]], variants: Sequence[str]) -> Iterator[str]:
    dates = sorted(case["date_utc"][:10] for _, case in measured)
    rounds = sorted({case["rounds"] for _, case in measured})
    versions = measured[0][0]["versions"]
    yield (
        f"{measured[0][1]['cpu_model']}, measured {dates[0]}"
        + (f" to {dates[-1]}" if dates[-1] != dates[0] else "")
        + f", rounds: {' or '.join(map(str, rounds))}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    yield from ("", "Median latency in ms; the fastest in float32 and the fastest of all are bold:", "")
    yield from _header(variants)
    for row, case in measured:
        yield _line(row["name"], [_latency(case, each) for each in variants])
    yield from (
        "",
        f"How many times as fast as {_BASE}: of each network the median over the turns, of them the geometric mean:",
        "",
    )
    yield from _header(variants)
    count = len(measured)
    yield _line(f"{count} network{'s' * (count > 1)}", [_mean(measured, each) for each in variants])
    skipped = {(each, reason) for _, case in measured for each, reason in case["skipped"].items()}
    for each, reason in sorted(skipped):
        yield from ("", f"Without {each}: {reason}.")


def _header(variants: Sequence[str]) -> tuple[str, str]:
    return _line("network", variants), "|---" + "|--:" * len(variants) + "|"


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join((first, *cells))} |"


def _latency(case: Json, variant: str) -> str:
    found = case["p50_ms"]
    if variant not in found:
        return ""
    best = {min(found, key=found.__getitem__)}
    best.add(min((each for each in found if "int8" not in each), key=found.__getitem__))
    text = f"{found[variant]:.3f}" if found[variant] < 10 else f"{found[variant]:.1f}"
    return f"**{text}**" if variant in best else text


def _mean(measured: Sequence[tuple[Json, Json]], variant: str) -> str:
    """Of the ratios within each turn, the median for each network; empty where a network lacks either."""
    found = [case["turns_p50_ms"] for _, case in measured]
    if not all(variant in each and _BASE in each for each in found):
        return ""
    logarithms = [math.log(ratio(each[_BASE], each[variant]).median) for each in found]
    return f"{math.exp(math.fsum(logarithms) / len(logarithms)):.2f}"

"""The page of a run of ``quantized``, for people."""

import math
from collections.abc import Iterator, Sequence

from cnnport.measuring.record import Json
from cnnport.measuring.studies.quantized_accuracy import CALIBRATION, TARGETS
from cnnport.measuring.studies.quantized_speed import CALIBRATION as RANDOM
from cnnport.measuring.studies.quantized_speed import CANDIDATES, COMPARED, EIGHT_BITS

DROP = 0.5
"""Points of accuracy that a file may lose."""

_TITLES = {
    "fp32": "float32",
    "int8": "int8",
    "ort_static": "quantize_static",
    "openvino_fp32": "float32, OpenVINO",
    "openvino_int8": "int8, OpenVINO",
}


def markdown(rows: Sequence[Json]) -> str:
    """The rows as a page; what is not measured yet stands nowhere, what failed below the tables."""
    done = [row for row in rows if row["measured"]]
    accuracy = [row for row in done if row["half"] == "accuracy"]
    speed = [row for row in done if row["half"] == "speed"]
    lines = [
        "# Halves and 8 bits, measured",
        "",
        "Made by `python -m cnnport.measuring.studies.quantized docs`; every figure, versions and dates are in",
        "bench/results/quantized.json.",
        *(_accuracy(accuracy) if accuracy else ()),
        *(_speed(speed) if speed else ()),
    ]
    if failed := list(_failures(rows)):
        lines += ["", "## Failed", "", *failed]
    return "\n".join(lines) + "\n"


def _accuracy(rows: Sequence[Json]) -> Iterator[str]:
    yield from (
        "",
        "## Accuracy",
        "",
        "Networks that ship trained, on the 500 held-out digits: right answers in per cent, answers that are",
        "float32's, and the power of the outputs over that of what changed in them (SQNR). The files are those of",
        f"`cnnport export --target` and `cnnport quantize --calibration {CALIBRATION}`, which decides by scans for",
        "training alone; what it did is in the last column. ort runs on ONNX Runtime, openvino on OpenVINO; trt runs",
        "on ONNX Runtime with nothing fused, so that what quantizers round is rounded and the rest is float32.",
        f"{_versions(rows)}.",
        "",
        *_head("network", "target"),
    )
    lost: list[tuple[float, str]] = []
    for row in rows:
        for target in TARGETS:
            found = row["measured"]["targets"][target]
            if "skipped" in found:
                continue
            for precision in ("fp16", "int8"):
                each = found[precision]
                if not each["problem"]:
                    points = each["top1_float"] - each["top1"]
                    lost.append((points, f"{row['name']}, {target}, {precision}: {points:.1f} points"))
            yield _line(
                row["name"],
                target,
                *(_figure(found[each], "top1", 1) for each in ("fp32", "fp16", "int8")),
                *(_figure(found[each], "agreement", 1) for each in ("fp16", "int8")),
                *(_figure(found[each], "sqnr_db", 1) for each in ("fp16", "int8")),
                "" if found["int8"]["problem"] else ", ".join(found["int8"]["steps"]),
            )
    over = [text for points, text in sorted(lost, reverse=True) if points > DROP + 1e-9]
    yield from ("", f"More than {DROP} points lost:", "", *(f"- {text}" for text in over or ["none."]))
    if lost:
        yield from ("", f"The most: {max(lost)[1]}.")


def _head(*first: str) -> tuple[str, str]:
    titles = (
        *first,
        "float32",
        "fp16",
        "int8",
        "same fp16",
        "same int8",
        "dB fp16",
        "dB int8",
        "int8 by",
    )
    return _line(*titles), "|---|---" + "|--:" * (len(titles) - len(first) - 1) + "|---|"


def _figure(found: Json, key: str, digits: int) -> str:
    if found["problem"]:
        return "failed"
    # No difference has no ratio.
    return "exact" if found[key] is None else f"{found[key]:.{digits}f}"


def _speed(rows: Sequence[Json]) -> Iterator[str]:
    first = rows[0]["measured"]
    rounds = sorted({row["measured"]["rounds"] for row in rows})
    dates = sorted(row["measured"]["date_utc"][:10] for row in rows)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    yield from (
        "",
        "## Speed",
        "",
        f"Networks with random weights at batch {first['batch']}, calibrated with `{RANDOM}`, all files of a network",
        "in turn in each round, each in a process of its own. float32 and int8 are our files for ONNX Runtime on the",
        "CPU; quantize_static is what onnxruntime's own quantizer makes of our float32 file (its preparation, uint8",
        "activations, int8 weights by channel, the same samples, least and greatest numbers); the last two are our",
        f"files for OpenVINO, on OpenVINO, compiled for this batch. {first['cpu_model']}; {_versions(rows)}.",
        f"Measured {period}, rounds: {' or '.join(map(str, rounds))}.",
        "",
        "Milliseconds, medians:",
        "",
        _line("network", "threads", *(_TITLES[each] for each in CANDIDATES)),
        "|---|--:" + "|--:" * len(CANDIDATES) + "|",
    )
    for row, case in _cases(rows):
        times = (case["p50_ms"].get(each) for each in CANDIDATES)
        cells = ("failed" if time is None else f"{time:.3f}" for time in times)
        yield _line(row["name"], str(case["threads"]), *cells)
    yield from (
        "",
        "How many times faster one is than the other: the median over all turns of the ratio within a turn, in",
        "brackets the quartiles. Where they lie on both sides of 1, the ratio says nothing.",
        "",
        _line("network", "threads", *(f"{_TITLES[one]} over {_TITLES[other]}" for one, other in COMPARED)),
        "|---|--:" + "|--:" * len(COMPARED) + "|",
    )
    for row, case in _cases(rows):
        ratios = (case["ratios"].get(f"{one} over {other}") for one, other in COMPARED)
        cells = ("" if ratio is None else _quartiles(ratio) for ratio in ratios)
        yield _line(row["name"], str(case["threads"]), *cells)
    for threads in sorted({case["threads"] for _, case in _cases(rows)}):
        yield _line("geometric mean", str(threads), *_means(rows, threads))
    yield from ("", "Not faster in 8 bits, with the layers and conversions that take longer:", "")
    yield from list(_slower(rows)) or ["- none."]
    yield from ("", "Slower than what onnxruntime's own quantizer makes:", "")
    yield from list(_behind(rows)) or ["- none."]


def _cases(rows: Sequence[Json]) -> Iterator[tuple[Json, Json]]:
    return ((row, case) for row in rows for case in row["measured"]["cases"])


def _means(rows: Sequence[Json], threads: int) -> Iterator[str]:
    for one, other in COMPARED:
        pair = f"{one} over {other}"
        found = [
            math.log(case["ratios"][pair]["median"])
            for _, case in _cases(rows)
            if case["threads"] == threads and pair in case["ratios"]
        ]
        yield f"{math.exp(math.fsum(found) / len(found)):.3f}" if found else ""


def _slower(rows: Sequence[Json]) -> Iterator[str]:
    for row, case in _cases(rows):
        for one, other in EIGHT_BITS:
            found = case["ratios"].get(f"{one} over {other}")
            if found is None or found["median"] > 1:
                continue
            yield f"- {row['name']}, {_TITLES[one]}, {_threads(case)}: {_quartiles(found)}"
            yield from (f"  - {text}" for text in case["slower"].get(one, ()))


def _behind(rows: Sequence[Json]) -> Iterator[str]:
    for row, case in _cases(rows):
        found = case["ratios"].get("int8 over ort_static")
        if found is not None and found["median"] < 1:
            yield f"- {row['name']}, {_threads(case)}: {_quartiles(found)}"


def _threads(case: Json) -> str:
    return f"{case['threads']} thread{'s' * (case['threads'] > 1)}"


def _failures(rows: Sequence[Json]) -> Iterator[str]:
    for row in rows:
        if row["problem"]:
            yield f"- {row['name']}: {row['problem']}"
        for candidate, facts in (row["made"] or {}).items():
            if facts["problem"]:
                yield f"- {row['name']}, {_TITLES[candidate]}: {' '.join(facts['problem'].split())}"
        if row["half"] == "accuracy" and row["measured"]:
            for target, found in row["measured"]["targets"].items():
                if "skipped" in found:
                    yield f"- {row['name']}, {target}: {found['skipped']}"
                    continue
                for precision in ("fp16", "int8"):
                    if problem := found[precision]["problem"]:
                        yield f"- {row['name']}, {target}, {precision}: {' '.join(problem.split())}"


def _quartiles(ratio: Json) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def _versions(rows: Sequence[Json]) -> str:
    versions = rows[0]["versions"]
    return ", ".join(
        f"{name} {versions[name]}" for name in ("cnnport", "onnxruntime", "openvino") if name in versions
    )


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"

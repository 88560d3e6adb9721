"""The table of a run over the zoo, for people."""

from collections.abc import Sequence

from cnnport.measuring.record import Json

_COLUMNS = (
    *("network", "parameters", "MACs", "MB", "ops"),
    *("max error", "in std", "fp16 in std", "p50 ms", "peak GB"),
)


def markdown(rows: Sequence[Json]) -> str:
    """The rows of ``zoo.json`` as a page; networks that failed stand below the table with their reasons."""
    lines = [
        "# The zoo",
        "",
        "Each network exported with seeded weights at opset 20, held against PyTorch at batch sizes 1, 3 and 8 with",
        "two seeds, its file verified by itself, and measured on ONNX Runtime (CPU, batch 1). `ops` counts nodes as",
        "torch.onnx gave them and in the file. `max error` is absolute, `in std` the same in standard deviations of",
        "the output; `fp16 in std` is what the network in float16 departs from that in float32, computed as a",
        "runtime that really rounds does: every number is finite. `peak` is the memory of the exporting process.",
        "Made by `make zoo`; machine, versions, dates and operators are in zoo.json.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" + "|--:" * (len(_COLUMNS) - 1) + "|",
    ]
    lines += [_line(row) for row in rows if not row["problem"]]
    if noted := [row for row in rows if not row["problem"] and row["note"]]:
        lines += [
            "",
            "Where float32 itself is no closer to float64 in PyTorch, both were held against float64:",
            "",
        ]
        lines += [f"- {row['name']}: {row['note']}" for row in noted]
    if failed := [row for row in rows if row["problem"]]:
        lines += ["", "Not as they should be:", ""] + [f"- {row['name']}: {row['problem']}" for row in failed]
    return "\n".join(lines) + "\n"


def _line(row: Json) -> str:
    figures = (
        row["name"],
        f"{row['params']:,}",
        f"{row['macs']:,}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{sum(row['ops_before'].values())} → {sum(row['ops'].values())}",
        f"{row['max_abs']:.1e}",
        f"{row['error_in_std']:.1e}",
        f"{row['fp16']['error_in_std']:.1e}",
        "" if row["p50_ms"] is None else f"{row['p50_ms']:.3f}",
        f"{row['peak_bytes'] / 1e9:.2f}",
    )
    return "| " + " | ".join(figures) + " |"

"""What was tried on the way to 8 bits, what each layer loses, and what accuracy costs in time."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnport.quantization.quantize_file import Quantized
from cnnport.quantization.repair import Attempt


def report_of(
    done: Quantized, speed: Mapping[str, Any] | None = None, latencies_ms: Sequence[float] = ()
) -> dict[str, Any]:
    """Everything, as plain JSON values.

    Args:
        done: What was done.
        speed: Of the file against its float form; None where it was not measured.
        latencies_ms: Of the float form, and of every attempt that was judged, measured in turn; empty if they were
            not.
    """
    judged = [each for each in done.found.attempts if each.judgement is not None]
    float_ms, times = (latencies_ms[0], latencies_ms[1:]) if latencies_ms else (None, [None] * len(judged))
    points = [_point(each, time) for each, time in zip(judged, times, strict=True)]
    if float_ms is not None:
        points.insert(
            0, {"steps": ["float32"], "lost": 0.0, "sqnr_db": None, "latency_ms": round(float_ms, 4)}
        )
    for point in points:
        point["is_best_trade"] = _is_undominated(point, points)
    quantizers = done.best.made.report.quantizers
    alone = {each.node: _finite(each.sqnr_db) for each in done.sensitivities}
    return {
        "source": str(done.source),
        "path": str(done.artifact.path),
        "target": done.best.made.report.target,
        "calibration": {
            **done.calibration.to_metadata(),
            "left_out": [{"name": each.name, "reason": each.reason} for each in done.calibration.skipped],
        },
        "steps": list(done.best.recipe.steps),
        "judged": {
            **done.judgement.to_json(),
            "held_out": done.is_held_out,
            "runtime": done.runtime,
            "enough": done.found.is_enough,
        },
        "attempts": [
            {
                "steps": list(each.recipe.steps),
                "trial_db": _finite(each.trial_db),
                "judged": None if each.judgement is None else each.judgement.to_json(),
                "verdict": each.verdict,
            }
            for each in done.found.attempts
        ],
        "pareto": points,
        "layers": [
            {
                "node": each.node,
                "operator": each.operator,
                "int8": each.quantized,
                "why": each.reason,
                "alone_sqnr_db": alone.get(each.node),
            }
            for each in done.best.made.report.choices
        ],
        "values": {
            name: {"scale": each.scale, "zero_point": each.zero_point, "type": each.dtype.name}
            for name, each in quantizers.items()
        },
        "speed": None if speed is None else dict(speed),
        "notes": list(done.notes),
        "seconds": round(done.seconds, 1),
    }


def as_markdown(report: Mapping[str, Any]) -> str:
    """A page for people of what ``report_of`` gives."""
    judged, calibration = report["judged"], report["calibration"]
    lines = [
        f"# {Path(report['path']).name}: 8 bits for {report['target']}",
        "",
        f"Made of {Path(report['source']).name}: {', '.join(report['steps'])}. Calibrated with "
        f"{calibration['count']} samples ({calibration['source']}), {calibration['skipped']} left out. Judged on "
        f"{judged['samples']} {'others' if judged['held_out'] else 'of the same'}, on {judged['runtime']}.",
        "",
        *(f"- {note}" for note in report["notes"]),
        "",
        "## Accuracy and latency",
        "",
        "What was judged; a star where nothing else is both faster and nearer. Lost are points of right",
        "classifications where labels are known, of agreement with float32 elsewhere.",
        "",
        *_table(
            ("", "steps", "lost, points", "SQNR, dB", "latency, ms"),
            [
                (
                    "*" if point["is_best_trade"] else "",
                    ", ".join(point["steps"]),
                    _shown(point["lost"], 2),
                    _shown(point["sqnr_db"], 1),
                    _shown(point["latency_ms"], 3),
                )
                for point in report["pareto"]
            ],
        ),
        "",
        "## What was tried",
        "",
        *_table(
            ("steps", "SQNR on the trial samples, dB", "what followed"),
            [
                (", ".join(each["steps"]), _shown(each["trial_db"], 1), each["verdict"])
                for each in report["attempts"]
            ],
        ),
        "",
        "## Layers",
        "",
        "SQNR of the network's outputs where this layer alone is in 8 bits.",
        "",
        *_table(
            ("layer", "operator", "SQNR alone, dB", "in", "why"),
            [
                (
                    each["node"],
                    each["operator"],
                    _shown(each["alone_sqnr_db"], 1),
                    "int8" if each["int8"] else "float",
                    each["why"],
                )
                for each in sorted(report["layers"], key=_by_sensitivity)
            ],
        ),
    ]
    if report["speed"] is not None:
        lines += ["", "## Speed", "", *(f"- {key}: {value}" for key, value in report["speed"].items())]
    return "\n".join(lines) + "\n"


def _point(attempt: Attempt, latency_ms: float | None) -> dict[str, Any]:
    judgement = attempt.judgement
    assert judgement is not None
    return {
        "steps": list(attempt.recipe.steps),
        "lost": None if judgement.drop is None else round(judgement.drop, 3),
        "sqnr_db": _finite(judgement.sqnr_db),
        "latency_ms": None if latency_ms is None else round(latency_ms, 4),
    }


def _is_undominated(point: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing is as good in both and better in one; what was not measured competes with nothing."""
    if point["latency_ms"] is None:
        return False
    own = _costs(point)
    others = [_costs(each) for each in points if each["latency_ms"] is not None]
    return not any(each != own and all(a <= b for a, b in zip(each, own, strict=True)) for each in others)


def _costs(point: Mapping[str, Any]) -> tuple[float, float]:
    lost = point["lost"]
    if lost is None:
        lost = 0.0 if point["sqnr_db"] is None else -point["sqnr_db"]
    return (max(lost, 0.0) if point["lost"] is not None else lost, point["latency_ms"])


def _by_sensitivity(layer: Mapping[str, Any]) -> tuple[bool, float]:
    alone = layer["alone_sqnr_db"]
    return (alone is None, alone or 0.0)


def _finite(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    return [
        f"| {' | '.join(cells[0])} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in cells[1:]),
    ]

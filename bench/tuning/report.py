"""What was tried, how fast and how accurate it was, and why the winner won."""

from collections.abc import Mapping
from typing import Any

from cnnport.measuring.environment import read_environment
from cnnport.measuring.tuning.candidate import Candidate
from cnnport.measuring.tuning.tuned import Tuned
from cnnport.measuring.tuning.writing import tuned_for


def report_of(done: Tuned) -> dict[str, Any]:
    """Everything as plain JSON values, the fastest candidate first; those that were not measured last."""
    rows = [_row(done, each) for each in done.candidates]
    rows.sort(key=lambda row: (row["latency_ms"] is None, row["latency_ms"] or 0.0))
    return {
        "cnnport_tune": 1,
        "environment": read_environment().to_json(),
        "model": done.wishes.model,
        "winner": done.winner.name,
        "why": done.why,
        "tuned": tuned_for(done),
        "latency_ms": None if done.latency_ms is None else round(done.latency_ms, 4),
        "plain": done.plain.name,
        "max_drop": done.wishes.max_drop,
        "target_ms": done.wishes.target_ms,
        "reaches_target": done.reaches_target,
        "is_noise": done.is_noise,
        "counts_classes": done.counts_classes,
        "is_complete": done.is_complete,
        "is_resumed": done.is_resumed,
        "budget_s": done.wishes.budget_s,
        "spent_s": round(done.spent_s, 1),
        "notes": list(done.notes),
        "candidates": rows,
        "files": {name: {key: row[key] for key in row if key != "graph"} for name, row in done.built.items()},
    }


def as_markdown(report: Mapping[str, Any]) -> str:
    """A page of what ``report_of`` gives."""
    lines = [
        f"# {report['model']}: what runs fastest here",
        "",
        f"**{report['winner']}**: {report['why']}.",
        "",
        f"Allowed to lose {report['max_drop']:g} points. {report['spent_s']:g} s of {report['budget_s']:g} s; held "
        f"against {report['plain']}.",
        "",
        *(f"- {note}" for note in report["notes"]),
        "",
        "| candidate | latency, ms | interval | times as fast | interval | lost, points | SQNR, dB | outcome |",
        "|---|--:|---|--:|---|--:|--:|---|",
        *(_line(row) for row in report["candidates"]),
    ]
    return "\n".join(lines) + "\n"


def _row(done: Tuned, each: Candidate) -> dict[str, Any]:
    race, accuracy = done.races.get(each.name), done.accuracies.get(each.run)
    row: dict[str, Any] = {
        "name": each.name,
        "graph": each.variant.target,
        "file_precision": each.variant.precision,
        "precision": each.computes,
        "runtime": each.runtime,
        "threads": each.threads,
        "settings": dict(each.settings),
        "latency_ms": None,
        "latency_interval_ms": None,
        "speedup": None,
        "speedup_interval": None,
        "stage": None,
        "lost": None if accuracy is None else accuracy.drop,
        "sqnr_db": None if accuracy is None else accuracy.sqnr_db,
        "judged": None if accuracy is None else accuracy.said,
        "outcome": done.outcomes[each.name],
    }
    if race is not None:
        of_latency, of_ratio = race.interval_s, race.interval
        row |= {
            "latency_ms": round(race.latency_s * 1e3, 4),
            "latency_interval_ms": [round(of_latency.low * 1e3, 4), round(of_latency.high * 1e3, 4)],
            "speedup": round(race.speedup, 4),
            "speedup_interval": [round(of_ratio.low, 4), round(of_ratio.high, 4)],
            "stage": race.stage,
        }
    return row


def _line(row: Mapping[str, Any]) -> str:
    def shown(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    def between(ends: tuple[float, float] | None, digits: int) -> str:
        return "" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"

    cells = (
        row["name"],
        shown(row["latency_ms"], 3),
        between(row["latency_interval_ms"], 3),
        shown(row["speedup"], 2),
        between(row["speedup_interval"], 2),
        shown(row["lost"], 2),
        shown(row["sqnr_db"], 1),
        row["outcome"].replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"

"""What the gate found, as Markdown: for a pull request, or the summary of a job in GitHub Actions."""

from pathlib import Path

from cnnport.errors import OutputError
from cnnport.measuring.cautions import cautions
from cnnport.measuring.comparison import Comparison, Verdict
from cnnport.measuring.gate.judge import worst
from cnnport.measuring.record import Results
from cnnport.measuring.report import environment_lines, markdown_table

_TITLES = {
    Verdict.PASS: "No regression",
    Verdict.REGRESSION: "Regression",
    Verdict.INCONCLUSIVE: "Inconclusive",
}
_COLUMNS = ("case", "metric", "baseline", "now", "change", "interval", "limit", "rounds", "verdict")
_TEXT_COLUMNS = 2


def summary_text(results: Results) -> str:
    """Verdict, one row for every figure, and what to know of them; empty without comparisons."""
    if not results.comparisons:
        return ""
    verdict = worst(results.comparisons)
    rows = [comparison_cells(each) for each in results.comparisons]
    parts = [
        f"## cnnport bench: {_TITLES[verdict].lower()}",
        markdown_table(_COLUMNS, rows, left=_TEXT_COLUMNS),
    ]
    if notes := sorted(
        {f"{each.case}: {each.note}" for each in results.comparisons if each.note and each.paired}
    ):
        parts.append("\n".join(f"- {note}" for note in notes))
    if found := cautions(results):
        parts.append("\n".join(f"- **{each.code}** {each}" for each in found))
    if lines := environment_lines(results.environment):
        parts.append("<details><summary>Environment</summary>\n\n" + "\n".join(f"- {line}" for line in lines))
        parts.append("</details>")
    if results.method is not None and results.method.command:
        parts.append(f"`{results.method.command}`")
    return "\n\n".join(parts) + "\n"


def append_summary(results: Results, path: Path) -> None:
    """Add the summary to a file, which is made if it is not there. Raises ``OutputError``."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(summary_text(results))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def comparison_cells(each: Comparison) -> list[str]:
    """One comparison as a row of text."""
    interval = f"{each.low - 1:+.1%} to {each.high - 1:+.1%}"
    return [
        each.case,
        each.metric,
        *(_figure(each.metric, value) for value in (each.baseline, each.value)),
        f"{each.ratio - 1:+.1%}",
        interval,
        f"{each.bound - 1:+.1%}",
        str(each.rounds),
        str(each.verdict) if each.paired else f"{each.verdict} (against the record)",
    ]


def _figure(metric: str, value: float) -> str:
    if metric == "memory":
        return f"{value / 2**20:.1f} MiB"
    unit = {"throughput": "images/s", "load": "s"}.get(metric, "ms")
    return f"{value:.4g} {unit}"

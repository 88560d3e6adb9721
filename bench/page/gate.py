"""Held against a baseline: every comparison of a regression gate, with its interval and its limit."""

from collections.abc import Sequence

from cnnport.measuring.comparison import Comparison, Verdict
from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.interval import Interval, intervals
from cnnport.measuring.page.charts.rows import Row
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.measured import Measured
from cnnport.measuring.page.words import clean, number, own_command, plural

SERIES = {Verdict.PASS: 2, Verdict.REGRESSION: 1, Verdict.INCONCLUSIVE: 6}
"""Of each verdict the colour and the shape."""

_WORDS = {Verdict.PASS: "pass", Verdict.REGRESSION: "regression", Verdict.INCONCLUSIVE: "inconclusive"}


def gate_section(benchmarks: Sequence[Measured]) -> Section | None:
    """A figure for each benchmark that had a baseline; None without one."""
    figures = tuple(_figure(each) for each in benchmarks if each.results.comparisons)
    if not figures:
        return None
    lead = "What this run measured over what its baseline has: to the right of 0 is more than before."
    return Section("Against the baseline", lead, figures)


def _figure(benchmark: Measured) -> Figure:
    found = benchmark.results.comparisons
    entries = tuple(
        Interval(
            Row(f"{clean(each.case)} · {clean(each.metric)}", f"{each.ratio - 1:+.1%}"),
            each.ratio - 1,
            each.low - 1,
            each.high - 1,
            each.bound - 1,
            SERIES[each.verdict],
        )
        for each in found
    )
    counts = {verdict: sum(each.verdict is verdict for each in found) for verdict in Verdict}
    said = ", ".join(f"{count} {_WORDS[verdict]}" for verdict, count in counts.items() if count)
    method = benchmark.results.method
    stated = own_command(method.command) if method is not None else None
    return Figure(
        title=f"Change since the baseline, {benchmark.document.label}",
        says=f"{plural(len(found), 'comparison')}: {said}.",
        tables=(
            Table("Ratios of new over baseline", _COLUMNS, tuple(map(_row, found)), frozenset({0, 1, 2, 7})),
        ),
        drawing=lambda narrow: intervals(entries, narrow=narrow, title="change"),
        keys=tuple(
            Key(_WORDS[verdict], theme.SERIES[SERIES[verdict]], theme.SHAPES[SERIES[verdict]])
            for verdict, count in counts.items()
            if count
        ),
        reading=f"The line is the interval of {found[0].confidence:.0%} confidence, the stroke the limit.",
        command=(stated,) if stated else (),
    )


_COLUMNS = ("case", "metric", "limit", "ratio", "from", "to", "baseline", "verdict", "now")


def _row(each: Comparison) -> tuple[str, ...]:
    return (
        clean(each.case),
        clean(each.metric),
        clean(each.limit),
        f"{each.ratio:.4f}",
        f"{each.low:.4f}",
        f"{each.high:.4f}",
        number(each.baseline),
        _WORDS[each.verdict],
        number(each.value),
    )

"""What the page says at its top: a few figures in large type, the best case of each network, and every doubt."""

from collections.abc import Iterator

from cnnport.measuring.cautions import cautions
from cnnport.measuring.page.contents import Contents
from cnnport.measuring.page.documents import Fields
from cnnport.measuring.page.figure import Headline, Remark, Table
from cnnport.measuring.page.machine import differing, environments
from cnnport.measuring.page.measured import rows_of
from cnnport.measuring.page.words import clean, listed, milliseconds, number, percent, plural, sentence, times
from cnnport.measuring.record import Measurement

HEADLINES_AT_MOST = 6

APART = 0.1
"""How far the sum of a profile's layers may lie from the time of a whole run."""


def headlines(contents: Contents) -> tuple[Headline, ...]:
    """At most six figures, the most important first."""
    found = [
        *_gate(contents),
        *_latencies(contents),
        *_accuracies(contents),
        *_parities(contents),
        *_speedups(contents),
        *_peaks(contents),
        *_graphs(contents),
    ]
    return tuple(found[:HEADLINES_AT_MOST])


def best_table(contents: Contents) -> Table | None:
    """For each network its shortest latency and its highest throughput; None without two cases."""
    rows = rows_of(contents.benchmarks)
    if len(rows) < 2:
        return None
    cells = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        quick = min(own, key=lambda row: row.p50_s)
        much = max(own, key=lambda row: row.throughput)
        cells.append(
            (model, milliseconds(quick.p50_s * 1e3), _case(quick), number(much.throughput), _case(much))
        )
    columns = ("network", "lowest p50", "with", "most images/s", "with")
    return Table("The best case of each network", columns, tuple(cells), frozenset({0, 2, 4}))


def sentences(contents: Contents) -> tuple[str, ...]:
    """What limits each profiled network, and how the best runtimes compare, in words."""
    said = []
    rows = rows_of(contents.benchmarks)
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        smallest = min(row.batch for row in own)
        same = [row for row in own if row.batch == smallest]
        best = {
            runtime: min((row for row in same if row.runtime == runtime), key=lambda row: row.p50_s)
            for runtime in dict.fromkeys(row.runtime for row in same)
        }
        ranked = sorted(best.values(), key=lambda row: row.p50_s)
        if len(ranked) > 1 and ranked[0].p50_s:
            others = [
                f"{row.runtime} takes {times(row.p50_s / ranked[0].p50_s)} as long" for row in ranked[1:]
            ]
            said.append(f"At batch {smallest}, {model} is fastest on {ranked[0].runtime}; {listed(others)}.")
    said += [f"{each.model}, tuned: {each.winner} won: {each.why}." for each in contents.tunings]
    said += [
        f"{each.name}: {sentence(each.record.limits[0])}" for each in contents.profiles if each.record.limits
    ]
    return tuple(said)


def remarks(contents: Contents) -> tuple[Remark, ...]:
    """Every reason to doubt a figure, those that weigh most first."""
    return (
        *_failures(contents),
        *_mixed(contents),
        *_of_benchmarks(contents),
        *_left_out(contents),
        *_of_profiles(contents),
        *(Remark(each.source, text) for each in contents.graphs for text in each.doubts),
        *(Remark(each.document.label, text) for each in contents.quantizations for text in each.notes),
        *(Remark(each.document.label, text) for each in contents.tunings for text in each.notes),
    )


def _case(row: Measurement) -> str:
    return f"{row.runtime}, {row.precision}, batch {row.batch}, {plural(row.threads, 'thread')}"


def _gate(contents: Contents) -> Iterator[Headline]:
    found = [each for benchmark in contents.benchmarks for each in benchmark.results.comparisons]
    if found:
        bad = sum(each.verdict == "regression" for each in found)
        label = "regressions" if bad != 1 else "regression"
        yield Headline(str(bad), "", label, f"of {plural(len(found), 'comparison')} with the baseline")


def _latencies(contents: Contents) -> Iterator[Headline]:
    rows = rows_of(contents.benchmarks)
    models = list(dict.fromkeys(row.model for row in rows))
    for model in models[:3]:
        own = [row for row in rows if row.model == model]
        quick = min(own, key=lambda row: row.p50_s)
        yield Headline(number(quick.p50_s * 1e3), "ms", f"lowest p50 of {model}", _case(quick))
    if rows:
        much = max(rows, key=lambda row: row.throughput)
        yield Headline(
            number(much.throughput), "images/s", "highest throughput", f"{much.model}, {_case(much)}"
        )


def _accuracies(contents: Contents) -> Iterator[Headline]:
    if contents.evaluations:
        best = max(contents.evaluations, key=lambda each: each.top1)
        yield Headline(f"{best.top1 * 100:.2f}", "%", "best top-1", best.name)


def _parities(contents: Contents) -> Iterator[Headline]:
    if contents.parities:
        passed = sum(row.passed for row in contents.parities)
        yield Headline(
            f"{passed}/{len(contents.parities)}", "", "parity checks pass", "against their reference"
        )


def _speedups(contents: Contents) -> Iterator[Headline]:
    measured = [each for each in contents.quantizations if each.ratio is not None]
    if measured:
        best = max(measured, key=lambda each: each.ratio or 0.0)
        yield Headline(f"{best.ratio:.2f}", "\N{MULTIPLICATION SIGN}", "float32's speed in 8 bits", best.name)


def _peaks(contents: Contents) -> Iterator[Headline]:
    for profile in contents.profiles[:1]:
        known = [layer for layer in profile.record.layers if layer.of_peak is not None]
        covered = sum(layer.ms for layer in known)
        if covered:
            mean = sum((layer.of_peak or 0.0) * layer.ms for layer in known) / covered
            yield Headline(f"{mean * 100:.0f}", "%", "of the roof, by time", profile.name)


def _graphs(contents: Contents) -> Iterator[Headline]:
    changed = [each for each in contents.graphs if each.nodes[0] != each.nodes[1]]
    if changed:
        most = max(changed, key=lambda each: abs(each.nodes[1] / max(each.nodes[0], 1) - 1))
        yield Headline(f"{most.nodes[0]} → {most.nodes[1]}", "", "nodes", most.name)


def _failures(contents: Contents) -> Iterator[Remark]:
    for source in dict.fromkeys(row.source for row in contents.parities):
        failed = tuple(
            f"{row.candidate} against {row.reference}"
            + (f": {'; '.join(row.failures)}" if row.failures else "")
            for row in contents.parities
            if row.source == source and not row.passed
        )
        if failed:
            yield Remark(source, f"{plural(len(failed), 'parity check')} failed", failed)
    for benchmark in contents.benchmarks:
        bad = tuple(
            clean(str(each)) for each in benchmark.results.comparisons if each.verdict == "regression"
        )
        if bad:
            yield Remark(
                benchmark.document.label, f"{plural(len(bad), 'regression')} against the baseline", bad
            )


def _mixed(contents: Contents) -> Iterator[Remark]:
    found = environments(contents.benchmarks, contents.profiles)
    if what := differing(found):
        labels = listed(dict.fromkeys(label for label, _ in found))
        yield Remark(
            labels, f"taken with different {what}: figures of one file do not compare with those of another"
        )


def _of_benchmarks(contents: Contents) -> Iterator[Remark]:
    for benchmark in contents.benchmarks:
        label, results = benchmark.document.label, benchmark.results
        groups: dict[tuple[str, str], list[str]] = {}
        for each in cautions(results):
            said = f"{each.case}: {each.message}" if each.case else each.message
            groups.setdefault((str(each.code), each.advice), []).append(clean(said))
        for (code, advice), cases in groups.items():
            name = code.replace("-", " ")
            if len(cases) == 1:
                yield Remark(label, f"{name}: {cases[0]}; {clean(advice)}")
            else:
                yield Remark(
                    label,
                    f"{name} in {len(cases)} of {plural(len(results.results), 'case')}: {clean(advice)}",
                    tuple(cases),
                )
        reasons: dict[str, list[str]] = {}
        for missed in results.skipped:
            traits = [missed.runtime, missed.precision, missed.batch and f"batch {missed.batch}"]
            reasons.setdefault(missed.reason, []).append(
                " · ".join(clean(part) for part in (missed.model, *traits) if part)
            )
        for reason, missing in reasons.items():
            one = f"{missing[0]} was not measured: {reason}"
            many = f"{len(missing)} cases were not measured: {reason}"
            yield Remark(label, one) if len(missing) == 1 else Remark(label, many, tuple(missing))
        random = list(dict.fromkeys(row.model for row in results.results if row.weights == "random"))
        if random:
            yield Remark(
                label,
                f"the weights of {listed(random)} are random: latency holds for the network, its answers do not",
            )


def _left_out(contents: Contents) -> Iterator[Remark]:
    """What evaluations and parity checks say that they did not do, and what else they note."""
    for document in contents.documents:
        if document.kind not in {"evaluate", "parity"}:
            continue
        fields = Fields(document.body, document.path)
        for each in fields.many("not_evaluated"):
            case = f"{each.text('model', '')} on {each.text('runtime', '')}"
            yield Remark(document.label, f"{case} was not evaluated: {each.text('reason', '')}")
        if document.kind == "parity":
            for each in fields.many("skipped"):
                case = each.text("candidate", "")
                yield Remark(document.label, f"{case} was not compared: {each.text('reason', '')}")
            yield from (Remark(document.label, note) for note in fields.texts("notes"))


def _of_profiles(contents: Contents) -> Iterator[Remark]:
    for profile in contents.profiles:
        yield from (
            Remark(profile.document.label, f"{profile.name}: {note}") for note in profile.record.notes
        )
        # Where the profile speaks of it itself, once is enough.
        if profile.record.end_to_end_ms <= 0 or profile.record.notes:
            continue
        apart = profile.record.layers_ms / profile.record.end_to_end_ms - 1
        if abs(apart) > APART:
            more = "more" if apart > 0 else "less"
            text = f"{profile.name}: layers sum to {percent(abs(apart), 0)} {more} than a run without profiler takes"
            yield Remark(profile.document.label, text)

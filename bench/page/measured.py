"""Benchmarks as a page sees them: rows with harmless names, what tells these apart, and what measures them again."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from cnnport.measuring.page.documents import Document, DocumentError
from cnnport.measuring.page.words import clean, command, file_word, own_command, plural
from cnnport.measuring.record import Environment, Measurement, RecordError, Results, Skipped

RUNTIMES = ("ort-cpu", "openvino", "torch-cpu", "ort-cuda", "trt", "trt-rtx")
"""A runtime has the same colour in every figure; those that are not here share the last one."""


@dataclass(frozen=True)
class Measured:
    """One benchmark.

    Attributes:
        document: Where it was read.
        results: What it says, with names that are fit to be shown.
    """

    document: Document
    results: Results


def read_measured(documents: Iterable[Document]) -> tuple[Measured, ...]:
    """The benchmarks among documents. Raises ``DocumentError``."""
    return tuple(Measured(each, _results(each)) for each in documents if each.kind == "bench")


def rows_of(benchmarks: Iterable[Measured]) -> tuple[Measurement, ...]:
    """All cases that were measured, in order."""
    return tuple(row for each in benchmarks for row in each.results.results)


def series_of(runtime: str) -> int:
    """A runtime's place among the colours."""
    return RUNTIMES.index(runtime) if runtime in RUNTIMES else len(RUNTIMES)


def shown_environment(environment: Environment) -> Environment:
    """With texts that are fit to be shown."""
    return replace(
        environment,
        date_utc=clean(environment.date_utc),
        cpu_model=clean(environment.cpu_model),
        os=clean(environment.os),
        kernel=clean(environment.kernel),
        machine=clean(environment.machine),
        python=clean(environment.python),
        governor=None if environment.governor is None else clean(environment.governor),
        cpu_flags=tuple(map(clean, environment.cpu_flags)),
        packages={clean(name): clean(version) for name, version in environment.packages.items()},
    )


_TRAITS: dict[str, Callable[[Measurement], str]] = {
    "model": lambda row: row.model,
    "runtime": lambda row: row.runtime,
    "precision": lambda row: row.precision,
    "batch": lambda row: f"batch {row.batch}",
    "threads": lambda row: plural(row.threads, "thread"),
    "concurrency": lambda row: f"{row.concurrency} at once",
    "transfers": lambda row: "with copies" if row.transfers else "without copies",
    "settings": lambda row: ", ".join(f"{name}={value}" for name, value in sorted(row.settings.items())),
    "sha256": lambda row: f"file {row.sha256[:8]}" if row.sha256 else "",
}


def name_of(row: Measurement, among: Sequence[Measurement], *, without: Sequence[str] = ()) -> str:
    """A row in the words that tell it from others; the runtime is always among them.

    Args:
        row: Which.
        among: The others.
        without: Traits that are said elsewhere.
    """
    told = [name for name in _TRAITS if name not in without and _is_told(name, among)]
    return " · ".join(text for name in told if (text := _TRAITS[name](row)))


def names_of(rows: Sequence[Measurement]) -> list[str]:
    """The name of each among the others; cases that differ in nothing that is told are numbered."""
    plain = [name_of(row, rows) for row in rows]
    seen: Counter[str] = Counter()
    names = []
    for name in plain:
        seen[name] += 1
        names.append(f"{name} ({seen[name]})" if plain.count(name) > 1 else name)
    return names


def _is_told(name: str, among: Sequence[Measurement]) -> bool:
    if name == "sha256":
        # Two files of one network in one precision have nothing else to be told apart by.
        named = {(row.model, row.precision, row.sha256) for row in among}
        return len({entry[:2] for entry in named}) < len(named)
    return name == "runtime" or len({_TRAITS[name](row) for row in among}) > 1


def common_of(rows: Sequence[Measurement], *, without: Sequence[str] = ()) -> str:
    """What all rows share, in words."""
    shared = ("precision", "batch", "threads")
    told = [name for name in shared if name not in without and not _is_told(name, rows)]
    return ", ".join(_TRAITS[name](rows[0]) for name in told)


def commands_of(benchmarks: Sequence[Measured], rows: Sequence[Measurement]) -> tuple[str, ...]:
    """What measures rows again: the commands that their records state, or what would do the same.

    Args:
        benchmarks: Where the rows come from.
        rows: At least one.
    """
    lines: list[str] = []
    for each in benchmarks:
        own = [row for row in each.results.results if any(row is other for other in rows)]
        method = each.results.method
        stated = own_command(method.command) if method is not None else None
        if own:
            lines += [stated] if stated else _commands(own, each.document.path.name)
    return tuple(lines)


def _commands(rows: Sequence[Measurement], output: str) -> tuple[str, ...]:
    """One command where the rows are every combination, else one for each network on each runtime."""
    traits = [(row.model, row.runtime, row.batch, row.threads) for row in rows]
    combinations = product(*(dict.fromkeys(column) for column in zip(*traits, strict=True)))
    if set(combinations) <= set(traits) and len({_plain(row.settings) for row in rows}) == 1:
        return (_command(rows, output),)
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for row in rows:
        groups.setdefault((row.model, row.runtime, row.precision, _plain(row.settings)), []).append(row)
    if len(groups) == 1:
        return (_command(rows, output),)
    stem = output.removesuffix(".json")
    return tuple(
        _command(group, f"{stem}.{number}.json") for number, group in enumerate(groups.values(), start=1)
    )


def _command(rows: Sequence[Measurement], output: str) -> str:
    def each(values: Iterable[object]) -> str:
        return ",".join(dict.fromkeys(map(str, values)))

    words = ["cnnport", "bench", *dict.fromkeys(file_word(row.model) for row in rows)]
    words += ["--runtime", each(row.runtime for row in rows)]
    if {row.precision for row in rows} != {"fp32"}:
        words += ["--precision", each(row.precision for row in rows)]
    words += ["--batch", each(row.batch for row in rows), "--threads", each(row.threads for row in rows)]
    if {row.concurrency for row in rows} != {1}:
        words += ["--concurrency", each(row.concurrency for row in rows)]
    if all(row.weights == "random" for row in rows):
        words += ["--weights", "random"]
    for name, value in rows[0].settings.items():
        words += ["--deterministic"] if name == "deterministic" else ["--set", f"{name}={value}"]
    return command([*words, "-o", file_word(output)])


def _plain(settings: object) -> str:
    return str(sorted(settings.items())) if isinstance(settings, dict) else ""


def _results(document: Document) -> Results:
    try:
        results = Results.from_json(document.body)
    except RecordError as error:
        raise DocumentError(f"{document.path} is not a cnnport benchmark: {clean(error)}") from error
    for row in results.results:
        if row.batch < 1 or row.threads < 1 or row.concurrency < 1 or row.batch > 2**31:
            raise DocumentError(f"{document.path} is damaged: a batch or a number of threads is none")
    return replace(
        results,
        environment=shown_environment(results.environment),
        results=tuple(map(_shown, results.results)),
        skipped=tuple(map(_shown_skipped, results.skipped)),
    )


def _shown(row: Measurement) -> Measurement:
    return replace(
        row,
        model=clean(row.model),
        runtime=clean(row.runtime),
        precision=clean(row.precision),
        weights=clean(row.weights),
        sha256=clean(row.sha256),
        runtime_version=clean(row.runtime_version),
        device=clean(row.device),
        settings={clean(name): clean(value) for name, value in row.settings.items()},
    )


def _shown_skipped(row: Skipped) -> Skipped:
    return replace(row, model=clean(row.model), runtime=clean(row.runtime), reason=clean(row.reason))

"""``cnnport bench``: measure networks on runtimes, and hold them against a baseline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnport.cli import console
from cnnport.cli.options import (
    Deterministic,
    Device,
    Json,
    Overwrite,
    Runtimes,
    Settings,
    Shapes,
    Weights,
    complete_model,
    parse_shapes,
    split_list,
)
from cnnport.errors import CheckFailedError, CnnportError, RuntimeMissingError

if TYPE_CHECKING:
    from cnnport.measuring import Case, Results


def bench(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Zoo names or .onnx files; shufflenet_v2 if omitted.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    runtime: Runtimes = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            metavar="fp32|fp16|bf16|int8",
            help="Of zoo networks, which are exported in it; repeatable. Files are measured as they are.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DIR|digits|random[:N]",
            help="Samples for int8: digits where the weights were trained on them, else random:64, if omitted.",
        ),
    ] = None,
    batch: Annotated[
        list[str] | None, typer.Option("--batch", metavar="N", help="Batch sizes; repeatable.")
    ] = None,
    threads: Annotated[
        list[str] | None, typer.Option("--threads", metavar="N", help="Threads of a run, pinned; repeatable.")
    ] = None,
    concurrency: Annotated[
        list[str] | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            help="Requests in flight, in one process: throughput, and latency under load; repeatable.",
        ),
    ] = None,
    shape: Shapes = None,
    duration: Annotated[
        float,
        typer.Option("--duration", metavar="S", help="Measured seconds a case; 10 runs a round at least."),
    ] = 3.0,
    warmup: Annotated[
        float,
        typer.Option(
            "--warmup",
            metavar="S",
            help="Least warm-up of a process; it lasts until three medians of 0.1 s in a row lie within 3 %.",
        ),
    ] = 0.5,
    warmup_max: Annotated[
        float | None,
        typer.Option("--warmup-max", metavar="S", help="Most warm-up, settled or not; 4 times the least."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", metavar="N", help="Rounds over all cases: 3, with --baseline 5."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Of the order of the cases in each round.")
    ] = 0,
    transfers: Annotated[
        bool,
        typer.Option(
            "--transfers/--no-transfers", help="On a GPU, whether copies of inputs and outputs count."
        ),
    ] = False,
    settings: Settings = None,
    device: Device = 0,
    deterministic: Deterministic = False,
    weights: Weights = "auto",
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="An earlier bench's .json, or an .onnx file: measured in turn where the file is at hand.",
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="'p50+5%'",
            help="What is a regression: of p50, p90, p95, p99, mean, throughput, memory, load; repeatable.",
        ),
    ] = None,
    max_rounds: Annotated[
        int | None,
        typer.Option(
            "--max-rounds", metavar="N", help="With --baseline, rounds until it is inconclusive: 40."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="An inconclusive verdict ends with exit code 1 too.")
    ] = False,
    summary: Annotated[
        Path | None,
        typer.Option("--summary", metavar="FILE", help="Append Markdown, as to $GITHUB_STEP_SUMMARY."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save as .json, .csv or .md.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what a killed run has left beside -o.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure latency and throughput: one process a case, cases in turn over several rounds.

    With -o, what was measured is kept after every process, and the same command goes on after a kill.
    """
    from cnnport.api import bench as run_bench
    from cnnport.files import check_writable
    from cnnport.measuring import Journal, check_format, journal_path, write_results
    from cnnport.measuring.request import Told, missing_of

    if output is not None:
        check_format(output)
        check_writable(output, overwrite=overwrite)
    if baseline is None and (given := _given(context, ("fail_if", "max_rounds", "strict"))):
        raise CnnportError(f"{given[0]} goes with --baseline, which is missing")
    names = tuple(split_list(runtime))
    journal = Journal(None if output is None else journal_path(output), fresh=fresh)
    with console.progress(refresh_hz=1) as progress:

        def show(done: int, total: int, case: "Case") -> None:
            progress.step(f"[{done + 1}/{total}] {case.artifact.model} on {case.runtime}, batch {case.batch}")

        told = Told(step=progress.step, note=console.note, download=progress.download, progress=show)
        try:
            measured = run_bench(
                models or "shufflenet_v2",
                runtimes=names,
                precisions=split_list(precision),
                calibration=calibration,
                weights=weights,
                batches=_numbers("--batch", batch),
                threads=_numbers("--threads", threads),
                concurrency=_numbers("--concurrency", concurrency) or (1,),
                shapes=parse_shapes(shape),
                settings=settings or (),
                device=device,
                deterministic=deterministic,
                transfers=transfers,
                duration_s=duration,
                warmup_s=warmup,
                warmup_max_s=warmup_max,
                rounds=rounds,
                seed=seed,
                baseline=baseline,
                fail_if=split_list(fail_if),
                max_rounds=max_rounds,
                command=_command(context),
                journal=journal,
                told=told,
            )
        finally:
            journal.close()
    if output is not None:
        write_results(measured, output)
        journal.remove()
        console.note(f"saved {output}")
    _show(measured, summary, as_json=json)
    _judge(measured, missing_of(names), strict=strict)


def _show(measured: "Results", summary: Path | None, *, as_json: bool) -> None:
    from cnnport.measuring import json_text, render

    if summary is not None:
        from cnnport.measuring.gate import append_summary

        append_summary(measured, summary)
    if as_json:
        print(json_text(measured))  # noqa: T201
    elif measured.results or len(measured.skipped) > 1:
        console.results().print(render(measured))


def _judge(measured: "Results", missing: dict[str, str], *, strict: bool) -> None:
    """What the command ends with.

    Raises:
        RuntimeMissingError: If a runtime that was asked for is not available.
        CnnportError: If nothing could be measured.
        CheckFailedError: On a regression, and if it is to be strict, on what is inconclusive too.
    """
    for name, reason in missing.items():
        raise RuntimeMissingError(f"runtime {name} is not available: {reason}")
    if not measured.results:
        first = measured.skipped[0]
        # A device that is not there shows only when a session is opened.
        absent = first.exit_code == RuntimeMissingError.exit_code
        raise (RuntimeMissingError if absent else CnnportError)(f"nothing could be measured: {first.reason}")
    from cnnport.measuring import Verdict

    for verdict in (Verdict.REGRESSION, Verdict.INCONCLUSIVE):
        found = [each for each in measured.comparisons if each.verdict is verdict]
        if not found:
            continue
        text = f"{found[0]}" + (f", and {len(found) - 1} more" if len(found) > 1 else "")
        if verdict is Verdict.REGRESSION or strict:
            raise CheckFailedError(text)
        console.note(f"warning: {text}; --strict makes that a failure")


def _given(context: typer.Context, names: tuple[str, ...]) -> list[str]:
    """Which of some options were given."""
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    ]


def _command(context: typer.Context) -> str:
    """The command that was given, with what it was given in the order of the help."""
    import shlex

    words = ["cnnport", "bench"]
    for parameter in context.command.params:
        name = parameter.name or ""
        source, value = context.get_parameter_source(name), context.params.get(name)
        if source is None or source.name != "COMMANDLINE" or name in {"overwrite", "fresh", "json"}:
            continue
        option = max(parameter.opts, key=len) if parameter.param_type_name == "option" else None
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [option] if option and each is not False else []
            words += [] if isinstance(each, bool) else [str(each)]
    return shlex.join(words)


def _numbers(option: str, values: list[str] | None) -> tuple[int, ...] | None:
    items = split_list(values)
    if wrong := [item for item in items if not item.isdecimal()]:
        raise CnnportError(f"{option} takes numbers, not {wrong[0]!r}")
    return tuple(int(item) for item in items) or None

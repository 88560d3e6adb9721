"""``cnnport bench``: measure networks on runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from cnnport.cli import console
from cnnport.cli.options import (
    Deterministic,
    Device,
    Json,
    Overwrite,
    Settings,
    Weights,
    artifact_for,
    complete_model,
    complete_runtime,
    parse_shapes,
    split_list,
)
from cnnport.errors import CnnportError, RuntimeMissingError


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Zoo names or .onnx files; shufflenet_v2 if omitted.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="R",
            help="Repeatable; all that are present.",
            autocompletion=complete_runtime,
        ),
    ] = None,
    batch: Annotated[
        list[str] | None, typer.Option("--batch", metavar="N", help="Batch sizes; repeatable.")
    ] = None,
    threads: Annotated[
        list[str] | None, typer.Option("--threads", metavar="N", help="Threads of a run, pinned; repeatable.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape", metavar="NAME:1x3x224x224", help="Shape of an input of dynamic size; repeatable."
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", help="Measured seconds a case.")
    ] = 3.0,
    warmup: Annotated[float, typer.Option("--warmup", metavar="S", help="Warm-up seconds a process.")] = 0.5,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Rounds over all cases.")] = 3,
    settings: Settings = None,
    device: Device = 0,
    deterministic: Deterministic = False,
    weights: Weights = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save as .json, .csv or .md.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure latency and throughput: one process a case, cases in turn over several rounds."""
    from cnnport.bench import bench as run_bench
    from cnnport.bench import check_format, json_text, make_cases, render, write_results
    from cnnport.bench.case import Case
    from cnnport.files import check_writable
    from cnnport.runtimes import available, get_runtime, settings_for

    shapes = parse_shapes(shape)
    batches, thread_counts = _numbers("--batch", batch), _numbers("--threads", threads)
    if output is not None:
        check_format(output)
        check_writable(output, overwrite=overwrite)
    names = split_list(runtime)
    reasons = {name: get_runtime(name).missing() for name in names}
    if names and all(reasons.values()):
        raise RuntimeMissingError(f"runtime {names[0]} is not available: {reasons[names[0]]}")
    used = names or available()
    chosen = settings_for(used, settings or [])
    with console.progress(refresh_hz=1) as progress:
        artifacts = [
            artifact_for(model, progress, weights=weights).with_shapes(shapes)
            for model in models or ["shufflenet_v2"]
        ]
        if batches is None and shapes:
            batches = list({sizes[0] for sizes in shapes.values()})
        cases = make_cases(
            artifacts,
            used,
            batches,
            thread_counts,
            settings=chosen,
            device=device,
            deterministic=deterministic,
        )

        def show(done: int, total: int, case: Case) -> None:
            progress.step(f"[{done + 1}/{total}] {case.artifact.model} on {case.runtime}, batch {case.batch}")

        measured = run_bench(cases, rounds=rounds, warmup_s=warmup, duration_s=duration, on_progress=show)
    if output is not None:
        write_results(measured, output)
        console.note(f"saved {output}")
    if json:
        print(json_text(measured))  # noqa: T201
    elif measured.results or len(measured.skipped) > 1:
        console.results().print(render(measured))
    if missing := [name for name, reason in reasons.items() if reason]:
        raise RuntimeMissingError(f"runtime {missing[0]} is not available: {reasons[missing[0]]}")
    if not measured.results:
        first = measured.skipped[0]
        # A device that is not there shows only when a session is opened.
        absent = first.exit_code == RuntimeMissingError.exit_code
        raise (RuntimeMissingError if absent else CnnportError)(f"nothing could be measured: {first.reason}")


def _numbers(option: str, values: list[str] | None) -> list[int] | None:
    items = split_list(values)
    if wrong := [item for item in items if not item.isdecimal()]:
        raise CnnportError(f"{option} takes numbers, not {wrong[0]!r}")
    return [int(item) for item in items] or None

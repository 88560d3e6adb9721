"""``cnnport tune``: the file, runtime and threads that are fastest here, within what accuracy may cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import Json, Model, Overwrite, Weights, complete_runtime, parse_percent, split_list
from cnnport.errors import CheckFailedError, CnnportError

if TYPE_CHECKING:
    from cnnport.measuring.tuning import Tuned

_REPORTS = (".json", ".md")


def tune(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write; MODEL.tuned.onnx if omitted."),
    ] = None,
    max_drop: Annotated[
        str, typer.Option("--max-drop", metavar="P", help="Points of accuracy that may be lost.")
    ] = "0.5%",
    target_latency: Annotated[
        float | None,
        typer.Option(
            "--target-latency",
            metavar="MS",
            help="Stop at the most accurate that is as fast; exit code 1 if none is.",
            min=0,
        ),
    ] = None,
    budget: Annotated[
        float,
        typer.Option("--budget", metavar="S", help="Seconds to search, looked at between steps."),
    ] = 600.0,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DIR|digits|random[:N]",
            help="Samples for 8 bits and for judging; the digits where a network knows them, else no 8 bits.",
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            metavar="NAME",
            help="Runtimes to try; repeatable; those that are here if omitted.",
            autocompletion=complete_runtime,
        ),
    ] = None,
    threads: Annotated[
        list[str] | None,
        typer.Option(
            "--threads", metavar="N", help="Numbers to try; repeatable; one to all cores if omitted."
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Images a run.", min=1)] = 1,
    weights: Weights = "auto",
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the ranking with the reasons: .json or .md."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Search graphs, precisions, runtimes and threads for what is fastest on this machine, and write that file."""
    from cnnport.exporting import default_path
    from cnnport.files import check_writable, write_atomically
    from cnnport.memory import return_large_blocks

    allowed = parse_percent("--max-drop", max_drop)
    assert allowed is not None
    if report is not None and report.suffix not in _REPORTS:
        raise CnnportError(f"--report {report}: a report is a file that ends in {' or '.join(_REPORTS)}")
    named = Path(model) if model.endswith(".onnx") else default_path(model)
    path = output or Path(named.name).with_suffix(".tuned.onnx")
    for each in (path, *([report] if report is not None else [])):
        check_writable(each, overwrite=overwrite)
    counts = _counts(threads)
    return_large_blocks()
    with console.progress(refresh_hz=1.0) as progress:
        from cnnport.measuring.tuning import Wishes, report_of
        from cnnport.measuring.tuning import tune as search
        from cnnport.measuring.tuning.writing import write_winner
        from cnnport.store import artifact_of

        base = artifact_of(
            model,
            weights=weights,
            on_step=progress.step,
            on_warning=console.note,
            on_download=progress.download,
        )
        wishes = Wishes(
            model=model,
            max_drop=allowed,
            calibration=calibration or _known_samples(model),
            target_ms=target_latency,
            budget_s=budget,
            batch=batch,
            runtimes=tuple(split_list(runtime)) or None,
            threads=counts,
            weights=weights,
        )
        done = search(
            wishes,
            base,
            path.with_name(f"{path.name}.tune"),
            on_step=progress.step,
            on_progress=progress.count,
        )
        write_winner(done, path)
    for note in done.notes:
        console.note(f"note: {note}")
    facts = report_of(done)
    if report is not None:
        write_atomically(report, _text(facts, report.suffix).encode())
    if json:
        console.print_json({**facts, "path": str(path), "report": str(report) if report else None})
    else:
        _print(done, facts, path, report)
    if not done.reaches_target:
        raise CheckFailedError(
            f"nothing within {allowed:g} points reaches {target_latency:g} ms: {done.winner.name} takes "
            f"{done.latency_ms or 0:.3g} ms, and is written to {path}"
        )


def _known_samples(model: str) -> str | None:
    """The digits, where the network's weights were trained on them; there is nothing else to judge by."""
    from cnnport.store import default_calibration

    if model.endswith(".onnx"):
        return None
    found = default_calibration(model)
    return found if found == "digits" else None


def _counts(threads: list[str] | None) -> tuple[int, ...] | None:
    texts = split_list(threads)
    if wrong := [text for text in texts if not text.isdecimal() or int(text) < 1]:
        raise CnnportError(f"--threads takes numbers from 1, not {wrong[0]!r}")
    return tuple(int(text) for text in texts) or None


def _text(facts: dict[str, Any], suffix: str) -> str:
    if suffix == ".md":
        from cnnport.measuring.tuning import as_markdown

        return as_markdown(facts)
    import json as format_json

    return format_json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _print(done: "Tuned", facts: dict[str, Any], path: Path, report: Path | None) -> None:
    numbers = ("ms", "times as fast", "lost")
    table = console.table("", "candidate", *numbers, "outcome", numbers=numbers)
    for row in facts["candidates"]:
        shown = [
            "" if row[key] is None else f"{row[key]:.{digits}f}"
            for key, digits in (("latency_ms", 3), ("speedup", 2), ("lost", 2))
        ]
        table.add_row(row["name"], *shown, row["outcome"].replace("[", r"\["))
    console.results().print(table)
    console.say(f"winner    {done.winner.name}: {done.why}")
    size = console.megabytes(path.stat().st_size)
    console.say(f"written   {path}  {size}  {done.spent_s:.0f} s of {done.wishes.budget_s:g} s")
    console.say(f"steps     {path.name}.tune: the same command goes on from there; remove it when done")
    if report is not None:
        console.say(f"report    {report}")

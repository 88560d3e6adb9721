"""``cnnport parity``: whether every runtime, precision and batch says the same as a reference."""

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
    Weights,
    complete_model,
    split_list,
)

if TYPE_CHECKING:
    from cnnport.agreement import Matrix


def parity(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|FILE [FILE]...",
            help="Zoo names, .onnx files or engines; a network's PyTorch original is the reference.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ],
    runtime: Runtimes = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            metavar="fp32|fp16|bf16|int8",
            help="Made of float32 files; as they are. Repeatable.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="NAME", help="A candidate, by runtime, precision, file or label."
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", help="So many inputs; 32 if omitted.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|digits|random[:N]",
            help="Pictures, .npy and .npz files, or seeded noise; noise, or digits for networks trained on them.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of what is drawn.", min=0)] = 0,
    atol: Annotated[
        float | None,
        typer.Option("--atol", metavar="A", help="Allowed difference, instead of that by precision."),
    ] = None,
    rtol: Annotated[
        float | None, typer.Option("--rtol", metavar="A", help="Beside it, as a share of each value.")
    ] = None,
    extremes: Annotated[
        bool,
        typer.Option(
            "--extremes/--no-extremes", help="Try zeros, constants, large values, spikes and near-ties."
        ),
    ] = True,
    checks: Annotated[
        bool,
        typer.Option(
            "--checks/--no-checks", help="Hold candidates against themselves: batch, repeat, threads."
        ),
    ] = True,
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", metavar="DIR|digits|random[:N]", help="For --precision int8."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads of a run; the runtime's own.", min=1)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Keep inputs and the reference's answers, if all agree."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="DIR", help="Compare with answers that were kept; needs no torch."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Look for the first layer that departs, and name it.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="For the smallest piece that shows what --layers found."),
    ] = None,
    settings: Settings = None,
    device: Device = 0,
    deterministic: Deterministic = False,
    weights: Weights = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compare runtimes, precisions and files with one reference; exit code 1 if one departs."""
    from cnnport.api import parity as run_parity

    with console.progress() as progress:
        matrix = run_parity(
            models,
            runtimes=split_list(runtime),
            precisions=split_list(precision),
            reference=reference,
            samples=samples,
            data=data,
            seed=seed,
            atol=atol,
            rtol=rtol,
            extremes=extremes,
            checks=checks,
            calibration=calibration,
            threads=threads,
            settings=settings or (),
            device=device,
            deterministic=deterministic,
            weights=weights,
            save=save,
            against=against,
            layers=layers,
            write=write,
            overwrite=overwrite,
            on_step=progress.step,
            on_note=console.note,
            on_download=progress.download,
        )
    if json:
        console.print_json(matrix.to_json())
    else:
        _print(matrix)
    if save is not None:
        console.note(f"saved {save}" if matrix.ok else f"{save} was not saved: not everything agrees")
    if not matrix.ok:
        raise typer.Exit(1)


def _print(matrix: "Matrix") -> None:
    from cnnport.agreement.page import COLUMNS, NUMBERS, cells, lines_below, title

    table = console.table(title(matrix), *COLUMNS, numbers=NUMBERS)
    for row in matrix.rows:
        *texts, result = (cell.replace("[", r"\[") for cell in cells(row))
        table.add_row(*texts, f"[green]{result}[/]" if row.ok else f"[red]{result}[/]")
    console.results().print(table)
    for line in lines_below(matrix):
        console.say(line)
    for found in matrix.layers:
        console.say(str(found))
    count = sum(not row.ok for row in matrix.rows)
    same = f"all {len(matrix.rows)} say the same" if not count else f"{count} of {len(matrix.rows)} FAILED"
    console.say(same if matrix.ok or count else "the reference does not agree with itself")

"""``cnnport evaluate``: how often networks are right."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnport.cli import console
from cnnport.cli.evaluation_table import print_evaluation
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
from cnnport.cli.preparation import stated_preprocess
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.evaluation import Evaluated, Status

_EVERY_S = 0.5


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Zoo names, or .onnx files of any precision; the first one's result comes first.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DIR|digits",
            help="A folder with a folder of pictures for each class, or a flat one and a list; or the 500 digits.",
            show_default=False,
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Lines of a folder or a picture and its class: .txt, .csv, .json.",
        ),
    ] = None,
    runtime: Runtimes = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision", metavar="fp32|fp16|int8", help="Of networks that are exported; repeatable."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", metavar="DIR|digits|random[:N]", help="For int8, as of cnnport quantize."
        ),
    ] = None,
    crops: Annotated[
        str,
        typer.Option(
            "--crops",
            metavar="1|5|10|144|dense",
            help="What of a picture is shown; 10+dense averages both.",
        ),
    ] = "1",
    scales: Annotated[
        str | None,
        typer.Option("--scales", metavar="256,384", help="Lengths that the shorter side is scaled to."),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips/--no-flips", help="Whether the dense form sees the mirror image too.")
    ] = True,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", help="So many pictures, as many of each class.", min=2),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="N|HxW", help="Of the input, if the file does not say.")
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option("--resize", metavar="N", help="Of the shorter side before the centre crop.", min=1),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="Subtracted from values of 0 to 1; one for grey."),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", metavar="R,G,B", help="What they are divided by after that.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", help="Views that are run at once.", min=1)
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Inside one run.", min=1)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", help="Threads that decode and run; one more than CPUs.", min=1
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="local|ray", help="This machine, or a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address", metavar="HOST:PORT", help="Of the cluster, if this machine is not in it."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin again, whatever an earlier run has done.")
    ] = False,
    settings: Settings = None,
    device: Device = 0,
    deterministic: Deterministic = False,
    weights: Weights = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save everything as .json.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Evaluate networks over pictures whose classes are known: top-1, top-5, each class, calibration."""
    from cnnport.api import evaluate as run_evaluation
    from cnnport.evaluation import document_of
    from cnnport.files import check_writable, write_atomically
    from cnnport.measuring.environment import read_environment
    from cnnport.memory import return_large_blocks

    if output is not None:
        if output.suffix != ".json":
            raise CnnportError(f"-o {output}: an evaluation is saved as .json")
        check_writable(output, overwrite=overwrite)
    named = split_list(runtime)
    return_large_blocks()
    with console.progress() as progress:
        results = run_evaluation(
            models,
            data,
            runtimes=named,
            precisions=split_list(precision),
            crops=crops,
            scales=scales or (),
            flips=flips,
            labels=labels,
            count=count,
            pictures=lambda first: stated_preprocess(first, size, resize, mean, std),
            calibration=calibration,
            weights=weights,
            batch=batch,
            threads=threads,
            workers=workers,
            engine=engine,
            ray_address=ray_address,
            fresh=fresh,
            settings=settings or (),
            device=device,
            deterministic=deterministic,
            on_step=progress.step,
            on_note=console.note,
            on_status=_teller(progress),
            on_download=progress.download,
        )
    document = {**document_of(results), "environment": read_environment().to_json()}
    if output is not None:
        import json as format_json

        text = format_json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(output, (text + "\n").encode())
        console.note(f"saved {output}")
    if json:
        console.print_json(document)
    else:
        print_evaluation(results)
    _tell_problems(results, is_named=bool(named))


def _teller(progress: console.Progress) -> "Callable[[Status], None]":
    from time import monotonic

    told = 0.0

    def tell(status: "Status") -> None:
        nonlocal told
        progress.count(status.done, status.total)
        if monotonic() - told < _EVERY_S and status.done < status.total:
            return
        told = monotonic()
        parts = [f"{status.done} of {status.total} pictures"]
        if status.left_s is not None:
            parts += [f"{status.per_s:.1f} a second", f"{status.left_s:.0f} s left"]
        if status.top1 is not None:
            parts.append(f"top-1 so far {100 * status.top1:.2f} %")
        progress.step(", ".join(parts))

    return tell


def _tell_problems(results: "list[Evaluated]", *, is_named: bool) -> None:
    """Name what could not be read or evaluated; raise the first problem that is the user's."""
    told: set[str] = set()
    for each in results:
        for name, reason in [*each.tally.reasons.values()][:5] if each.tally else []:
            if name not in told:
                console.note(f"unreadable: {name}: {reason}")
                told.add(name)
    failed = [each for each in results if each.problem is not None]
    for each in failed:
        console.note(
            f"not evaluated: {each.request.artifact.model} on {each.request.runtime}: {each.problem}"
        )
    # What nobody asked for by name may be missing; a wrong answer may not.
    grave = [each.problem for each in failed if is_named or each.problem.exit_code == 1]  # type: ignore[union-attr]
    if grave:
        assert grave[0] is not None
        raise grave[0]

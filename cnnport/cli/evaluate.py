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
    artifact_for,
    complete_model,
    parse_size,
    split_list,
)
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.artifact import Artifact
    from cnnport.evaluation import Evaluated, Status
    from cnnport.preprocess import Preprocess

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
    from cnnport.classify import states_preprocess
    from cnnport.evaluation import Plan, Request, document_of, parse_protocol
    from cnnport.evaluation import evaluate as run_evaluation
    from cnnport.files import check_writable, write_atomically
    from cnnport.measuring.environment import read_environment
    from cnnport.memory import return_large_blocks
    from cnnport.runtimes import Options, available, require_runtime, settings_for
    from cnnport.runtimes.engine_file import SUFFIXES

    if output is not None:
        if output.suffix != ".json":
            raise CnnportError(f"-o {output}: an evaluation is saved as .json")
        check_writable(output, overwrite=overwrite)
    named = split_list(runtime)
    for name in named:
        require_runtime(name)
    used = named or list(available())
    chosen = settings_for(used, settings or [])
    protocol = parse_protocol(crops, scales, flips=flips)
    networks = [model for model in models if not model.endswith((".onnx", *SUFFIXES))]
    if protocol.dense and networks:
        raise CnnportError(
            f"--crops dense is for the fully convolutional form of {networks[0]}: "
            f"cnnport export {networks[0]} --dense -o dense.onnx makes it"
        )
    return_large_blocks()
    precisions: list[str | None] = [*split_list(precision)] or [None]
    with console.progress() as progress:
        artifacts = [
            artifact_for(model, progress, weights=weights, precision=each, calibration=calibration)
            for model in dict.fromkeys(models)
            for each in precisions
        ]
        given = [_preprocess(artifact, size, resize, mean, std) for artifact in artifacts]
        if given[0] is None:
            for artifact in artifacts:
                if not states_preprocess(artifact):
                    console.note(f"note: {artifact.path} does not state its preprocessing: taking ImageNet's")
        plan = Plan(
            data=data,
            labels=labels,
            count=count,
            protocol=protocol,
            preprocess=given[0],
            batch=batch,
            workers=workers,
            engine=engine,
            ray_address=ray_address,
            fresh=fresh,
        )
        requests = [
            Request(
                artifact,
                name,
                Options(threads=threads, device=device, deterministic=deterministic, settings=chosen[name]),
            )
            for artifact in artifacts
            for name in used
        ]
        results = run_evaluation(requests, plan, on_status=_teller(progress))
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


def _preprocess(
    artifact: "Artifact", size: str | None, resize: int | None, mean: str | None, std: str | None
) -> "Preprocess | None":
    """What the options say of a picture's preparation, the rest as the file says; None if they say nothing."""
    from cnnport.metadata import at_native_size, preprocess_of
    from cnnport.preprocess import Preprocess, imagenet

    if size is None and resize is None and mean is None and std is None:
        return None
    if (mean is None) != (std is None):
        raise CnnportError("--mean and --std come together, with one number a channel each")
    base = preprocess_of(artifact) or imagenet()
    means = _numbers("--mean", mean) if mean else base.mean
    stds = _numbers("--std", std) if std else base.std
    if len(means) != len(stds) or len(means) not in {1, 3} or any(value <= 0 for value in stds):
        raise CnnportError("--mean and --std are 1 or 3 numbers each, and those of --std are above 0")
    shape = at_native_size(artifact).inputs[0].shape if artifact.inputs else ()
    sides = tuple(shape[2:])
    height, width = (int(side) for side in sides) if _are_fixed(sides) else base.size
    wanted = parse_size(size) or (height, width)
    scaled = base.resized(wanted)
    return Preprocess(
        wanted,
        resize if resize is not None else scaled.resize,
        base.interpolation,
        means,
        stds,
        base.background,
    )


def _are_fixed(sides: tuple[int | str, ...]) -> bool:
    return len(sides) == 2 and all(isinstance(side, int) for side in sides)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CnnportError(f"{option} takes numbers, such as 0.485,0.456,0.406, not {text!r}") from error
    if not all(abs(value) < 1e6 for value in found):
        raise CnnportError(f"{option} takes numbers, such as 0.485,0.456,0.406, not {text!r}")
    return found


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

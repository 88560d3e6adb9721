"""``cnnport profile``: where the time of a run goes, layer by layer."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnport.cli import console
from cnnport.cli.options import (
    Deterministic,
    Device,
    Json,
    Overwrite,
    Settings,
    Shapes,
    Weights,
    artifact_for,
    complete_model,
    complete_runtime,
    parse_shapes,
)
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.artifact import Artifact


def profile(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|FILE",
            help="A zoo name or an .onnx file.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option("--runtime", metavar="R", help="What executes it.", autocompletion=complete_runtime),
    ] = "ort-cpu",
    top: Annotated[
        int, typer.Option("--top", metavar="N", help="How many layers to show; 0 for all.", min=0)
    ] = 15,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", help="Images a run; the file's own, or 1.", min=1)
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads of a run, pinned.", min=1)
    ] = None,
    shape: Shapes = None,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", help="Processes with the profiler, and as many without.")
    ] = 3,
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", help="Measured seconds of each process.")
    ] = 1.0,
    warmup: Annotated[
        float, typer.Option("--warmup", metavar="S", help="Warm-up seconds of each process.")
    ] = 0.25,
    roofline: Annotated[
        bool,
        typer.Option(
            "--roofline/--no-roofline",
            help="Measure what the machine can do, if that is not known yet; it takes some seconds, once.",
        ),
    ] = True,
    settings: Settings = None,
    device: Device = 0,
    deterministic: Deterministic = False,
    weights: Weights = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save the profile as JSON.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Save a Chrome trace, which Perfetto opens."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--diff",
            metavar="BEFORE AFTER",
            help="Hold two saved profiles against each other, and profile nothing.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show where the time of a run goes: per layer, with its module, its cost, and what bounds it."""
    if compare is not None:
        if model is not None or output is not None or trace is not None:
            raise CnnportError("--diff takes two saved profiles, and no MODEL, -o or --trace")
        _diff(*compare, top=top or None, json=json)
        return
    if model is None:
        raise CnnportError("name a MODEL or an .onnx file, or give --diff BEFORE AFTER")

    from cnnport.files import check_writable, write_atomically
    from cnnport.measuring import make_cases
    from cnnport.measuring.profiling import chrome_trace, json_text, render
    from cnnport.measuring.profiling import profile as run_profile
    from cnnport.metadata import to_json
    from cnnport.runtimes import require_runtime, settings_for

    shapes = parse_shapes(shape)
    for path in filter(None, (output, trace)):
        check_writable(path, overwrite=overwrite)
    require_runtime(runtime)
    chosen = settings_for([runtime], settings or [])
    with console.progress(refresh_hz=1) as progress:
        artifact = artifact_for(model, progress, weights=weights).with_shapes(shapes)
        if batch is None and shapes:
            batch = next(iter(shapes.values()))[0]
        (case,) = make_cases(
            [artifact],
            [runtime],
            None if batch is None else [batch],
            None if threads is None else [threads],
            settings=chosen,
            device=device,
            deterministic=deterministic,
        )

        def show(what: str, done: int, total: int) -> None:
            progress.step(f"[{done + 1}/{total}] {what}")

        command = _command(
            model,
            {
                "--runtime": runtime,
                "--batch": str(case.batch),
                "--threads": str(case.threads),
                "--rounds": str(rounds),
                "--duration": f"{duration:g}",
                "--warmup": f"{warmup:g}",
                "--device": str(device) if device else "",
                "--weights": _weights(weights, artifact) if artifact.path != Path(model) else "",
            },
            [
                *(f"--set={each}" for each in settings or []),
                *(f"--shape={each}" for each in shape or []),
                *["--deterministic"] * deterministic,
            ],
        )
        found = run_profile(
            case,
            rounds=rounds,
            duration_s=duration,
            warmup_s=warmup,
            machine=roofline,
            command=command,
            tell=show,
        )
    if output is not None:
        write_atomically(output, json_text(found).encode())
        console.note(f"saved {output}")
    if trace is not None:
        write_atomically(trace, to_json(chrome_trace(found)).encode())
        console.note(f"saved {trace}: open it at https://ui.perfetto.dev")
    if json:
        console.print_json(found.to_json())
    else:
        console.results().print(render(found, top or None))


def _diff(before: Path, after: Path, *, top: int | None, json: bool) -> None:
    from cnnport.measuring.profiling import diff, read_profile, render_diff

    found = diff(read_profile(before), read_profile(after))
    if json:
        console.print_json(found.to_json())
    else:
        console.results().print(render_diff(found, top))


def _command(model: str, options: dict[str, str], others: list[str]) -> str:
    """The command that measures the same again."""
    words = [word for name, value in options.items() if value for word in (name, value)]
    return shlex.join(["cnnport", "profile", model, *words, *others])


def _weights(asked: str, artifact: "Artifact") -> str:
    """The weights that were taken: what ``auto`` comes to may change."""
    kind = artifact.metadata.get("cnnport.weights", "")
    return kind if asked == "auto" and kind in {"default", "random"} else asked

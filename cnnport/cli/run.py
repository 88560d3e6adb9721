"""``cnnport run``: classify pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import (
    Deterministic,
    Device,
    Json,
    Model,
    Settings,
    Weights,
    artifact_for,
    complete_runtime,
    options_for,
)

if TYPE_CHECKING:
    from cnnport.classify import Classified


def run(
    model: Model,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Picture files.", show_default=False)
    ],
    runtime: Annotated[
        str, typer.Option("--runtime", metavar="R", help="What executes it.", autocompletion=complete_runtime)
    ] = "ort-cpu",
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many classes to show.", min=1)] = 5,
    settings: Settings = None,
    device: Device = 0,
    deterministic: Deterministic = False,
    weights: Weights = "auto",
    json: Json = False,
) -> None:
    """Classify pictures, preprocessed as the file says."""
    from cnnport.classify import classify, states_preprocess
    from cnnport.runtimes import require_runtime

    require_runtime(runtime)
    options = options_for(runtime, settings, device=device, deterministic=deterministic)
    with console.progress() as progress:
        artifact = artifact_for(model, progress, weights=weights)
        if not states_preprocess(artifact):
            console.note(f"note: {artifact.path} does not state its preprocessing: taking ImageNet's")
        done = list(classify(artifact, images, runtime=runtime, options=options, top=top))
    kind = artifact.metadata.get("cnnport.weights")
    if json:
        rows = [_as_json(each) for each in done]
        console.print_json({"model": artifact.model, "runtime": runtime, "weights": kind, "results": rows})
    elif any(each.top for each in done):
        _print(done, f"{artifact.model}  weights: {kind or 'unknown'}  runtime: {runtime}")
    unreadable = [each.error for each in done if each.error]
    for reason in unreadable:
        console.error(reason)
    if unreadable:
        raise typer.Exit(2)


def _print(done: "list[Classified]", title: str) -> None:
    table = console.table(title, "image", "class", "label", "probability", numbers=("class", "probability"))
    for each in done:
        for rank, guess in enumerate(each.top):
            name = str(each.image) if rank == 0 else ""
            table.add_row(
                name.replace("[", r"\["),
                str(guess.index),
                guess.label or "",
                f"{100 * guess.probability:.2f} %",
            )
        if len(each.top) > 1 and each is not done[-1]:
            table.add_section()
    console.results().print(table)


def _as_json(each: "Classified") -> dict[str, Any]:
    if each.error:
        return {"image": str(each.image), "top": [], "error": each.error}
    top = [
        {"index": guess.index, "label": guess.label, "probability": guess.probability} for guess in each.top
    ]
    return {"image": str(each.image), "top": top}

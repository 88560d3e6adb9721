"""``cnnport build``: compile a file for one runtime, or see whether that can be done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import (
    Device,
    Json,
    Model,
    Overwrite,
    Settings,
    Weights,
    artifact_for,
    complete_runtime,
    options_for,
)
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.runtimes.build import Builds, Built

# Of the nodes of one layer; the rest is counted.
_NODES_SHOWN = 4


def build(
    model: Model,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            metavar="R",
            help="trt, trt-rtx or openvino.",
            autocompletion=complete_runtime,
            show_default=False,
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Only see whether it builds, and of what layers.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="ENGINE", help="Where to write; MODEL.plan if omitted."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="N|MIN:OPT:MAX",
            help="Batch sizes that the engine takes, the same as --set batch=; openvino takes one N.",
        ),
    ] = None,
    settings: Settings = None,
    device: Device = 0,
    weights: Weights = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compile a network or file ahead of time; trt-rtx can do so without a GPU."""
    from cnnport.errors import RuntimeMissingError
    from cnnport.files import check_writable

    builder = _builder(runtime)
    chosen = [*(settings or []), *([f"batch={batch}"] if batch is not None else [])]
    options = options_for(runtime, chosen, device=device)
    if reason := builder.cannot_build():
        raise RuntimeMissingError(f"runtime {runtime} cannot build here: {reason}")
    if check and output is not None:
        raise CnnportError("--check writes nothing: leave out -o, or leave out --check")
    if output is not None:
        if output.suffix != builder.engine_suffix:
            raise CnnportError(f"-o {output}: engines of {runtime} are known by {builder.engine_suffix}")
        check_writable(output, overwrite=overwrite)
    with console.progress() as progress:
        artifact = artifact_for(model, progress, weights=weights)
        progress.step(f"build {artifact.model} for {runtime}")
        if check:
            done = builder.check(artifact, options)
        else:
            target = output or Path(f"{artifact.model.replace('/', '_')}{builder.engine_suffix}")
            check_writable(target, overwrite=overwrite)
            done = builder.build(artifact, target, options)
    for warning in done.warnings:
        console.note(f"warning: {warning}")
    if json:
        console.print_json(_as_json(done))
    else:
        _print(done)
    if not done.ok:
        raise typer.Exit(1)


def _builder(runtime: str) -> "Builds":
    """The runtime, if it compiles ahead of time. Raises ``CnnportError``."""
    from cnnport.runtimes import RUNTIMES, get_runtime
    from cnnport.runtimes.build import Builds

    found = get_runtime(runtime)
    if isinstance(found, Builds):
        return found
    known = ", ".join(name for name, each in RUNTIMES.items() if isinstance(each, Builds))
    raise CnnportError(f"runtime {runtime} takes the .onnx file as it is: what is built is for {known}")


def _print(done: "Built") -> None:
    out = console.results()
    if done.layers:
        table = console.table("", "layer", "kind", "computes in", "nodes")
        for layer in done.layers:
            shown = ", ".join(layer.nodes[:_NODES_SHOWN])
            more = len(layer.nodes) - _NODES_SHOWN
            nodes = f"{shown} and {more} more" if more > 0 else shown
            cells = (layer.name, layer.kind, ", ".join(layer.reads), nodes)
            table.add_row(*(cell.replace("[", r"\[") for cell in cells))
        out.print(table)
    if done.errors:
        table = console.table("", "node", "why not")
        for error in done.errors:
            table.add_row(*(cell.replace("[", r"\[") for cell in (error.node, error.message)))
        out.print(table)
    state = "built" if done.built else "parsed, but NOT built" if done.parsed else "NOT parsed"
    if done.built and done.errors:
        state = "built, but NOT as the file asks"
    size = f"  {console.megabytes(done.bytes)}" if done.bytes else ""
    out.print(f"{done.model} for {done.runtime}: {state}{size}")
    if done.layers:
        out.print(f"layers    {len(done.layers)}, {done.fused} of them fused of several nodes")
    if done.path is not None:
        out.print(f"written   {done.path}, and what it takes in {done.path.name}.json")


def _as_json(done: "Built") -> dict[str, Any]:
    return {
        "model": done.model,
        "runtime": done.runtime,
        "parsed": done.parsed,
        "built": done.built,
        "ok": done.ok,
        "layers": len(done.layers),
        "fused": done.fused,
        "errors": [{"node": error.node, "message": error.message} for error in done.errors],
        "warnings": list(done.warnings),
        "path": str(done.path) if done.path else None,
        "bytes": done.bytes,
        "facts": dict(done.facts),
        "kernels": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "nodes": list(layer.nodes),
                "reads": list(layer.reads),
                "writes": list(layer.writes),
                "kernel": layer.kernel,
            }
            for layer in done.layers
        ],
    }

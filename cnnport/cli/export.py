"""``cnnport export``: from a network to a verified ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import (
    Json,
    Model,
    Overwrite,
    Passes,
    Seed,
    Target,
    Weights,
    parse_batch,
    parse_percent,
    parse_size,
)
from cnnport.cli.quantize import summary

if TYPE_CHECKING:
    from cnnport.exporting import Exported
    from cnnport.halved import Halved
    from cnnport.quantization import Quantized


def export(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write; MODEL.onnx if omitted."),
    ] = None,
    weights: Weights = "auto",
    seed: Seed = 0,
    opset: Annotated[
        int, typer.Option("--opset", metavar="N", help="Version of the ONNX operator set.")
    ] = 20,
    batch: Annotated[
        str, typer.Option("--batch", metavar="dynamic|N", help="Batch size in the file.")
    ] = "dynamic",
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            metavar="N|HxW",
            help="Input size in pixels, the only one; the network's own or any.",
        ),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option("--num-classes", metavar="N", help="Number of classes; the network's own.")
    ] = None,
    in_channels: Annotated[
        int | None, typer.Option("--in-channels", metavar="N", help="Input channels; the network's own.")
    ] = None,
    target: Target = None,
    passes: Passes = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="fp32|fp16|bf16|int8",
            help="What the file computes in; what that would break stays fp32.",
        ),
    ] = "fp32",
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DIR|digits|random[:N]",
            help="Samples on which ranges are found: int8 needs some, halves take seeded noise without.",
        ),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option("--max-drop", metavar="P", help="For int8: see cnnport quantize --help."),
    ] = None,
    io_dtype: Annotated[
        str, typer.Option("--io-dtype", metavar="fp32|fp16", help="Of the file's inputs and outputs.")
    ] = "fp32",
    dense: Annotated[
        bool,
        typer.Option(
            "--dense",
            help="The fully convolutional form, for larger images: the scores of every window of the last feature "
            "map (map) and their average (logits).",
        ),
    ] = False,
    preprocess: Annotated[
        str,
        typer.Option(
            "--preprocess",
            metavar="none|normalize|full",
            help="Take uint8 pictures, of the network's size (normalize) or any (full), and give probabilities too.",
        ),
    ] = "none",
    layout: Annotated[
        str, typer.Option("--layout", metavar="nhwc|nchw", help="Order of the axes of such pictures.")
    ] = "nhwc",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export a network as one verified ONNX file."""
    from cnnport.memory import return_large_blocks

    fixed, size = parse_batch(batch), parse_size(image_size)
    budget = parse_percent("--max-drop", max_drop)
    return_large_blocks()
    with console.progress() as progress:
        from cnnport.api import export as run_export

        done = run_export(
            model,
            output,
            weights=weights,
            seed=seed,
            opset=opset,
            batch=fixed,
            image_size=size,
            num_classes=num_classes,
            in_channels=in_channels,
            precision=precision,
            target=target,
            calibration=calibration,
            max_drop=budget,
            passes=passes,
            io_dtype=io_dtype,
            dense=dense,
            preprocess=preprocess,
            layout=layout,
            overwrite=overwrite,
            on_step=progress.step,
            on_progress=progress.count,
            on_download=progress.download,
        )
    quantized = done.quantized
    if done.weights.warning:
        console.note(f"warning: {done.weights.warning}")
    for report in done.passes:
        if report.refused:
            console.note(f"warning: pass {report.name} was rolled back: {report.refused}")
    if done.halved is not None and done.halved.note:
        console.note(f"note: {done.halved.note}")
    for text in quantized.notes if quantized is not None else ():
        console.note(f"note: {text}")
    if json:
        from cnnport.quantization import report_of

        facts = None if quantized is None else report_of(quantized)
        console.print_json({**_as_json(done), "int8": facts})
    else:
        _print(done, quantized)


def _print(done: "Exported", quantized: "Quantized | None") -> None:
    names = sorted({op for step in done.steps for op in step.ops})
    columns = [step.name for step in done.steps]
    table = console.table("", "operator", *columns, numbers=tuple(columns))
    for op in names:
        table.add_row(op, *(str(step.ops.get(op, 0)) for step in done.steps))
    table.add_section()
    table.add_row("nodes", *(str(sum(step.ops.values())) for step in done.steps))
    table.add_row("seconds", *(f"{step.seconds:.2f}" for step in done.steps))
    out = console.results()
    out.print(table)
    size = done.artifact.path.stat().st_size
    out.print(f"weights   {done.weights.kind} ({done.weights.origin})")
    out.print(f"verified  against PyTorch: {done.verdict}")
    if done.halved is not None:
        out.print(f"precision {done.halved}")
        out.print(f"verified  against float32, rounding as halves do: {done.halved.difference}")
    for line in summary(quantized) if quantized is not None else ():
        console.say(line)
    if done.picture is not None:
        out.print(f"pictures  {done.picture}")
        out.print(f"verified  with Pillow and PyTorch: {done.picture.verdict}")
    place = f"{done.artifact.path}  {console.megabytes(size)}  opset {done.artifact.opset}"
    out.print(f"written   {place}  {done.seconds:.1f} s")


def _as_json(done: "Exported") -> dict[str, Any]:
    from cnnport.memory import peak_memory_bytes
    from cnnport.metadata import origin_of

    artifact, worst = done.artifact, done.verdict.worst
    origin = origin_of(artifact)
    return {
        "model": artifact.model,
        "path": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "sha256": artifact.sha256,
        "opset": artifact.opset,
        "precision": artifact.precision,
        "dense": origin is not None and origin.dense,
        "weights": {
            "kind": done.weights.kind,
            "origin": done.weights.origin,
            "sha256": done.weights.sha256,
            "warning": done.weights.warning,
        },
        "steps": [{"name": step.name, "seconds": step.seconds, "ops": step.ops} for step in done.steps],
        "passes": [
            {"name": report.name, "rewrites": report.rewrites, "refused": report.refused}
            for report in done.passes
        ],
        "parity": {
            "max_abs": worst.max_abs,
            "error_in_std": worst.error,
            "cosine": worst.cosine,
            "top1_agreement": worst.top1,
            "where": done.verdict.where,
            "note": done.verdict.note,
        },
        "half": _halved_as_json(done.halved),
        "picture": done.picture.to_json() if done.picture is not None else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": done.seconds,
    }


def _halved_as_json(halved: "Halved | None") -> dict[str, Any] | None:
    if halved is None:
        return None
    done = halved.conversion
    return {
        "precision": halved.half.name,
        "io_dtype": halved.half.name if halved.half_io else "fp32",
        "nodes": done.half,
        "casts": done.casts,
        "kept": dict(done.kept),
        "spared": list(done.spared),
        "weakened_constants": {name: list(counts) for name, counts in done.weakened.items()},
        "max_abs": halved.difference.max_abs,
        "error_in_std": halved.difference.error,
        "weights_error_in_std": halved.weights_error,
        "tolerance_in_std": halved.tolerance,
        "note": halved.note,
    }

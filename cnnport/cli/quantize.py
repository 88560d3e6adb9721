"""``cnnport quantize``: a float32 file in 8 bits for a target, with what that costs and gains."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnport.cli import console
from cnnport.cli.options import Json, Overwrite, parse_percent
from cnnport.errors import CnnportError

if TYPE_CHECKING:
    from cnnport.measuring.speed_contract import Speed
    from cnnport.quantization import Quantized

_REPORTS = (".json", ".md")


def quantize(
    file: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Any float32 ONNX file, of opset 13 or newer.", show_default=False),
    ],
    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            metavar="DIR|digits|random[:N]",
            help="What to calibrate with: a folder of pictures, or of .npy and .npz files; N samples, or 512.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Where to write; beside IN as NAME.int8.onnx."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="ort|trt|openvino", help="The runtime that the file is for.")
    ] = "ort",
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="minmax|entropy|percentile|mse",
            help="How ranges are found; by default the method whose outputs are nearest.",
        ),
    ] = None,
    percentile: Annotated[
        float | None, typer.Option("--percentile", metavar="P", help="For that method, such as 99.99.")
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            metavar="P",
            help="Points of accuracy that may be lost, such as 0.5%; layers stay in float for it, or it fails.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair/--no-repair", help="Try more where more than half a point is lost."),
    ] = True,
    reduce_range: Annotated[
        bool,
        typer.Option(
            "--reduce-range", help="Weights of 7 bits, for x86 CPUs without VNNI, whose sums saturate."
        ),
    ] = False,
    require_speedup: Annotated[
        float | None,
        typer.Option(
            "--require-speedup", metavar="X", help="Fail unless it is X times as fast as float32.", min=0
        ),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure it against float32, if the runtime is here.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="For that; all CPUs if omitted.", min=1)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write what was tried, the sensitivity of each layer and accuracy against latency: .json or .md.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Quantize an ONNX file to int8; it is judged on samples of its own, and repaired where it loses too much."""
    from cnnport.files import check_writable, write_atomically
    from cnnport.memory import return_large_blocks
    from cnnport.quantization import default_path

    budget = parse_percent("--max-drop", max_drop)
    if report is not None and report.suffix not in _REPORTS:
        raise CnnportError(f"--report {report}: a report is a file that ends in {' or '.join(_REPORTS)}")
    path = output or default_path(file)
    for each in (path, *([report] if report is not None else [])):
        check_writable(each, overwrite=overwrite)
    if report is not None and report.resolve() == path.resolve():
        raise CnnportError(f"-o and --report are the same file: {path}")
    return_large_blocks()
    with console.progress() as progress:
        from cnnport.api import quantize as run_quantizing
        from cnnport.graphs.quantize import require_target
        from cnnport.measuring.speed_check import SpeedCheck
        from cnnport.quantization import as_markdown, report_of

        require_target(target)
        check = SpeedCheck(
            target,
            required=require_speedup,
            is_wanted=speed,
            candidates=report is not None,
            threads=threads,
        )
        done = run_quantizing(
            file,
            path,
            calibration=calibration,
            target=target,
            method=method,
            percentile=percentile,
            max_drop=budget,
            repair=repair,
            reduce_range=reduce_range,
            layers=report is not None,
            overwrite=overwrite,
            speed=check,
            on_step=progress.step,
            on_progress=progress.count,
        )
    for note in done.notes:
        console.note(f"note: {note}")
    if speed and check.missing:
        console.note(f"note: its speed was not measured: {check.missing}")
    found = check.speed
    facts = report_of(done, None if found is None else found.to_json(), check.latencies_ms)
    if report is not None:
        import json as format_json

        text = (
            format_json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
            if report.suffix == ".json"
            else as_markdown(facts)
        )
        write_atomically(report, text.encode())
    if json:
        console.print_json(
            {**facts, "sha256": done.artifact.sha256, "report": str(report) if report else None}
        )
    else:
        _print(done, found, report)


def _print(done: "Quantized", speed: "Speed | None", report: Path | None) -> None:
    for line in summary(done):
        console.say(line)
    if speed is not None:
        console.say(f"speed     {speed}")
    size = console.megabytes(done.artifact.path.stat().st_size)
    console.say(f"written   {done.artifact.path}  {size}  {done.seconds:.1f} s")
    if report is not None:
        console.say(f"report    {report}")


def summary(done: "Quantized") -> list[str]:
    """What was quantized, how, and what is lost by it, in lines."""
    left = [each for each in done.best.made.report.left if each.node in done.best.recipe.keep]
    kinds = ", ".join(f"{count} {op}" for op, count in done.best.made.report.quantized.items())
    lines = [f"int8      {kinds}"]
    if left:
        lines.append(f"float     {', '.join(each.node for each in left)}: they lose most")
    others = "others" if done.is_held_out else "the same"
    count = done.calibration.count
    return [
        *lines,
        f"by        {done.best.recipe}",
        f"from      {count} sample{'s' * (count != 1)} ({done.calibration.source})",
        f"judged    on {others}, on {done.runtime}: {done.judgement}",
    ]

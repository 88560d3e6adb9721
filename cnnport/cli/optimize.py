"""``cnnport optimize``: an ONNX file with fewer and faster operators that computes the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnport.cli import console
from cnnport.cli.options import Json, Overwrite, Passes, Target

if TYPE_CHECKING:
    from cnnport.graphs import PassReport
    from cnnport.graphs.cost import GraphCost
    from cnnport.optimize_file import Optimized


def optimize(
    file: Annotated[
        Path, typer.Argument(metavar="IN", help="Any ONNX file, of opset 9 or newer.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="Where to write; beside IN as NAME.opt.onnx."),
    ] = None,
    passes: Passes = None,
    target: Target = None,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze", help="Make constants of initializers that are also inputs, as in old files."
        ),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="For each pass: what it did and saved, and what it left, and why."),
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Optimize an ONNX file; each pass is checked against the file itself and undone if it departs."""
    from cnnport.memory import return_large_blocks

    return_large_blocks()
    with console.progress() as progress:
        from cnnport.api import optimize as run_passes

        done = run_passes(
            file,
            output,
            passes=passes,
            target=target,
            freeze=freeze,
            costs=explain or json,
            overwrite=overwrite,
            on_step=progress.step,
        )
    for note in done.notes:
        console.note(f"note: {note}")
    for report in done.reports:
        if report.refused:
            kept = done.failing.get(report.name)
            console.note(f"warning: pass {report.name} was rolled back: {report.refused}")
            if kept is not None:
                console.note(
                    f"warning: the nodes on which {report.name} fails are in {kept}: please report them"
                )
    if json:
        console.print_json(_as_json(done))
        return
    if explain:
        _explain(done)
    _print(done)


def _print(done: "Optimized") -> None:
    names = sorted({*done.ops_before, *done.ops_after})
    table = console.table("", "operator", "before", "after", numbers=("before", "after"))
    for op in names:
        table.add_row(op, str(done.ops_before.get(op, 0)), str(done.ops_after.get(op, 0)))
    table.add_section()
    table.add_row("nodes", str(sum(done.ops_before.values())), str(sum(done.ops_after.values())))
    table.add_row("size", console.megabytes(done.bytes_before), console.megabytes(done.bytes_after))
    if done.cost_before and done.cost_after:
        for name, before, after in _cost_rows(done.cost_before, done.cost_after):
            table.add_row(name, before, after)
    console.results().print(table)
    if done.unverified is not None:
        console.say(f"NOT VERIFIED  {done.unverified}")
        if done.left_out:
            console.say(
                f"not run   since what they compute cannot be checked here: {', '.join(done.left_out)}"
            )
    elif done.verdict is None:
        console.say("unchanged no pass found anything to do")
    else:
        count = f"{done.verdict.count} input{'s' * (done.verdict.count != 1)}"
        console.say(f"verified  against {done.source} on {count}: {done.verdict}")
    console.say(f"written   {done.artifact.path}  {done.seconds:.1f} s")


def _explain(done: "Optimized") -> None:
    numbers = ("rewrites", "nodes", "FLOPs", "bytes moved", "seconds")
    table = console.table("", "pass", *numbers, "operators", numbers=numbers)
    for report in done.reports:
        before, after = report.cost_before, report.cost_after
        table.add_row(
            report.name,
            str(report.rewrites) if not report.refused else "rolled back",
            _change(sum(report.ops_after.values()) - sum(report.ops_before.values())),
            _change(after.flops - before.flops) if before and after else "unknown",
            _change(after.moved_bytes - before.moved_bytes) if before and after else "unknown",
            f"{report.seconds:.2f}",
            ", ".join(f"{op} {_change(count)}" for op, count in _op_changes(report).items()),
        )
    console.results().print(table)
    if done.shapes:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in done.shapes.items())
        console.say(f"FLOPs and bytes moved are those of {shapes}")
    if done.cost_after and done.cost_after.unknown:
        unknown = done.cost_after.unknown
        console.say(f"without {len(unknown)} nodes of unknown shapes or operators, such as {unknown[0]}")
    for report in done.reports:
        for left in report.left:
            console.say(f"{report.name} left {left.candidate}: {left.reason}")


def _cost_rows(before: "GraphCost", after: "GraphCost") -> list[tuple[str, str, str]]:
    return [
        ("FLOPs", console.engineering(before.flops), console.engineering(after.flops)),
        ("bytes moved", console.megabytes(before.moved_bytes), console.megabytes(after.moved_bytes)),
    ]


def _op_changes(report: "PassReport") -> dict[str, int]:
    names = sorted({*report.ops_before, *report.ops_after})
    changes = {op: report.ops_after.get(op, 0) - report.ops_before.get(op, 0) for op in names}
    return {op: change for op, change in changes.items() if change}


def _change(count: int) -> str:
    if count == 0:
        return "0"
    return f"{'-' if count < 0 else '+'}{console.engineering(abs(count))}"


def _as_json(done: "Optimized") -> dict[str, Any]:
    from cnnport.memory import peak_memory_bytes

    verdict = done.verdict
    return {
        "source": str(done.source),
        "path": str(done.artifact.path),
        "sha256": done.artifact.sha256,
        "opset": done.artifact.opset,
        "bytes": {"before": done.bytes_before, "after": done.bytes_after},
        "ops": {"before": dict(done.ops_before), "after": dict(done.ops_after)},
        "cost": {"before": _cost(done.cost_before), "after": _cost(done.cost_after)},
        "shapes": {name: list(shape) for name, shape in done.shapes.items()},
        "verified": done.unverified is None,
        "unverified_reason": done.unverified,
        "not_run": list(done.left_out),
        "parity": None
        if verdict is None
        else {
            "max_abs": verdict.worst.max_abs,
            "error_in_std": verdict.worst.error,
            "inputs": verdict.count,
            "where": verdict.where,
            "note": verdict.note,
        },
        "passes": [
            {
                "name": report.name,
                "rewrites": report.rewrites,
                "refused": report.refused,
                "failing": str(done.failing[report.name]) if report.name in done.failing else None,
                "ops": _op_changes(report),
                "cost_before": _cost(report.cost_before),
                "cost_after": _cost(report.cost_after),
                "left": [{"candidate": left.candidate, "reason": left.reason} for left in report.left],
                "seconds": report.seconds,
            }
            for report in done.reports
        ],
        "notes": list(done.notes),
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": done.seconds,
    }


def _cost(cost: "GraphCost | None") -> dict[str, Any] | None:
    if cost is None:
        return None
    return {"flops": cost.flops, "bytes_moved": cost.moved_bytes, "unknown": list(cost.unknown)}

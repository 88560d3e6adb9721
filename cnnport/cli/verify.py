"""``cnnport verify``: a file against what it says of itself."""

from pathlib import Path
from typing import Annotated

import typer

from cnnport.cli import console
from cnnport.cli.options import Json


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file that cnnport exported.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Verify an exported file: checksums, weights, validity, golden output. Needs no torch."""
    from cnnport.verifying import verify as check_file

    checks = check_file(file)
    ok = all(check.ok for check in checks)
    if json:
        rows = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
        console.print_json({"ok": ok, "checks": rows})
    else:
        table = console.table("", "check", "result", "detail")
        for check in checks:
            table.add_row(check.name, "[green]ok[/]" if check.ok else "[red]FAILED[/]", check.detail)
        console.results().print(table)
        console.results().print(f"{file}: {'verified' if ok else 'NOT what it says of itself'}")
    if not ok:
        raise typer.Exit(1)

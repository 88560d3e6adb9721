"""``cnnport doctor``: what can be used on this machine, and why not the rest."""

from typing import Any

from cnnport.cli import console
from cnnport.cli.options import Json


def doctor(json: Json = False) -> None:
    """Show every runtime: present or not, version, device, and why not."""
    from cnnport.runtimes import RUNTIMES

    rows: list[dict[str, Any]] = []
    for name, runtime in RUNTIMES.items():
        reason = runtime.missing()
        here = reason is None
        rows.append(
            {
                "runtime": name,
                "present": here,
                "version": runtime.version() if here else None,
                "device": runtime.device() if here else None,
                "reason": reason,
            }
        )
    if json:
        console.print_json(rows)
        return
    table = console.table("", "runtime", "present", "version", "device", "why not")
    for row in rows:
        present = "[green]yes[/]" if row["present"] else "no"
        # Reasons name extras in square brackets, which rich would take for markup.
        reason = (row["reason"] or "").replace("[", r"\[")
        table.add_row(row["runtime"], present, row["version"] or "", row["device"] or "", reason)
    console.results().print(table)

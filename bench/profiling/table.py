"""Profiles and their differences for people."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnport.measuring.profiling.diff import Diff, Row
from cnnport.measuring.profiling.record import Profile, ProfiledLayer

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_BETWEEN = "between the layers"

# Of one cell.
_TOLD = 3


def render(profile: Profile, top: int | None = None) -> "Group":
    """The costliest layers, and what limits the model.

    Args:
        profile: Of a file.
        top: How many layers; None for all of them, in the order in which they run.
    """
    from rich.console import Group
    from rich.text import Text

    layers = profile.layers if top is None else sorted(profile.layers, key=lambda each: -each.ms)[:top]
    whole_ms = max(profile.end_to_end_ms, profile.layers_ms) or 1.0
    table = _table("layer", "operator", *_FIGURES)
    for layer in layers:
        figures = (say(layer) for say in _FIGURES.values())
        ms, *rest = figures
        table.add_row(_place(layer), layer.operator, ms, f"{layer.ms / whole_ms:.1%}", *rest[1:])
    left = [layer for layer in profile.layers if layer not in layers]
    if left:
        left_ms = sum(layer.ms for layer in left)
        table.add_row(f"{len(left)} more", "", f"{left_ms:.3f}", f"{left_ms / whole_ms:.1%}", *[""] * 5)
    table.add_section()
    between_ms = profile.end_to_end_ms - profile.layers_ms
    table.add_row(
        "all layers", "", f"{profile.layers_ms:.3f}", f"{profile.layers_ms / whole_ms:.1%}", *[""] * 5
    )
    if between_ms > 0:
        table.add_row(_BETWEEN, "", f"{between_ms:.3f}", f"{between_ms / whole_ms:.1%}", *[""] * 5)
    table.add_row("run without the profiler", "", f"{profile.end_to_end_ms:.3f}", "", *[""] * 5)
    table.add_row("run with it", "", f"{profile.profiled_ms:.3f}", "", *[""] * 5)
    head = (
        f"{profile.model} · {profile.runtime} ({profile.runtime_version}) · {profile.precision} · "
        f"batch {profile.batch} · threads {profile.threads} · weights {profile.weights}"
    )
    lines = [Text(f"- {line}") for line in profile.limits]
    lines += [Text(f"- note: {line}") for line in profile.notes]
    return Group(Text(head), table, *lines)


def render_diff(found: Diff, top: int | None = None) -> "Group":
    """The largest differences; all without ``top``."""
    from rich.console import Group
    from rich.text import Text

    table = _table("layer", "operator", "before ms", "after ms", "difference", "in")
    rows = found.rows if top is None else found.rows[:top]
    for row in rows:
        table.add_row(
            _cut(row.modules) or row.name,
            _cut(row.operators),
            f"{row.before_ms:.3f}" if row.before else "",
            f"{row.after_ms:.3f}" if row.after else "",
            f"{row.difference_ms:+.3f}",
            _in(row),
        )
    left = found.rows[len(rows) :]
    if left:
        _sum(
            table, f"{len(left)} more", sum(row.before_ms for row in left), sum(row.after_ms for row in left)
        )
    table.add_section()
    before, after = found.before, found.after
    _sum(table, "all layers", before.layers_ms, after.layers_ms)
    _sum(table, _BETWEEN, before.end_to_end_ms - before.layers_ms, after.end_to_end_ms - after.layers_ms)
    _sum(table, "run without the profiler", before.end_to_end_ms, after.end_to_end_ms)
    heads = [
        Text(
            f"{word}: {each.model} · {each.runtime} · {each.precision} · batch {each.batch} · "
            f"threads {each.threads} · {each.file}"
        )
        for word, each in (("before", before), ("after", after))
    ]
    return Group(*heads, table, *(Text(f"- note: {line}") for line in found.notes))


_FIGURES: dict[str, Callable[[ProfiledLayer], str]] = {
    "ms": lambda layer: f"{layer.ms:.3f}",
    "share": lambda _: "",
    "GFLOP/s": lambda layer: _figure(layer.flops_s if layer.flops else None, 1e9),
    "GB/s": lambda layer: _figure(layer.bytes_s, 1e9),
    "FLOP/B": lambda layer: _figure(layer.intensity if layer.flops else None, 1.0),
    "bound": lambda layer: layer.bound or "",
    "of peak": lambda layer: "" if layer.of_peak is None else f"{layer.of_peak:.0%}",
}


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        left = name in {"layer", "operator", "bound", "in"}
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    return table


def _sum(table: "Table", name: str, before_ms: float, after_ms: float) -> None:
    table.add_row(name, "", f"{before_ms:.3f}", f"{after_ms:.3f}", f"{after_ms - before_ms:+.3f}", "")


def _place(layer: ProfiledLayer) -> str:
    return _cut(layer.modules or layer.nodes) or layer.name


def _in(row: Row) -> str:
    return "" if row.before and row.after else ("before" if row.before else "after") + " only"


def _cut(names: tuple[str, ...]) -> str:
    more = f" + {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    # What stands in square brackets would be markup.
    return (" + ".join(names[:_TOLD]) + more).replace("[", r"\[")


def _figure(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.1f}"

"""Where time goes: operators of every profile side by side, then for each its layers and its roofline."""

from collections.abc import Sequence

from cnnport.measuring.page.charts import theme
from cnnport.measuring.page.charts.bars import Bar, bars
from cnnport.measuring.page.charts.roof import BOUNDS, Dot, roofline
from cnnport.measuring.page.charts.rows import Row
from cnnport.measuring.page.charts.stack import Stack, stacks
from cnnport.measuring.page.figure import Figure, Key, Section, Table
from cnnport.measuring.page.profiled import Profiled
from cnnport.measuring.page.words import listed, milliseconds, number, percent, plural, sentence
from cnnport.measuring.profiling.record import ProfiledLayer

BARS_AT_MOST = 20
KINDS_AT_MOST = len(theme.SERIES)
RANKED = 5

_BOUND_WORDS = {
    "compute": "limited by arithmetic",
    "memory": "limited by memory",
    "overhead": "limited by overhead",
    "unknown": "limit unknown",
}

_ONE_NAME = {
    "Convolution": "Conv",
    "Conv2d": "Conv",
    "FullyConnected": "Gemm",
    "Linear": "Gemm",
    "Pooling": "Pool",
    "MaxPool2d": "Pool",
    "MaxPool": "Pool",
    "ReLU": "Relu",
    "BatchNorm2d": "BatchNormalization",
}
"""Runtimes name the same work differently; in one figure it has one colour."""


def layers_section(profiles: Sequence[Profiled]) -> Section | None:
    """Operators, layers and rooflines; None without a profile."""
    if not profiles:
        return None
    figures = [_operators(profiles)]
    for profile in profiles:
        figures.append(_layers(profile))
        if (roof := _roofline(profile)) is not None:
            figures.append(roof)
    lead = "Times as the runtime's own profiler gives them. A layer may be several nodes of the file, fused."
    return Section("Where the time goes", lead, tuple(figures))


def _operators(profiles: Sequence[Profiled]) -> Figure:
    def kind(layer: ProfiledLayer) -> str:
        return _ONE_NAME.get(layer.operator, layer.operator)

    totals: dict[str, float] = {}
    for profile in profiles:
        for layer in profile.record.layers:
            totals[kind(layer)] = totals.get(kind(layer), 0.0) + layer.ms / profile.record.layers_ms
    order = sorted(totals, key=lambda name: (-totals[name], name))
    kinds = order if len(order) <= KINDS_AT_MOST else [*order[: KINDS_AT_MOST - 1], "others"]

    def parts(profile: Profiled) -> tuple[float, ...]:
        sums = dict.fromkeys(kinds, 0.0)
        for layer in profile.record.layers:
            sums[kind(layer) if kind(layer) in sums else "others"] += layer.ms
        return tuple(sums.values())

    entries = tuple(
        Stack(Row(each.name, milliseconds(each.record.layers_ms)), parts(each)) for each in profiles
    )
    sentences = []
    for profile in profiles[:4]:
        sums = {
            name: sum(layer.ms for layer in profile.record.layers if kind(layer) == name) for name in order
        }
        most = max(sums, key=lambda name: sums[name])
        sentences.append(f"{profile.name}: {most} takes {percent(sums[most] / profile.record.layers_ms, 0)}.")
    columns = ("profile", "all layers", "end to end", *kinds)
    cells = tuple(
        (
            profile.name,
            number(profile.record.layers_ms),
            number(profile.record.end_to_end_ms),
            *(
                f"{number(part)} ({percent(part / profile.record.layers_ms, 0)})" if part else ""
                for part in entry.parts
            ),
        )
        for profile, entry in zip(profiles, entries, strict=True)
    )
    return Figure(
        title="Time by operator",
        says=" ".join(sentences),
        tables=(Table("Milliseconds in each operator", columns, cells),),
        drawing=lambda narrow: stacks(kinds, entries, narrow=narrow, title="ms"),
        keys=tuple(Key(kind, color) for kind, color in zip(kinds, theme.SERIES, strict=False)),
        command=tuple(each.command for each in profiles),
    )


def _layers(profile: Profiled) -> Figure:
    slowest = sorted(profile.record.layers, key=lambda layer: -layer.ms)
    shown, rest = slowest[:BARS_AT_MOST], slowest[BARS_AT_MOST:]
    precisions = list(dict.fromkeys(layer.precision for layer in profile.record.layers if layer.precision))
    entries = [
        Bar(
            Row(
                layer.name,
                f"{milliseconds(layer.ms)} · {percent(layer.ms / profile.record.layers_ms)}",
                _group(layer),
            ),
            layer.ms,
            precisions.index(layer.precision) if layer.precision in precisions else 0,
        )
        for layer in shown
    ]
    reading = "Slowest first. The small line names the operators that are fused in a layer, and its module."
    if rest:
        left = sum(layer.ms for layer in rest)
        of_all = percent(left / profile.record.layers_ms)
        reading += f" {plural(len(rest), 'other layer')}, together {milliseconds(left)} or {of_all}: see the numbers."
    fused = [layer for layer in profile.record.layers if len(layer.nodes) > 1]
    half, count = 0.0, 0
    while half < profile.record.layers_ms / 2:
        half, count = half + slowest[count].ms, count + 1
    says = f"{plural(count, 'layer')} of {len(slowest)} make{'s' if count == 1 else ''} half of the time."
    if fused:
        nodes = sum(len(layer.nodes) for layer in fused)
        says += (
            f" {plural(len(fused), 'layer')} {'is' if len(fused) == 1 else 'are'} fused, of {nodes} nodes."
        )
    if profile.record.limits:
        says += " " + " ".join(map(sentence, profile.record.limits))
    return Figure(
        title=f"Layers of {profile.name}",
        says=says,
        tables=(_layer_table(profile),),
        drawing=lambda narrow: bars(entries, narrow=narrow, title="ms"),
        keys=tuple(
            Key(name, theme.SERIES[place % len(theme.SERIES)]) for place, name in enumerate(precisions)
        )
        if len(precisions) > 1
        else (),
        reading=reading,
        command=(profile.command,),
    )


def _group(layer: ProfiledLayer) -> str:
    """What is in a layer: its fused operators, and the modules that they come from."""
    operators = [node.rsplit("/", 1)[-1] for node in layer.nodes]
    fused = " + ".join(operators) if len(operators) > 1 else layer.operator
    return " — ".join(part for part in (fused, listed(layer.modules, 3)) if part)


def _layer_table(profile: Profiled) -> Table:
    columns = (
        "layer",
        "operator",
        "ms",
        "share",
        "precision",
        "MFLOP",
        "MB",
        "FLOP/byte",
        "GFLOP/s",
        "of the roof",
        "limit",
        "nodes",
        "modules",
    )
    cells = tuple(
        (
            layer.name,
            layer.operator,
            number(layer.ms),
            percent(layer.ms / profile.record.layers_ms),
            layer.precision,
            "" if layer.flops is None else number(layer.flops / 1e6),
            "" if layer.bytes is None else number(layer.bytes / 1e6),
            number(layer.intensity),
            "" if layer.flops_s is None else number(layer.flops_s / 1e9),
            percent(layer.of_peak, 0),
            layer.bound or "",
            ", ".join(layer.nodes),
            ", ".join(layer.modules),
        )
        for layer in profile.record.layers
    )
    return Table("Layers in the order in which they ran", columns, cells, frozenset({0, 1, 4, 10, 11, 12}))


def _roofline(profile: Profiled) -> Figure | None:
    placed = sorted(
        (layer for layer in profile.record.layers if layer.intensity and layer.flops_s),
        key=lambda layer: -layer.ms,
    )
    if not placed:
        return None
    total = profile.record.layers_ms
    dots = tuple(
        Dot(
            layer.name,
            layer.intensity or 0.0,
            layer.flops_s or 0.0,
            layer.ms / total,
            layer.bound if layer.bound in BOUNDS else "unknown",
            rank if rank <= RANKED else 0,
        )
        for rank, layer in enumerate(placed, start=1)
    )
    used = {layer.precision for layer in placed}
    # A machine states more precisions than a network computes in.
    peaks = {name: peak for name, peak in profile.peaks_flop_s.items() if name in used} or dict(
        profile.peaks_flop_s
    )
    ranked = ", ".join(f"{dot.rank}: {dot.label} ({percent(dot.share)})" for dot in dots if dot.rank)
    shares = {bound: sum(dot.share for dot in dots if dot.bound == bound) for bound in BOUNDS[:3]}
    limited = ", ".join(
        f"{percent(share, 0)} {_BOUND_WORDS[bound]}" for bound, share in shares.items() if share
    )
    says = (f"Of the layers' time: {limited}. " if limited else "") + f"Numbered by time: {ranked}."
    columns = ("roof", "measured")
    cells = [(f"{name} arithmetic", f"{number(peak / 1e9)} GFLOP/s") for name, peak in peaks.items()]
    if profile.bandwidth_bytes_s:
        cells.append(("memory", f"{number(profile.bandwidth_bytes_s / 1e9)} GB/s"))
    there = [bound for bound in BOUNDS if any(dot.bound == bound for dot in dots)]
    return Figure(
        title=f"Roofline of {profile.name}",
        says=says,
        tables=(
            Table("What this machine was measured to do", columns, tuple(cells)),
            _dot_table(placed, total),
        )
        if cells
        else (_dot_table(placed, total),),
        drawing=lambda narrow: roofline(dots, peaks, profile.bandwidth_bytes_s, narrow=narrow),
        keys=tuple(
            Key(_BOUND_WORDS[bound], theme.SERIES[BOUNDS.index(bound)], theme.SHAPES[BOUNDS.index(bound)])
            for bound in there
        ),
        reading="Each mark is a layer; its area is its share of the time. The lines are what this machine was "
        "measured to do: the slope with data from memory, the levels with arithmetic alone. What lies above the "
        "slope had its data in a cache."
        if cells
        else "Each mark is a layer; its area is its share of the time. What the machine can do was not measured.",
        command=(profile.command,),
    )


def _dot_table(placed: Sequence[ProfiledLayer], total: float) -> Table:
    cells = tuple(
        (
            layer.name,
            number(layer.intensity),
            "" if layer.flops_s is None else number(layer.flops_s / 1e9),
            percent(layer.of_peak, 0),
            percent(layer.ms / total),
            layer.bound or "",
        )
        for layer in placed
    )
    return Table(
        "Layers by time",
        ("layer", "FLOP/byte", "GFLOP/s", "of the roof", "share", "limit"),
        cells,
        frozenset({0, 5}),
    )

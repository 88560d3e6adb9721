"""A profile as a trace that Perfetto and Chrome's own viewer open: https://ui.perfetto.dev takes the file as it is.

It shows one run: the layers one behind another in the order in which they run, each as long as it takes in a run at
its median, and below them the modules that they are of. Runtimes do not all tell when a layer begins, so that no gap
between layers is real; what they leave of a run without the profiler stands behind them.
"""

from collections.abc import Iterator, Sequence

from cnnport.measuring.fields import Json
from cnnport.measuring.profiling.limits import title_of
from cnnport.measuring.profiling.record import Profile, ProfiledLayer

_PROCESS = 1
_KERNELS, _MODULES = 1, 2
_BETWEEN = "between the layers"


def chrome_trace(profile: Profile) -> Json:
    """The document: ``traceEvents`` with times in microseconds."""
    title = f"{profile.model} on {profile.runtime} ({profile.precision}, batch {profile.batch})"
    spans = list(_spans(profile.layers))
    end_us = spans[-1][1] if spans else 0.0
    layers = [
        _complete(title_of(layer), _KERNELS, begin, end, _facts(layer))
        for layer, (begin, end) in zip(profile.layers, spans, strict=True)
    ]
    rest_us = profile.end_to_end_ms * 1e3 - end_us
    if rest_us > 0:
        layers.append(_complete(_BETWEEN, _KERNELS, end_us, end_us + rest_us, {}))
    return {
        "traceEvents": [
            _named("process_name", 0, title),
            _named("thread_name", _KERNELS, "layers"),
            _named("thread_name", _MODULES, "modules"),
            *layers,
            *_modules(profile.layers, spans),
        ],
        "displayTimeUnit": "ms",
        "otherData": {
            "end_to_end_ms": profile.end_to_end_ms,
            "profiled_ms": profile.profiled_ms,
            "layers_ms": profile.layers_ms,
            "runtime_version": profile.runtime_version,
            "device": profile.device,
            "threads": profile.threads,
            "sha256": profile.sha256,
            "command": profile.command,
            "limits": list(profile.limits),
            "notes": list(profile.notes),
        },
    }


def _spans(layers: Sequence[ProfiledLayer]) -> Iterator[tuple[float, float]]:
    end = 0.0
    for layer in layers:
        begin, end = end, end + layer.ms * 1e3
        yield begin, end


def _modules(layers: Sequence[ProfiledLayer], spans: Sequence[tuple[float, float]]) -> Iterator[Json]:
    """Every module as long as layers of it follow each other; those within it are nested in it."""
    opened: list[tuple[str, float]] = []
    end_us = 0.0
    for layer, (begin, end) in zip(layers, spans, strict=True):
        # A layer of several modules is shown in the first.
        parts = layer.modules[0].split(".") if layer.modules else []
        same = 0
        while same < min(len(parts), len(opened)) and opened[same][0] == parts[same]:
            same += 1
        yield from _closed(opened, same, end_us)
        opened += [(part, begin) for part in parts[same:]]
        end_us = end
    yield from _closed(opened, 0, end_us)


def _closed(opened: list[tuple[str, float]], depth: int, end: float) -> Iterator[Json]:
    while len(opened) > depth:
        path = ".".join(part for part, _ in opened)
        _, begin = opened.pop()
        yield _complete(path, _MODULES, begin, end, {})


def _complete(name: str, thread: int, begin: float, end: float, facts: Json) -> Json:
    return {
        "name": name,
        "ph": "X",
        "ts": round(begin, 3),
        "dur": round(end - begin, 3),
        "pid": _PROCESS,
        "tid": thread,
        "args": facts,
    }


def _named(kind: str, thread: int, name: str) -> Json:
    return {"name": kind, "ph": "M", "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _facts(layer: ProfiledLayer) -> Json:
    known = {
        "kernel": layer.name,
        "operator": layer.operator,
        "precision": layer.precision,
        "nodes": list(layer.nodes),
        "original": list(layer.original),
        "modules": list(layer.modules),
        "flops": layer.flops,
        "bytes": layer.bytes,
        "bound": layer.bound,
        "of_peak": layer.of_peak,
    }
    return {name: value for name, value in known.items() if value not in (None, "", [])}

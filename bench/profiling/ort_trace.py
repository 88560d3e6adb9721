"""ONNX Runtime's trace: an event for every kernel of every run, times in whole microseconds that are cut off."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from cnnport.errors import CheckFailedError
from cnnport.measuring.fields import Json
from cnnport.measuring.profiling.kernels import Kernel, Timed, middle_mean, precision_of, timed


@dataclass(frozen=True)
class Ran:
    """A node of the graph that onnxruntime made of the file.

    Attributes:
        reads: Names of the nodes whose values it reads.
        writes: Names of the values that it writes.
        unnamed: Its operator, if it has no name of its own and goes by what it writes; else empty.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    unnamed: str = ""


Graph: TypeAlias = Mapping[str, Ran]
"""The nodes that run, by name."""

# Behind the name of a node; older versions also noted waits before and after.
_KERNEL = "_kernel_time"
_RUN = "model_run"

_Key: TypeAlias = tuple[str, str, str]

_TOKEN = re.compile(r"_token_\d+")

# Of names, where people read them.
_TOLD = 3


@dataclass(frozen=True)
class _Event:
    key: _Key
    us: float
    reads: str
    moved_bytes: int


def ort_kernels(
    events: Sequence[Json], turns: Sequence[range], graph: Graph | None = None
) -> tuple[Timed, ...]:
    """The kernels in a trace, in the order in which they run first.

    Args:
        events: As its JSON has them.
        turns: The numbers of the runs of each turn, counted from 0; a trace may begin with more runs than were
            counted, never end with them.
        graph: What runs; None where it is not known.

    Raises:
        CheckFailedError: If runs or kernels of the graph are missing in the trace.
    """
    runs = list(_runs(events))
    counted = max((turn.stop for turn in turns), default=0)
    if counted > len(runs):
        raise CheckFailedError(
            f"onnxruntime's trace has {len(runs)} runs of {counted}: profile fewer of them"
        )
    runs = runs[len(runs) - counted :]
    first: dict[_Key, _Event] = {}
    totals: list[dict[_Key, float]] = []
    for run in runs:
        total: dict[_Key, float] = {}
        for event in run:
            # What stands in a loop runs several times.
            total[event.key] = total.get(event.key, 0.0) + event.us
            first.setdefault(event.key, event)
        totals.append(total)
    used = [key for key in first if any(key in totals[number] for turn in turns for number in turn)]
    used, first, totals = _named(used, first, totals, graph or {})
    _require_all(used, graph)
    places = {name: place for place, (name, _, _) in enumerate(used)}
    nowhere = Ran((), ())
    ran = {key: (graph or {}).get(key[0], nowhere) for key in used}
    labels = _labels(used, ran)
    return tuple(
        timed(
            Kernel(
                (_steady(key[0]),),
                key[1],
                0.0,
                precision_of(first[key].reads),
                label=labels[key],
                sources=tuple(places[name] for name in ran[key].reads if name in places),
                writes=ran[key].writes,
                moved_bytes=first[key].moved_bytes,
            ),
            [middle_mean([totals[number].get(key, 0.0) for number in turn]) / 1e3 for turn in turns],
        )
        for key in used
    )


def _named(
    used: Sequence[_Key], first: dict[_Key, _Event], totals: list[dict[_Key, float]], graph: Graph
) -> tuple[list[_Key], dict[_Key, _Event], list[dict[_Key, float]]]:
    """The same with names of the graph: the trace calls a node without one by its operator and a number."""
    waiting: dict[str, list[str]] = {}
    for name, node in graph.items():
        if node.unnamed:
            waiting.setdefault(node.unnamed, []).append(name)
    to: dict[_Key, _Key] = {}
    for key in used:
        names = [] if key[0] in graph else waiting.get(key[1], [])
        to[key] = (names.pop(0), *key[1:]) if names else key
    return (
        [to[key] for key in used],
        {to.get(key, key): event for key, event in first.items()},
        [{to.get(key, key): us for key, us in total.items()} for total in totals],
    )


def _steady(name: str) -> str:
    """A name without the number that onnxruntime gives what it makes, which is another one in every process."""
    return _TOKEN.sub("", name)


def _labels(used: Sequence[_Key], ran: Mapping[_Key, Ran]) -> dict[_Key, str]:
    """What tells kernels apart in every process: the name, and where several have it, what they read from."""
    shared = {name for name, count in Counter(_steady(key[0]) for key in used).items() if count > 1}
    labels: dict[_Key, str] = {}
    seen: Counter[str] = Counter()
    for key in used:
        name = _steady(key[0])
        if name not in shared and key[1] != name:
            labels[key] = ""
            continue
        sources = ", ".join(map(_steady, ran[key].reads)) or "the input"
        label = f"{name} behind {sources}"
        seen[label] += 1
        labels[key] = label if seen[label] == 1 else f"{label} ({seen[label]})"
    return labels


def _require_all(used: Sequence[_Key], graph: Graph | None) -> None:
    """Raises ``CheckFailedError`` where the trace lacks what must have run."""
    if graph is None:
        return
    known = {name for name, _, _ in used}
    if missing := [name for name in graph if name not in known]:
        told = ", ".join(missing[:_TOLD]) + (" ..." if len(missing) > _TOLD else "")
        raise CheckFailedError(
            f"onnxruntime's trace lacks {len(missing)} of its {len(graph)} kernels: {told}"
        )


def _runs(events: Sequence[Json]) -> Iterator[list[_Event]]:
    """The kernels of each run, in order."""
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == _RUN)
    kernels = sorted(
        (event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)),
        key=lambda event: event["ts"],
    )
    place = 0
    for begin, end in spans:
        run = []
        while place < len(kernels) and kernels[place]["ts"] <= end:
            if kernels[place]["ts"] >= begin:
                run.append(_event(kernels[place]))
            place += 1
        yield run


def _event(event: Json) -> _Event:
    facts = event["args"]
    key = event["name"].removesuffix(_KERNEL), facts["op_name"], str(facts.get("node_index"))
    moved_bytes = sum(
        int(facts.get(name, 0)) for name in ("activation_size", "parameter_size", "output_size")
    )
    return _Event(key, event["dur"], _first_type(facts.get("input_type_shape", ())), moved_bytes)


def _first_type(inputs: Sequence[Mapping[str, Any]]) -> str:
    return next(iter(inputs[0]), "") if inputs else ""

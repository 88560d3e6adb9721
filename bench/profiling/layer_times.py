"""Where the time of an int8 file goes, held against its float file, layer by layer.

A runtime makes one kernel of several nodes, and others in 8 bits than in float: with ONNX Runtime a Clip is part of
the convolution before it in both, an Add only in float. So the nodes of the float file are put together until each
kernel of either file lies within one group; that is a layer. A kernel is found by what the runtime calls it: by the
name of a node or of the value that it writes, with something behind it (``_nchwc``, ``_token_7``). A node of the int8
file is found in the float file by its own name or those of its values, which rewrites only extend after a ``_``; one
that has no counterpart belongs to the layer that it reads from.

What is left are conversions between float and 8 bits and between layouts, and the little that bears no name of the
file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnnport.measuring.fields import Json
from cnnport.measuring.profiling.kernels import Kernel
from cnnport.measuring.profiling.nodes import FIRST_OF_KERNEL, Nodes

if TYPE_CHECKING:
    import onnx

# Of names, where people read them.
_TOLD = 4

# Layers that differ by less than this share of a run are not worth a word: traces count whole microseconds.
_LEAST_SHARE = 0.005


@dataclass(frozen=True)
class LayerTime:
    """What one layer takes in a run, in milliseconds; ``nodes`` are those of the float file, in its order."""

    nodes: tuple[str, ...]
    float_ms: float
    int8_ms: float

    @property
    def extra_ms(self) -> float:
        """How much longer it takes in the int8 file."""
        return self.int8_ms - self.float_ms

    def __str__(self) -> str:
        """For people."""
        more = f" + {len(self.nodes) - _TOLD} more" if len(self.nodes) > _TOLD else ""
        return (
            f"{' + '.join(self.nodes[:_TOLD])}{more}: {self.int8_ms:.3f} ms, in float {self.float_ms:.3f} ms"
        )

    def to_json(self) -> Json:
        """As plain JSON values."""
        return {
            "nodes": list(self.nodes),
            "float_ms": round(self.float_ms, 4),
            "int8_ms": round(self.int8_ms, 4),
        }


@dataclass(frozen=True)
class Conversion:
    """What conversions of one kind take in a run, or what cannot be told apart.

    Attributes:
        operator: As the runtime calls it.
        count: How many there are in the int8 file.
        float_ms: Milliseconds in the float file, all together.
        int8_ms: In the int8 file.
        around: What is computed in float before and behind them, and inputs and outputs of the network.
    """

    operator: str
    count: int
    float_ms: float
    int8_ms: float
    around: tuple[str, ...]

    def __str__(self) -> str:
        """For people."""
        more = f" and {len(self.around) - _TOLD} more" if len(self.around) > _TOLD else ""
        around = f", around {', '.join(self.around[:_TOLD])}{more}" if self.around else ""
        return f"{self.count} {self.operator}: {self.int8_ms:.3f} ms, in float {self.float_ms:.3f} ms{around}"

    def to_json(self) -> Json:
        """As plain JSON values."""
        return {
            "operator": self.operator,
            "count": self.count,
            "float_ms": round(self.float_ms, 4),
            "int8_ms": round(self.int8_ms, 4),
            "around": list(self.around),
        }


@dataclass(frozen=True)
class LayerTimes:
    """Layers in the order of the float file, and conversions, those that take longest in the int8 file first."""

    layers: tuple[LayerTime, ...]
    conversions: tuple[Conversion, ...]

    @property
    def slower(self) -> tuple[LayerTime, ...]:
        """The layers that take longer in the int8 file, by how much."""
        total_ms = sum(layer.float_ms for layer in self.layers)
        found = [layer for layer in self.layers if layer.extra_ms > _LEAST_SHARE * total_ms]
        return tuple(sorted(found, key=lambda layer: -layer.extra_ms))


def layer_times(
    original: "onnx.ModelProto",
    original_kernels: Sequence[Kernel],
    quantized: "onnx.ModelProto",
    quantized_kernels: Sequence[Kernel],
) -> LayerTimes:
    """Put the kernels of two files together by layers.

    Args:
        original: The float file; weights are not needed.
        original_kernels: Of it.
        quantized: The int8 file; weights are not needed.
        quantized_kernels: Of it.
    """
    floats, integers = Nodes(original.graph), Nodes(quantized.graph)
    layers = _Layers(floats)
    conversions: dict[str, _Converted] = {}
    covered = {place for kernel in original_kernels for place in floats.found(kernel)}
    for kernel in original_kernels:
        if places := floats.computing(kernel):
            layers.add(places, 0, kernel.ms)
        else:
            conversions.setdefault(floats.kind(kernel), _Converted()).float_ms += kernel.ms
    partners = _partners(integers, floats)
    run = {place: kernel for kernel in quantized_kernels for place in integers.found(kernel)}
    for kernel in quantized_kernels:
        places = [partners[place] for place in integers.computing(kernel) if place in partners]
        if places:
            layers.add(places, 1, kernel.ms)
            continue
        entry = conversions.setdefault(integers.kind(kernel), _Converted())
        entry.count += 1
        entry.int8_ms += kernel.ms
        for place in integers.found(kernel):
            entry.around |= dict.fromkeys(_around(integers, place, run))
    _join_covered(floats, covered, layers)
    return LayerTimes(
        tuple(layers.times()),
        tuple(
            Conversion(operator, entry.count, entry.float_ms, entry.int8_ms, tuple(entry.around))
            for operator, entry in sorted(conversions.items(), key=lambda item: -item[1].int8_ms)
        ),
    )


@dataclass
class _Converted:
    count: int = 0
    float_ms: float = 0.0
    int8_ms: float = 0.0
    around: dict[str, None] = field(default_factory=dict)


class _Layers:
    """Groups of nodes that grow together, with the time of either file."""

    def __init__(self, graph: Nodes) -> None:
        self._graph = graph
        self._parent = list(range(len(graph.nodes)))
        self._ms: dict[int, list[float]] = {}

    def add(self, places: Sequence[int], side: int, ms: float) -> None:
        """Count a kernel that runs these nodes, which are of one layer from now on."""
        for other in places[1:]:
            self.join(places[0], other)
        self._ms.setdefault(places[0], [0.0, 0.0])[side] += ms

    def join(self, one: int, other: int) -> None:
        """Make one layer of two."""
        self._parent[self._root(other)] = self._root(one)

    def times(self) -> Iterator[LayerTime]:
        """Those that take time, in order."""
        members: dict[int, list[int]] = {}
        for place in range(len(self._parent)):
            members.setdefault(self._root(place), []).append(place)
        for places in members.values():
            own = [self._ms[place] for place in places if place in self._ms]
            if own:
                names = tuple(self._graph.name(place) for place in places)
                yield LayerTime(names, sum(ms for ms, _ in own), sum(ms for _, ms in own))

    def _root(self, place: int) -> int:
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place


def _join_covered(graph: Nodes, covered: Iterable[int], layers: _Layers) -> None:
    """Give every node without a kernel to the layer whose kernel must hold it."""
    missing = sorted(set(range(len(graph.nodes))) - set(covered))
    for place in missing:
        if graph.nodes[place].op_type in FIRST_OF_KERNEL:
            readers = [*graph.behind(place)]
            if len(readers) == 1:
                layers.join(readers[0], place)
        elif (before := max(graph.before(place), default=None)) is not None:
            layers.join(before, place)


def _partners(integers: Nodes, floats: Nodes) -> dict[int, int]:
    """For nodes of the int8 file that compute, the node of the float file to whose layer they belong."""
    found: dict[int, int] = {}
    for place, node in enumerate(integers.nodes):
        if not integers.converts(place):
            names = (name for name in (node.name, *node.output) if name)
            own = next((floats.place[name] for name in names if name in floats.place), None)
            own = _extended(node, floats) if own is None else own
            if own is not None:
                found[place] = own
    direct = dict(found)
    for place in range(len(integers.nodes)):
        if place not in found and not integers.converts(place):
            nearest = _nearest(place, integers.before, direct)
            nearest = _nearest(place, integers.behind, direct) if nearest is None else nearest
            if nearest is not None:
                found[place] = nearest
    return found


def _extended(node: "onnx.NodeProto", floats: Nodes) -> int | None:
    """The node of the float file whose name, or whose value's name, this one's begins with; the longest."""
    for name in (node.name, *node.output):
        parts = name.split("_")
        for count in range(len(parts) - 1, 0, -1):
            if (known := floats.place.get("_".join(parts[:count]))) is not None:
                return known
    return None


def _nearest(start: int, step: Callable[[int], Iterator[int]], known: Mapping[int, int]) -> int | None:
    seen, waiting = {start}, [start]
    while waiting:
        for place in step(waiting.pop(0)):
            if place in known:
                return known[place]
            if place not in seen:
                seen.add(place)
                waiting.append(place)
    return None


def _around(graph: Nodes, place: int, run: Mapping[int, Kernel]) -> Iterator[str]:
    """What is computed in float beside a conversion: names of nodes, inputs and outputs."""
    if not graph.converts(place):
        # A runtime's own, which it calls by the node that it is for.
        yield graph.name(place)
        return
    for step in (graph.before, graph.behind):
        seen, waiting = {place}, [place]
        while waiting:
            at = waiting.pop(0)
            node = graph.nodes[at]
            ends, names = (graph.inputs, node.input) if step == graph.before else (graph.outputs, node.output)
            yield from (name for name in names if name in ends)
            for other in step(at):
                if other in seen:
                    continue
                seen.add(other)
                if graph.converts(other) or other not in run:
                    waiting.append(other)
                elif not run[other].integer:
                    yield graph.name(other)

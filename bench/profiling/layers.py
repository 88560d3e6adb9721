"""From the kernels that a runtime runs to layers: which nodes each holds, where these come from, what they cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.measuring.profiling.kernels import Kernel
from cnnport.measuring.profiling.names import ROOT, Origin, origins
from cnnport.measuring.profiling.nodes import CONVERSIONS, FIRST_OF_KERNEL, Nodes

if TYPE_CHECKING:
    from cnnport.graphs.cost import Cost, NodeCosts

# These run in the kernel that reads them too, where they have none of their own.
_OF_READER = FIRST_OF_KERNEL | {"DequantizeLinear"}


@dataclass(frozen=True)
class Layer:
    """A kernel and what it is of the network.

    Attributes:
        kernel: As the runtime runs it.
        nodes: Names of the nodes of the file that it runs; none if the runtime made it of its own accord.
        original: What these were called before the passes, each once.
        modules: Paths of the PyTorch modules that it computes a part of, or stands beside.
        cost: Of the nodes as one; None where it is not known.
    """

    kernel: Kernel
    nodes: tuple[str, ...] = ()
    original: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cost: "Cost | None" = None


def layers_of(
    kernels: Sequence[Kernel], nodes: Nodes, costs: "NodeCosts | None", *, exported: bool
) -> tuple[Layer, ...]:
    """Put kernels to the nodes of the file, one layer for each kernel.

    Args:
        kernels: In the order in which they run.
        nodes: Of the file.
        costs: Of its nodes; None where they are not known.
        exported: Whether names are those of our export.
    """
    known = origins(nodes, exported=exported)
    held = (
        _held_by_modules(kernels, known)
        if any(kernel.module is not None for kernel in kernels)
        else _held(kernels, nodes)
    )
    modules = _modules(kernels, held, known) if exported else [() for _ in kernels]
    return tuple(
        Layer(
            kernel,
            tuple(nodes.name(place) for place in places),
            tuple(dict.fromkeys(known[place].original for place in places if known[place].original)),
            own,
            _cost(places, nodes, costs),
        )
        for kernel, places, own in zip(kernels, held, modules, strict=True)
    )


def alone(kernels: Sequence[Kernel]) -> tuple[Layer, ...]:
    """Layers of what is no ONNX file, by the nodes that its runtime names."""
    return tuple(Layer(kernel, kernel.names if kernel.label else ()) for kernel in kernels)


def _held(kernels: Sequence[Kernel], nodes: Nodes) -> list[tuple[int, ...]]:
    """For each kernel the nodes that it runs."""
    owner: dict[int, int] = {}
    found: list[list[int]] = []
    for number, kernel in enumerate(kernels):
        places = nodes.found(kernel)
        # What has one kernel by its name and another by its value belongs to the first.
        found.append([place for place in places if owner.setdefault(place, number) == number])
    movers = {
        value: number
        for number, kernel in enumerate(kernels)
        if is_conversion(kernel.operator)
        for value in kernel.writes
    }
    missing = [place for place in range(len(nodes.nodes)) if place not in owner]
    for place in missing:
        node = nodes.nodes[place]
        if node.op_type == "Transpose" and node.output[0] in movers:
            # What puts elements in another order has done this one too.
            owner[place] = movers[node.output[0]]
            found[owner[place]].append(place)
    missing = [place for place in missing if place not in owner]
    for place in missing:
        if nodes.nodes[place].op_type not in _OF_READER:
            before = [owner[other] for other in nodes.before(place) if other in owner]
            if before:
                # The one that runs last: the others' results were there already.
                owner[place] = max(before)
                found[owner[place]].append(place)
    for place in reversed(missing):
        if place not in owner:
            readers = [owner[other] for other in nodes.behind(place) if other in owner]
            if readers:
                owner[place] = min(readers)
                found[owner[place]].append(place)
    return [tuple(sorted(places)) for places in found]


def _held_by_modules(kernels: Sequence[Kernel], known: Sequence[Origin]) -> list[tuple[int, ...]]:
    return [
        tuple(place for place, origin in enumerate(known) if origin.module == (kernel.module or ROOT))
        for kernel in kernels
    ]


def _modules(
    kernels: Sequence[Kernel], held: Sequence[Sequence[int]], known: Sequence[Origin]
) -> list[tuple[str, ...]]:
    """The modules of each kernel; one without nodes has those of what it follows or feeds."""
    found: list[tuple[str, ...]] = [
        tuple(dict.fromkeys(known[place].module for place in places))
        if kernel.module is None
        else (kernel.module or ROOT,)
        for kernel, places in zip(kernels, held, strict=True)
    ]
    readers: dict[int, list[int]] = {}
    for number, kernel in enumerate(kernels):
        for source in kernel.sources:
            readers.setdefault(source, []).append(number)
    given = list(found)
    for number in range(len(kernels)):
        if not found[number]:
            given[number] = next(_beside(number, kernels, readers, found), ())
    return given


def _beside(
    number: int,
    kernels: Sequence[Kernel],
    readers: Mapping[int, Sequence[int]],
    found: Sequence[tuple[str, ...]],
) -> Iterator[tuple[str, ...]]:
    """The modules that a kernel without nodes may be of, the likeliest first.

    What only changes the order or type of elements is of the kernel that made them. What computes is a part of the
    node that it ends in: runtimes write one node out as several kernels, the last of which bears its name.
    """
    if is_conversion(kernels[number].operator):
        yield from (found[place] for place in kernels[number].sources if found[place])
    sources = {place: kernel.sources for place, kernel in enumerate(kernels)}
    for ways in (readers, sources):
        seen, waiting = {number}, [number]
        while waiting:
            for other in ways.get(waiting.pop(0), ()):
                if found[other]:
                    yield found[other]
                elif other not in seen:
                    seen.add(other)
                    waiting.append(other)
    # Where no edges are known.
    yield from (found[place] for place in range(number - 1, -1, -1) if found[place])
    yield from (found[place] for place in range(number + 1, len(kernels)) if found[place])


def _cost(places: Sequence[int], nodes: Nodes, costs: "NodeCosts | None") -> "Cost | None":
    names = [nodes.name(place) for place in places]
    if costs is None or not names or not all(name in costs for name in names):
        return None
    return costs.together(names)


def is_conversion(operator: str) -> bool:
    """Whether a kernel only changes types or the order of elements in memory."""
    return operator in CONVERSIONS or operator.startswith(("Reorder", "Reformat"))

"""Values of the reference that a site of the candidate may be held against, and how they are had.

Which value is which goes by names, and by numbers where names leave several: a convolution that has taken in its
batch norm bears the convolution's name and gives the batch norm's numbers, and passes write words in lower case
behind the names of what they change, sometimes with the numbers unchanged and sometimes in another order.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from cnnport.agreement.layers.graph import Array, Arrays, Graph
from cnnport.agreement.layers.side import Subject
from cnnport.agreement.layers.sites import CONVERSIONS, Site, site_at

# Operators that a neighbour may have taken in, so that what it gives is what these gave.
_ABSORBED = CONVERSIONS | {"BatchNormalization", "Add", "Mul", "Identity", "Dropout"}
_ABSORBED |= {"Clip", "Relu", "LeakyRelu", "HardSigmoid", "HardSwish", "Pad"}
_FURTHER = 3

# What passes write behind the name of a value.
_ADDED = re.compile(r"(.*?:\d+)_[a-z].*")


@dataclass(frozen=True)
class Counterpart:
    """A value of the reference.

    Attributes:
        name: As ``Values.read`` takes it.
        surely: Whether it has to be this one or none; if not, it is the one only where numbers agree.
    """

    name: str
    surely: bool = True


class Values(Protocol):
    """What a reference can be asked for."""

    def counterparts(self, graph: Graph, site: Site) -> list[Counterpart]:
        """Values that a site may be held against, the likeliest first."""

    def bytes_of(self, name: str) -> int:
        """How large a value is, as far as that is known."""

    def read(self, names: Iterable[str]) -> Arrays:
        """Run the reference on the inputs; those that cannot be had are left out."""


class GraphValues:
    """Of a file that is run."""

    def __init__(self, subject: Subject, feeds: Mapping[str, Array], total: int) -> None:
        self._subject = subject
        self._feeds = feeds
        self._total = total
        self._sizes = subject.graph.sizes(feeds)

    def counterparts(self, graph: Graph, site: Site) -> list[Counterpart]:
        """By name, and what follows in the reference and may have been taken in."""
        own = self._subject.graph
        found: dict[str, bool] = {}
        if site.value in graph.outputs and len(own.outputs) == len(graph.outputs):
            found[own.outputs[graph.outputs.index(site.value)]] = True
        if site.value in own.maker:
            found.setdefault(site.value, True)
        elif (added := _ADDED.fullmatch(site.value)) and added[1] in own.maker:
            found.setdefault(added[1], False)
        for name in list(found):
            for other in _following(own, name):
                found.setdefault(other, False)
        return [Counterpart(name, surely) for name, surely in found.items() if name in own.moving]

    def bytes_of(self, name: str) -> int:
        """By shape inference."""
        return self._sizes[name]

    def read(self, names: Iterable[str]) -> Arrays:
        """Raises as ``Subject.run``."""
        graph = self._subject.graph
        sites = [site_at(graph, name) for name in dict.fromkeys(names)]
        if not sites:
            return {}
        model = graph.with_outputs(dict.fromkeys(site.tap for site in sites))
        found = self._subject.run(model, self._feeds, self._total)
        return {site.value: site.read(found[site.tap]) for site in sites if site.tap in found}


def _following(graph: Graph, name: str) -> Iterator[str]:
    """Values that are made of one by operators that may have been taken in."""
    waiting = [(name, 0)]
    while waiting:
        value, depth = waiting.pop(0)
        for place in graph.readers.get(value, ()):
            node = graph.nodes[place]
            if node.op_type in _ABSORBED and depth < _FURTHER:
                if node.op_type not in CONVERSIONS:
                    yield node.output[0]
                waiting.append((node.output[0], depth + 1))

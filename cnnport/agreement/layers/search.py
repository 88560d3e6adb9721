"""From two sides to the first layer that departs.

Both are run once with all sites read, part by part. Where a site departs in the whole, the layer before it may be
at fault, or one before that, or none: in few bits the errors of a hundred layers add up. So the layers that depart
are run by themselves on the reference's inputs, in topological order, and the first that departs there too is the
one. Only a departure that lasts counts: a rewriting may give a value another order or scale, and take that back
right behind it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from cnnport.agreement.layers.compared import Compared, Comparison
from cnnport.agreement.layers.cut import Piece
from cnnport.agreement.layers.distance import Distance, distance
from cnnport.agreement.layers.graph import Array
from cnnport.agreement.layers.isolated import Isolation
from cnnport.agreement.layers.sites import Site

# Behind a value that only was written in another form, differences are smaller by so much at once.
_RECOVERY = 30.0

# Layers that are run by themselves first; each further part is twice as large.
_FIRST_PART = 8

# In the whole a layer is at fault although it is right by itself, if what it reads is nearer by so much.
_JUMP = 30.0

# A scale is off if half or double of it would leave so much less power of error. Half: 4 if nothing saturates then.
# Double: the more the more is cut off now, as may be on inputs unlike those that ranges were found on. Others of
# the same file are off by as much where its method cuts outliers or keeps them; then it says nothing.
_MISFIT_GAIN = {0.5: 3.0, 2.0: 8.0}
_MISFIT_OTHERS = 2.0


@dataclass(frozen=True, eq=False)
class Suspect:
    """A site that departs.

    Attributes:
        compared: In the whole.
        piece: What was run by itself.
        alone: How far that is off; None where it was not run.
        found: What it gave; None likewise.
        precision: In which it computes.
        cause: As of ``Culprit``; empty where it is not known yet.
    """

    compared: Compared
    piece: Piece
    alone: Distance | None
    found: Array | None
    precision: str
    cause: str = ""


class Search:
    """Over the sites of one candidate.

    Attributes:
        compared: By value.
        reads: The known values that each site reads, by value.
        departing: Values that depart for good, in topological order.
        run_alone: How far layers are off that were run by themselves, by value.
    """

    def __init__(self, comparison: Comparison, isolation: Isolation, precision: str) -> None:
        self._isolation = isolation
        self._precision = precision
        self.compared = {each.site.value: each for each in comparison.found}
        self.run_alone: dict[str, Distance] = {}
        # What has another shape is no input for a piece that expects the candidate's own.
        fitting = {name for name, each in self.compared.items() if not each.distance.is_misshapen}
        self._settle(fitting)
        if recovered := self._recovered():
            # Nor is a value in another form.
            self._settle(fitting - recovered, recovered)

    def suspects(self) -> Iterator[Suspect]:
        """Layers that depart by themselves or for no other reason in the whole, the first ones first."""
        waiting, size = list(self.departing), _FIRST_PART
        while waiting:
            part, waiting, size = waiting[:size], waiting[size:], size * 2
            pieces = {name: self._isolation.piece(self.compared[name].site) for name in part}
            for piece, found in self._isolation.run(list(pieces.values())):
                name = piece.site.value
                alone = distance(piece.site.held(self._isolation.store.get(name)), found, piece.site.level)
                self.run_alone[name] = alone
                precision = self.precision_of(piece)
                if alone.score(precision) > 1:
                    yield Suspect(self.compared[name], piece, alone, found, precision)
                elif precision == "fp32" and self._jumps(name):
                    yield Suspect(self.compared[name], piece, alone, None, precision, "context")

    def misfit(self) -> Suspect | None:
        """The site whose scale is the only one of the file that is off by a factor of 2."""
        known = [
            (each.misfit, each)
            for each in self.compared.values()
            if each.misfit and each.misfit.factor in _MISFIT_GAIN and not self._shares_its_scale(each.site)
        ]
        known.sort(key=lambda pair: -pair[0].gain / _MISFIT_GAIN[pair[0].factor])
        if not known or known[0][0].gain < _MISFIT_GAIN[known[0][0].factor]:
            return None
        misfit, first = known[0]
        if any(other.factor == misfit.factor and other.gain > _MISFIT_OTHERS for other, _ in known[1:]):
            return None
        piece = self._isolation.piece(first.site)
        for _, found in self._isolation.run([piece]):
            alone = distance(
                first.site.held(self._isolation.store.get(first.site.value)), found, first.site.level
            )
            return Suspect(first, piece, alone, found, "int8", "scale")
        return Suspect(first, piece, None, None, "int8", "scale")

    def _shares_its_scale(self, site: Site) -> bool:
        """Whether another site has the same scale: what is put together has that of the largest, and suits that."""
        others = (each.site.scale for each in self.compared.values() if each.site is not site)
        own = site.scale
        return own is not None and any(other is not None and np.array_equal(other, own) for other in others)

    def growth(self, count: int) -> list[str]:
        """The values at which layers that were run by themselves are furthest off."""
        return sorted(self.run_alone, key=lambda name: -self.run_alone[name].rms)[:count]

    def before(self, value: str) -> list[str]:
        """Known values that a site reads."""
        return [name for name in self.reads.get(value, ()) if name in self.compared]

    def after(self, value: str) -> list[str]:
        """Sites that read a value."""
        return list(self._readers.get(value, ()))

    def precision_of(self, piece: Piece) -> str:
        """What a piece is held to."""
        return piece.precision(self._isolation.subject.graph, at_least=self._precision)

    def _settle(self, known: set[str], passed_over: Collection[str] = ()) -> None:
        self._isolation.known = known
        ordered = [name for name in self.compared if name not in passed_over]
        self.reads = {name: self._isolation.piece(self.compared[name].site).reads for name in ordered}
        self._readers: dict[str, list[str]] = {}
        for name, read in self.reads.items():
            for other in read:
                self._readers.setdefault(other, []).append(name)
        self.departing = [name for name in ordered if self._score(name) > 1]

    def _recovered(self) -> set[str]:
        """Values that depart, and nothing that is made of them does."""
        graph = self._isolation.subject.graph
        found: set[str] = set()
        for name in reversed(self.departing):
            if name in graph.outputs:
                continue
            readers = self._readers.get(name, [])
            limit = self.compared[name].distance.rms / _RECOVERY
            if readers and all(
                other in found or (self.compared[other].distance.rms < limit and self._score(other) <= 1)
                for other in readers
            ):
                found.add(name)
        return found

    def _score(self, name: str) -> float:
        return self.compared[name].distance.score(self._precision)

    def _jumps(self, name: str) -> bool:
        """Whether a site departs much further than anything that it reads."""
        read = [self._score(other) for other in self.before(name)]
        return self._score(name) > _JUMP * max([*read, 1.0])

"""In which order of axes each operator works, so that the fewest elements are transposed.

Every value is seen as a source, which no Transpose makes, in some order of axes. A site (see ``layout_site``) has a
label: the order in which it works on what the file gives it, the identity to begin with. With L(m) the label of the
site that makes a source and L(c) that of one that reads it through a Transpose P, it reads

    L(c) P L(m)^-1  of what is made,

and the graph needs a Transpose for each order other than the identity in which somebody reads a source. Operators
that are no sites, inputs and outputs of the graph have the identity as their label for good.

A move gives a further order Q to some of the sites that hang together without a Transpose between. Which of them is a
minimum cut: a site that moves and its neighbour that does not cost a Transpose. A move is made only if it leaves no
more Transposes and no more transposed elements than before, and fewer of one of them; so the search ends.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx_ir as ir

from cnnport.graphs.layout.minimum_cut import MinimumCut
from cnnport.graphs.layout.permutations import Permutation, identity, inverse, is_identity, then
from cnnport.graphs.layout.site import Site

_OPEN_SIZE = 16
_ONE_MORE = 1 << 44


@dataclass(frozen=True)
class Request:
    """Somebody who reads a source.

    Attributes:
        site: The site that reads; None for whoever needs the order that the file gives.
        order: From the source to what is read, in the file.
        node: The operator that reads; None for an output of the graph.
        index: Of the operator's input, or of the graph's output.
        is_direct: Whether it reads the source itself in the file, and no Transpose's result.
    """

    site: Site | None
    order: Permutation
    node: ir.Node | None
    index: int
    is_direct: bool

    @property
    def is_output(self) -> bool:
        """Whether it is an output of the graph."""
        return self.node is None


@dataclass(eq=False)
class Source:
    """A value that no Transpose makes.

    Attributes:
        value: The value.
        maker: The site whose label it follows, if any.
        elements: How many it has; dimensions that the file leaves open count as some number.
        is_sized: Whether the file gives its shape.
        is_constant: Whether its Transposes are done here and now.
        requests: Those who read it.
    """

    value: ir.Value
    maker: Site | None
    elements: int
    is_sized: bool
    is_constant: bool
    requests: list[Request] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """What is transposed.

    Attributes:
        transposes: How many Transposes there are.
        elements: How many elements they move.
        unsized: How many of them work on values without a shape.
    """

    transposes: int = 0
    elements: int = 0
    unsized: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.transposes + other.transposes, self.elements + other.elements, self.unsized + other.unsized
        )

    def is_below(self, other: "Cost") -> bool:
        """Less of something, and of nothing more; sizes that were guessed decide nothing."""
        if self.transposes > other.transposes or self.elements > other.elements:
            return False
        if self.transposes < other.transposes:
            return True
        return self.elements < other.elements and self.unsized == other.unsized == 0


def elements_of(value: ir.Value, dims: int) -> int:
    """How many elements a value has, for comparisons: the same in any order of its axes."""
    sizes = list(value.shape) if value.shape is not None else [None] * dims
    count = 1
    for size in sizes:
        count *= size if isinstance(size, int) else _OPEN_SIZE
    return count


Labels: TypeAlias = Mapping[Site, Permutation]


class Plan:
    """Sources and the labels of sites, changed move by move."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = tuple(sources)
        self._labels: dict[Site, Permutation] = {}
        self._touched: dict[Site, list[Source]] = {}
        # What ``orders`` says of a source, as long as no label around it changes.
        self._known: dict[Source, list[tuple[Request, Permutation]]] = {}
        for source in self.sources:
            for site in dict.fromkeys(_sites_of(source)):
                self._labels[site] = identity(site.dims)
                self._touched.setdefault(site, []).append(source)

    @property
    def labels(self) -> Labels:
        """The label of every site."""
        return self._labels

    def cost(self) -> Cost:
        """What the labels cost."""
        return self._cost_of(self.sources, self._labels)

    def orders(self, source: Source) -> Sequence[tuple[Request, Permutation]]:
        """In which order each request reads what is made now."""
        known = self._known.get(source)
        if known is None:
            known = [(request, self._order(source, request, self._labels)) for request in source.requests]
            self._known[source] = known
        return known

    def improve(self) -> None:
        """Make moves until none is left that pays."""
        while any(self._improve(sites) for sites in self._components()):
            pass

    def _order(self, source: Source, request: Request, labels: Labels) -> Permutation:
        order = request.order
        if source.maker is not None:
            order = then(inverse(labels[source.maker]), order)
        return order if request.site is None else then(order, labels[request.site])

    def _cost_of(self, sources: Iterable[Source], labels: Labels) -> Cost:
        total = Cost()
        for source in sources:
            if source.is_constant:
                continue
            if labels is self._labels:
                orders = [(order, request.is_output) for request, order in self.orders(source)]
            else:
                orders = [
                    (self._order(source, request, labels), request.is_output) for request in source.requests
                ]
            for order in {order for order, _ in orders if not is_identity(order)}:
                # Outputs of the graph are values of their own, also where they are equal.
                count = max(1, sum(is_output for other, is_output in orders if other == order))
                total += Cost(count, count * source.elements, 0 if source.is_sized else count)
        return total

    def _components(self) -> list[list[Site]]:
        """Sites that hang together without a Transpose between, in the order of the graph."""
        leader: dict[object, object] = {}

        def find(item: object) -> object:
            while (above := leader.setdefault(item, item)) is not item:
                # Each look halves the way for the next one.
                leader[item] = leader[above]
                item = above
            return item

        for source in self.sources:
            if source.is_constant:
                continue
            if source.maker is not None:
                key = (id(source), identity(source.maker.dims))
                leader[find(source.maker)] = find(leader.setdefault(key, key))
            for request, order in self.orders(source):
                if request.site is not None:
                    key = (id(source), order)
                    leader[find(request.site)] = find(leader.setdefault(key, key))
        groups: dict[object, list[Site]] = {}
        for site in self._labels:
            groups.setdefault(find(site), []).append(site)
        return list(groups.values())

    def _improve(self, sites: list[Site]) -> bool:
        sources = list(dict.fromkeys(source for site in sites for source in self._touched[site]))
        before = self._cost_of(sources, self._labels)
        if not before.transposes:
            return False
        for order in self._candidates(set(sites), sources):
            able = {site for site in sites if site.allows(then(self._labels[site], order))}
            for each in (_ONE_MORE, 1) if able else ():
                moved = self._cut(able, sources, order, each)
                labels = dict(self._labels)
                labels.update({site: then(labels[site], order) for site in moved})
                if moved and self._cost_of(sources, labels).is_below(before):
                    self._labels = labels
                    for site in moved:
                        for source in self._touched[site]:
                            self._known.pop(source, None)
                    return True
        return False

    def _candidates(self, sites: set[Site], sources: Iterable[Source]) -> list[Permutation]:
        """Orders that would make a Transpose around these sites needless."""
        found: dict[Permutation, None] = {}
        for source in sources:
            if source.is_constant:
                continue
            orders = self.orders(source)
            if source.maker in sites:
                found.update(dict.fromkeys(order for _, order in orders))
            for request, order in orders:
                if request.site in sites:
                    wanted = [identity(len(order)), *(other for _, other in orders)]
                    found.update(dict.fromkeys(then(inverse(order), other) for other in wanted))
        return [order for order in found if not is_identity(order)]

    def _cut(self, able: set[Site], sources: Iterable[Source], order: Permutation, each: int) -> list[Site]:
        """Those that move by ``order`` in the cheapest way, a Transpose costing ``each`` and its elements."""
        cut = MinimumCut()
        number = {site: cut.add_node() for site in self._labels if site in able}
        for source in sources:
            if not source.is_constant:
                self._add_source(cut, number, source, order, each + source.elements)
        moved = cut.moved()
        return [site for site, node in number.items() if node in moved]

    def _add_source(
        self, cut: MinimumCut, number: Mapping[Site, int], source: Source, order: Permutation, cost: int
    ) -> None:
        fixed: set[Permutation] = set()
        groups: dict[Permutation, list[int]] = {}
        for request, read in self.orders(source):
            if request.site is not None and request.site in number:
                groups.setdefault(read, []).append(number[request.site])
            else:
                fixed.add(read)
        if source.maker is not None and source.maker in number:
            self._add_made(cut, number[source.maker], fixed, groups, order, cost)
            return
        for read, readers in groups.items():
            if not is_identity(read) and read not in fixed:
                cut.if_kept(cut.add_all(readers), cost)
            after = then(read, order)
            if not is_identity(after) and after not in fixed:
                cut.if_moved(cut.add_any(readers), cost)

    @staticmethod
    def _add_made(
        cut: MinimumCut,
        maker: int,
        fixed: set[Permutation],
        groups: Mapping[Permutation, list[int]],
        order: Permutation,
        cost: int,
    ) -> None:
        back = inverse(order)
        kept = {read for read in fixed if not is_identity(read)}
        moved = {after for read in fixed if not is_identity(after := then(back, read))}
        cut.if_kept(maker, cost * len(kept))
        cut.if_moved(maker, cost * len(moved))
        # Readers of its own component behind a Transpose are left out: the cost is checked in full afterwards.
        readers = groups.get(identity(len(order)), [])
        if readers and order not in kept:
            cut.if_parted(maker, cut.add_any(readers), cost)
        if readers and back not in moved:
            cut.if_parted(cut.add_all(readers), maker, cost)


def _sites_of(source: Source) -> Iterator[Site]:
    if source.maker is not None:
        yield source.maker
    yield from (request.site for request in source.requests if request.site is not None)

"""From a kernel that departs to the node of it that does.

Inside of a kernel values can be read too, where fusing no longer matters: the kernel is known to depart by itself.
The first value in it that departs names the node, and what lies before that one no longer belongs to the smallest
piece.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from cnnport.agreement.layers.cut import Piece, alone, piece_of
from cnnport.agreement.layers.distance import Distance, distance
from cnnport.agreement.layers.graph import Array
from cnnport.agreement.layers.isolated import Isolation
from cnnport.agreement.layers.reference_values import Values
from cnnport.agreement.layers.sites import CONVERSIONS, Site

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLOATS = frozenset({1, 10, 11, 16})


def narrowed(
    isolation: Isolation, values: Values, piece: Piece, found: Array, precision: str
) -> tuple[Piece, Array, Distance]:
    """The node of a piece that is at fault, as a piece of its own; the whole piece where none is by itself.

    Args:
        isolation: Knows the candidate; its store gets the reference's values inside the piece.
        values: The reference's.
        piece: Departs by itself.
        found: What it gives.
        precision: In which it computes.

    Raises:
        CnnportError: If one side cannot be run.
    """
    whole = (
        piece,
        found,
        distance(piece.site.held(isolation.store.get(piece.site.value)), found, piece.site.level),
    )
    inside = _inside(isolation, values, piece)
    if not inside:
        return whole
    graph, subject = isolation.subject.graph, isolation.subject
    expected = values.read([name for _, name in inside])
    shapes = isolation.shapes(piece.reads)
    model = alone(graph, piece, shapes)
    del model.graph.output[:]
    model.graph.output.extend(graph.described(site.value) for site, _ in inside)
    given = subject.run(model, isolation.values(piece.reads), isolation.total)
    isolation.runs += 1
    known = set(isolation.known)
    end: Site = piece.site
    for site, name in inside:
        if name not in expected or site.value not in given:
            continue
        isolation.store.put(site.value, expected[name])
        if distance(expected[name], site.read(given[site.value])).score(precision) > 1:
            end = site
            break
        known.add(site.value)
    smaller = piece_of(graph, end, known)
    if smaller.places == piece.places:
        return whole
    runner = replace(isolation, known=known)
    result: Sequence[tuple[Piece, Array]] = list(runner.run([smaller]))
    isolation.runs += runner.runs - isolation.runs
    if not result:
        return whole
    _, again = result[0]
    off = distance(end.held(isolation.store.get(end.value)), again, end.level)
    return (smaller, again, off) if off.score(precision) > 1 else whole


def _inside(isolation: Isolation, values: Values, piece: Piece) -> list[tuple[Site, str]]:
    """Values inside a piece, in order, and those of the reference that surely stand for them."""
    graph = isolation.subject.graph
    found = []
    for place in piece.computing(graph):
        node = graph.nodes[place]
        value = node.output[0]
        if value == piece.site.value or node.op_type in CONVERSIONS or graph.element(value) not in _FLOATS:
            continue
        site = Site(value, value, place)
        sure = [other.name for other in values.counterparts(graph, site) if other.surely]
        if sure:
            found.append((site, sure[0]))
    return found

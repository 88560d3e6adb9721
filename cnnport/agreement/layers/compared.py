"""Going through a network part by part: what the reference gives and what the candidate gives, at every site."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnnport.agreement.layers.distance import Distance, distance
from cnnport.agreement.layers.graph import Array
from cnnport.agreement.layers.portions import divided
from cnnport.agreement.layers.reference_values import Counterpart, Values
from cnnport.agreement.layers.scales import Misfit, misfit_of
from cnnport.agreement.layers.side import Subject
from cnnport.agreement.layers.sites import Site
from cnnport.agreement.layers.store import Store

# Two values that have nothing to do with each other are 1.4 standard deviations apart.
_LARGEST_GROWTH = 0.7


@dataclass(frozen=True, eq=False)
class Compared:
    """A site in the whole network.

    Attributes:
        site: Which.
        name: The reference's value that it was held against.
        distance: From it.
        misfit: How well its scale suits the reference's value; None where it has none.
    """

    site: Site
    name: str
    distance: Distance
    misfit: Misfit | None = None


@dataclass(frozen=True)
class Comparison:
    """All sites that have a counterpart, in topological order, and what it took."""

    found: tuple[Compared, ...]
    skipped: int
    batches: int


def compare_all(
    subject: Subject,
    groups: Sequence[Sequence[Site]],
    values: Values,
    feeds: Mapping[str, Array],
    total: int,
    store: Store,
    *,
    precision: str,
    memory_bytes: int,
    on_progress: Callable[[int, int], None],
) -> Comparison:
    """Run both, in as many parts as memory asks for, and keep the reference's values on the disk.

    Args:
        subject: The candidate.
        groups: Sites of its graph; those of different groups are not read in one run.
        values: The reference's.
        feeds: By input.
        total: The number of samples.
        store: Gets the reference's values by the names of the candidate's.
        precision: The coarser of the two sides'.
        memory_bytes: What values that were read may take at a time.
        on_progress: Told how many sites are done, and how many there are.

    Raises:
        CnnportError: If one of them cannot be loaded or run.
    """
    graph = subject.graph
    known = {site: values.counterparts(graph, site) for sites in groups for site in sites}
    chosen = [[site for site in sites if known[site]] for sites in groups]
    count = sum(map(len, chosen))
    sizes = graph.sizes(feeds)

    def size_of(site: Site) -> int:
        return sizes[site.tap] + sum(values.bytes_of(other.name) for other in known[site])

    found: list[Compared] = []
    done = batches = 0
    for batch in (each for sites in chosen for each in divided(sites, size_of, memory_bytes)):
        batches += 1
        expected = values.read([other.name for site in batch for other in known[site]])
        model = graph.with_outputs(dict.fromkeys(site.tap for site in batch))
        tapped = subject.run(model, feeds, total)
        for site in batch:
            if site.tap not in tapped:
                continue
            given = site.read(tapped[site.tap])
            if best := _best(site, given, known[site], expected, precision):
                store.put(site.value, expected[best.name])
                found.append(best)
        done += len(batch)
        on_progress(done, count)
    found.sort(key=lambda each: each.site.place)
    return Comparison(tuple(found), len(known) - len(found), batches)


def _best(
    site: Site,
    given: Array,
    known: Sequence[Counterpart],
    expected: Mapping[str, Array],
    precision: str,
) -> Compared | None:
    """The counterpart that is nearest; one that only numbers can tell has to be near."""
    best: tuple[Counterpart, Distance] | None = None
    for other in known:
        if other.name not in expected:
            continue
        if _is_filled_up(expected[other.name], given):
            continue
        found = distance(site.held(expected[other.name]), given, site.level)
        is_near = found.score(precision) <= 1
        if not other.surely and not is_near and not (best and _is_clearly_nearer(found, best[1])):
            continue
        if best is None or found.rms < best[1].rms:
            best = other, found
        if is_near:
            break
    if best is None:
        return None
    other, found = best
    misfit = misfit_of(site, expected[other.name]) if site.scale is not None else None
    return Compared(site, other.name, found, misfit)


def _is_filled_up(expected: Array, given: Array) -> bool:
    """Whether a value has another number of channels, as passes make it that fill up what kernels want whole."""
    left, right = list(expected.shape), list(given.shape)
    return (
        len(left) == len(right) > 1 and left[1] != right[1] and left[:1] + left[2:] == right[:1] + right[2:]
    )


def _is_clearly_nearer(found: Distance, best: Distance) -> bool:
    """Whether what many roundings add up to explains one of two, and not the other."""
    return found.rms < _LARGEST_GROWTH and found.rms < best.rms / 2

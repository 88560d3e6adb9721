"""Localising: which layer of one network departs from another, and the smallest piece that shows it."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnnport.agreement.layers.compared import Comparison, compare_all
from cnnport.agreement.layers.cut import Piece, alone
from cnnport.agreement.layers.distance import ORDER, distance
from cnnport.agreement.layers.exactness import cause_of
from cnnport.agreement.layers.file_differences import file_differences
from cnnport.agreement.layers.fusions import Fusions, harmless
from cnnport.agreement.layers.graph import Array, Arrays, Graph
from cnnport.agreement.layers.isolated import Isolation
from cnnport.agreement.layers.localisation import Culprit, Effort, Layer, Localisation
from cnnport.agreement.layers.manner import manner_of
from cnnport.agreement.layers.modules import module_of
from cnnport.agreement.layers.narrowing import narrowed
from cnnport.agreement.layers.reference_values import GraphValues, Values
from cnnport.agreement.layers.reproduction import Reproduction, reference_piece, write_piece
from cnnport.agreement.layers.search import Search, Suspect
from cnnport.agreement.layers.side import PYTORCH, Side, Subject
from cnnport.agreement.layers.sites import sites_of
from cnnport.agreement.layers.store import Store
from cnnport.errors import CnnportError, FeedError
from cnnport.offload import bring_back

MEMORY_BYTES = 512 * 2**20
"""What values that were read may take at a time, unless told otherwise."""

# Layers that are named where errors add up, and behind the one at fault.
_NAMED = 3

# Below so many times its bound a float32 departure may be rounding, and is looked at in float64.
_DOUBTFUL = 300.0


def localise(
    reference: Side,
    candidate: Side,
    feeds: Mapping[str, Array],
    *,
    write: Path | None = None,
    memory_bytes: int = MEMORY_BYTES,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Localisation:
    """Find the first layer of a network that departs from a reference.

    Args:
        reference: What is right: a file on a runtime, or the PyTorch original.
        candidate: What is looked into: a file on a runtime.
        feeds: By the candidate's input names, with a row for each sample; a few samples are enough.
        write: A folder for the smallest piece of the graph that shows the departure; it is made if need be, and
            nothing is written where no layer departs.
        memory_bytes: What values that were read may take at a time; networks take memory beside that.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many values are compared, and how many there are.

    Raises:
        CnnportError: If one of the sides cannot be loaded or run, or the candidate is PyTorch.
        FeedError: If the feeds do not fit.
        OutputError: If the folder cannot be written.
    """
    started = time.perf_counter()
    if candidate.runtime in PYTORCH:
        raise CnnportError(
            "PyTorch can be the reference of --layers, not the candidate: it has no graph to look into"
        )
    _check(candidate, feeds)
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        work = _Work(reference, candidate, dict(feeds), Path(name), memory_bytes, on_step, on_progress)
        return work.run(write, started)


class _Work:
    """One search, with its folder."""

    def __init__(
        self,
        reference: Side,
        candidate: Side,
        feeds: Arrays,
        folder: Path,
        memory_bytes: int,
        on_step: Callable[[str], None],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._reference = reference
        self._candidate = candidate
        self._feeds = feeds
        self._total = len(next(iter(feeds.values())))
        self._memory_bytes = memory_bytes
        self._on_step = on_step
        self._on_progress = on_progress
        on_step("read")
        self._subject = Subject(candidate, folder, "candidate")
        self._against: Subject | None = None
        if reference.runtime not in PYTORCH:
            self._against = Subject(reference, folder, "reference")
        self._graph = self._against.graph if self._against else None
        self._values = self._values_of()
        held = [self._subject.graph.precision, *([self._graph.precision] if self._graph else [])]
        self._precision = max(reference.precision, candidate.precision, *held, key=ORDER.index)
        self._isolation = Isolation(
            self._subject, frozenset(), Store(folder / "values"), feeds, self._total, memory_bytes
        )

    def run(self, write: Path | None, started: float) -> Localisation:
        self._on_step("fusions")
        kept, apart, fusions = harmless(self._subject, sites_of(self._subject.graph))
        self._on_step("values")
        comparison = compare_all(
            self._subject,
            (kept, apart),
            self._values,
            self._feeds,
            self._total,
            self._isolation.store,
            precision=self._precision,
            memory_bytes=self._memory_bytes,
            on_progress=self._on_progress,
        )
        self._on_step("layers")
        search = Search(comparison, self._isolation, self._precision)
        suspect = self._first(search)
        culprit, written = None, None
        if suspect is not None:
            culprit, shown = self._told(search, suspect)
            if write is not None and shown is not None:
                self._on_step("write")
                written = write_piece(write, shown, culprit, self._isolation, self._graph)
        return self._outcome(search, comparison, fusions, culprit, written, started)

    def _outcome(
        self,
        search: Search,
        comparison: Comparison,
        fusions: Fusions,
        culprit: Culprit | None,
        written: Path | None,
        started: float,
    ) -> Localisation:
        outputs = [name for name in self._subject.graph.outputs if name in search.compared]
        departs = any(name in search.departing for name in outputs)
        growth = search.growth(_NAMED) if culprit is None and departs else []
        effort = Effort(
            len(comparison.found),
            comparison.skipped,
            comparison.batches,
            # Each part runs both sides.
            2 * comparison.batches + self._isolation.runs,
            len(search.run_alone),
            self._isolation.store.bytes,
            time.perf_counter() - started,
        )
        return Localisation(
            str(self._reference),
            str(self._candidate),
            culprit,
            tuple(self._layer(search, name) for name in outputs),
            tuple(self._layer(search, name) for name in growth),
            fusions,
            effort,
            written,
        )

    def _values_of(self) -> Values:
        if self._against is not None:
            return GraphValues(self._against, self._renamed(), self._total)
        from cnnport.agreement.layers.torch_values import TorchValues

        return TorchValues(self._reference, self._renamed())

    def _renamed(self) -> Arrays:
        """The feeds under the names that the reference has for its inputs, which may be others."""
        own = [spec.name for spec in self._reference.artifact.inputs]
        given = [spec.name for spec in self._candidate.artifact.inputs]
        if len(own) != len(given):
            raise FeedError(
                f"one side has {len(own)} inputs and the other {len(given)}: nothing can be compared"
            )
        return {name: self._feeds[other] for name, other in zip(own, given, strict=True)}

    def _first(self, search: Search) -> Suspect | None:
        """The first suspect that is one, rounding left aside."""
        for suspect in search.suspects():
            judged = self._judged(suspect)
            if judged.cause != "rounding" and not self._is_cut_off(search, suspect):
                return judged
        return search.misfit()

    def _is_cut_off(self, search: Search, suspect: Suspect) -> bool:
        """Whether a layer in 8 bits is right for what its inputs' ranges leave of the reference's values.

        Inputs unlike those that ranges were found on are cut off, and no layer is at fault for that.
        """
        piece, found = suspect.piece, suspect.found
        if self._against is None or suspect.precision != "int8" or found is None:
            return False
        feeds = self._isolation.values(piece.reads)
        cut = {
            name: search.compared[name].site.held(value) if name in search.compared else value
            for name, value in feeds.items()
        }
        if all(cut[name] is value or np.array_equal(cut[name], value) for name, value in feeds.items()):
            return False
        model = reference_piece(self._against.graph, piece, self._isolation.shapes(piece.reads))
        if model is None:
            return False
        self._isolation.runs += 1
        expected = self._against.run(model, cut, self._total)[piece.site.value]
        site = piece.site
        return distance(site.held(expected), found, site.level).score(suspect.precision) <= 1

    def _judged(self, suspect: Suspect) -> Suspect:
        """With its cause, as far as that is known."""
        if suspect.cause or suspect.alone is None or suspect.found is None:
            return suspect
        piece, graph = suspect.piece, self._subject.graph
        if self._graph is not None and file_differences(
            self._graph, graph, piece.computing(graph), suspect.precision
        ):
            return replace(suspect, cause="file")
        if suspect.precision != "fp32" or suspect.alone.score("fp32") > _DOUBTFUL:
            return suspect
        sample = self._sample(piece, suspect)
        if sample is None:
            return suspect
        shapes = {name: list(value.shape) for name, value in sample.feeds.items()}
        model = alone(graph, piece, shapes)
        bring_back(model, graph.folder)
        other = reference_piece(self._graph, piece, shapes) if self._graph is not None else None
        if other is not None and self._graph is not None:
            bring_back(other, self._graph.folder)
        return replace(suspect, cause=cause_of(model, other, sample.feeds, sample.expected, sample.found))

    def _sample(self, piece: Piece, suspect: Suspect) -> "_Sample | None":
        """The sample of a piece that is furthest off; None where values have no row for each."""
        feeds = self._isolation.values(piece.reads)
        expected, found = self._isolation.store.get(piece.site.value), suspect.found
        if found is None or found.shape != expected.shape:
            return None
        if any(len(value) != self._total for value in (*feeds.values(), expected)):
            return None
        off = [float(np.abs(left - right).max()) for left, right in zip(expected, found, strict=True)]
        row = slice(int(np.argmax(off)), int(np.argmax(off)) + 1)
        return _Sample({name: value[row] for name, value in feeds.items()}, expected[row], found[row])

    def _told(self, search: Search, suspect: Suspect) -> tuple[Culprit, Reproduction | None]:
        """What is said of a suspect, and the smallest piece that shows it."""
        graph, value = self._subject.graph, suspect.compared.site.value
        piece, found, distance_alone = suspect.piece, suspect.found, suspect.alone
        if suspect.cause == "context":
            # What shows only in the whole is shown by all that the layer depends on.
            whole = replace(self._isolation, known=frozenset())
            piece = whole.piece(suspect.compared.site)
            found = next((given for _, given in whole.run([piece])), None)
            self._isolation.runs = whole.runs
        elif found is not None and suspect.cause in {"", "file"}:
            piece, found, distance_alone = narrowed(
                self._isolation, self._values, piece, found, suspect.precision
            )
        expected = self._isolation.store.get(piece.site.value)
        in_whole = suspect.cause in {"context", "scale"}
        manner = self._in_whole(suspect) if in_whole or found is None else manner_of(expected, found)
        named = suspect.piece if in_whole else piece
        layer = self._layer(search, value, named)
        places = named.computing(graph)
        differences = file_differences(self._graph, graph, places, suspect.precision) if self._graph else ()
        culprit = Culprit(
            replace(layer, alone=distance_alone),
            suspect.precision,
            tuple(self._layer(search, name) for name in search.before(value)),
            tuple(self._layer(search, name) for name in search.after(value)[:_NAMED]),
            manner,
            differences,
            "file" if differences else suspect.cause,
        )
        shown = self._smallest(piece, expected, found, suspect) if found is not None else None
        return culprit, shown

    def _in_whole(self, suspect: Suspect) -> str:
        misfit = suspect.compared.misfit
        if suspect.cause == "scale" and misfit is not None:
            factor = "double" if misfit.factor > 1 else "half"
            return (
                f"the scale of {suspect.compared.site.tap} does not suit its numbers: {factor} of it would leave "
                f"{misfit.gain:.1f} times less power of error, and no other scale of the file is off like that"
            )
        return "departs in the whole network, and not by itself"

    def _smallest(self, piece: Piece, expected: Array, found: Array, suspect: Suspect) -> Reproduction:
        """One sample, if that is enough to show it."""
        feeds = self._isolation.values(piece.reads)
        whole = Reproduction(
            piece, {name: np.array(value) for name, value in feeds.items()}, np.array(expected), found
        )
        sample = self._sample(piece, replace(suspect, found=found))
        if sample is None or self._subject.batch is not None or self._total == 1:
            return whole
        shapes = {name: list(value.shape) for name, value in sample.feeds.items()}
        model = alone(self._subject.graph, piece, shapes)
        given = self._subject.run(model, sample.feeds, 1).get(piece.site.tap)
        self._isolation.runs += 1
        if given is None:
            return whole
        again = piece.site.read(given)
        if distance(piece.site.held(sample.expected), again, piece.site.level).score(suspect.precision) <= 1:
            # Only several samples together show it.
            return whole
        feeds = {name: np.array(value) for name, value in sample.feeds.items()}
        return Reproduction(piece, feeds, np.array(sample.expected), again)

    def _layer(self, search: Search, value: str, piece: Piece | None = None) -> Layer:
        graph, compared = self._subject.graph, search.compared[value]
        piece = piece or self._isolation.piece(compared.site)
        places = _speaking(graph, piece)
        return Layer(
            piece.site.value,
            tuple(graph.name_of(place) for place in places),
            tuple(graph.nodes[place].op_type for place in places),
            module_of(graph, places[-1]),
            compared.distance,
            search.run_alone.get(value),
        )


@dataclass(frozen=True)
class _Sample:
    """One sample of a piece."""

    feeds: Arrays
    expected: Array
    found: Array


def _speaking(graph: Graph, piece: Piece) -> tuple[int, ...]:
    """The nodes of a piece that compute, quantizers and the like left out unless there is nothing else."""
    places = piece.computing(graph)
    quiet = {"Cast", "DequantizeLinear", "QuantizeLinear"}
    return tuple(place for place in places if graph.nodes[place].op_type not in quiet) or places


def _check(candidate: Side, feeds: Mapping[str, Array]) -> None:
    names = [spec.name for spec in candidate.artifact.inputs]
    if missing := [name for name in names if name not in feeds]:
        raise FeedError(f"no values were given for {', '.join(missing)}")
    lengths: Sequence[int] = [len(feeds[name]) for name in names]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise FeedError("every input needs a row for each sample, and at least one sample")

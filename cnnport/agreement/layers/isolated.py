"""Layers run by themselves on the reference's inputs, many in one model."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.agreement.layers.cut import Piece, alone, end_of, piece_of, shape_of, side_by_side
from cnnport.agreement.layers.graph import Array, Arrays
from cnnport.agreement.layers.portions import divided
from cnnport.agreement.layers.side import Subject
from cnnport.agreement.layers.sites import Site
from cnnport.agreement.layers.store import Store
from cnnport.errors import ArtifactError, FeedError

if TYPE_CHECKING:
    import onnx


@dataclass
class Isolation:
    """What runs pieces of a candidate.

    Attributes:
        subject: The candidate.
        known: Values that the reference has too, and at which pieces begin.
        store: Has them.
        feeds: Of the network's inputs.
        total: The number of samples.
        memory_bytes: What values may take at a time.
        runs: How many sessions were opened.
    """

    subject: Subject
    known: Collection[str]
    store: Store
    feeds: Mapping[str, Array]
    total: int
    memory_bytes: int
    runs: int = 0

    def piece(self, site: Site) -> Piece:
        """What lies between a site and the known values before it."""
        return piece_of(self.subject.graph, site, self.known)

    def values(self, names: Sequence[str]) -> Arrays:
        """What pieces are fed."""
        return {name: self.feeds[name] if name in self.feeds else self.store.get(name) for name in names}

    def shapes(self, names: Sequence[str]) -> "dict[str, Sequence[int | str]]":
        """What pieces take: open where samples are run one by one, fixed where the file fixes them."""
        subject = self.subject
        return {
            name: shape_of(value, self.total, subject.batch, is_open=subject.side.alone)
            for name, value in self.values(names).items()
        }

    def run(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Array]]:
        """What each piece gives, in order, a part of them at a time."""
        graph = self.subject.graph
        for part in divided(pieces, self._bytes, self.memory_bytes):
            names = list(dict.fromkeys(name for piece in part for name in piece.reads))
            if any(piece.has_subgraphs(graph) for piece in part):
                models = [([piece], alone(graph, piece, self.shapes(piece.reads))) for piece in part]
            else:
                models = [(part, side_by_side(graph, part, self.shapes(names)))]
            for some, model in models:
                found = self._found(model, names)
                if found is None and len(some) > 1:
                    # One that cannot be by itself is not to take the others with it.
                    yield from (pair for piece in some for pair in self.run([piece]))
                    continue
                if found is None:
                    continue
                for number, piece in enumerate(some):
                    end = found.get(end_of(piece, number), found.get(piece.site.tap))
                    if end is not None:
                        yield piece, piece.site.read(end)

    def _found(self, model: "onnx.ModelProto", names: Sequence[str]) -> Arrays | None:
        self.runs += 1
        try:
            return self.subject.run(model, self.values(names), self.total)
        except (ArtifactError, FeedError):
            return None

    def _bytes(self, piece: Piece) -> int:
        read = sum(value.nbytes for value in self.values(piece.reads).values())
        return read + self.store.get(piece.site.value).nbytes

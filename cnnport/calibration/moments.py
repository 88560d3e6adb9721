"""Moments of what products multiply their weights with, from a run of the float network over samples.

The mean is that of every position, padding included. A gram matrix of K columns takes K^2 operations for each column
that it is fed, so it is of some positions of each sample only: evenly spread ones, at places that differ from sample
to sample, and in all about ``_TIMES`` as many as there are columns. Beyond that it would hardly know more.

Matrices are added up for some products at a time, in as many runs as that takes, and given out in float32: those of
a ResNet-50 are half a gigabyte.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from cnnport.calibration.prepare import Prepared, prepare
from cnnport.calibration.samples import Feeds, Samples
from cnnport.errors import CheckFailedError, CnnportError, FeedError, ImageError, UnknownNameError
from cnnport.graphs import protos
from cnnport.graphs.quantize.moments import InputMoments, Unfolding, unfolded_size
from cnnport.graphs.quantize.plan import name_of
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime

if TYPE_CHECKING:
    import onnx

MOST_COLUMNS = 6144
"""Products with more columns to a group get no gram: to round by one of these takes more than a gigabyte."""

_SEED = 0
_TIMES = 4
_LEAST_POSITIONS = 4096
# Of sums that are held at a time, and of columns that wait to be multiplied.
_SUMS_BYTES = 2**29
_WAITING_BYTES = 2**24
_MOST_WAITING = 1024


def input_moments(
    model: "Path | onnx.ModelProto",
    samples: Samples,
    nodes: Collection[str],
    *,
    count: int | None = None,
    gram: bool = False,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, InputMoments]:
    """Run a float32 network over samples on ONNX Runtime and find moments of the inputs of products.

    Args:
        model: A file, or a model with all its weights, which is not changed.
        samples: Inputs. Those that cannot be read are left out.
        nodes: Names of products, as ``graphs.quantize.plan.name_of`` gives them.
        count: So many samples, the first ones; None for all.
        gram: Whether to find second moments as well, of products with up to ``MOST_COLUMNS`` columns.
        threads: As ``Options.threads``.
        on_progress: Told how many samples are done and how many there are, over all runs.

    Returns:
        By the names of the nodes, in the order of the graph. A ConvTranspose has none; see ``unfolded_size``.

    Raises:
        UnknownNameError: If the main graph has no such node.
        CnnportError: If a node is no product with constant weights, or no sample can be read.
        ArtifactError: If the model is quantized already, or cannot be run.
        FeedError: If a sample does not fit the model or holds NaN.
        CheckFailedError: If an input of a product becomes NaN or infinite.
        RuntimeMissingError: If onnxruntime is not installed.
    """
    runtime = require_runtime("ort-cpu")
    total = len(samples) if count is None else min(count, len(samples))
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        prepared = prepare(model, samples, (), Path(name))
        products = _products(prepared, nodes, total, gram=gram)
        turns = list(_turns(products))
        for turn, each in enumerate(turns):
            tapped = _tapped(prepared, [product.source for product in each])

            def report(done: int, turn: int = turn) -> None:
                on_progress(turn * total + done, len(turns) * total)

            with runtime.open(tapped.artifact, Options(threads=threads)) as session:
                for names, feeds in _batches(tapped, samples, total, report):
                    values = {**session.run(feeds), **feeds}
                    fed = len(next(iter(feeds.values())))
                    for product in each:
                        found = values[product.source]
                        product.add(found[: len(names)] if len(found) == fed else found, names)
            for product in each:
                product.finish()
    return {product.name: product.moments for product in products}


@dataclass(eq=False)
class _Product:
    """One product, and the sums over its unfolded input.

    Attributes:
        name: Of the node.
        source: Name of its input.
        unfolding: How its input is unfolded.
        positions: How many of each sample go into the gram; 0 for none.
        number: Its place in the graph, which makes its choice of positions its own.
    """

    name: str
    source: str
    unfolding: Unfolding
    positions: int
    number: int
    moments: InputMoments = field(init=False)

    def __post_init__(self) -> None:
        groups, columns = self.unfolding.groups, self.unfolding.columns
        self._sum = np.zeros((groups, columns))
        self._seen = 0
        self._rows = 0
        self._gram = np.zeros((0, 0, 0))
        self._counted = 0
        self._waiting: list[NDArray[np.float32]] = []
        self._most_waiting = max(64, min(_MOST_WAITING, _WAITING_BYTES // (4 * groups * columns)))

    @property
    def sums_bytes(self) -> int:
        """Of the gram while it is added up."""
        return 8 * self.unfolding.groups * self.unfolding.columns**2 if self.positions else 0

    def add(self, found: NDArray[Any], names: Sequence[str]) -> None:
        """Take in the inputs of some samples. Raises ``CheckFailedError`` for one that is not finite."""
        maps = self.unfolding.padded(found.astype(np.float32, copy=False))
        sums = self.unfolding.sums(maps)
        if not np.isfinite(sums).all():
            where = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
            raise CheckFailedError(f"value {self.source!r} becomes NaN or infinite for {where}")
        each = self.unfolding.count(maps.shape[2:])
        self._sum += sums
        self._seen += each * len(maps)
        for one in maps if self.positions else ():
            rng = np.random.default_rng([_SEED, self.number, self._rows])
            self._rows += 1
            self._waiting.append(self.unfolding.columns_at(one, _spread(each, self.positions, rng)))
            if sum(part.shape[1] for part in self._waiting) >= self._most_waiting:
                self._multiply()

    def finish(self) -> None:
        """Make moments of the sums, and let go of them."""
        self._multiply()
        gram = None
        if self.positions:
            gram = (self._gram / max(self._counted, 1)).astype(np.float32)
        self.moments = InputMoments(self._sum / max(self._seen, 1), gram)
        self._gram = np.zeros((0, 0, 0))

    def _multiply(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting, axis=1)
        self._waiting = []
        if not self._gram.size:
            self._gram = np.zeros((rows.shape[0], rows.shape[2], rows.shape[2]))
        for group, part in enumerate(rows):
            # Of an array with itself: BLAS computes one half.
            self._gram[group] += part.T @ part
        self._counted += rows.shape[1]


def _spread(total: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """As many places of so many, one out of each of equal parts; all if there are no more."""
    if wanted >= total:
        return np.arange(total)
    edges = np.arange(wanted + 1) * total // wanted
    return rng.integers(edges[:-1], edges[1:])


def _products(prepared: Prepared, nodes: Collection[str], total: int, *, gram: bool) -> list[_Product]:
    """Those that are asked for, in the graph's order. Raises ``CnnportError``."""
    import onnx

    path = prepared.artifact.path
    graph = protos.read(onnx.load(path, load_external_data=False), path.parent).graph
    known = {name_of(node): (number, node) for number, node in enumerate(graph)}
    if unknown := sorted(set(nodes) - set(known)):
        raise UnknownNameError(f"no node is called {unknown[0]!r}")
    found = []
    for name, (number, node) in known.items():
        if name not in nodes or node.op_type == "ConvTranspose":
            continue
        size, source = unfolded_size(node), node.inputs[0] if node.inputs else None
        if size is None or source is None or not source.name or source.dtype != ir.DataType.FLOAT:
            raise CnnportError(
                f"{node.op_type} {name} is no product of float32 numbers with constant weights: its inputs have no "
                "moments"
            )
        _, columns = size
        wanted = max(_TIMES * columns, _LEAST_POSITIONS)
        positions = -(-wanted // max(total, 1)) if gram and columns <= MOST_COLUMNS else 0
        found.append(_Product(name, source.name, Unfolding.of(node), positions, number))
    return found


def _turns(products: Sequence[_Product]) -> Iterator[list[_Product]]:
    """Products whose sums fit into memory together."""
    turn: list[_Product] = []
    for product in products:
        if turn and sum(each.sums_bytes for each in (*turn, product)) > _SUMS_BYTES:
            yield turn
            turn = []
        turn.append(product)
    if turn:
        yield turn


def _tapped(prepared: Prepared, values: Collection[str]) -> Prepared:
    """The same model, which gives out these values and, if any is computed, nothing else: the rest is not run."""
    import onnx

    path = prepared.artifact.path
    model = onnx.load(path, load_external_data=False)
    inputs = {value.name for value in model.graph.input}
    if not inputs.issuperset(values):
        del model.graph.output[:]
    for value in dict.fromkeys(values):
        if value not in inputs:
            model.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    tapped = path.with_name("tapped.onnx")
    tapped.write_bytes(model.SerializeToString())
    return Prepared(read_artifact(tapped), (), prepared.key, prepared.batch, prepared.is_fixed)


def _batches(
    prepared: Prepared, samples: Samples, total: int, on_progress: Callable[[int], None]
) -> Iterator[tuple[list[str], Feeds]]:
    """Names and feeds of the samples that can be read. A model of a fixed batch is fed full ones."""
    is_any = False
    reason = "there are none"
    for start in range(0, total, prepared.batch):
        stop = min(start + prepared.batch, total)
        names, parts = [], []
        for place in range(start, stop):
            try:
                parts.append(samples.load(place))
            except ImageError as error:
                reason = str(error)
                continue
            names.append(samples.name(place))
        if parts:
            is_any = True
            for name, part in zip(names, parts, strict=True):
                if any(part[key].shape != array.shape for key, array in parts[0].items()):
                    raise FeedError(f"{name} is of another size than {names[0]}")
            surplus = prepared.batch - len(parts) if prepared.is_fixed else 0
            parts += parts[:1] * surplus
            yield names, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        on_progress(stop)
    if not is_any:
        raise CnnportError(f"none of the samples can be read: {reason}")

"""The run over the data: once, in bounded memory, kept, and taken up again where it was cut off."""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnport.calibration.calibration import Calibration, Counter, Skipped
from cnnport.calibration.prepare import Prepared, prepare
from cnnport.calibration.samples import Feeds, Samples, digest
from cnnport.calibration.taps import SAMPLE, Tap
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, FeedError, ImageError
from cnnport.files import cache_root
from cnnport.runtimes import Options, Session, require_runtime
from cnnport.runtimes.engine_cache import Slot

if TYPE_CHECKING:
    import onnx

_FORMAT = "1"
_SAVE_S = 10.0


def calibrate(
    model: "Path | onnx.ModelProto",
    samples: Samples,
    values: Collection[str] | None = None,
    *,
    threads: int | None = None,
    cache: bool = True,
    save_every_s: float = _SAVE_S,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Calibration:
    """Run a float32 network over samples on ONNX Runtime and note what its values are.

    What was found is kept in the user's cache, by all that it depends on, and taken from there the next time. A run
    that is killed loses the work of a few seconds: the next one goes on. Of two that want the same at the same time,
    one works and the other waits.

    Args:
        model: A file, or a model with all its weights, which is not changed.
        samples: Inputs. Those that cannot be read are left out and named in the result.
        values: Names of float32 values of the main graph; None for all of them.
        threads: As ``Options.threads``.
        cache: Whether to look into the cache and to fill it.
        save_every_s: How often the state is written, in seconds.
        on_progress: Told how many samples are done and how many there are.

    Returns:
        The findings, with the values in the order of the graph.

    Raises:
        ArtifactError: If the model is quantized already, or cannot be run.
        UnknownNameError: If the graph has no such value.
        FeedError: If a sample does not fit the model or holds NaN.
        CheckFailedError: If a value becomes NaN or infinite; it is named.
        CnnportError: If no sample can be read.
        RuntimeMissingError: If onnxruntime is not installed.
        OutputError: If the cache cannot be written.
    """
    runtime = require_runtime("ort-cpu")
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        prepared = prepare(model, samples, values, Path(name))
        run = _Run(prepared, samples, on_progress)
        if not cache:
            with runtime.open(prepared.artifact, Options(threads=threads)) as session:
                for _ in run.batches(session):
                    pass
            return run.result()
        slot = Slot(
            cache_root() / "calibrations",
            "calibration",
            {
                "format": _FORMAT,
                "model": prepared.key,
                "samples": samples.key,
                "values": digest([tap.value for tap in prepared.taps]),
                "counted": str(SAMPLE),
                "batch": str(prepared.batch),
                "runtime": runtime.version(),
            },
            ".npz",
        )
        with slot.held():
            if run.resume(slot):
                return run.result()
            with runtime.open(prepared.artifact, Options(threads=threads)) as session:
                saved = time.monotonic()
                for _ in run.batches(session):
                    if time.monotonic() - saved >= save_every_s:
                        run.save(slot)
                        saved = time.monotonic()
            run.save(slot)
    return run.result()


class _Run:
    """The state of one run: what was found in the batches that are done."""

    def __init__(self, prepared: Prepared, samples: Samples, on_progress: Callable[[int, int], None]) -> None:
        self._prepared = prepared
        self._samples = samples
        self._on_progress = on_progress
        self._counters = {tap.value: Counter() for tap in prepared.taps}
        self._skipped: list[Skipped] = []
        self._count = 0
        self._done = 0
        self._batches = -(-len(samples) // prepared.batch)

    def result(self) -> Calibration:
        """What was found so far."""
        return Calibration(
            {name: counter.statistics for name, counter in self._counters.items()},
            self._samples.description,
            self._count,
            tuple(self._skipped),
            self._samples.is_random,
        )

    def save(self, slot: Slot) -> None:
        """Keep the state. Raises ``OutputError``."""
        slot.write(self.result().to_bytes(), {"done": str(self._done), "batches": str(self._batches)})

    def resume(self, slot: Slot) -> bool:
        """Take up what is kept, if anything is; whether nothing is left to do."""
        entry = slot.read()
        if entry is None:
            return False
        try:
            found = Calibration.from_bytes(entry.data)
            done = int(entry.notes["done"])
        except (ArtifactError, KeyError, ValueError):
            return False
        if list(found.statistics) != list(self._counters) or not 0 < done <= self._batches:
            return False
        self._counters = {
            name: Counter(entry.low, entry.high, entry.histogram) for name, entry in found.statistics.items()
        }
        self._skipped, self._count, self._done = list(found.skipped), found.count, done
        self._on_progress(min(done * self._prepared.batch, len(self._samples)), len(self._samples))
        return done == self._batches

    def batches(self, session: Session) -> Iterator[None]:
        """Run what is left; gives control back after each batch. One is counted while the next one runs."""
        batch = self._prepared.batch
        with _loading(self._samples, self._done, batch) as following, ThreadPoolExecutor(1) as executor:
            ahead = executor.submit(self._answer, session, following, self._done)
            while self._done < self._batches:
                answer = ahead.result()
                if self._done + 1 < self._batches:
                    ahead = executor.submit(self._answer, session, following, self._done + 1)
                self._count_in(answer)
                self._done += 1
                self._on_progress(min(self._done * batch, len(self._samples)), len(self._samples))
                yield
        if not self._count:
            raise CnnportError(f"none of the samples can be read: {self._skipped[0].reason}")

    def _answer(
        self, session: Session, following: Callable[[], Feeds | ImageError], number: int
    ) -> "_Answer":
        """Load one batch and run it; changes nothing of what was found."""
        start = number * self._prepared.batch
        loaded, skipped = [], []
        for place in range(start, min(start + self._prepared.batch, len(self._samples))):
            name, sample = self._samples.name(place), following()
            if isinstance(sample, ImageError):
                skipped.append(Skipped(name, str(sample)))
            else:
                loaded.append((name, sample))
        names = [name for name, _ in loaded]
        if not loaded:
            return _Answer(names, skipped, {}, 0)
        # A model of a fixed batch is fed full ones; what comes of the surplus is cut off.
        surplus = self._prepared.batch - len(loaded) if self._prepared.is_fixed else 0
        parts = [feeds for _, feeds in loaded] + [loaded[0][1]] * surplus
        sizes = [{key: array.shape for key, array in part.items()} for part in parts]
        for name, size in zip(names, sizes, strict=False):
            if size != sizes[0]:
                raise FeedError(f"{name} is of another size than {names[0]}")
        feeds = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return _Answer(names, skipped, {**session.run(feeds), **feeds}, len(parts))

    def _count_in(self, answer: "_Answer") -> None:
        """Add what one batch shows. Raises ``CheckFailedError`` for a value that is not finite."""
        self._skipped += answer.skipped
        names = answer.names
        for tap in self._prepared.taps if names else ():
            if not self._note(tap, answer.values, answer.fed, len(names)):
                where = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
                raise CheckFailedError(
                    f"value {tap.value!r} becomes NaN or infinite for {where}: no range can be found for it"
                )
        self._count += len(names)

    def _note(self, tap: Tap, found: Feeds, fed: int, rows: int) -> bool:
        """Count what one run shows of a value; False if it is not finite."""

        def read(name: str) -> NDArray[np.float32]:
            array = found[name]
            if array.dtype != np.float32:
                raise ArtifactError(f"value {name!r} is {array.dtype}: only float32 is calibrated")
            numbers = np.asarray(array, np.float32)
            return numbers[:rows] if numbers.shape[:1] == (fed,) else numbers

        counter = self._counters[tap.value]
        if tap.whole is not None:
            array = read(tap.whole)
            if not array.size:
                return True
            low, high, sample = float(array.min()), float(array.max()), _sampled(array)
        else:
            assert tap.greatest is not None
            assert tap.mean is not None
            assert tap.sample is not None
            if not np.isfinite(found[tap.mean]).all():
                return False
            low = float(found[tap.least].min()) if tap.least is not None else 0.0
            high, sample = float(read(tap.greatest).max()), read(tap.sample)
        counter.reach(low, high)
        counter.histogram.add(sample)
        return bool(np.isfinite([low, high]).all()) and not counter.histogram.not_finite


@dataclass(frozen=True)
class _Answer:
    """Of one batch.

    Attributes:
        names: Of the samples that were run.
        skipped: Those that could not be read.
        values: Inputs and outputs by name.
        fed: Size of the batch, what fills it up included.
    """

    names: list[str]
    skipped: list[Skipped]
    values: Feeds
    fed: int


def _sampled(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """About ``SAMPLE`` numbers of each row, evenly spread: the step has no divisor in common with any dimension."""
    rows = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
    step = -(-rows.shape[1] // SAMPLE)
    while any(np.gcd(step, size) > 1 for size in array.shape[1:] if step > 1):
        step += 1
    return rows[:, ::step]


@contextmanager
def _loading(samples: Samples, done: int, batch: int) -> Iterator[Callable[[], Feeds | ImageError]]:
    """Load samples beside the run, two batches ahead: gives what gives each in turn, or why it cannot be read."""
    ahead: deque[Future[Feeds]] = deque()
    places = iter(range(done * batch, len(samples)))
    with ThreadPoolExecutor(1) as executor:

        def fill() -> None:
            while len(ahead) < 2 * batch and (place := next(places, None)) is not None:
                ahead.append(executor.submit(partial(samples.load, place)))

        def following() -> Feeds | ImageError:
            fill()
            try:
                return ahead.popleft().result()
            except ImageError as error:
                return error
            finally:
                fill()

        try:
            yield following
        finally:
            for future in ahead:
                future.cancel()

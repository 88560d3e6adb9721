"""One case, measured: raw samples by rounds, and every figure that follows from them.

Definitions, the same everywhere in cnnport:

- Percentiles interpolate linearly between the two nearest samples: NumPy's default, to the last bit.
- The standard deviation is that of the samples themselves (divided by n), as NumPy's default is.
- Throughput is images per second. With one request in flight it is that of a caller who sends a batch as soon as the
  last one has come back: batch divided by the mean latency. With several it is counted: images of all runs that were
  begun in time, divided by the time until the last of them came back.
- Load and build time are the median over the rounds, memory is the maximum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from cnnport.measuring.fields import Json, RecordError, count, number, rows, take, texts
from cnnport.measuring.rounds import Round, Warmup
from cnnport.measuring.statistics import Interval, interval_of, percentile

__all__ = ["CUDA_EVENTS", "PERCENTILES", "WALL", "Measurement", "Round", "Warmup"]

PERCENTILES = (50, 90, 95, 99)

WALL = "wall"
CUDA_EVENTS = "cuda-events"


@dataclass(frozen=True)
class Measurement:
    """One case, measured.

    Attributes:
        model: Name of the network.
        runtime: Name of the runtime.
        precision: ``fp32``, ``fp16`` or ``int8``.
        batch: Images per run.
        threads: Threads inside one run.
        rounds: At least one, each with at least one sample.
        weights: Kind of the weights, as the file says; ``unknown`` where it does not.
        sha256: Of the ONNX file.
        cpus: What the process was pinned to; empty where the platform cannot pin.
        runtime_version: Name and version of the package behind the runtime.
        device: What it ran on.
        settings: What was chosen of what the runtime offers, by name, and ``deterministic`` where it was asked for.
        concurrency: Requests in flight.
        clock: What took the time: ``wall``, or ``cuda-events``, which are the device's own.
        transfers: Whether copies of inputs to the device and of outputs back are in the samples.
        file: Where the file lay.
    """

    model: str
    runtime: str
    precision: str
    batch: int
    threads: int
    rounds: tuple[Round, ...]
    weights: str = "unknown"
    sha256: str = ""
    cpus: tuple[int, ...] = ()
    runtime_version: str = ""
    device: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    concurrency: int = 1
    clock: str = WALL
    transfers: bool = False
    file: str = ""

    def __post_init__(self) -> None:
        if not self.rounds or not all(entry.samples_s for entry in self.rounds):
            raise ValueError(f"{self.model} on {self.runtime}: a measurement has samples in every round")

    @cached_property
    def samples_s(self) -> tuple[float, ...]:
        """The raw samples of all rounds, in order."""
        return tuple(sample for entry in self.rounds for sample in entry.samples_s)

    @cached_property
    def _ordered_s(self) -> tuple[float, ...]:
        return tuple(sorted(self.samples_s))

    def percentile_s(self, q: float) -> float:
        """The latency that ``q`` per cent of the runs do not exceed, interpolated linearly."""
        return percentile(self._ordered_s, q)

    @property
    def p50_s(self) -> float:
        """Median latency."""
        return self.percentile_s(50)

    @property
    def p90_s(self) -> float:
        """90th percentile of the latency."""
        return self.percentile_s(90)

    @property
    def p95_s(self) -> float:
        """95th percentile of the latency."""
        return self.percentile_s(95)

    @property
    def p99_s(self) -> float:
        """99th percentile of the latency."""
        return self.percentile_s(99)

    @property
    def min_s(self) -> float:
        """The fastest run."""
        return self._ordered_s[0]

    @property
    def max_s(self) -> float:
        """The slowest run."""
        return self._ordered_s[-1]

    @cached_property
    def mean_s(self) -> float:
        """Mean latency."""
        return math.fsum(self.samples_s) / len(self.samples_s)

    @cached_property
    def std_s(self) -> float:
        """Standard deviation of the latency."""
        mean = self.mean_s
        return math.sqrt(math.fsum((sample - mean) ** 2 for sample in self.samples_s) / len(self.samples_s))

    @cached_property
    def p50_interval_s(self) -> Interval:
        """Where the median lies, as far as the rounds tell; see ``statistics``."""
        return interval_of([entry.samples_s for entry in self.rounds], "p50")

    @cached_property
    def throughput(self) -> float:
        """Images per second. Infinite if every run was too short for the clock."""
        elapsed_s = [entry.elapsed_s for entry in self.rounds]
        if self.concurrency > 1 and None not in elapsed_s:
            seconds = math.fsum(each or 0.0 for each in elapsed_s) / len(self.samples_s)
        else:
            seconds = self.mean_s / self.concurrency
        return self.batch / seconds if seconds else math.inf

    @property
    def times(self) -> str:
        """What a sample is, in words."""
        if self.clock != CUDA_EVENTS:
            return "from the call of a run until it has finished, by the host's clock; inputs lie where it reads them"
        copies = (
            "with the copies of inputs to the device and of outputs back"
            if self.transfers
            else "without copies"
        )
        return f"between CUDA events around a run on the device, {copies}"

    @property
    def load_s(self) -> float:
        """Seconds to open the session: the median of the rounds."""
        return median(entry.load_s for entry in self.rounds)

    @property
    def build_s(self) -> float:
        """Seconds of compiling: the median of the rounds."""
        return median(entry.build_s for entry in self.rounds)

    @property
    def peak_memory_bytes(self) -> int:
        """The largest resident set of any round's process."""
        return max(entry.peak_memory_bytes for entry in self.rounds)

    @property
    def session_memory_bytes(self) -> int | None:
        """The most that the session itself added in any round."""
        return max(
            (each.session_memory_bytes for each in self.rounds if each.session_memory_bytes is not None),
            default=None,
        )

    @property
    def device_memory_bytes(self) -> int | None:
        """The most of the device's memory that was in use in any round."""
        return max(
            (each.device_memory_bytes for each in self.rounds if each.device_memory_bytes is not None),
            default=None,
        )

    @cached_property
    def round_medians_s(self) -> tuple[float, ...]:
        """Median latency of each round: how far they lie apart says how far the figures can be trusted."""
        return tuple(percentile(tuple(sorted(entry.samples_s)), 50) for entry in self.rounds)

    @property
    def latency_s(self) -> dict[str, float]:
        """The figures of the field by name: mean, p50, p90, p95, p99, min, max, std."""
        return {
            "mean": self.mean_s,
            **{f"p{q}": self.percentile_s(q) for q in PERCENTILES},
            "min": self.min_s,
            "max": self.max_s,
            "std": self.std_s,
        }

    def to_json(self) -> Json:
        """The row as the command line prints it."""
        interval = self.p50_interval_s
        return {
            "model": self.model,
            "runtime": self.runtime,
            "precision": self.precision,
            "batch": self.batch,
            "threads": self.threads,
            "concurrency": self.concurrency,
            "weights": self.weights,
            "sha256": self.sha256,
            "file": self.file,
            # Six digits of a millisecond are the clock's nanosecond.
            "latency_ms": {name: _milliseconds(value) for name, value in self.latency_s.items()},
            "p50_interval_ms": {
                "low": _milliseconds(interval.low),
                "high": _milliseconds(interval.high),
                "confidence": interval.confidence,
            },
            "throughput": self.throughput if math.isfinite(self.throughput) else None,
            "clock": self.clock,
            "transfers": self.transfers,
            "times": self.times,
            "load_s": self.load_s,
            "build_s": self.build_s,
            "peak_memory_bytes": self.peak_memory_bytes,
            "session_memory_bytes": self.session_memory_bytes,
            "device_memory_bytes": self.device_memory_bytes,
            "cpus": list(self.cpus),
            "runtime_version": self.runtime_version,
            "device": self.device,
            "settings": dict(self.settings),
            "rounds": [entry.to_json() for entry in self.rounds],
            "samples_s": list(self.samples_s),
        }

    @classmethod
    def from_json(cls, row: Json) -> "Measurement":
        """Read a row; the figures that follow from the samples are computed again. Raises ``RecordError``."""
        samples_s = tuple(number(sample, "samples_s") for sample in take(row, "samples_s", list))
        if not samples_s:
            raise RecordError("'samples_s' is empty")
        return cls(
            model=take(row, "model", str),
            runtime=take(row, "runtime", str),
            precision=take(row, "precision", str),
            batch=take(row, "batch", int),
            threads=take(row, "threads", int),
            rounds=_rounds(row, samples_s),
            weights=take(row, "weights", str, "unknown"),
            sha256=take(row, "sha256", str, ""),
            cpus=tuple(count(cpu, "cpus") for cpu in take(row, "cpus", list, [])),
            runtime_version=take(row, "runtime_version", str, ""),
            device=take(row, "device", str, ""),
            settings=texts(row, "settings"),
            concurrency=take(row, "concurrency", int, 1),
            clock=take(row, "clock", str, WALL),
            transfers=take(row, "transfers", bool, False),
            file=take(row, "file", str, ""),
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 6)


def _rounds(row: Json, samples_s: tuple[float, ...]) -> tuple[Round, ...]:
    """Cut the samples into their rounds; a row that does not say how is one round."""
    whole = {"samples": len(samples_s), **{name: row.get(name) for name in ("load_s", "peak_memory_bytes")}}
    found = []
    position = 0
    for entry in rows(row, "rounds") or [whole]:
        length = count(entry.get("samples"), "samples")
        found.append(Round.from_json(entry, samples_s[position : position + length]))
        position += length
    if position != len(samples_s) or not all(entry.samples_s for entry in found):
        raise RecordError("'rounds' does not fit 'samples_s'")
    return tuple(found)

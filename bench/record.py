"""What a benchmark leaves behind: measurements with raw samples, skipped cases, environment; also as JSON.

Definitions, the same everywhere in cnnport:

- Percentiles interpolate linearly between the two nearest samples: NumPy's default, to the last bit.
- The standard deviation is that of the samples themselves (divided by n), as NumPy's default is.
- Throughput is images per second of one caller who sends a batch as soon as the last one has come back: batch
  divided by the mean latency.
- Load time is the median over the rounds, peak memory the maximum.

Readers ignore fields that they do not know, so fields may be added.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from cnnport.errors import CnnportError

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

PERCENTILES = (50, 90, 95, 99)


class RecordError(CnnportError):
    """A file is not a benchmark record that can be read."""


def percentile(ordered: tuple[float, ...], q: float) -> float:
    """The ``q``-th percentile of samples in ascending order, interpolated linearly.

    Args:
        ordered: At least one sample.
        q: Between 0 and 100.
    """
    position = (len(ordered) - 1) * (q / 100)
    below = math.floor(position)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = position - below
    # From the nearer end, as NumPy does, so that the result is exact at both.
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


@dataclass(frozen=True)
class Round:
    """What one process measured of one case.

    Attributes:
        samples_s: Latency of every run, in order.
        load_s: Seconds to open the session; imports are not in it.
        peak_memory_bytes: The largest resident set that the process had, Python and the runtime's code
            included; 0 where the system does not tell.
    """

    samples_s: tuple[float, ...]
    load_s: float = 0.0
    peak_memory_bytes: int = 0


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

    @property
    def throughput(self) -> float:
        """Images per second. Infinite if every run was too short for the clock."""
        return self.batch / self.mean_s if self.mean_s else math.inf

    @property
    def load_s(self) -> float:
        """Seconds to open the session: the median of the rounds."""
        return median(entry.load_s for entry in self.rounds)

    @property
    def peak_memory_bytes(self) -> int:
        """The largest resident set of any round's process."""
        return max(entry.peak_memory_bytes for entry in self.rounds)

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
        return {
            "model": self.model,
            "runtime": self.runtime,
            "precision": self.precision,
            "batch": self.batch,
            "threads": self.threads,
            "weights": self.weights,
            "sha256": self.sha256,
            # Six digits of a millisecond are the clock's nanosecond.
            "latency_ms": {name: round(value * 1e3, 6) for name, value in self.latency_s.items()},
            "throughput": self.throughput if math.isfinite(self.throughput) else None,
            "load_s": self.load_s,
            "peak_memory_bytes": self.peak_memory_bytes,
            "cpus": list(self.cpus),
            "runtime_version": self.runtime_version,
            "device": self.device,
            "settings": dict(self.settings),
            "rounds": [
                {
                    "samples": len(entry.samples_s),
                    "load_s": entry.load_s,
                    "peak_memory_bytes": entry.peak_memory_bytes,
                }
                for entry in self.rounds
            ],
            "samples_s": list(self.samples_s),
        }

    @classmethod
    def from_json(cls, row: Json) -> "Measurement":
        """Read a row; the figures that follow from the samples are computed again. Raises ``RecordError``."""
        samples_s = tuple(_number(sample, "samples_s") for sample in _take(row, "samples_s", list))
        if not samples_s:
            raise RecordError("'samples_s' is empty")
        return cls(
            model=_take(row, "model", str),
            runtime=_take(row, "runtime", str),
            precision=_take(row, "precision", str),
            batch=_take(row, "batch", int),
            threads=_take(row, "threads", int),
            rounds=_rounds(row, samples_s),
            weights=_take(row, "weights", str, "unknown"),
            sha256=_take(row, "sha256", str, ""),
            cpus=tuple(_count(cpu, "cpus") for cpu in _take(row, "cpus", list, [])),
            runtime_version=_take(row, "runtime_version", str, ""),
            device=_take(row, "device", str, ""),
            settings=_settings(row),
        )


@dataclass(frozen=True)
class Skipped:
    """One case that was not measured, and why.

    Attributes:
        model: Name of the network.
        runtime: Name of the runtime.
        reason: In one line.
        precision: As of a measurement; None where it is not known.
        batch: As of a measurement.
        threads: As of a measurement.
        weights: As of a measurement.
        exit_code: What a command ends with that was asked for this case alone: 3 if the runtime is not
            available, 2 if the file and the case do not fit, 1 if the run failed.
        settings: As of a measurement.
    """

    model: str
    runtime: str
    reason: str
    precision: str | None = None
    batch: int | None = None
    threads: int | None = None
    weights: str = "unknown"
    exit_code: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Json:
        """The row as the command line prints it."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Json) -> "Skipped":
        """Read a row. Raises ``RecordError``."""
        return cls(
            model=_take(row, "model", str),
            runtime=_take(row, "runtime", str),
            reason=_take(row, "reason", str),
            precision=_take(row, "precision", str, None),
            batch=_take(row, "batch", int, None),
            threads=_take(row, "threads", int, None),
            weights=_take(row, "weights", str, "unknown"),
            exit_code=_take(row, "exit_code", int, 1),
            settings=_settings(row),
        )


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a benchmark; None or empty where it could not be read.

    Attributes:
        date_utc: When the benchmark began, ISO 8601.
        cpu_model: As the CPU calls itself.
        cpu_flags: Those instruction sets that decide which kernels run; ``hypervisor`` in a virtual machine.
        cores_physical: Cores of the machine.
        cores_logical: CPUs of the machine, hardware threads counted.
        cpus_allowed: The CPUs that the benchmark was allowed to use.
        cpu_quota: CPUs' worth of time that a container was limited to.
        governor: Of the frequency of the first allowed CPU.
        frequency_mhz: Of the first allowed CPU, at the start.
        frequency_max_mhz: The most that this CPU can do.
        load_average_start: One-minute load average before the first case.
        load_average_end: After the last one.
        memory_bytes: Of the machine.
        memory_available_bytes: At the start.
        os: Name and version of the distribution.
        kernel: Name and release.
        machine: Architecture.
        python: Implementation and version.
        packages: Versions by name, of those that are installed.
    """

    date_utc: str = ""
    cpu_model: str = ""
    cpu_flags: tuple[str, ...] = ()
    cores_physical: int | None = None
    cores_logical: int | None = None
    cpus_allowed: tuple[int, ...] = ()
    cpu_quota: float | None = None
    governor: str | None = None
    frequency_mhz: float | None = None
    frequency_max_mhz: float | None = None
    load_average_start: float | None = None
    load_average_end: float | None = None
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    os: str = ""
    kernel: str = ""
    machine: str = ""
    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Json:
        """All fields by name."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
        } | {"packages": dict(self.packages)}

    @classmethod
    def from_json(cls, row: Json) -> "Environment":
        """Read the fields that there are. Raises ``RecordError``."""
        values: Json = {}
        for entry in fields(cls):
            if row.get(entry.name) is None:
                continue
            if entry.name == "cpu_flags":
                values[entry.name] = tuple(
                    _take({"": flag}, "", str) for flag in _take(row, entry.name, list)
                )
            elif entry.name == "cpus_allowed":
                values[entry.name] = tuple(_count(cpu, entry.name) for cpu in _take(row, entry.name, list))
            elif entry.name == "packages":
                values[entry.name] = _take(row, entry.name, dict)
            elif entry.type == (int | None):
                values[entry.name] = _take(row, entry.name, int)
            elif entry.type == (float | None):
                values[entry.name] = _number(row[entry.name], entry.name)
            else:
                values[entry.name] = _take(row, entry.name, str)
        return cls(**values)


@dataclass(frozen=True)
class Results:
    """All that one benchmark found: every case is in ``results`` or ``skipped``, in the order asked for."""

    environment: Environment
    results: tuple[Measurement, ...]
    skipped: tuple[Skipped, ...] = ()

    def to_json(self) -> Json:
        """The document that ``cnnport bench --json`` prints."""
        return {
            "environment": self.environment.to_json(),
            "results": [entry.to_json() for entry in self.results],
            "skipped": [entry.to_json() for entry in self.skipped],
        }

    @classmethod
    def from_json(cls, document: Any) -> "Results":
        """Read a document. Raises ``RecordError``."""
        if not isinstance(document, dict):
            raise RecordError("the document is not an object")
        return cls(
            environment=Environment.from_json(_take(document, "environment", dict, {})),
            results=tuple(Measurement.from_json(row) for row in _rows(document, "results")),
            skipped=tuple(Skipped.from_json(row) for row in _rows(document, "skipped")),
        )


def json_text(results: Results) -> str:
    """The JSON document as it is written to files: one row a line, which is short and good to grep."""
    document = results.to_json()
    lists = [
        f'"{name}": [' + ",".join(f"\n{json.dumps(row)}" for row in document[name]) + "\n]"
        for name in ("results", "skipped")
    ]
    return (
        "{\n"
        + ",\n".join([f'"environment": {json.dumps(document["environment"], indent=1)}', *lists])
        + "\n}\n"
    )


def read_results(path: Path) -> Results:
    """Read the JSON file of an earlier benchmark.

    Raises:
        RecordError: If there is no such file, or it is damaged, or something else.
    """
    try:
        return Results.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON, or is damaged: {error}") from error
    except RecordError as error:
        raise RecordError(f"{path} is not a cnnport benchmark: {error}") from error


_REQUIRED = object()


def _take(row: Json, name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A field of a stated type. A field that may be absent may also be null. Raises ``RecordError``."""
    value = row.get(name)
    if value is None and default is not _REQUIRED:
        return default
    # JSON's true is an int to Python.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RecordError(f"{name!r} is missing or not of type {kind.__name__}")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise RecordError(f"{name!r} holds {value!r}, which is not a number of at least 0")
    return float(value)


def _count(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecordError(f"{name!r} holds {value!r}, which is not a whole number of at least 0")
    return value


def _rows(document: Json, name: str) -> list[Json]:
    rows: list[Json] = _take(document, name, list, [])
    if not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"{name!r} holds something that is not a row")
    return rows


def _settings(row: Json) -> dict[str, str]:
    return {name: str(value) for name, value in _take(row, "settings", dict, {}).items()}


def _rounds(row: Json, samples_s: tuple[float, ...]) -> tuple[Round, ...]:
    """Cut the samples into their rounds; a row that does not say how is one round."""
    entries = _rows(row, "rounds") or [{**row, "samples": len(samples_s)}]
    rounds = []
    position = 0
    for entry in entries:
        count = _count(entry.get("samples"), "samples")
        part = samples_s[position : position + count]
        position += count
        load_s = _number(entry.get("load_s") or 0, "load_s")
        rounds.append(Round(part, load_s, _count(entry.get("peak_memory_bytes") or 0, "peak_memory_bytes")))
    if position != len(samples_s) or not all(entry.samples_s for entry in rounds):
        raise RecordError("'rounds' does not fit 'samples_s'")
    return tuple(rounds)

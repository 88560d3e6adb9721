"""What a benchmark leaves behind: measurements, skipped cases, how and where; also as JSON.

Readers ignore fields that they do not know, so fields may be added.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cnnport.measuring.comparison import Comparison
from cnnport.measuring.fields import (
    Json,
    RecordError,
    count,
    number,
    optional_number,
    read_saved,
    rows,
    take,
    texts,
)
from cnnport.measuring.measurement import Measurement, Round
from cnnport.measuring.statistics import percentile

__all__ = [
    "Environment",
    "Json",
    "Measurement",
    "Method",
    "RecordError",
    "Results",
    "Round",
    "Skipped",
    "json_text",
    "percentile",
    "read_results",
]


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
        concurrency: As of a measurement.
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
    concurrency: int = 1

    def to_json(self) -> Json:
        """The row as the command line prints it."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Json) -> "Skipped":
        """Read a row. Raises ``RecordError``."""
        return cls(
            model=take(row, "model", str),
            runtime=take(row, "runtime", str),
            reason=take(row, "reason", str),
            precision=take(row, "precision", str, None),
            batch=take(row, "batch", int, None),
            threads=take(row, "threads", int, None),
            weights=take(row, "weights", str, "unknown"),
            exit_code=take(row, "exit_code", int, 1),
            settings=texts(row, "settings"),
            concurrency=take(row, "concurrency", int, 1),
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
                values[entry.name] = tuple(take({"": flag}, "", str) for flag in take(row, entry.name, list))
            elif entry.name == "cpus_allowed":
                values[entry.name] = tuple(count(cpu, entry.name) for cpu in take(row, entry.name, list))
            elif entry.name == "packages":
                values[entry.name] = take(row, entry.name, dict)
            elif entry.type == (int | None):
                values[entry.name] = take(row, entry.name, int)
            elif entry.type == (float | None):
                values[entry.name] = number(row[entry.name], entry.name)
            else:
                values[entry.name] = take(row, entry.name, str)
        return cls(**values)


@dataclass(frozen=True)
class Method:
    """How a benchmark was measured: what a second run needs to be the same.

    Attributes:
        rounds: How often each case got a fresh process.
        seed: Of the order of the cases within each round.
        warmup_s: Least seconds of uncounted runs in every process.
        warmup_max_s: Most.
        duration_s: Seconds of counted runs of each case, all rounds together.
        min_iterations: Counted runs in each round at least.
        rule: By which warm-up ends, in words.
        command: Which makes this record again.
        resumed: How often the run was killed, and went on.
    """

    rounds: int = 0
    seed: int = 0
    warmup_s: float = 0.0
    warmup_max_s: float = 0.0
    duration_s: float = 0.0
    min_iterations: int = 0
    rule: str = ""
    command: str = ""
    resumed: int = 0

    def to_json(self) -> Json:
        """All fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Json) -> "Method":
        """Read the fields that there are. Raises ``RecordError``."""
        return cls(
            count(row.get("rounds", 0), "rounds"),
            count(row.get("seed", 0), "seed"),
            optional_number(row, "warmup_s") or 0.0,
            optional_number(row, "warmup_max_s") or 0.0,
            optional_number(row, "duration_s") or 0.0,
            count(row.get("min_iterations", 0), "min_iterations"),
            take(row, "rule", str, ""),
            take(row, "command", str, ""),
            count(row.get("resumed", 0), "resumed"),
        )


@dataclass(frozen=True)
class Results:
    """All that one benchmark found: every case is in ``results`` or ``skipped``, in the order asked for.

    Attributes:
        environment: Of the machine.
        results: The cases that were measured.
        skipped: Those that were not.
        method: How; None in a record that does not say.
        comparisons: With a baseline, where there was one, in the order of the cases.
        baselines: What was measured in turn with the cases, to hold them against.
    """

    environment: Environment
    results: tuple[Measurement, ...]
    skipped: tuple[Skipped, ...] = ()
    method: Method | None = None
    comparisons: tuple[Comparison, ...] = ()
    baselines: tuple[Measurement, ...] = ()

    def to_json(self) -> Json:
        """The document that ``cnnport bench --json`` prints."""
        # Which looks at records itself.
        from cnnport.measuring.cautions import cautions

        document: Json = {
            "environment": self.environment.to_json(),
            "method": self.method and self.method.to_json(),
            "results": [entry.to_json() for entry in self.results],
            "skipped": [entry.to_json() for entry in self.skipped],
            "warnings": [entry.to_json() for entry in cautions(self)],
        }
        if self.comparisons:
            document["comparisons"] = [entry.to_json() for entry in self.comparisons]
            document["baselines"] = [entry.to_json() for entry in self.baselines]
        return document

    @classmethod
    def from_json(cls, document: Any) -> "Results":
        """Read a document; warnings follow from the rest. Raises ``RecordError``."""
        if not isinstance(document, dict):
            raise RecordError("the document is not an object")
        method = take(document, "method", dict, None)
        return cls(
            environment=Environment.from_json(take(document, "environment", dict, {})),
            results=tuple(Measurement.from_json(row) for row in rows(document, "results")),
            skipped=tuple(Skipped.from_json(row) for row in rows(document, "skipped")),
            method=None if method is None else Method.from_json(method),
            comparisons=tuple(Comparison.from_json(row) for row in rows(document, "comparisons")),
            baselines=tuple(Measurement.from_json(row) for row in rows(document, "baselines")),
        )


def json_text(results: Results) -> str:
    """The JSON document as it is written to files: one row a line, which is short and good to grep."""
    document = results.to_json()
    parts = []
    for name, value in document.items():
        if isinstance(value, list):
            parts.append(f'"{name}": [' + ",".join(f"\n{json.dumps(row)}" for row in value) + "\n]")
        else:
            parts.append(f'"{name}": {json.dumps(value, indent=1)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_results(path: Path) -> Results:
    """Read the JSON file of an earlier benchmark.

    Raises:
        RecordError: If there is no such file, or it is damaged, or something else.
    """
    return read_saved(path, Results.from_json, "benchmark")

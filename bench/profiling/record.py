"""What a profile leaves behind, as one JSON document. Readers ignore fields that they do not know."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

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
from cnnport.measuring.record import Environment

VERSION = 1
"""Of the document."""

_KEY = "cnnport_profile"
_BOUNDS = frozenset({"compute", "memory", "overhead"})


@dataclass(frozen=True)
class ProfiledLayer:
    """One kernel of a runtime: what it is of the network, what it takes, and what it could take.

    Attributes:
        name: As the runtime calls it.
        operator: Likewise.
        ms: In one run.
        precision: The type that it computes in; empty where the runtime does not say.
        nodes: Names of the nodes of the file that it runs; none if the runtime made it of its own accord.
        original: Of these before the passes.
        modules: Paths of PyTorch modules; none in files that were not exported from one.
        flops: Operations on paper; None where it is not known.
        bytes: That cross its border on paper; likewise.
        bound: ``compute`` or ``memory``, whichever of the two would take longer on this machine at its measured best;
            ``overhead`` where that explains next to nothing of the time; None where it is not known.
        of_peak: That longer time as a share of the time that it takes; above 1 where data comes out of caches that
            are faster than memory. None where it is not known.
    """

    name: str
    operator: str
    ms: float
    precision: str = ""
    nodes: tuple[str, ...] = ()
    original: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    flops: int | None = None
    bytes: int | None = None
    bound: str | None = None
    of_peak: float | None = None

    @property
    def intensity(self) -> float | None:
        """FLOPs for each byte."""
        return None if self.flops is None or not self.bytes else self.flops / self.bytes

    @property
    def flops_s(self) -> float | None:
        """Operations a second."""
        return None if self.flops is None or not self.ms else self.flops / self.ms * 1e3

    @property
    def bytes_s(self) -> float | None:
        """Bytes a second."""
        return None if self.bytes is None or not self.ms else self.bytes / self.ms * 1e3

    def to_json(self, total_ms: float) -> Json:
        """A row, of a profile that takes so long in all."""
        return {
            "name": self.name,
            "operator": self.operator,
            "ms": round(self.ms, 6),
            "share": round(self.ms / total_ms, 6) if total_ms else 0.0,
            "precision": self.precision,
            "nodes": list(self.nodes),
            "original": list(self.original),
            "modules": list(self.modules),
            "flops": self.flops,
            "bytes": self.bytes,
            "intensity": _rounded(self.intensity),
            "flops_s": _rounded(self.flops_s, 0),
            "bytes_s": _rounded(self.bytes_s, 0),
            "bound": self.bound,
            "of_peak": _rounded(self.of_peak),
        }

    @classmethod
    def from_json(cls, row: Json) -> "ProfiledLayer":
        """Read a row; figures that follow from others are computed again. Raises ``RecordError``."""
        bound = take(row, "bound", str, None)
        if bound is not None and bound not in _BOUNDS:
            raise RecordError(f"'bound' holds {bound!r}, which is none of {', '.join(sorted(_BOUNDS))}")
        return cls(
            name=take(row, "name", str),
            operator=take(row, "operator", str, ""),
            ms=number(row.get("ms"), "ms"),
            precision=take(row, "precision", str, ""),
            nodes=_names(row, "nodes"),
            original=_names(row, "original"),
            modules=_names(row, "modules"),
            flops=None if row.get("flops") is None else count(row["flops"], "flops"),
            bytes=None if row.get("bytes") is None else count(row["bytes"], "bytes"),
            bound=bound,
            of_peak=optional_number(row, "of_peak"),
        )


@dataclass(frozen=True)
class Profile:
    """One file on one runtime, layer by layer.

    Attributes:
        environment: Where it was measured.
        model: Name of the network.
        runtime: Name of the runtime.
        precision: Of the file.
        batch: Images a run.
        threads: Inside one run.
        end_to_end_ms: A run without the profiler: the median of the turns' medians.
        profiled_ms: With it.
        layers: In the order in which they run.
        runtime_version: Name and version of the package behind the runtime.
        device: What it ran on.
        settings: What was chosen of what the runtime offers.
        weights: Kind of the weights, as the file says.
        sha256: Of the file.
        file: Its name.
        command: That measures the same again.
        machine: What the machine can do at most, as it was measured; None where that is not known.
        limits: What limits the model, in sentences.
        notes: What has to be known of the figures, likewise.
        rounds: Processes, with the profiler as many as without.
        noting_ms: That taking note of a kernel added to its time, which is taken off all layers: the least that any
            process found, since whatever disturbs it adds to it.
        turns_ms: Of the runs without the profiler, the median of each turn.
    """

    environment: Environment
    model: str
    runtime: str
    precision: str
    batch: int
    threads: int
    end_to_end_ms: float
    profiled_ms: float
    layers: tuple[ProfiledLayer, ...]
    runtime_version: str = ""
    device: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    weights: str = "unknown"
    sha256: str = ""
    file: str = ""
    command: str = ""
    machine: Json | None = None
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rounds: int = 0
    noting_ms: float = 0.0
    turns_ms: tuple[float, ...] = ()

    @property
    def layers_ms(self) -> float:
        """The sum over the layers."""
        return sum(layer.ms for layer in self.layers)

    def to_json(self) -> Json:
        """The document."""
        total_ms = self.layers_ms
        plain = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if entry.name not in {"environment", "layers", "limits", "notes", "settings", "turns_ms"}
        }
        return {
            _KEY: VERSION,
            "environment": self.environment.to_json(),
            **plain,
            "end_to_end_ms": round(self.end_to_end_ms, 6),
            "profiled_ms": round(self.profiled_ms, 6),
            "noting_ms": round(self.noting_ms, 6),
            "layers_ms": round(total_ms, 6),
            "turns_ms": [round(each, 6) for each in self.turns_ms],
            "settings": dict(self.settings),
            "limits": list(self.limits),
            "notes": list(self.notes),
            "layers": [layer.to_json(total_ms) for layer in self.layers],
        }

    @classmethod
    def from_json(cls, document: Any) -> "Profile":
        """Read a document. Raises ``RecordError``."""
        if not isinstance(document, dict) or _KEY not in document:
            raise RecordError(f"the document has no {_KEY!r}")
        version = count(document[_KEY], _KEY)
        if version > VERSION:
            raise RecordError(
                f"it is of version {version}, and this cnnport reads up to {VERSION}: take a newer one"
            )
        return cls(
            environment=Environment.from_json(take(document, "environment", dict, {})),
            model=take(document, "model", str),
            runtime=take(document, "runtime", str),
            precision=take(document, "precision", str, ""),
            batch=count(document.get("batch"), "batch"),
            threads=count(document.get("threads"), "threads"),
            end_to_end_ms=number(document.get("end_to_end_ms"), "end_to_end_ms"),
            profiled_ms=number(document.get("profiled_ms"), "profiled_ms"),
            layers=tuple(ProfiledLayer.from_json(row) for row in rows(document, "layers")),
            runtime_version=take(document, "runtime_version", str, ""),
            device=take(document, "device", str, ""),
            settings=texts(document, "settings"),
            weights=take(document, "weights", str, "unknown"),
            sha256=take(document, "sha256", str, ""),
            file=take(document, "file", str, ""),
            command=take(document, "command", str, ""),
            machine=take(document, "machine", dict, None),
            limits=_names(document, "limits"),
            notes=_names(document, "notes"),
            rounds=count(document.get("rounds") or 0, "rounds"),
            noting_ms=optional_number(document, "noting_ms") or 0.0,
            turns_ms=tuple(number(each, "turns_ms") for each in take(document, "turns_ms", list, [])),
        )


def json_text(profile: Profile) -> str:
    """The document as it is written to files: one layer a line."""
    document = profile.to_json()
    layers = document.pop("layers")
    head = json.dumps(document, indent=1).removesuffix("\n}")
    return f'{head},\n "layers": [' + ",".join(f"\n  {json.dumps(row)}" for row in layers) + "\n ]\n}\n"


def read_profile(path: Path) -> Profile:
    """Read a profile that was saved.

    Raises:
        RecordError: If there is no such file, or it is damaged, or something else.
    """
    return read_saved(path, Profile.from_json, "profile")


def _names(row: Json, name: str) -> tuple[str, ...]:
    found = take(row, name, list, [])
    if not all(isinstance(each, str) for each in found):
        raise RecordError(f"{name!r} holds something that is no text")
    return tuple(found)


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)

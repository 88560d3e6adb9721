"""The document of the benchmark of GPUs: what it was taken on, what passed, what was measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from cnnport.errors import ArtifactError
from cnnport.files import write_atomically
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json

# Of the libraries under the runtimes, those that decide which kernels run.
_LIBRARIES = ("nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-runtime", "triton")


@dataclass(frozen=True)
class Variant:
    """A runtime and what is chosen of what it offers."""

    runtime: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """``ort-cuda nhwc=1``."""
        return " ".join([self.runtime, *(f"{name}={value}" for name, value in self.settings.items())])


class Record:
    """The document, on disk after every step."""

    def __init__(self, path: Path) -> None:
        """Take up what an earlier run left. Raises ``ArtifactError`` if it is of another machine or software."""
        self._path = path
        self.document: Json = {
            **_surroundings(),
            "conformance": None,
            "problems": {},
            "parity": [],
            "latency": [],
            "skipped": [],
        }
        if path.exists():
            self._take_up()

    def write(self) -> None:
        """Write the document whole or not at all."""
        write_atomically(self._path, (json.dumps(self.document, indent=1) + "\n").encode())

    def has_parity(self, model: str) -> bool:
        """Whether a network has been compared."""
        return any(row["model"] == model for row in self.document["parity"])

    def has_latency(self, model: str, variant: Variant, batch: int) -> bool:
        """Whether a case has been measured, or cannot be."""
        wanted = (model, variant.runtime, dict(variant.settings), batch)
        return any(
            (row["model"], row["runtime"], row["settings"], row["batch"]) == wanted
            for row in (*self.document["latency"], *self.document["skipped"])
        )

    def failures(self) -> list[str]:
        """What did not pass, one line each."""
        suite = self.document["conformance"] or {"failures": []}
        return [
            *suite["failures"],
            *(f"{name}: {reason}" for name, reason in self.document["problems"].items()),
            *(
                f"{row['model']} on {Variant(row['runtime'], row['settings'])}: {row['problem'] or 'departs'}"
                for row in self.document["parity"]
                if row["problem"] or not all(each["within"] for each in row["against"])
            ),
        ]

    def _take_up(self) -> None:
        try:
            old = json.loads(self._path.read_text(encoding="utf-8"))
            same = all(old[name] == self.document[name] for name in ("driver", "devices", "libraries"))
            same &= old["environment"]["packages"] == self.document["environment"]["packages"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{self._path} is no record of this benchmark: name another --out") from error
        if not same:
            raise ArtifactError(f"{self._path} is of another machine or software: name another --out")
        self.document |= old


def _surroundings() -> Json:
    """The machine, the driver and its devices, and the versions of everything."""
    from cnnport.runtimes.driver import Driver, driver

    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found = driver()
    if isinstance(found, Driver):
        served, devices = "CUDA {}.{}".format(*found.version), [str(device) for device in found.devices]
    else:
        served, devices = found, []
    return {
        "environment": read_environment().to_json(),
        "driver": served,
        "devices": devices,
        "libraries": versions,
    }

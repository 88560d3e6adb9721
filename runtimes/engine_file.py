"""Engines on disk: the file that a runtime built, and beside it, as JSON, what it was built from and for.

The sidecar of ``model.plan`` is ``model.plan.json``. It holds the facts of the ONNX file, metadata included, so that
an engine is run, measured and compared like the file that it came from.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnport._version import __version__
from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import ArtifactError
from cnnport.files import sha256_of, write_atomically
from cnnport.runtimes.picture_misfit import picture_misfit

SUFFIXES = (".plan", ".blob")
"""Of the files that are engines."""

_FORMAT = 1
_KEY = "cnnport.engine"


@dataclass(frozen=True)
class EngineFacts:
    """What a sidecar says of an engine.

    Attributes:
        runtime: Name of the runtime that built it and runs it.
        source_sha256: Of the ONNX file's bytes.
        settings: That it was built with, by name.
        facts: Versions, device and whatever else decides where it runs, by name.
    """

    runtime: str
    source_sha256: str
    settings: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def is_engine(path: str | Path) -> bool:
    """Whether a file's name is that of an engine."""
    return str(path).endswith(SUFFIXES)


def sidecar_of(path: Path) -> Path:
    """Where the facts of an engine lie."""
    return path.with_name(path.name + ".json")


def write_engine(path: Path, data: bytes | memoryview, source: Artifact, engine: EngineFacts) -> None:
    """Write an engine and its sidecar, the engine last, so that one without the other is never found.

    Args:
        path: Of the engine.
        data: Its bytes.
        source: The ONNX file that it was built from.
        engine: How it was built.

    Raises:
        OutputError: If the file system refuses.
    """
    document = {
        "format": _FORMAT,
        "engine_sha256": hashlib.sha256(data).hexdigest(),
        "runtime": engine.runtime,
        "source_sha256": engine.source_sha256,
        "settings": dict(engine.settings),
        "facts": {"cnnport": __version__, **engine.facts},
        "model": source.model,
        "opset": source.opset,
        "precision": source.precision,
        "target": source.target,
        "inputs": [_spec_to_json(spec) for spec in source.inputs],
        "outputs": [_spec_to_json(spec) for spec in source.outputs],
        "metadata": dict(source.metadata),
    }
    write_atomically(sidecar_of(path), (json.dumps(document, indent=1) + "\n").encode())
    write_atomically(path, bytes(data))


def read_engine(path: Path) -> Artifact:
    """The artifact that an engine is: its own path and hash, and everything else of the file that it came from.

    Raises:
        ArtifactError: If there is no such file, or its sidecar is missing, damaged or another engine's.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    sidecar = sidecar_of(path)
    try:
        held = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path}: {sidecar.name} does not lie beside it, which says what the engine takes: "
            "build it again with cnnport build"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{sidecar} cannot be read or is damaged: build the engine again") from error
    try:
        if held["format"] != _FORMAT:
            raise ArtifactError(
                f"{sidecar} is of format {held['format']}, known is {_FORMAT}: build it again"
            )
        # Before the engine, which is read whole for its hash.
        artifact = _artifact_of(path, held)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{sidecar} is damaged, or none of cnnport's: build the engine again with cnnport build"
        ) from error
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    if sha256 != artifact.sha256:
        raise ArtifactError(f"{path} is not the engine that {sidecar.name} describes: build it again")
    return artifact


def engine_facts(artifact: Artifact) -> EngineFacts | None:
    """What the sidecar said, if the artifact is an engine."""
    # An ONNX file may say of itself whatever it likes.
    if not is_engine(artifact.path) or _KEY not in artifact.metadata:
        return None
    return EngineFacts(**json.loads(artifact.metadata[_KEY]))


def metadata_of_source(artifact: Artifact) -> dict[str, str]:
    """What the ONNX file that an engine was built from says of itself."""
    return {name: text for name, text in artifact.metadata.items() if name != _KEY}


def misfit(artifact: Artifact, runtime: str) -> str | None:
    """Why a runtime cannot take a file, in one line: another one's engine, or a picture file. None if it can."""
    engine = engine_facts(artifact)
    if engine is None or engine.runtime == runtime:
        return picture_misfit(artifact, runtime)
    return f"{artifact.path} is an engine of {engine.runtime}: pass --runtime {engine.runtime}"


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _artifact_of(path: Path, held: dict[str, Any]) -> Artifact:
    """What a sidecar says. Raises ``KeyError`` and ``TypeError`` if it is none."""
    engine = {
        "runtime": _text(held["runtime"]),
        "source_sha256": _text(held["source_sha256"]),
        "settings": _texts(held["settings"]),
        "facts": _texts(held["facts"]),
    }
    return Artifact(
        path=path,
        sha256=_text(held["engine_sha256"]),
        model=_text(held["model"]),
        opset=_number(held["opset"]),
        precision=_text(held["precision"]),
        target=_text(held["target"]),
        inputs=tuple(_spec_from_json(spec) for spec in held["inputs"]),
        outputs=tuple(_spec_from_json(spec) for spec in held["outputs"]),
        metadata={**_texts(held["metadata"]), _KEY: json.dumps(engine)},
    )


def _spec_from_json(row: dict[str, Any]) -> TensorSpec:
    sizes = tuple(row["shape"])
    if not all(isinstance(size, int | str) for size in sizes):
        raise TypeError("a size is neither a number nor a name")
    return TensorSpec(_text(row["name"]), _text(row["dtype"]), sizes)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("no names and texts")
    return {_text(name): _text(text) for name, text in value.items()}

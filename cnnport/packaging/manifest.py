"""What a package says of itself: ``cnnport.json``, from which its programs learn all that differs between models."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnport._version import __version__
from cnnport.artifact import TensorSpec
from cnnport.files import sha256_of
from cnnport.packaging.kinds import Content
from cnnport.packaging.subject import Subject

MANIFEST = "cnnport.json"
MODEL_FILE = "model.onnx"
EXAMPLE_FILE = "example.png"

FORMAT = 1

# Said elsewhere in the manifest as plain JSON, or of use only to ``cnnport verify``, which reads the file.
_LEFT_OUT = {"cnnport.golden", "cnnport.labels", "cnnport.picture", "cnnport.preprocess"}


def manifest_of(subject: Subject, kind: str, files: Mapping[str, Content]) -> dict[str, Any]:
    """The manifest of a package as plain JSON values.

    Args:
        subject: What the package is made of.
        kind: What it is made for.
        files: All of its files but the manifest. The one that is the picture file is the package's model.
    """
    artifact, preprocess, example = subject.artifact, subject.preprocess, subject.example
    height, width, _ = example.pixels.shape
    return {
        "format": FORMAT,
        "kind": kind,
        "name": subject.name,
        "cnnport": __version__,
        "model": {
            "file": next((name for name, content in files.items() if content == artifact.path), None),
            "sha256": artifact.sha256,
            "bytes": artifact.path.stat().st_size,
            "name": artifact.model,
            "opset": artifact.opset,
            "precision": artifact.precision,
            "target": artifact.target,
            "network_sha256": None if subject.network is None else subject.network.sha256,
        },
        "inputs": [_spec(spec) for spec in artifact.inputs],
        "outputs": [_spec(spec) for spec in artifact.outputs],
        "picture": {
            "layout": subject.picture.layout,
            "preprocess": subject.picture.preprocess,
            "top": subject.picture.top,
        },
        "preprocess": {**preprocess.to_json(), "channels": preprocess.channels},
        "labels": None if subject.labels is None else list(subject.labels),
        "metadata": {key: value for key, value in artifact.metadata.items() if key not in _LEFT_OUT},
        "licence": subject.licence,
        "example": {
            "file": EXAMPLE_FILE,
            "height": height,
            "width": width,
            "top": [{"index": index, "probability": value} for index, value in example.top],
            "tolerance": example.tolerance,
        },
        "files": {name: _sha256(content) for name, content in files.items()},
    }


def manifest_text(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as a file: sorted keys, and nothing that depends on the time or the machine."""
    return (
        json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def files_of_package(folder: Path) -> frozenset[str] | None:
    """Names of the files that a folder's manifest states, the manifest among them; None of no package of ours."""
    try:
        stated = json.loads((folder / MANIFEST).read_bytes())
        if not isinstance(stated["cnnport"], str) or not isinstance(stated["kind"], str):
            return None
        return frozenset({MANIFEST, *stated["files"]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _sha256(content: Content) -> str:
    return sha256_of(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()

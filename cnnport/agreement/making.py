"""A file in another precision than it was given in, made once and kept in the user's cache."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnport._version import __version__
from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError
from cnnport.files import cache_root
from cnnport.halved import format_of
from cnnport.metadata import origin_of, tool_versions
from cnnport.onnxfile import CHECKSUM_KEY, checksum_of, read_artifact
from cnnport.runtimes.engine_file import is_engine

# For which of the targets of 8 bits each runtime's file is written; those of NVIDIA take symmetric ones.
_TARGETS = {"ort-cpu": "ort", "openvino": "openvino"}
_OTHER_TARGET = "trt"

_SAMPLES = 64


def is_of_digits(artifact: Artifact) -> bool:
    """Whether a file holds one of the networks that ship trained on the handwritten digits, with those weights."""
    from cnnport import registry

    try:
        origin = origin_of(artifact)
        weights = registry.get(origin.model).weights if origin is not None else None
    except CnnportError:
        return False
    return origin is not None and origin.weights == "default" and weights is not None and weights.is_packaged


def file_in(
    artifact: Artifact,
    precision: str,
    runtime: str,
    *,
    calibration: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """The file itself if it is in that precision, else one that is made of it.

    Args:
        artifact: The file.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        runtime: That runs it: 8 bits are written for one.
        calibration: As of ``quantize_file``; by default the digits for networks that ship trained on them, and seeded
            noise for others.
        on_step: Told the name of each step when it begins.

    Raises:
        CnnportError: If the file is in yet another precision, or cannot be made.
        CheckFailedError: If what is made departs from the file.
    """
    if artifact.precision == precision:
        return artifact
    if precision != "int8":
        format_of(precision)
    if artifact.precision != "fp32" or is_engine(artifact.path):
        raise CnnportError(
            f"{artifact.path} is in {artifact.precision}, of which no {precision} can be made: start from float32"
        )
    if precision == "fp32":
        return artifact
    calibration = calibration or (f"digits:{_SAMPLES}" if is_of_digits(artifact) else f"random:{_SAMPLES}")
    target = _TARGETS.get(runtime, _OTHER_TARGET) if precision == "int8" else "portable"
    path = _path_of(artifact, precision, target, calibration)
    if kept := _kept(path):
        return kept
    path.parent.mkdir(parents=True, exist_ok=True)
    on_step(f"{artifact.model} in {precision} for {runtime}")
    if precision == "int8":
        from cnnport.quantization import quantize_file

        done = quantize_file(artifact.path, path, calibration, target=target, overwrite=True, on_step=on_step)
        return done.artifact
    from cnnport.half_file import half_file

    return half_file(artifact.path, path, precision, overwrite=True, on_step=on_step).artifact


def _path_of(artifact: Artifact, precision: str, target: str, calibration: str) -> Path:
    facts: list[Any] = [artifact.sha256, precision, target, calibration, __version__, tool_versions()]
    # Pictures in a folder may be others tomorrow.
    source = Path(calibration.partition(":")[0])
    if source.exists():
        facts.append([[each.name, each.stat().st_mtime_ns] for each in sorted(source.rglob("*"))])
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return cache_root() / "precisions" / f"{artifact.path.stem[:80]}-{precision}-{key}.onnx"


def _kept(path: Path) -> Artifact | None:
    """The file in the cache, if there is one and it is whole."""
    try:
        artifact = read_artifact(path)
    except ArtifactError:
        return None
    claimed = artifact.metadata.get(CHECKSUM_KEY)
    # Files of others carry no checksum; they are made again.
    return artifact if claimed is not None and checksum_of(path.read_bytes(), claimed) == claimed else None

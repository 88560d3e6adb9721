"""What an exported file says of itself: the keys of its ``metadata_props``, written and read in one place.

Every key begins with ``cnnport.``; values are plain text or JSON with sorted keys. Nothing depends on the time,
the machine or a path, so the same export gives the same bytes.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError
from cnnport.preprocess import Preprocess

FORMAT = "1"

# A map of a million logits would outweigh the network: of larger outputs an evenly spread sample is kept.
_GOLDEN_VALUES = 4096


@dataclass(frozen=True)
class Origin:
    """Where a file came from, enough to build its PyTorch module again.

    Attributes:
        model: Zoo name, or the callable.
        weights: ``default``, ``random``, ``file``, ``url`` or ``own``.
        weights_origin: URL, file name or seed.
        weights_sha256: Hash of the state dict.
        seed: Of random weights.
        num_classes: As passed to the builder; None for the network's own.
        in_channels: Likewise.
        dense: Whether the network was brought into its fully convolutional form.
    """

    model: str
    weights: str
    weights_origin: str
    weights_sha256: str
    seed: int
    num_classes: int | None
    in_channels: int | None
    dense: bool = False


@dataclass(frozen=True)
class Golden:
    """An input, by its seed, and what the network answers.

    Attributes:
        seed: For ``golden.seeded_input``.
        batch: Size of a dynamic first dimension.
        outputs: By name: every value, or an evenly spread sample of them, flattened.
        tolerance: Largest absolute difference by output name that another machine may show.
    """

    seed: int
    batch: int
    outputs: Mapping[str, NDArray[np.float32]]
    tolerance: Mapping[str, float]


@dataclass(frozen=True)
class Picture:
    """What a picture file takes, and gives beside what its network gives.

    Attributes:
        preprocess: What is done inside: ``normalize`` takes pictures of the network's own size, ``full`` of any.
        layout: Order of the axes of its input: ``nhwc`` or ``nchw``.
        top: How many of the best classes it names.
    """

    preprocess: Literal["normalize", "full"]
    layout: Literal["nhwc", "nchw"]
    top: int


def golden_sample(output: NDArray[np.generic]) -> NDArray[np.float32]:
    """The values of an output that a golden record keeps, flattened."""
    flat = np.asarray(output, dtype=np.float32).reshape(-1)
    if flat.size <= _GOLDEN_VALUES:
        return flat
    return flat[np.linspace(0, flat.size - 1, _GOLDEN_VALUES).astype(np.int64)]


def origin_to_metadata(origin: Origin) -> dict[str, str]:
    """The entries that hold an origin."""
    build = {"seed": origin.seed, "num_classes": origin.num_classes, "in_channels": origin.in_channels}
    return {
        "cnnport.model": origin.model,
        "cnnport.weights": origin.weights,
        "cnnport.weights_origin": origin.weights_origin,
        "cnnport.weights_sha256": origin.weights_sha256,
        "cnnport.build": to_json({**build, "dense": True} if origin.dense else build),
    }


def origin_of(artifact: Artifact) -> Origin | None:
    """The origin that a file states; None if cnnport did not make it. Raises ``ArtifactError``."""
    props = artifact.metadata
    if "cnnport.build" not in props:
        return None
    build = _json(artifact, "cnnport.build")
    try:
        return Origin(
            model=props["cnnport.model"],
            weights=props["cnnport.weights"],
            weights_origin=props["cnnport.weights_origin"],
            weights_sha256=props["cnnport.weights_sha256"],
            seed=int(build["seed"]),
            num_classes=build["num_classes"],
            in_channels=build["in_channels"],
            dense=bool(build.get("dense", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.build") from error


def golden_to_metadata(golden: Golden) -> dict[str, str]:
    """The entry that holds a golden record."""
    outputs = {
        name: {
            "values": base64.b64encode(values.astype("<f4").tobytes()).decode(),
            "tolerance": golden.tolerance[name],
        }
        for name, values in golden.outputs.items()
    }
    return {"cnnport.golden": to_json({"seed": golden.seed, "batch": golden.batch, "outputs": outputs})}


def golden_of(artifact: Artifact) -> Golden | None:
    """The golden record in a file, if there is one. Raises ``ArtifactError``."""
    if "cnnport.golden" not in artifact.metadata:
        return None
    data = _json(artifact, "cnnport.golden")
    try:
        outputs = {
            name: np.frombuffer(base64.b64decode(entry["values"], validate=True), dtype="<f4")
            for name, entry in data["outputs"].items()
        }
        tolerance = {name: float(entry["tolerance"]) for name, entry in data["outputs"].items()}
        return Golden(int(data["seed"]), int(data["batch"]), outputs, tolerance)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.golden") from error


def preprocess_of(artifact: Artifact) -> Preprocess | None:
    """The preprocessing that a file states, if it does. Raises ``ArtifactError``."""
    if "cnnport.preprocess" not in artifact.metadata:
        return None
    try:
        return Preprocess.from_json(_json(artifact, "cnnport.preprocess"))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.preprocess") from error


def picture_to_metadata(picture: Picture) -> dict[str, str]:
    """The entry that makes a file a picture file."""
    return {"cnnport.picture": to_json(asdict(picture))}


def picture_of(artifact: Artifact) -> Picture | None:
    """What a picture file takes and gives; None for every other file. Raises ``ArtifactError``."""
    if "cnnport.picture" not in artifact.metadata:
        return None
    data = _json(artifact, "cnnport.picture")
    try:
        mode, layout, top = data["preprocess"], data["layout"], data["top"]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.picture") from error
    if mode not in {"normalize", "full"} or layout not in {"nhwc", "nchw"} or type(top) is not int or top < 1:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.picture")
    return Picture(mode, layout, top)


def labels_of(artifact: Artifact) -> tuple[str, ...] | None:
    """The class names that a file states, if it does. Raises ``ArtifactError``."""
    if "cnnport.labels" not in artifact.metadata:
        return None
    names = _json(artifact, "cnnport.labels")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.labels")
    return tuple(names)


def sizes_to_metadata(sizes: Mapping[str, int]) -> dict[str, str]:
    """The entry that holds the native sizes of dynamic dimensions, by their names; none if there are none."""
    return {"cnnport.native_sizes": to_json(dict(sizes))} if sizes else {}


def at_native_size(artifact: Artifact) -> Artifact:
    """The same file with the dynamic sizes of its inputs, other than the batch, settled as it states them.

    Inputs for which it states nothing stay as they are. Raises ``ArtifactError``.
    """
    if "cnnport.native_sizes" not in artifact.metadata:
        return artifact
    sizes = _json(artifact, "cnnport.native_sizes")
    if not isinstance(sizes, dict) or not all(type(size) is int and size > 0 for size in sizes.values()):
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.native_sizes")
    return artifact.with_sizes(sizes)


def tool_versions() -> dict[str, str]:
    """Versions of the packages that shape an exported file."""
    found: dict[str, str] = {}
    for name in ("torch", "onnx", "onnxscript", "onnxsim", "onnx-ir"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a distribution under another name, such as a vendor's torch
            found[name] = "unknown"
    return found


def to_json(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _json(artifact: Artifact, key: str) -> Any:
    try:
        return json.loads(artifact.metadata[key])
    except ValueError as error:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at {key}") from error

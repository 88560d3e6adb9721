"""From what a command is given to a file: ONNX files as they are, networks exported into the user's cache."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, WeightsError, first_line
from cnnport.metadata import to_json, tool_versions
from cnnport.onnxfile import CHECKSUM_KEY, checksum_of, read_artifact
from cnnport.registry import ModelSpec
from cnnport.runtimes.engine_file import is_engine, read_engine


def artifact_of(
    model: str,
    *,
    weights: str = "auto",
    on_step: Callable[[str], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_download: Callable[[int, int | None], None] | None = None,
) -> Artifact:
    """Give the file for a network, exported if it is not in the cache.

    Exports of zoo networks with official or seeded weights are kept, by the versions of everything that shaped
    them; a user's own network or checkpoint may have changed since and is exported each time.

    Args:
        model: An .onnx file, an engine that ``build`` wrote, a zoo name or alias, a library's network, or
            ``module:callable``.
        weights: For networks, as in ``export``.
        on_step: Told the name of each step of an export.
        on_warning: Told in a sentence why weights are random.
        on_download: Told the bytes so far and in all while weights are fetched.

    Raises:
        CnnportError: As ``read_artifact`` and ``export`` do.
    """
    if model.endswith(".onnx"):
        return read_artifact(Path(model))
    if is_engine(model):
        return read_engine(Path(model))
    from cnnport.export import export

    kind = weights
    if ":" not in model:
        spec = registry.get(model)
        if weights == "auto":
            kind = _kind_at_hand(spec, on_warning, on_download)
        if kind in {"default", "random"} and (kept := _kept(_path_of(spec.name, kind))):
            return kept
    path = _path_of(registry.get(model).name if ":" not in model else model, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = export(model, path, weights=kind, overwrite=True, on_step=on_step, on_download=on_download)
    if done.weights.warning:
        on_warning(f"warning: {done.weights.warning}")
    return done.artifact


def _kind_at_hand(
    spec: ModelSpec,
    on_warning: Callable[[str], None],
    on_download: Callable[[int, int | None], None] | None,
) -> str:
    from cnnport.weights import obtain_official

    try:
        obtain_official(spec, on_download)
    except WeightsError as error:
        reason = first_line(error)
        on_warning(f"warning: the weights of {spec.name} are random (seed 0): {reason}")
        return "random"
    return "default"


def _path_of(name: str, kind: str) -> Path:
    from cnnport.weights import cache_folder

    key = hashlib.sha256(to_json([name, kind, __version__, tool_versions()]).encode()).hexdigest()[:16]
    stem = "".join(letter if letter.isalnum() else "_" for letter in name.rsplit("/", 1)[-1])
    return cache_folder().parent / "exports" / f"{stem}-{key}.onnx"


def _kept(path: Path) -> Artifact | None:
    """The export in the cache, if there is one and it is whole."""
    try:
        artifact = read_artifact(path)
    except ArtifactError:
        return None
    claimed = artifact.metadata.get(CHECKSUM_KEY, "")
    return artifact if checksum_of(path.read_bytes(), claimed) == claimed else None

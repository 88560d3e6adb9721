"""From what a command is given to a file: ONNX files as they are, networks exported into the user's cache."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnport import registry
from cnnport._version import __version__
from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, WeightsError, first_line
from cnnport.metadata import to_json, tool_versions
from cnnport.onnxfile import CHECKSUM_KEY, checksum_of, read_artifact
from cnnport.registry import ModelSpec
from cnnport.runtimes.engine_file import is_engine, read_engine

NOISE = "random:64"
"""Samples from which no claim of accuracy follows; speed does not depend on them."""


def artifact_of(
    model: str,
    *,
    weights: str = "auto",
    precision: str | None = None,
    calibration: str | None = None,
    target: str | None = None,
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
        precision: What the file is to compute in; None for what a file does, and float32 of a network.
        calibration: Samples for int8, as in ``export_calibrated``; None for the digits where the weights were trained
            on them, else for noise.
        target: Whose placement int8 has; None for that of ``ort``.
        on_step: Told the name of each step of an export.
        on_warning: Told in a sentence why weights are random.
        on_download: Told the bytes so far and in all while weights are fetched.

    Raises:
        CnnportError: As ``read_artifact`` and ``export`` do.
    """
    if model.endswith(".onnx") or is_engine(model):
        artifact = read_engine(Path(model)) if is_engine(model) else read_artifact(Path(model))
        if precision not in {None, artifact.precision}:
            maker = "quantize" if precision == "int8" else f"export --precision {precision}"
            raise ArtifactError(
                f"{model} is {artifact.precision}, not {precision}, and a file is taken as it is: make one with "
                f"cnnport {maker}, or name a network"
            )
        return artifact
    from cnnport.exporting import export

    kind = weights
    goal, samples = target or "ort", calibration or default_calibration(model)
    change = [precision or "fp32", goal, samples] if precision == "int8" else [precision or "fp32"]
    if ":" not in model:
        spec = registry.get(model)
        if weights == "auto":
            kind = _kind_at_hand(spec, on_warning, on_download)
        # A folder of pictures may have changed since.
        is_open = precision == "int8" and Path(samples).exists()
        path = _path_of(spec.name, kind, change)
        if kind in {"default", "random"} and not is_open and (kept := _kept(path)):
            return kept
    path = _path_of(registry.get(model).name if ":" not in model else model, kind, change)
    path.parent.mkdir(parents=True, exist_ok=True)
    if precision == "int8":
        from cnnport.export_calibrated import export_calibrated
        from cnnport.graphs.passes import select_passes

        done = export_calibrated(
            model,
            path,
            "int8",
            samples,
            target=goal,
            passes=select_passes(None, goal),
            weights=kind,
            overwrite=True,
            on_step=on_step,
            on_download=on_download,
        )
    else:
        done = export(
            model,
            path,
            weights=kind,
            precision=precision or "fp32",
            overwrite=True,
            on_step=on_step,
            on_download=on_download,
        )
    if done.weights.warning:
        on_warning(f"warning: {done.weights.warning}")
    return done.artifact


def default_calibration(model: str) -> str:
    """On what ranges of a network are found where nothing was said: the digits if it knows them, else noise."""
    spec = None if ":" in model else registry.get(model)
    is_trained = spec is not None and spec.weights is not None and spec.weights.is_packaged
    return "digits" if is_trained else NOISE


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


def _path_of(name: str, kind: str, change: Sequence[str]) -> Path:
    from cnnport.weights import cache_folder

    facts = [name, kind, __version__, tool_versions(), *change]
    key = hashlib.sha256(to_json(facts).encode()).hexdigest()[:16]
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

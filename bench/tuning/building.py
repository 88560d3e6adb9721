"""The files that are tried: float graphs for several targets, halves, and 8 bits by a recipe that keeps accuracy."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError
from cnnport.measuring.tuning.candidate import Variant
from cnnport.onnxfile import load_model


@dataclass(frozen=True)
class Source:
    """Where files come from.

    Attributes:
        model: What the user named: a network, or an ONNX file.
        base: The float32 file for any runtime.
        weights: Of a network, as ``export`` takes them.
    """

    model: str
    base: Artifact
    weights: str

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file, which can be optimised but not exported again."""
        return self.model.endswith(".onnx")


def build_float(
    source: Source, variant: Variant, path: Path, *, on_step: Callable[[str], None] = lambda _: None
) -> None:
    """Write a float32 file with the passes of a target.

    Args:
        source: Of what.
        variant: Of precision ``fp32``.
        path: Where; replaced.
        on_step: Told the name of each step when it begins.

    Raises:
        CnnportError: As ``export`` and ``optimize_file``.
    """
    from cnnport.exporting import export
    from cnnport.graphs.passes import select_passes
    from cnnport.optimize_file import optimize_file

    if source.is_file:
        optimize_file(
            source.base.path,
            path,
            target=variant.target,
            freeze_initializers=True,
            overwrite=True,
            on_step=on_step,
        )
        return
    export(
        source.model,
        path,
        weights=source.weights,
        target=variant.target,
        passes=select_passes(None, variant.target),
        overwrite=True,
        on_step=on_step,
    )


def build_half(
    floats: Path, variant: Variant, path: Path, *, on_step: Callable[[str], None] = lambda _: None
) -> None:
    """Write a float32 file in halves; errors as of ``half_file``."""
    from cnnport.half_file import half_file

    half_file(floats, path, variant.precision, overwrite=True, on_step=on_step)


def build_int8(
    floats: Path,
    variant: Variant,
    path: Path,
    calibration: str,
    max_drop: float | None,
    *,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> None:
    """Write a float32 file in 8 bits; arguments and errors as of ``quantize_file``."""
    from cnnport.quantization import quantize_file

    quantize_file(
        floats,
        path,
        calibration,
        target=variant.target,
        max_drop=max_drop,
        overwrite=True,
        on_step=on_step,
        on_progress=on_progress,
    )


def check_source(base: Artifact) -> None:
    """Refuse what is not float32, and picture files. Raises ``ArtifactError``."""
    if base.precision != "fp32":
        raise ArtifactError(f"{base.path} is in {base.precision}: tuning starts from the float32 file")
    from cnnport.picture_input import check_no_pictures

    check_no_pictures(base, "is tuned")


def graph_hash(path: Path) -> str:
    """A hash of a file without what it says of itself: two targets may have come to the same graph."""
    model = load_model(path)
    del model.metadata_props[:]
    try:
        data = model.SerializeToString(deterministic=True)
    except ValueError as error:  # above 2 GB protobuf gives up
        raise CnnportError(f"{path} is too large to be tuned") from error
    return sha256(data).hexdigest()

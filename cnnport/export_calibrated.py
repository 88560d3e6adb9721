"""An export whose precision is settled by data: the float32 file first, verified, and the other one made of it."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnport.calibration import open_samples
from cnnport.errors import CnnportError, ImageError
from cnnport.exporting import Exported, export
from cnnport.files import check_writable
from cnnport.graphs.quantize import require_target
from cnnport.half_file import half_file
from cnnport.halved import format_of
from cnnport.onnxfile import read_artifact
from cnnport.quantization import quantize_file
from cnnport.source import Source
from cnnport.trial_inputs import Arrays

# Of samples on which a half file's ranges are found and it is held to account: each runs several times.
_HALF_COUNT = 32


def export_calibrated(
    model: str | Source,
    path: Path,
    precision: str,
    calibration: str,
    *,
    target: str,
    io_dtype: str = "fp32",
    max_drop: float | None = None,
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
    **options: Any,
) -> Exported:
    """Export a network in int8, or in halves whose ranges are found on samples.

    What comes back tells of the float32 file that was exported first, and has the artifact of the one that
    was written.

    Args:
        model: As of ``export``.
        path: The file to write.
        precision: ``int8``, ``fp16`` or ``bf16``.
        calibration: As of ``quantize_file``.
        target: Whose rules hold; for int8 one of those that it is written for.
        io_dtype: As of ``export``; int8 files have float32 inputs and outputs.
        max_drop: For int8, as of ``quantize_file``.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many samples are done, and how many there are.
        **options: The others of ``export``.

    Raises:
        CnnportError: As ``export``, ``quantize_file`` and ``half_file``. Nothing is written.
    """
    check_writable(path, overwrite=overwrite)
    if precision == "int8":
        require_target(target)
        if io_dtype != "fp32":
            raise CnnportError(f"int8 files have fp32 inputs and outputs, not {io_dtype}")
    elif format_of(precision, io_dtype) is None:
        raise CnnportError("--calibration is for int8, fp16 and bf16: float32 has no ranges to find")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        source = Path(name) / path.name
        exported = export(model, source, target=target, on_step=on_step, **options)
        if precision == "int8":
            quantized = quantize_file(
                source,
                path,
                calibration,
                target=target,
                max_drop=max_drop,
                overwrite=overwrite,
                on_step=on_step,
                on_progress=on_progress,
            )
            seconds = time.perf_counter() - started
            return replace(exported, artifact=quantized.artifact, seconds=seconds, quantized=quantized)
        half = half_file(
            source,
            path,
            precision,
            io_dtype=io_dtype,
            feeds=_feeds(calibration, source),
            overwrite=overwrite,
            on_step=on_step,
        )
    seconds = time.perf_counter() - started
    return replace(exported, artifact=half.artifact, halved=half.halved, seconds=seconds)


def _feeds(calibration: str, source: Path) -> list[Arrays]:
    """The samples that can be read. Raises ``CnnportError`` if none can."""
    samples = open_samples(calibration, read_artifact(source), count=_HALF_COUNT)
    feeds: list[Arrays] = []
    for place in range(len(samples)):
        try:
            feeds.append(samples.load(place))
        except ImageError as error:
            reason = str(error)
    if not feeds:
        raise CnnportError(f"none of the samples can be read: {reason}")
    return feeds

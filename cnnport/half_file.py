"""From a float32 ONNX file to one in halves that is held to what the first computes.

For a file that cnnport made, what it says of itself stays true; a file of others gets nothing said of it.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.files import check_writable
from cnnport.graphs.freeze import freeze, is_settled
from cnnport.half_precision import to_half
from cnnport.halved import Halved, format_of, metadata_of
from cnnport.metadata import Golden, golden_of, golden_to_metadata
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import (
    CHECKSUM_KEY,
    INITIALIZERS_KEY,
    artifact_of,
    data_files,
    load_model,
    read_artifact,
    write_foreign,
    write_model,
)
from cnnport.optimize_file import check_own
from cnnport.original import Original
from cnnport.picture_input import check_no_pictures
from cnnport.runtimes import require_runtime
from cnnport.trial_inputs import Arrays


@dataclass(frozen=True)
class HalvedFile:
    """What was done to a file: the file that was written, and how it became half."""

    artifact: Artifact
    halved: Halved


def half_file(
    source: Path,
    path: Path,
    precision: str,
    *,
    io_dtype: str = "fp32",
    feeds: Sequence[Arrays] = (),
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> HalvedFile:
    """Convert an ONNX file.

    Args:
        source: Any float32 ONNX file; its weights may lie in other files.
        path: The file to write.
        precision: ``fp16`` or ``bf16``.
        io_dtype: ``fp32``, or ``fp16`` for float16 inputs and outputs too.
        feeds: Inputs on which ranges are found and the result is held to account; seeded ones if there are none.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
        CheckFailedError: If no choice of what stays in float32 gives a file that computes the same. Nothing is
            written.
    """
    check_writable(path, overwrite=overwrite)
    half = format_of(precision, io_dtype)
    if half is None:
        raise CnnportError("a half precision is fp16 or bf16, not fp32")
    require_runtime("ort-cpu")
    on_step("read")
    is_split = bool(data_files(load_model(source, external_data=False)))
    model = load_model(source)
    stated = artifact_of(model, source)
    check_own(stated, model, is_split)
    check_no_pictures(stated, "is made half")
    is_own = CHECKSUM_KEY in stated.metadata
    if is_settled(model):
        freeze(model)
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        set_aside(model, folder, "float32.data")
        model = compact(model)
        golden = golden_of(stated) if is_own else None
        if not feeds:
            on_step("original")
            original = Original(model, folder, golden, may_be_insensitive=True)
            feeds = [original.feeds(trial) for trial in original.trials if not trial.overrides]
        result, halved = to_half(
            model,
            folder,
            half,
            feeds,
            half_io=io_dtype != "fp32",
            mixed=stated.target == "ort",
            on_step=on_step,
        )
        on_step("write")
        if is_own:
            write_model(result, path, _restated(stated, golden, halved), folder)
        else:
            write_foreign(result, path, folder)
    return HalvedFile(read_artifact(path), halved)


def _restated(stated: Artifact, golden: Golden | None, halved: Halved) -> dict[str, str]:
    metadata = {
        key: value for key, value in stated.metadata.items() if key not in {CHECKSUM_KEY, INITIALIZERS_KEY}
    }
    if golden is not None:
        wider = {
            name: tolerance + halved.tolerance * halved.spreads[name]
            for name, tolerance in golden.tolerance.items()
        }
        metadata |= golden_to_metadata(replace(golden, tolerance=wider))
    return metadata | metadata_of(halved)

"""From any ONNX file to an optimised one that is held to what the first computes.

The steps, each with its own module: read, set the weights aside, run the original for its outputs, run the passes
with a check after each that changed something, check the result on all inputs, write. For a file that cnnport made,
what it says of itself stays true; a file of others gets nothing said of it.
"""

import gc
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CheckFailedError
from cnnport.files import check_writable, write_atomically
from cnnport.graphs import Pass, PassReport, count_ops
from cnnport.graphs.cost import GraphCost
from cnnport.graphs.freeze import freeze, is_settled, overridable
from cnnport.graphs.passes import TARGETS, named_in, select_passes
from cnnport.metadata import to_json, tool_versions
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import (
    CHECKSUM_KEY,
    INITIALIZERS_KEY,
    artifact_of,
    checksum_of,
    data_files,
    initializers_sha256,
    load_model,
    read_artifact,
    write_foreign,
    write_model,
)
from cnnport.original import Verdict
from cnnport.runtimes import require_runtime
from cnnport.verified_passes import VerifiedPasses

if TYPE_CHECKING:
    import onnx

# Where weights lie meanwhile.
_WEIGHTS = "weights.data"

# What shapes a file after its export.
_OWN_TOOLS = ("onnx", "onnx-ir")


@dataclass(frozen=True)
class Optimized:
    """What was done to a file.

    Attributes:
        source: The file that was read.
        artifact: The file that was written.
        reports: What each pass did, those that were refused included.
        verdict: How far the two are apart; None where that could not be found out.
        unverified: Why it could not, in a sentence; None where it could.
        left_out: Passes that did not run, since what they compute could not have been verified.
        failing: By the names of refused passes: models of the few nodes on which they fail.
        ops_before: Operators of the file that was read.
        ops_after: Operators of the file that was written.
        bytes_before: Size of the file that was read, with its data files.
        bytes_after: Size of the file that was written, likewise.
        cost_before: What the graph cost; None unless asked for.
        cost_after: What it costs now.
        shapes: Of the inputs for which costs are given.
        notes: What else to know, in sentences.
        seconds: From start to the file in place.
    """

    source: Path
    artifact: Artifact
    reports: tuple[PassReport, ...]
    verdict: Verdict | None
    unverified: str | None
    left_out: tuple[str, ...]
    failing: Mapping[str, Path]
    ops_before: Mapping[str, int]
    ops_after: Mapping[str, int]
    bytes_before: int
    bytes_after: int
    cost_before: GraphCost | None
    cost_after: GraphCost | None
    shapes: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]
    seconds: float


def default_path(source: Path) -> Path:
    """Where the optimised form of a file goes unless told otherwise: beside it, as ``NAME.opt.onnx``."""
    return source.with_name(f"{source.name.removesuffix('.onnx')}.opt.onnx")


def optimize_file(
    source: Path,
    path: Path,
    *,
    passes: str | tuple[Pass, ...] | None = None,
    target: str | None = None,
    freeze_initializers: bool = False,
    costs: bool = False,
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> Optimized:
    """Optimise an ONNX file.

    Args:
        source: Any ONNX file; its weights may lie in other files.
        path: The file to write: one file, unless it has more than 2 GB.
        passes: In order; or as in the ``--passes`` option. Passes that it names run even where nothing can verify
            what they compute.
        target: One of ``passes.TARGETS``; None for the one that the file states, or any runtime.
        freeze_initializers: Whether initializers that are also inputs become constants.
        costs: Whether to count what each pass saves.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
        CheckFailedError: If the file is not what it says of itself, or the result departs from it. Nothing is
            written.
    """
    started = time.perf_counter()
    # Better to say so before the work than after it.
    _choose(passes, target)
    check_writable(path, overwrite=overwrite)
    require_runtime("ort-cpu")
    on_step("read")
    model, size, is_split = _load(source)
    stated = artifact_of(model, source)
    check_own(stated, model, is_split)
    ops_before = count_ops(model)
    notes = [f"{source.name} has its weights in another file, {path.name} has them in itself"] * is_split
    frozen, old = len(overridable(model)), model.ir_version
    if freeze_initializers or is_settled(model):
        freeze(model)
    elif frozen:
        notes.append(
            f"{frozen} initializers are also inputs, which a caller may override: they stay as they are, "
            "unless --freeze makes them constants"
        )
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        set_aside(model, folder, _WEIGHTS)
        model = compact(model)
        work = VerifiedPasses(folder, path, stated, costs, on_step)
        result = work.optimize(model, *_choose(passes, target or stated.target))
        ops_after = count_ops(result)
        # The IR refers to itself; until it is collected, the weights that passes looked at stay mapped.
        gc.collect()
        is_changed = result is not model or bool(freeze_initializers and frozen)
        on_step("write")
        data: set[str] = set()
        if not is_changed and not is_split:
            write_atomically(path, source.read_bytes())
        else:
            if CHECKSUM_KEY in stated.metadata:
                metadata = _restated(stated, work.reports, target) if is_changed else _kept(stated)
                write_model(result, path, metadata, folder)
            else:
                write_foreign(result, path, folder)
            # Above 2 GB the file refers to another one.
            data = data_files(result) - {_WEIGHTS}
    if is_changed and frozen and not overridable(result):
        why = (
            ""
            if result.ir_version == old
            else f", as runtimes took them: IR version {result.ir_version}, not {old}"
        )
        notes.append(f"{frozen} initializers were also inputs and are constants now{why}")
    notes += work.notes
    notes += [
        f"{path.name} has more than 2 GB: its weights are in {name}, which belongs beside it"
        for name in sorted(data)
    ]
    return Optimized(
        source=source,
        artifact=read_artifact(path),
        reports=work.reports,
        verdict=work.verdict,
        unverified=work.unverified,
        left_out=work.left_out,
        failing=work.failing,
        ops_before=ops_before,
        ops_after=ops_after,
        bytes_before=size,
        bytes_after=_size(path, data),
        cost_before=work.costs[0] if work.costs else None,
        cost_after=work.costs[-1] if work.costs else None,
        shapes=work.shapes,
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def check_own(stated: Artifact, model: "onnx.ModelProto", is_split: bool) -> None:
    """A file that cnnport made has to be as it was: a fault must not get a checksum that fits.

    Args:
        stated: What the file says of itself.
        model: Its graph, with the weights.
        is_split: Whether weights lie in another file.

    Raises:
        CheckFailedError: If it is not.
    """
    claimed = stated.metadata.get(CHECKSUM_KEY)
    if claimed is None:
        return
    is_whole = checksum_of(stated.path.read_bytes(), claimed) == claimed
    if is_whole and is_split:
        is_whole = initializers_sha256(model) == stated.metadata.get(INITIALIZERS_KEY)
    if not is_whole:
        raise CheckFailedError(
            f"{stated.path} was changed or damaged since cnnport wrote it: its checksum does not fit\n"
            f"see cnnport verify {stated.path}"
        )


def _choose(
    passes: str | tuple[Pass, ...] | None, target: str | None
) -> tuple[tuple[Pass, ...], frozenset[Pass]]:
    """The passes, and those of them that were asked for by name."""
    if isinstance(passes, tuple):
        return passes, frozenset()
    return select_passes(passes, target or TARGETS[0]), named_in(passes)


def _load(source: Path) -> "tuple[onnx.ModelProto, int, bool]":
    """The model with all its weights, the size of its files, and whether it has more than one."""
    model = load_model(source, external_data=False)
    data = data_files(model)
    return (load_model(source) if data else model), _size(source, data), bool(data)


def _size(path: Path, data: set[str]) -> int:
    parts = [path, *(path.parent / name for name in data)]
    return sum(part.stat().st_size for part in parts if part.is_file())


def _kept(stated: Artifact) -> dict[str, str]:
    return {
        key: value for key, value in stated.metadata.items() if key not in {CHECKSUM_KEY, INITIALIZERS_KEY}
    }


def _restated(stated: Artifact, reports: tuple[PassReport, ...], target: str | None) -> dict[str, str]:
    """The metadata of a file that cnnport made, with what is no longer as it was."""
    metadata = _kept(stated)
    before = [name for name in metadata.get("cnnport.passes", "").split(",") if name]
    ran = [report.name for report in reports if report.rewrites]
    metadata["cnnport.passes"] = ",".join(dict.fromkeys((*before, *ran)))
    if target is not None:
        metadata["cnnport.target"] = target
    present = tool_versions()
    try:
        versions = json.loads(metadata.get("cnnport.versions", "{}"))
        metadata["cnnport.versions"] = to_json({**versions, **{name: present[name] for name in _OWN_TOOLS}})
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{stated.path}: its metadata is damaged at cnnport.versions") from error
    return metadata

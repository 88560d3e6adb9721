"""Verification of a file by itself: everything that it says of itself is computed again, without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnport.artifact import Artifact
from cnnport.compare import compare
from cnnport.errors import ArtifactError, CnnportError
from cnnport.golden import seeded_input
from cnnport.graphs.convert_opset import problem
from cnnport.half_precision import emulated
from cnnport.metadata import (
    FORMAT,
    at_native_size,
    golden_of,
    golden_sample,
    labels_of,
    origin_of,
    picture_of,
    preprocess_of,
)
from cnnport.onnxfile import (
    CHECKSUM_KEY,
    INITIALIZERS_KEY,
    checksum_of,
    initializers_sha256,
    load_model,
    read_artifact,
)
from cnnport.picture_input import ranking_fault, takes_pictures
from cnnport.runtimes import Options, require_runtime
from cnnport.runtimes.protocol import Array, Tensors


@dataclass(frozen=True)
class Check:
    """One statement of a file, and whether it holds."""

    name: str
    ok: bool
    detail: str


def verify(path: str | Path) -> tuple[Check, ...]:
    """Check a file that cnnport exported.

    In order: the checksum of its bytes, the hash of its weights (also those in a data file), its validity as ONNX,
    its metadata against the graph, and its golden output on ONNX Runtime. A check that cannot run because an
    earlier one failed is left out.

    Raises:
        ArtifactError: If the file is not ONNX, or says nothing of itself that could be checked.
        RuntimeMissingError: If onnxruntime is not installed.
    """
    path = Path(path)
    artifact = read_artifact(path)
    if CHECKSUM_KEY not in artifact.metadata:
        raise ArtifactError(f"{path} was not exported by cnnport: it holds no checksum to verify")
    runtime = require_runtime("ort-cpu")
    checks = [_checksum(artifact), *_graph(artifact), _metadata(artifact)]
    if all(check.ok for check in checks):
        try:
            # ONNX Runtime's CPU does not know bfloat16.
            is_strange = artifact.precision == "bf16"
            with emulated(artifact) if is_strange else runtime.open(artifact, Options()) as session:
                checks += _golden(artifact, session.run)
        except CnnportError as error:
            checks.append(Check("golden output", False, str(error)))
    return tuple(checks)


def _checksum(artifact: Artifact) -> Check:
    claimed = artifact.metadata[CHECKSUM_KEY]
    actual = checksum_of(artifact.path.read_bytes(), claimed)
    if actual != claimed:
        return Check(
            "checksum", False, f"the file's bytes hash to {actual[:16]}..., it states {claimed[:16]}..."
        )
    return Check("checksum", True, f"sha256 {claimed[:16]}...")


def _graph(artifact: Artifact) -> list[Check]:
    try:
        model = load_model(artifact.path)
    except ArtifactError as error:
        return [Check("weights", False, str(error))]
    claimed, actual = artifact.metadata.get(INITIALIZERS_KEY, "nothing"), initializers_sha256(model)
    count = len(model.graph.initializer)
    same = claimed == actual
    detail = (
        f"{count} tensors, sha256 {actual[:16]}..."
        if same
        else f"hash to {actual[:16]}..., stated {claimed[:16]}..."
    )
    fault = problem(model)
    return [
        Check("weights", same, detail),
        Check("ONNX checker", fault is None, fault or "valid, shapes consistent"),
    ]


def _metadata(artifact: Artifact) -> Check:
    stated = artifact.metadata
    try:
        preprocess, labels, origin = preprocess_of(artifact), labels_of(artifact), origin_of(artifact)
        picture = picture_of(artifact)
        inputs = at_native_size(artifact).inputs
    except ArtifactError as error:
        return Check("metadata", False, str(error))
    faults = []
    if stated.get("cnnport.format") != FORMAT:
        faults.append(f"format {stated.get('cnnport.format')}, known is {FORMAT}")
    if stated.get("cnnport.opset") != str(artifact.opset):
        faults.append(f"states opset {stated.get('cnnport.opset')}, has {artifact.opset}")
    if picture and not takes_pictures(inputs, picture, preprocess):
        faults.append(f"says that it takes pictures, and takes {', '.join(map(str, inputs))}")
    elif (
        preprocess
        and not picture
        and [spec.shape[1:] for spec in inputs[:1]] != [(preprocess.channels, *preprocess.size)]
    ):
        faults.append(f"preprocessing gives {preprocess.channels}x{preprocess.size[0]}x{preprocess.size[1]}")
    if labels and artifact.outputs[0].shape[-1:] != (len(labels),):
        faults.append(f"{len(labels)} labels for {artifact.outputs[0]}")
    if origin is None:
        faults.append("does not say where it came from")
    if faults:
        return Check("metadata", False, "; ".join(faults))
    assert origin is not None
    return Check("metadata", True, f"{origin.model}, opset {artifact.opset}, weights {origin.weights}")


def _golden(artifact: Artifact, run: Callable[[Tensors], dict[str, Array]]) -> list[Check]:
    golden = golden_of(artifact)
    if golden is None or not golden.outputs:
        return [Check("golden output", False, "the file holds none")]
    answer = run(seeded_input(at_native_size(artifact).inputs, golden.batch, golden.seed))
    checks = []
    for name, expected in golden.outputs.items():
        got = golden_sample(answer[name]) if name in answer else np.empty(0, np.float32)
        if got.shape != expected.shape:
            checks.append(Check(f"golden {name}", False, f"{got.size} values, stated {expected.size}"))
            continue
        agreement, tolerance = compare(expected, got), golden.tolerance[name]
        ok = agreement.finite and agreement.max_abs <= tolerance
        checks.append(
            Check(f"golden {name}", ok, f"max error {agreement.max_abs:.1e}, allowed {tolerance:.1e}")
        )
    if picture_of(artifact) is not None:
        fault = ranking_fault(answer)
        checks.append(Check("best classes", fault is None, fault or "those of the largest probabilities"))
    return checks

"""A picture file: a network's file with the preparation of pictures before it, and probabilities after it.

It is made last, around a finished file in any precision. Of a float32 file the scale and shift of the normalisation
go into the first convolution as far as the passes find that exact; in other precisions the network stays as it is,
and its input is the same to the bit.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from cnnport.artifact import Artifact, TensorSpec
from cnnport.compare import FP32_TOLERANCE, spread_of
from cnnport.errors import CheckFailedError
from cnnport.files import check_writable
from cnnport.golden import seeded_input
from cnnport.graphs import optimize
from cnnport.graphs.convert_opset import problem
from cnnport.graphs.fold.fold_affine import fold_affine
from cnnport.graphs.picture import (
    PROBABILITIES,
    TOP_PROBABILITIES,
    Layout,
    Mode,
    check_opset,
    joined,
    preprocess_model,
    scores_model,
)
from cnnport.metadata import (
    Golden,
    Picture,
    at_native_size,
    golden_of,
    golden_sample,
    golden_to_metadata,
    picture_to_metadata,
    sizes_to_metadata,
)
from cnnport.onnxfile import (
    CHECKSUM_KEY,
    INITIALIZERS_KEY,
    INLINE_LIMIT_BYTES,
    artifact_of,
    data_files,
    load_model,
    read_artifact,
    write_model,
)
from cnnport.optimize_file import check_own
from cnnport.picture_cases import Case, native_size
from cnnport.picture_check import PictureVerdict, check, opened, softmax
from cnnport.picture_source import check_network, check_wish, gives_probabilities
from cnnport.preprocess import Preprocess
from cnnport.runtimes import require_runtime

if TYPE_CHECKING:
    import onnx
    from torch import nn

# Kernels differ between machines more than within one.
_GOLDEN_SLACK = 10.0


Folded: TypeAlias = Literal["all", "scale", "nothing"]


@dataclass(frozen=True)
class PictureFile:
    """What was made.

    Attributes:
        artifact: The file.
        folded: What of the normalisation went into the network: ``all``, ``scale`` or ``nothing``.
        verdict: How far it is from Pillow and PyTorch.
    """

    artifact: Artifact
    folded: Folded
    verdict: PictureVerdict

    def __str__(self) -> str:
        """What it takes, in words."""
        words = {
            "all": "in the first convolution",
            "scale": "scale in the first convolution, mean before it",
            "nothing": "as operators of its own",
        }
        return f"{self.artifact.inputs[0]}; normalisation: {words[self.folded]}"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        found = self.verdict
        return {
            "input": str(self.artifact.inputs[0]),
            "folded": self.folded,
            "levels": found.levels,
            "share_of_pixels": found.share,
            "error_in_std": found.error,
            "probability": found.probability,
            "reference": found.reference,
            "pictures": found.count,
        }


def with_picture_input(
    source: Path,
    path: Path,
    *,
    mode: Mode,
    layout: Layout = "nhwc",
    top: int = 5,
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Make a picture file of a file that cnnport exported. Arguments and errors as of ``picture_file``."""
    made = picture_file(source, path, mode=mode, layout=layout, top=top, overwrite=overwrite, on_step=on_step)
    return made.artifact


def picture_file(
    source: Path,
    path: Path,
    *,
    mode: Mode,
    layout: Layout = "nhwc",
    top: int = 5,
    module: "nn.Module | None" = None,
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> PictureFile:
    """Put the preparation of pictures before a network, and softmax and the best classes after it.

    Args:
        source: A file that cnnport exported, of a classifier that takes images of one size, in any precision.
        path: The file to write.
        mode: ``normalize`` for pictures of the network's own size, ``full`` for pictures of any.
        layout: Of the pictures: ``nhwc`` or ``nchw``.
        top: How many of the best classes are given, or all where there are fewer.
        module: The network in PyTorch, to verify against; None to verify against ``source``, which was.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.

    Raises:
        ArtifactError: If the file is not of that kind.
        CnnportError: On other wrong usage.
        CheckFailedError: If the result departs by more than is allowed, or ``source`` was changed since it was
            written. Nothing is written.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
    """
    check_wish(mode, layout, top)
    check_writable(path, overwrite=overwrite)
    require_runtime("ort-cpu")
    on_step("read")
    is_split = bool(data_files(load_model(source, external_data=False)))
    model = load_model(source)
    network = artifact_of(model, source)
    check_own(network, model, is_split)
    preprocess, scores = check_network(network)
    check_opset(mode, network.opset)
    spec = next(each for each in network.outputs if each.name == scores)
    picture = Picture(mode, layout, min(top, int(spec.shape[1])))
    on_step("pictures")
    batch = network.inputs[0].shape[0]
    fixed = batch if isinstance(batch, int) else None
    is_probability = gives_probabilities(network, preprocess, scores)
    front = preprocess_model(preprocess, mode=mode, layout=layout, opset=network.opset, batch=fixed)
    back = _scores_model(model, spec, picture.top, network.opset, fixed, is_probability)
    graph = joined(model, front, back, input_name=network.inputs[0].name, scores=scores)
    if fault := problem(graph):
        raise CheckFailedError(f"the graph is not valid ONNX: {fault}\nnothing was written")
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        stated = _stated(network, picture, preprocess)
        prepared = _written(front, folder / "prepared.onnx", stated)

        def attempt(candidate: "onnx.ModelProto") -> PictureVerdict:
            on_step("verify")
            made = _written(candidate, folder / "candidate.onnx", stated)
            return check(
                made,
                prepared,
                network,
                scores,
                preprocess,
                picture,
                is_probability=is_probability,
                module=module,
            )

        folded: Folded = "nothing"
        found: PictureVerdict | None = None
        if network.precision == "fp32":
            smaller, folded = _folded(graph)
            if folded != "nothing":
                try:
                    found, graph = attempt(smaller), smaller
                except CheckFailedError:
                    folded = "nothing"
        verdict = found or attempt(graph)
        on_step("write")
        golden = _golden(
            network, prepared, preprocess, picture, scores, verdict, is_probability=is_probability
        )
        metadata = stated | golden_to_metadata(golden)
        if folded != "nothing":
            ran = [each for each in metadata.get("cnnport.passes", "").split(",") if each]
            metadata["cnnport.passes"] = ",".join(dict.fromkeys((*ran, fold_affine.__name__)))
        write_model(graph, path, metadata)
    return PictureFile(read_artifact(path), folded, verdict)


def _scores_model(
    model: "onnx.ModelProto", spec: TensorSpec, top: int, opset: int, batch: int | None, is_probability: bool
) -> "onnx.ModelProto":
    kind = next(value.type.tensor_type.elem_type for value in model.graph.output if value.name == spec.name)
    return scores_model(
        int(spec.shape[1]),
        top,
        opset,
        batch=batch,
        kind=kind,
        trailing=len(spec.shape) - 2,
        is_probability=is_probability,
    )


def _folded(graph: "onnx.ModelProto") -> "tuple[onnx.ModelProto, Folded]":
    """The graph with as much of the normalisation inside its first operators as can be, and how much that is."""
    smaller, reports = optimize(graph, (fold_affine,))
    if not any(report.rewrites for report in reports):
        return graph, "nothing"
    value = next(node.output[0] for node in smaller.graph.node if node.op_type == "Cast")
    left = _readers(smaller, value)
    while [node.op_type for node in left] == ["Transpose"]:
        left = _readers(smaller, left[0].output[0])
    arithmetic = [node.op_type for node in left if node.op_type in {"Add", "Sub", "Mul", "Div"}]
    if not arithmetic:
        return smaller, "all"
    return smaller, "scale" if arithmetic[0] in {"Add", "Sub"} else "nothing"


def _readers(graph: "onnx.ModelProto", value: str) -> "list[onnx.NodeProto]":
    return [node for node in graph.graph.node if value in node.input]


def _stated(network: Artifact, picture: Picture, preprocess: Preprocess) -> dict[str, str]:
    """What the file says of itself, but for its golden output."""
    metadata = {
        key: value
        for key, value in network.metadata.items()
        if key not in {CHECKSUM_KEY, INITIALIZERS_KEY, "cnnport.golden"}
    }
    metadata |= picture_to_metadata(picture) | {"cnnport.layout": picture.layout.upper()}
    if picture.preprocess == "full":
        height, width = native_size(preprocess)
        metadata |= sizes_to_metadata({"height": height, "width": width})
    return metadata


def _golden(
    network: Artifact,
    prepared: Artifact,
    preprocess: Preprocess,
    picture: Picture,
    scores: str,
    verdict: PictureVerdict,
    *,
    is_probability: bool,
) -> Golden:
    """A seeded picture, and what the network's file says of it as Pillow prepares it."""
    before = golden_of(network)
    seed = before.seed if before is not None else 0
    spec, own = at_native_size(prepared).inputs[0], network.inputs[0]
    feed = seeded_input([spec], 1, seed)
    pixels = np.asarray(feed[spec.name], np.uint8)
    case = Case(pixels if picture.layout == "nhwc" else pixels.transpose(0, 2, 3, 1))
    with opened(network) as session:
        outputs = session.run({own.name: case.prepared(picture, preprocess).astype(own.dtype)})
    tolerance = {
        name: max(
            _GOLDEN_SLACK * max(FP32_TOLERANCE * max(spread_of(values), 1e-6), verdict.max_abs[name]),
            before.tolerance.get(name, 0.0) if before is not None else 0.0,
        )
        for name, values in outputs.items()
    }
    rows = softmax(outputs[scores], scores, is_probability=is_probability)
    # A softmax moves by half of what its largest logit moves, at most.
    tolerance[PROBABILITIES] = min(1.0, tolerance[scores] * (1.0 if is_probability else 0.5))
    tolerance[TOP_PROBABILITIES] = tolerance[PROBABILITIES]
    outputs = outputs | {PROBABILITIES: rows, TOP_PROBABILITIES: -np.sort(-rows, axis=1)[:, : picture.top]}
    return Golden(
        seed=seed,
        batch=1,
        outputs={name: golden_sample(values) for name, values in outputs.items()},
        tolerance={name: float(f"{each:.3g}") for name, each in tolerance.items()},
    )


def _written(graph: "onnx.ModelProto", path: Path, metadata: dict[str, str]) -> Artifact:
    """A graph on disk; its own metadata is lost."""
    import onnx

    if graph.ByteSize() > INLINE_LIMIT_BYTES:
        # Writing takes the weights out of what it writes.
        whole, graph = graph, onnx.ModelProto()
        graph.CopyFrom(whole)
    write_model(graph, path, metadata)
    return read_artifact(path)

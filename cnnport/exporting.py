"""Export: from a network's name to a verified ONNX file.

The steps, each with its own module: find the source, load weights, capture with torch.onnx, simplify with onnxsim,
run the graph passes, verify against PyTorch, describe, write. Nothing is written unless the check passes.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport import libraries
from cnnport._version import __version__
from cnnport.artifact import Artifact
from cnnport.compare import FP32_TOLERANCE, spread_of
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, FeedError, ModelError
from cnnport.files import check_writable
from cnnport.graphs import DEFAULT_PASSES, Pass, PassReport, count_ops, optimize
from cnnport.graphs.convert_opset import check_supported, convert_opset, problem
from cnnport.graphs.half import check_opset
from cnnport.graphs.simplify import simplify
from cnnport.half_precision import to_half
from cnnport.halved import Halved, format_of, metadata_of
from cnnport.metadata import (
    FORMAT,
    Golden,
    golden_sample,
    golden_to_metadata,
    origin_to_metadata,
    sizes_to_metadata,
    to_json,
    tool_versions,
)
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import read_artifact, write_model
from cnnport.prepared import (
    BATCHES,
    DEFAULT_OPSET,
    Prepared,
    captured,
    original_of,
    prepare,
    reference_of,
)
from cnnport.runtimes import require_runtime
from cnnport.source import Source, find_source
from cnnport.weights import LoadedWeights

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from cnnport.picture_file import PictureFile
    from cnnport.quantization import Quantized
    from cnnport.reference import Reference, Verdict

# A network in another form is held against the network itself at so many batch sizes.
_ORIGINAL_BATCHES = 2

# Kernels differ between machines more than within one; a wrong weight is off by far more than this.
_GOLDEN_SLACK = 10.0


@dataclass(frozen=True)
class Step:
    """One step of an export: its name, how long it took, and the operators that the graph then held."""

    name: str
    seconds: float
    ops: dict[str, int]


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        artifact: The file.
        steps: In order, from torch.onnx to the last pass.
        passes: What each graph pass did, those that were refused included.
        verdict: The check of the finished graph, in float32, against PyTorch.
        halved: How it became half, and the check of that against float32; None for files in float32.
        weights: Where the weights came from.
        seconds: From start to the file in place.
        quantized: How it became int8, for which float32 was exported first; None for other files.
        picture: How it came to take pictures; None for other files.
    """

    artifact: Artifact
    steps: tuple[Step, ...]
    passes: tuple[PassReport, ...]
    verdict: "Verdict"
    halved: Halved | None
    weights: LoadedWeights
    seconds: float
    quantized: "Quantized | None" = None
    picture: "PictureFile | None" = None


def export(
    model: "str | Source",
    path: str | Path,
    *,
    weights: str = "auto",
    seed: int = 0,
    opset: int = DEFAULT_OPSET,
    batch: int | None = None,
    image_size: tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    passes: tuple[Pass, ...] = DEFAULT_PASSES,
    target: str = "portable",
    precision: str = "fp32",
    io_dtype: str = "fp32",
    dense: bool = False,
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    on_download: Callable[[int, int | None], None] | None = None,
    on_network: "Callable[[nn.Module], None]" = lambda _: None,
) -> Exported:
    """Export a network as one verified ONNX file.

    Args:
        model: What ``find_source`` takes, or what it gives.
        path: The file to write.
        weights: ``auto``, ``default``, ``random``, a .pth or .safetensors file, or a URL.
        seed: Of random weights.
        opset: Version of the default operator set.
        batch: A fixed batch size; None leaves the batch dynamic.
        image_size: Height and width; None for the network's own, and any other where it takes any.
        num_classes: None for the network's own.
        in_channels: None for the network's own.
        passes: Graph passes, in order.
        target: The runtime that they were chosen for, as the file is to state.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        io_dtype: ``fp32``, or ``fp16`` for float16 inputs and outputs too.
        dense: Whether to export the network's fully convolutional form, for images from its native size on.
        overwrite: Whether an existing file may be replaced.
        on_step: Told the name of each step when it begins.
        on_download: Told the bytes so far and in all while weights are fetched.
        on_network: Told the network in PyTorch, with its weights, once it is there.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
        CheckFailedError: If the graph does not compute what PyTorch computes. Nothing is written.
    """
    started = time.perf_counter()
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    if batch is not None and batch < 1:
        raise CnnportError(f"a batch of {batch} makes no sense: it is at least 1, or dynamic")
    if seed < 0:
        raise CnnportError(f"a seed is not negative: {seed}")
    if image_size is not None and min(image_size) < 1:
        raise ModelError(f"an image of {image_size[0]}x{image_size[1]} has no pixels")
    check_supported(opset)
    half = format_of(precision, io_dtype)
    if half is not None:
        check_opset(half, opset)
    # Verification is not optional: better to say so before the work than after it.
    require_runtime("ort-cpu")

    on_step("weights")
    source = model if isinstance(model, Source) else find_source(model)
    prepared = prepare(source, weights, seed, image_size, num_classes, in_channels, dense, on_download)
    on_network(prepared.module)
    on_step("reference")
    batches = BATCHES if batch is None else (batch,)
    reference = reference_of(prepared, batches)
    original = original_of(prepared, batches[:_ORIGINAL_BATCHES])
    if original is not None and not (found := original.check_module(prepared.module)).ok:
        raise CheckFailedError(
            f"{source.name}: its fully convolutional form does not compute what it computes: {found}\n"
            "nothing was written"
        )
    graph, steps, reports = _make_graph(prepared, reference, opset, batch, passes, on_step)
    on_step("verify")
    verdict = reference.check(graph, optimize=True)
    if verdict.ok and original is not None and prepared.any_size:
        # Held against the network itself too: the two differences must not add up.
        found = original.check(graph, optimize=True)
        verdict = verdict if found.ok else found
    if not verdict.ok:
        raise CheckFailedError(
            f"{source.name}: the ONNX graph does not compute what PyTorch computes: {verdict}\nnothing was written"
        )
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        folder, halved = Path(name), None
        if half is not None:
            began = time.perf_counter()
            set_aside(graph, folder, "float32.data")
            feeds = [reference.feeds(case) for case in range(reference.quick)]
            # ONNX Runtime takes parameters of another type beside halves; OpenVINO refuses them.
            graph, halved = to_half(
                compact(graph),
                folder,
                half,
                feeds,
                half_io=io_dtype != "fp32",
                mixed=target == "ort",
                on_step=on_step,
            )
            steps = (*steps, Step(precision, time.perf_counter() - began, count_ops(graph)))
        on_step("write")
        metadata = _describe(prepared, reference, verdict, halved, opset, target, reports)
        write_model(graph, path, metadata, folder if halved is not None else None)
    del graph
    return Exported(
        artifact=read_artifact(path),
        steps=steps,
        passes=reports,
        verdict=verdict,
        halved=halved,
        weights=prepared.weights,
        seconds=time.perf_counter() - started,
    )


def default_path(model: "str | Source") -> Path:
    """Where an export goes unless told otherwise: ``NAME.onnx`` in the current folder.

    Raises:
        UnknownNameError: If it is no name of the zoo, or of a library.
        ModelError: If the library is not installed.
    """
    name = model.name if isinstance(model, Source) else model
    if found := libraries.split(name):
        stem = found[1].replace("/", "_")
    elif ":" in name:
        stem = "".join(
            letter if letter.isalnum() or letter in "-_" else "_" for letter in name.rsplit(":", 1)[1]
        )
    else:
        stem = find_source(name).name
    return Path(f"{stem}.onnx")


def _make_graph(
    prepared: Prepared,
    reference: "Reference",
    opset: int,
    batch: int | None,
    passes: tuple[Pass, ...],
    on_step: Callable[[str], None],
) -> "tuple[onnx.ModelProto, tuple[Step, ...], tuple[PassReport, ...]]":
    steps: list[Step] = []

    def timed(name: str, work: "Callable[[], onnx.ModelProto]") -> "onnx.ModelProto":
        on_step(name)
        began = time.perf_counter()
        graph = work()
        steps.append(Step(name, time.perf_counter() - began, count_ops(graph)))
        return graph

    def mismatch(candidate: "onnx.ModelProto") -> str | None:
        try:
            verdict = reference.check(candidate, optimize=False, cases=reference.quick)
        except (ArtifactError, FeedError) as error:
            # A graph that the runtime refuses is the pass's fault as much as a wrong result.
            return str(error)
        return None if verdict.ok else str(verdict)

    graph = timed("torch.onnx", lambda: captured(prepared, reference, opset, batch))
    graph = timed("onnxsim", lambda: simplify(graph))
    reports: tuple[PassReport, ...] = ()

    def run_passes() -> "onnx.ModelProto":
        nonlocal reports
        optimized, reports = optimize(graph, passes, verify=mismatch)
        return optimized

    if passes:
        graph = timed("passes", run_passes)
    graph = convert_opset(graph, opset)
    if fault := problem(graph):
        raise CheckFailedError(f"the graph is not valid ONNX: {fault}\nnothing was written")
    return graph, tuple(steps), reports


def _describe(
    prepared: Prepared,
    reference: "Reference",
    verdict: "Verdict",
    halved: Halved | None,
    opset: int,
    target: str,
    reports: tuple[PassReport, ...],
) -> dict[str, str]:
    source = prepared.source
    outputs = reference.outputs[0]
    first = reference.cases[0]
    slack = _GOLDEN_SLACK * max(FP32_TOLERANCE, verdict.worst.error)
    if halved is not None:
        # The golden output is what PyTorch gives in float32; a runtime may hold halves or not.
        slack += halved.tolerance
    golden = Golden(
        seed=first.seed,
        batch=first.batch,
        outputs={name: golden_sample(values) for name, values in outputs.items()},
        tolerance={
            name: float(f"{slack * max(spread_of(values), 1e-6):.3g}") for name, values in outputs.items()
        },
    )
    metadata = {
        "cnnport.format": FORMAT,
        "cnnport.version": __version__,
        "cnnport.opset": str(opset),
        "cnnport.precision": "fp32",
        "cnnport.target": target,
        "cnnport.layout": "NCHW",
        "cnnport.passes": ",".join(dict.fromkeys(report.name for report in reports if report.rewrites)),
        "cnnport.versions": to_json(tool_versions()),
        **origin_to_metadata(prepared.origin),
        **golden_to_metadata(golden),
        **(metadata_of(halved) if halved is not None else {}),
    }
    channels, *size = prepared.input_shape
    if prepared.any_size:
        metadata |= sizes_to_metadata({"height": size[0], "width": size[1]})
    if source.preprocess is not None and source.preprocess.channels == channels:
        metadata["cnnport.preprocess"] = to_json(source.preprocess.resized((size[0], size[1])).to_json())
    scores = outputs.get(source.output_name)
    if source.labels is not None and scores is not None and scores.shape[1:] == (len(source.labels),):
        metadata["cnnport.labels"] = to_json(source.labels)
    return metadata

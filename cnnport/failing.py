"""What to send when a pass did wrong: the few nodes on which it does, as a model of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnport.compare import FP32_TOLERANCE
from cnnport.difference import difference
from cnnport.errors import ArtifactError, FeedError, OutputError
from cnnport.files import write_atomically
from cnnport.graphs import Pass, PassReport, optimize
from cnnport.graphs.bisect import smallest_failing
from cnnport.offload import bring_back, weights_bytes
from cnnport.onnxfile import INLINE_LIMIT_BYTES, read_artifact
from cnnport.original import Original
from cnnport.runtimes import Options, require_runtime

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, Any]


def keep_failing(
    report: PassReport,
    each: Pass,
    before: "onnx.ModelProto",
    original: Original | None,
    folder: Path,
    target: Path,
) -> Path | None:
    """Write the smallest part of a model on which a refused pass still fails in the same way.

    Args:
        report: Of the run that was refused.
        each: The pass.
        before: The model that it was given; its weights may lie in ``folder``.
        original: What the model is to compute, where that can be verified.
        folder: Where files can be written meanwhile.
        target: The file to write; one that exists is replaced.

    Returns:
        ``target``; None where the fault does not show again, and nothing was written.

    Raises:
        OutputError: If the file system refuses.
    """
    if report.fault in {None, "unreadable"}:
        return None
    trials = original.trials if original is not None and report.fault == "mismatch" else [None]
    for trial in trials:
        values = _Values(before, folder, original.feeds(trial) if original and trial else None)
        part = smallest_failing(before, _Fails(report, each, values, folder), values.types)
        if part is not None:
            bring_back(part, folder)
            if weights_bytes(part) > INLINE_LIMIT_BYTES:
                raise OutputError(f"cannot write {target}: what fails has more than 2 GB of weights")
            write_atomically(target, part.SerializeToString(deterministic=True))
            return target
    return None


class _Values:
    """The values inside a model, computed when somebody asks for them."""

    def __init__(self, model: "onnx.ModelProto", folder: Path, feeds: Arrays | None) -> None:
        self._model = model
        self._folder = folder
        self._feeds = feeds
        self._found: Arrays = dict(feeds or {})
        self._inferred = _inferred(model)

    def arrays(self, names: Sequence[str]) -> Arrays:
        """As the model computes them; those that cannot be had are left out."""
        import onnx

        missing = [name for name in names if name not in self._found]
        if missing and self._feeds is not None:
            shell = onnx.ModelProto()
            shell.CopyFrom(self._model)
            del shell.graph.output[:]
            shell.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
            self._found |= run(shell, self._feeds, self._folder) or {}
        return {name: self._found[name] for name in names if name in self._found}

    def types(self, names: Sequence[str]) -> "dict[str, onnx.TypeProto]":
        """From the graph, which may leave sizes open; where it does not tell, as computed."""
        from onnx import helper

        known = {name: self._inferred[name] for name in names if name in self._inferred}
        found = self.arrays([name for name in names if name not in known])
        computed = {
            name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in found.items()
            if isinstance(array, np.ndarray)
        }
        return known | computed


class _Fails:
    """Whether a pass fails on a part of a model, in the same way as on the whole."""

    def __init__(self, report: PassReport, each: Pass, values: _Values, folder: Path) -> None:
        self._fault = report.fault
        self._pass = each
        self._values = values
        self._folder = folder

    def __call__(self, part: "onnx.ModelProto") -> bool:
        verify = None
        if self._fault == "mismatch":
            held = {tensor.name for tensor in part.graph.initializer}
            names = [value.name for value in part.graph.input if value.name not in held]
            feeds = self._values.arrays(names)
            expected = run(part, feeds, self._folder) if len(feeds) == len(names) else None
            if expected is None:
                return False

            def verify(candidate: "onnx.ModelProto") -> str | None:
                found = run(candidate, feeds, self._folder)
                if found is None:
                    return "it cannot be run"
                worst = difference(expected, found, FP32_TOLERANCE)
                return None if worst.ok else str(worst)

        _, reports = optimize(part, (self._pass,), verify=verify, folder=self._folder)
        return any(report.fault == self._fault for report in reports)


def run(model: "onnx.ModelProto", feeds: Arrays, folder: Path) -> Arrays | None:
    """The outputs of a model on onnxruntime, unoptimised; None where it cannot be loaded or run."""
    path = folder / "part.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        artifact = read_artifact(path)
        with require_runtime("ort-cpu").open(
            artifact, Options(optimize=False, reuse_memory=False)
        ) as session:
            wanted = {spec.name for spec in artifact.inputs}
            return session.run({name: array for name, array in feeds.items() if name in wanted})
    except (ArtifactError, FeedError):
        return None


def _inferred(model: "onnx.ModelProto") -> "dict[str, onnx.TypeProto]":
    import onnx

    small = model.ByteSize() <= INLINE_LIMIT_BYTES
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph if small else model.graph
    except Exception:  # a graph that inference cannot follow tells what it tells
        graph = model.graph
    return {
        value.name: value.type
        for value in (*graph.value_info, *graph.output, *graph.input)
        if value.type.tensor_type.HasField("shape")
    }

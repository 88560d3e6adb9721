"""One graph made or checked, in this process: ``python -m cnnport.measuring.studies.graph_tools`` reads what as JSON.

A tool that crashes, or that needs all memory, then does so alone. The question has ``do``, one of ``TASKS``, and its
arguments; see ``answering``.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.answering import answer_with, one_line
from cnnport.errors import ArtifactError, CnnportError, RuntimeMissingError
from cnnport.measuring.record import Json
from cnnport.measuring.worker import SEED
from cnnport.memory import return_large_blocks
from cnnport.process import Failure, ask, command_of

if TYPE_CHECKING:
    import onnx

    from cnnport.artifact import Artifact
    from cnnport.runtimes.protocol import Array

TOOL_THREADS = 1
"""Of torch and NumPy, so that the seconds that a tool takes are the same case on every machine."""

# Outputs this far apart, in standard deviations, are no matter of rounding.
_FLOAT32_LIMIT = 1e-2

# torch.onnx takes minutes for a network of hundreds of layers; what takes longer has gone wrong.
_LIMIT_S = 7200.0


def perform(task: str, **arguments: object) -> Json:
    """Do a task in a process of its own.

    Raises:
        CnnportError: If it fails, with what it says.
    """
    command = command_of("cnnport.measuring.studies.graph_tools")
    answer = ask(command, {"do": task, **arguments}, threads=TOOL_THREADS, timeout_s=_LIMIT_S)
    if isinstance(answer, Failure):
        raise CnnportError(answer.reason)
    return answer


def torch_onnx(network: str, target: str) -> Json:
    """Write a network with seeded weights as torch.onnx gives it. Answers with ``seconds``."""
    from cnnport.prepared import torch_graph

    begin = time.perf_counter()
    model = torch_graph(network, weights="random", seed=0)
    seconds = time.perf_counter() - begin
    _save(model, target)
    return {"seconds": seconds}


def onnxsim(source: str, target: str) -> Json:
    """Write what onnxsim makes of a file. Answers with ``seconds`` from graph to graph."""
    import onnxsim

    model = _load(source)
    begin = time.perf_counter()
    model, ok = onnxsim.simplify(model)
    seconds = time.perf_counter() - begin
    if not ok:
        raise ArtifactError("onnxsim reports that its result is not a valid model")
    _save(model, target)
    return {"seconds": seconds}


def onnxslim(source: str, target: str) -> Json:
    """Write what onnxslim makes of a file. Answers with ``seconds`` from graph to graph."""
    try:
        import onnxslim
    except ImportError as error:
        raise RuntimeMissingError(
            f"onnxslim does not import ({one_line(error)}): pip install onnxslim"
        ) from error

    model = _load(source)
    begin = time.perf_counter()
    model = onnxslim.slim(model)
    seconds = time.perf_counter() - begin
    _save(model, target)
    return {"seconds": seconds}


def inspect(first: str, other: str, batches: list[int]) -> Json:
    """Hold a file's outputs, as they are measured, against those of the first file without optimisations.

    Answers with ``bytes``, ``ops``, ``graph`` and ``operators`` (the digests with the order and without it),
    ``error_in_std`` and ``agrees``: within the tolerance of an export, or, where float32 itself rounds worse than
    that but still says something, within it in float64.
    """
    from cnnport.compare import FP32_TOLERANCE
    from cnnport.golden import seeded_input
    from cnnport.graphs import count_ops
    from cnnport.measuring.studies.graph_digest import graph_digest
    from cnnport.metadata import at_native_size
    from cnnport.onnxfile import read_artifact

    artifacts = [at_native_size(read_artifact(Path(path))) for path in (first, other)]
    feeds = [seeded_input(artifacts[0].inputs, batch, SEED) for batch in batches]
    expected = _outputs(artifacts[0], feeds, optimize=False)
    error = _distance(expected, _outputs(artifacts[1], feeds, optimize=True))
    model = _load(other)
    return {
        "bytes": Path(other).stat().st_size,
        "ops": count_ops(model),
        "graph": graph_digest(model),
        "operators": graph_digest(model, ordered=False),
        # JSON knows no infinity.
        "error_in_std": error if math.isfinite(error) else None,
        "agrees": error <= FP32_TOLERANCE
        or (error <= _FLOAT32_LIMIT and _agree_in_float64(_load(first), model, feeds[0])),
    }


TASKS: dict[str, Callable[..., Json]] = {
    task.__name__: task for task in (torch_onnx, onnxsim, onnxslim, inspect)
}


def _outputs(
    artifact: "Artifact", feeds: "list[dict[str, Array]]", *, optimize: bool
) -> "list[dict[str, Array]]":
    from cnnport.runtimes import Options, require_runtime

    runtime = require_runtime("ort-cpu")
    with runtime.open(
        artifact, Options(threads=TOOL_THREADS, optimize=optimize, reuse_memory=False)
    ) as session:
        return [session.run(each) for each in feeds]


def _distance(expected: "list[dict[str, Array]]", found: "list[dict[str, Array]]") -> float:
    """The furthest of all outputs, in standard deviations. Raises ``ArtifactError`` where they do not compare."""
    from cnnport.compare import compare

    errors = []
    for left, right in zip(expected, found, strict=True):
        if left.keys() != right.keys():
            raise ArtifactError(f"the outputs are {', '.join(right)}, not {', '.join(left)}")
        for name, values in left.items():
            if values.shape != right[name].shape:
                raise ArtifactError(f"{name!r} is of shape {right[name].shape}, not {values.shape}")
            errors.append(compare(values, right[name]).error)
    return max(errors)


def _agree_in_float64(first: "onnx.ModelProto", other: "onnx.ModelProto", feeds: "dict[str, Array]") -> bool:
    from cnnport.compare import FP32_TOLERANCE
    from cnnport.float64 import run_in_float64

    expected, found = run_in_float64(first, feeds), run_in_float64(other, feeds)
    if expected is None or found is None:
        return False
    return _distance([expected], [found]) <= FP32_TOLERANCE


def _load(path: str) -> "onnx.ModelProto":
    from cnnport.onnxfile import load_model

    return load_model(Path(path))


def _save(model: "onnx.ModelProto", path: str) -> None:
    from cnnport.files import write_atomically

    write_atomically(Path(path), model.SerializeToString(deterministic=True))


def _serve(question: Json) -> Json:
    return_large_blocks()
    return TASKS[question.pop("do")](**question)


if __name__ == "__main__":
    answer_with(_serve)

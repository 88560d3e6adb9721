"""One candidate, run in this process: ``python -m cnnport.agreement.worker`` answers questions on standard input.

The first question opens it and has what ``Candidate.to_json`` says, and ``exact`` and ``folder``. Each other one has
``inputs``: for every input of the network, in order, a file of rows, and where the samples begin and end in it. The
answer names the file that every output was written to, in ``folder``. Arrays do not travel through the pipe.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport.answering import answer_all_with
from cnnport.errors import ArtifactError, CnnportError, FeedError
from cnnport.process import Json

if TYPE_CHECKING:
    from cnnport.agreement.rows import Array
    from cnnport.artifact import Artifact

    Run = Callable[[dict[str, Array]], dict[str, Any]]


def begin(question: Json) -> Callable[[Json], Json]:
    """Open a candidate, and give what answers the questions. Raises as ``Runtime.open``."""
    from cnnport.metadata import at_native_size
    from cnnport.onnxfile import read_artifact
    from cnnport.runtimes import Options, require_runtime
    from cnnport.runtimes.engine_file import is_engine, read_engine

    path = Path(question["path"])
    artifact = at_native_size(read_engine(path) if is_engine(path) else read_artifact(path))
    if artifact.sha256 != question["sha256"]:
        raise ArtifactError(f"{path} has changed since the comparison began")
    runtime = require_runtime(question["runtime"])
    if question["exact"]:
        run, version = _exact(artifact, question["runtime"]), "float64"
    else:
        version = runtime.version()
        run = runtime.open(artifact, Options(**question["options"])).run
    folder = Path(question["folder"])

    def serve(asked: Json) -> Json:
        if "inputs" not in asked:
            return {"version": version, "device": runtime.device()}
        feeds, count, batch = _feeds(artifact, asked["inputs"])
        outputs = run(feeds)
        return {"outputs": [_written(outputs, spec.name, folder, count, batch) for spec in artifact.outputs]}

    return serve


def _feeds(artifact: "Artifact", inputs: list[list[Any]]) -> "tuple[dict[str, Array], int, int]":
    """What is fed, how many samples are in it, and how many times the network is told there are.

    Raises:
        FeedError: If there are other inputs than the network's.
    """
    import numpy as np

    from cnnport.agreement.rows import read_rows

    if len(inputs) != len(artifact.inputs):
        raise FeedError(f"{artifact.path} has {len(artifact.inputs)} inputs, not {len(inputs)}")
    feeds: dict[str, Array] = {}
    count = batch = 0
    for spec, (file, start, stop) in zip(artifact.inputs, inputs, strict=True):
        rows = np.array(read_rows(Path(file))[start:stop])
        count = batch = len(rows)
        fixed = spec.shape[0] if spec.shape else None
        if isinstance(fixed, int):
            # A file of a fixed batch gets the last sample as often as is missing.
            rows, batch = rows[np.minimum(np.arange(fixed), count - 1)], fixed
        if rows.dtype.kind != np.dtype(spec.dtype).kind:
            raise FeedError(f"{artifact.path} takes {spec}, and the samples are {rows.dtype}")
        feeds[spec.name] = rows.astype(spec.dtype, copy=False)
    return feeds, count, batch


def _written(outputs: dict[str, Any], name: str, folder: Path, count: int, batch: int) -> Json:
    """Write one output, a row a sample. Raises ``CnnportError`` where it is no such thing."""
    import numpy as np

    value = outputs[name]
    if not isinstance(value, np.ndarray):
        raise CnnportError(f"output {name!r} is no tensor")
    if value.dtype.kind not in "fiub":
        # NumPy writes bfloat16 and its like as bytes.
        value = value.astype(np.float32)
    if value.shape[:1] == (batch,):
        value = value[:count]
    elif batch == 1:
        value = value[None]
    else:
        raise CnnportError(
            f"output {name!r} of shape {list(value.shape)} has no row for each of {batch} inputs"
        )
    file = folder / f"found.{list(outputs).index(name)}.npy"
    np.save(file, value)
    return {"name": name, "file": str(file)}


def _exact(artifact: "Artifact", runtime: str) -> "Run":
    """Gives outputs in float64: of the module where PyTorch runs it, of the graph elsewhere."""
    if runtime.startswith("torch"):
        return _exact_module(artifact)
    from cnnport.float64 import run_in_float64
    from cnnport.onnxfile import load_model

    model = load_model(artifact.path)

    def run(feeds: "dict[str, Array]") -> dict[str, Any]:
        found = run_in_float64(model, feeds)
        if found is None:
            raise CnnportError("the graph cannot be computed in float64")
        return found

    return run


def _exact_module(artifact: "Artifact") -> "Run":
    import torch

    from cnnport.capture import named_outputs
    from cnnport.rebuild import module_of

    module = module_of(artifact).double()

    def run(feeds: "dict[str, Array]") -> dict[str, Any]:
        tensors = [torch.from_numpy(feeds[spec.name]) for spec in artifact.inputs]
        with torch.inference_mode():
            result = module(*(each.double() if each.is_floating_point() else each for each in tensors))
        found = named_outputs(result, artifact.outputs[0].name)
        return {name: tensor.numpy() for name, tensor in found.items()}

    return run


def main() -> None:
    """Answer what is asked of the candidate, and end at once."""
    answer_all_with(begin)


if __name__ == "__main__":
    main()

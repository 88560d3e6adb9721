"""The steps of an ensemble, run one after the other on the example before anything is written."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnport.errors import CheckFailedError
from cnnport.onnxfile import read_artifact
from cnnport.packaging.kinds import Content
from cnnport.packaging.subject import Subject
from cnnport.packaging.triton_config import Ensemble
from cnnport.runtimes import Options, require_runtime

if TYPE_CHECKING:
    from cnnport.runtimes.protocol import Array


def try_example(subject: Subject, ensemble: Ensemble, models: Mapping[str, Content]) -> None:
    """Hold what the steps make of the example, run by ONNX Runtime, to what the picture file makes of it.

    Args:
        subject: With the example and its answer.
        ensemble: Which model gets which tensor.
        models: The ONNX file of each step.

    Raises:
        CheckFailedError: If a probability is off by more than the example allows, or another class is best.
    """
    pixels = subject.example.pixels
    image = pixels if subject.picture.layout == "nhwc" else pixels.transpose(2, 0, 1)
    size = max(ensemble.inputs[0].dims[0], 1) if ensemble.max_batch == 0 else 1
    tensors: dict[str, Array] = {
        ensemble.inputs[0].name: np.ascontiguousarray(np.repeat(image[None], size, axis=0))
    }
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as scratch:
        for number, step in enumerate(ensemble.steps):
            content = models[step.model]
            path = content if isinstance(content, Path) else Path(scratch) / f"{number}.onnx"
            if isinstance(content, bytes):
                path.write_bytes(content)
            with require_runtime("ort-cpu").open(read_artifact(path), Options()) as session:
                answer = session.run({name: tensors[source] for name, source in step.inputs.items()})
            tensors |= {target: answer[name] for name, target in step.outputs.items()}
    probabilities = tensors["probabilities"][0].astype(np.float64)
    off = max(abs(probabilities[index] - value) for index, value in subject.example.top)
    best = int(tensors["top_indices"][0][0])
    if not off <= subject.example.tolerance or best != subject.example.top[0][0]:
        raise CheckFailedError(
            f"the steps for Triton give the example's classes probabilities that are off by {off:.1e}, allowed are "
            f"{subject.example.tolerance:.1e}\nnothing was written"
        )

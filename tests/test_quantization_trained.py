"""The networks that ship trained, at every precision, on the digits that are held out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.digits import load_digits
from cnnport.half_file import half_file
from cnnport.images import preprocess_image
from cnnport.metadata import preprocess_of
from cnnport.onnxfile import read_artifact
from cnnport.quantization import quantize_file
from cnnport.quantization.judging import runner_of
from cnnport.runtimes import Options, require_runtime
from cnnport.verifying import verify

TARGETS = ("ort", "trt", "openvino")

TRAINED = [spec.name for spec in registry.specs() if spec.weights and spec.weights.is_packaged]

# Of the 500 that are held out; the whole table is made by ``python -m cnnport.measuring.studies.quantized``.
HELD_OUT = 200


def accuracy(path: Path, runtime: str, options: Options) -> tuple[float, np.ndarray]:
    """Per cent of the held-out digits that are classified right, and the scores."""
    artifact, digits = read_artifact(path), load_digits()
    preprocess = preprocess_of(artifact)
    assert preprocess is not None
    inputs = np.stack(
        [preprocess_image(Image.fromarray(image), preprocess) for image in digits.test_images[:HELD_OUT]]
    )
    with require_runtime(runtime).open(artifact, options) as session:
        scores = session.run({artifact.inputs[0].name: inputs})["logits"]
    return 100.0 * float(np.mean(scores.argmax(1) == digits.test_labels[:HELD_OUT])), scores


@pytest.mark.parametrize("name", TRAINED)
def test_trained_networks_at_every_precision(
    name: str, exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    """On held-out digits that neither the training nor the quantizing saw: at most one more of 200 is wrong."""
    source = exported(name).path
    expected, scores = accuracy(source, "ort-cpu", Options())
    half = half_file(source, tmp_path / "half.onnx", "fp16")
    files = {"fp16": (half.artifact.path, ("ort-cpu", Options()))}
    for target in TARGETS:
        done = quantize_file(source, tmp_path / f"{target}.onnx", "digits:64", target=target, method="mse")
        files[target] = (done.artifact.path, runner_of(target))
        checks = verify(done.artifact.path)
        assert checks
        assert all(check.ok for check in checks)
    for precision, (path, runner) in files.items():
        reached, found = accuracy(path, *runner)
        noise = np.square(found - scores).sum() / np.square(scores).sum()
        assert reached >= expected - 0.5, precision
        assert np.mean(found.argmax(1) == scores.argmax(1)) >= 0.99, precision
        assert -10 * np.log10(noise) > 20, precision

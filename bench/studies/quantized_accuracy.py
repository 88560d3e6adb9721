"""What a trained network loses in halves and in 8 bits: the 500 held-out digits, for every target and precision."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnport.artifact import Artifact
from cnnport.digits import load_digits
from cnnport.errors import ArtifactError, CnnportError
from cnnport.images import preprocess_image
from cnnport.measuring.record import Json
from cnnport.metadata import preprocess_of
from cnnport.onnxfile import read_artifact

if TYPE_CHECKING:
    from cnnport.calibration.samples import Feeds

TARGETS = ("ort", "trt", "openvino")
PRECISIONS = ("fp32", "fp16", "int8")

CALIBRATION = "digits"
"""Scans for training; none of those that are counted here is among them."""


class HeldOutDigits:
    """The held-out scans as samples, prepared as a file says."""

    description = "500 held-out scans of digits"
    key = "held-out digits"
    is_random = False

    def __init__(self, artifact: Artifact) -> None:
        """Prepare them.

        Raises:
            ArtifactError: If the file does not say how pictures are prepared for it.
            CnnportError: If scikit-learn, which ships the scans, is missing.
        """
        from PIL import Image

        preprocess = preprocess_of(artifact)
        if preprocess is None or len(artifact.inputs) != 1:
            raise ArtifactError(f"{artifact.path} does not say how digits are prepared for it")
        digits = load_digits()
        self._labels = digits.test_labels
        self._name, dtype = artifact.inputs[0].name, artifact.inputs[0].dtype
        self._pixels = np.stack(
            [preprocess_image(Image.fromarray(image), preprocess) for image in digits.test_images]
        ).astype(dtype)

    def __len__(self) -> int:
        return len(self._labels)

    def name(self, place: int) -> str:
        """Its place among the held-out ones."""
        return f"held-out digit {place}"

    def load(self, place: int) -> "Feeds":
        """One scan."""
        return {self._name: self._pixels[place : place + 1]}

    def label(self, place: int) -> int:
        """The digit."""
        return int(self._labels[place])

    def others(self, _count: int) -> None:
        """None: the rest is for training."""


def accuracy_of(name: str, files: Path, tell: Callable[[str], None]) -> Json:
    """Make the files of a network, and hold each to its labels and to its float file.

    Args:
        name: A network that ships trained on the digits.
        files: Where ONNX files lie.
        tell: Is told what is done.

    Returns:
        By target, by precision: what ``quantization.Judgement`` says, ``bytes``, the ``steps`` that int8 took and
            the ``runtime``; or a ``problem``. A target without a runtime has ``skipped``.

    Raises:
        CnnportError: If a float32 file cannot be made or run.
    """
    from cnnport.quantization.judging import Judge, runner_of
    from cnnport.runtimes import get_runtime

    found: Json = {}
    for target in TARGETS:
        if target == "openvino" and (reason := get_runtime(target).missing()):
            found[target] = {"skipped": reason}
            continue
        runtime, options = runner_of(target)
        rows: Json = {"runtime": runtime if options.optimize else f"{runtime}, nothing fused"}
        judge = None
        for precision in PRECISIONS:
            tell(f"{name} {target} {precision}")
            path = files / f"{name}.{target}.{precision}.onnx"
            try:
                steps = make_file(name, target, precision, path, "auto", CALIBRATION)
                artifact = read_artifact(path)
                judge = judge or Judge(path, HeldOutDigits(artifact))
                judged = judge.judge(path, runtime, options)
            except CnnportError as error:
                if precision == "fp32":
                    raise
                rows[precision] = {"problem": str(error)}
            else:
                rows[precision] = {
                    "problem": None,
                    **judged.to_json(),
                    "bytes": path.stat().st_size,
                    "steps": steps,
                }
        found[target] = rows
    return found


def make_file(
    name: str, target: str, precision: str, path: Path, weights: str, calibration: str
) -> list[str]:
    """Write one file; that of 8 bits is made of the float32 file beside it.

    Args:
        name: Of the zoo.
        target: One of ``TARGETS``.
        precision: One of ``PRECISIONS``.
        path: ``NAME.TARGET.PRECISION.onnx`` in a folder for such files.
        weights: As ``cnnport export`` takes it.
        calibration: As ``cnnport quantize`` takes it.

    Returns:
        What the search for 8 bits settled on; empty for the other precisions.

    Raises:
        CnnportError: If it cannot be made.
    """
    from cnnport.exporting import export
    from cnnport.graphs.passes import passes_for
    from cnnport.quantization import quantize_file, report_of

    path.parent.mkdir(parents=True, exist_ok=True)
    if precision == "int8":
        source = path.with_name(f"{name}.{target}.fp32.onnx")
        done = quantize_file(source, path, calibration, target=target, overwrite=True)
        return [str(step) for step in report_of(done)["steps"]]
    passes = passes_for(target)
    export(name, path, target=target, passes=passes, weights=weights, precision=precision, overwrite=True)
    return []

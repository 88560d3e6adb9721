"""What a package is made of, whatever it is made for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnport.artifact import Artifact
from cnnport.metadata import Picture
from cnnport.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Example:
    """A picture, and what the model says of it.

    Attributes:
        png: The picture as a file.
        pixels: The same, height x width x channels (1 or 3), uint8.
        top: Class and probability of the best classes, best first, as ONNX Runtime on the CPU computes them.
        tolerance: How far a probability may be off elsewhere: kernels round differently.
    """

    png: bytes
    pixels: NDArray[np.uint8]
    top: tuple[tuple[int, float], ...]
    tolerance: float


@dataclass(frozen=True, eq=False)
class Subject:
    """What the files of a package are made of.

    Attributes:
        artifact: The picture file: uint8 images in, probabilities out.
        network: The file that it was made from, without preprocessing; None if a picture file was given.
        name: Fit for folders, packages and modules: lower-case letters, digits and underscores.
        labels: Class names by index, where known.
        preprocess: What the picture file does to an image.
        picture: How it takes images, and how many classes it gives.
        licence: Whose the weights are.
        example: A picture with the expected answer.
        backend: What runs the network within a server that has several: ``onnxruntime`` or ``tensorrt``.
    """

    artifact: Artifact
    network: Artifact | None
    name: str
    labels: tuple[str, ...] | None
    preprocess: Preprocess
    picture: Picture
    licence: str
    example: Example
    backend: str = "onnxruntime"

"""A picture for a package, and what its model says of it.

Nothing is taken from elsewhere, so that a package holds no stranger's picture and comes out the same everywhere: the
networks of digits get one scan that they were not trained on, all others a drawing made of whole numbers.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.errors import CheckFailedError
from cnnport.images import centre, resize_image
from cnnport.metadata import Picture
from cnnport.packaging.subject import Example
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options, require_runtime

# Scan 1467 of scikit-learn's handwritten digits, one of the held-out ones: grey levels from 0 to 16.
_SEVEN = (
    (0, 0, 0, 8, 16, 16, 16, 6),
    (0, 0, 6, 14, 5, 8, 16, 2),
    (0, 0, 7, 4, 0, 6, 12, 0),
    (0, 0, 0, 0, 0, 12, 6, 0),
    (0, 0, 0, 11, 16, 16, 10, 0),
    (0, 0, 0, 12, 16, 8, 0, 0),
    (0, 0, 0, 6, 16, 0, 0, 0),
    (0, 0, 0, 12, 9, 0, 0, 0),
)

# The drawing has another shape than networks take, so that a forgotten resize or crop shows.
_DRAWN_HEIGHT, _DRAWN_WIDTH = 240, 320

# Of the best probability. Float kernels of two machines differ by a hundredth of this; CPUs without instructions for
# 8 bits saturate where others do not, which is felt.
_SLACK = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 1e-1}

_DIGITS = 6
"""How many digits of a probability are kept: what is beyond differs between CPUs."""


def example_of(
    artifact: Artifact, preprocess: Preprocess, picture: Picture, labels: tuple[str, ...] | None
) -> Example:
    """A picture of a size that the picture file takes, and the answer of ONNX Runtime on the CPU.

    Args:
        artifact: The picture file.
        preprocess: What it does, or what is left to the caller.
        picture: Which of the two.
        labels: By which the networks of digits are known.

    Raises:
        RuntimeMissingError: If onnxruntime is not installed.
        CheckFailedError: If the answer is not a number.
    """
    drawn = digit() if labels == registry.labels("digits") and preprocess.channels == 1 else drawing()
    image = Image.fromarray(drawn)
    if picture.preprocess == "normalize":
        image = cropped(image, preprocess)
    image = image.convert("L" if preprocess.channels == 1 else "RGB")
    pixels = np.asarray(image).reshape(image.height, image.width, preprocess.channels)
    file = BytesIO()
    image.save(file, "PNG")
    top = _answer(artifact, picture, pixels)
    return Example(file.getvalue(), pixels, top, _rounded(_SLACK[artifact.precision] * top[0][1]))


def digit() -> NDArray[np.uint8]:
    """A handwritten seven, 8 x 8, white on black."""
    return ((np.array(_SEVEN) * 255 + 8) // 16).astype(np.uint8)


def drawing() -> NDArray[np.uint8]:
    """A disc and a square before a gradient with stripes, 240 x 320 x 3."""
    y, x = np.mgrid[0:_DRAWN_HEIGHT, 0:_DRAWN_WIDTH]
    red = x * 255 // (_DRAWN_WIDTH - 1)
    green = y * 255 // (_DRAWN_HEIGHT - 1)
    blue = 64 + 48 * ((x + 2 * y) // 24 % 3)
    pixels = np.stack([red, green, blue], axis=-1)
    pixels[(x - 110) ** 2 + (y - 100) ** 2 < 70**2] = (240, 200, 40)
    pixels[(abs(x - 230) < 45) & (abs(y - 150) < 45)] = (30, 60, 170)
    pixels[(x - 90) ** 2 + (y - 80) ** 2 < 12**2] = (20, 20, 20)
    return pixels.astype(np.uint8)


def cropped(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """An image resized and cropped to the network's size, as ``preprocess_image`` does, in the network's colours."""
    resized = resize_image(image, preprocess)
    height, width = preprocess.size
    left, top = centre(resized.size, (width, height))
    return resized.crop((left, top, left + width, top + height))


def _answer(artifact: Artifact, picture: Picture, pixels: NDArray[np.uint8]) -> tuple[tuple[int, float], ...]:
    spec = artifact.inputs[0]
    image = pixels if picture.layout == "nhwc" else pixels.transpose(2, 0, 1)
    count = 1 if spec.dynamic_batch else int(spec.shape[0])
    with require_runtime("ort-cpu").open(artifact, Options()) as session:
        answer = session.run({spec.name: np.ascontiguousarray(np.repeat(image[None], count, axis=0))})
    indices, values = answer["top_indices"][0], answer["top_probabilities"][0]
    if not np.isfinite(values.astype(np.float64)).all():
        raise CheckFailedError(f"{artifact.model} gives no numbers for a picture: it cannot be packaged")
    return tuple((int(index), _rounded(float(value))) for index, value in zip(indices, values, strict=True))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")

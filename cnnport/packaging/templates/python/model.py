"""Classify pictures with the ONNX model that lies beside this file.

In a program, with a picture as an array of height x width x channels, uint8:

    from model import Model

    model = Model()
    for guess in model.classify(pixels):
        print(guess.label, guess.probability)

On the command line:

    python model.py picture.npy

It needs numpy and onnxruntime, on Python 3.10 or newer; Pillow is needed for picture files alone, such as JPEG.
All that depends on the model is read from cnnport.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Guess", "Model", "read_picture"]

MAX_PIXELS = 100_000_000
"""The most pixels that a picture may have."""

# The sizes of a file that leaves the number of images open: more at once take more memory and are hardly faster.
_LARGEST_BATCH = 16

# EXIF 2.32: the tag of the orientation, and what undoes each value of it: quarter turns to the left, and then whether
# left and right are swapped.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (3, False),
    7: (1, True),
    8: (1, False),
}

# ITU-R BT.601 in 1/65536, as Pillow makes grey of colours.
_LUMINANCE = (19595, 38470, 7471)


@dataclass(frozen=True)
class Guess:
    """One class: its index, its name where the model has names, and its probability from 0 to 1."""

    index: int
    label: str | None
    probability: float


class Model:
    """A picture classifier. It may be used by several threads at once.

    Attributes:
        manifest: What cnnport.json says.
        name: Of the model.
        labels: Class names by index; None if the model has none.
        classes: How many classes there are.
        channels: 3 if the network looks at colours, 1 if at grey levels; pictures may have either.
        size: Height and width that every picture must have; None if any will do.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        """Load the model and check that it is the one that was packaged.

        Args:
            folder: Where the package lies; None for the folder of this file.
            threads: How many threads one run may use; None leaves it to ONNX Runtime.
            providers: Execution providers of ONNX Runtime in order of preference; None for the CPU.

        Raises:
            FileNotFoundError: If the folder holds no package.
            ValueError: If a file of it is damaged, or there is no such provider, or no such number of threads.
        """
        place = Path(__file__).parent if folder is None else Path(folder)
        self.manifest = _manifest(place)
        self.name: str = self.manifest["name"]
        self.labels: list[str] | None = self.manifest["labels"]
        self.channels: int = self.manifest["preprocess"]["channels"]
        height, width = self.manifest["preprocess"]["size"]
        is_open = self.manifest["picture"]["preprocess"] == "full"
        self.size: tuple[int, int] | None = None if is_open else (height, width)
        self._background: int = self.manifest["preprocess"]["background"]
        self._is_nhwc = self.manifest["picture"]["layout"] == "nhwc"
        (self._input,) = self.manifest["inputs"]
        self._session = _session(_model(place, self.manifest), threads, providers)
        shape = next(each["shape"] for each in self.manifest["outputs"] if each["name"] == "probabilities")
        self.classes: int = shape[-1]

    def classify(self, image: NDArray[np.uint8], top: int = 5) -> list[Guess]:
        """Say what one picture shows.

        Args:
            image: Height x width x channels, or height x width, uint8; see ``probabilities``.
            top: How many classes to give.

        Returns:
            The most probable classes, best first.

        Raises:
            ValueError: If it is no such picture.
        """
        return self.classify_all([image], top)[0]

    def classify_all(
        self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], top: int = 5
    ) -> list[list[Guess]]:
        """Say what each of several pictures shows.

        Args:
            images: Pictures; see ``probabilities``.
            top: How many classes to give for each.

        Returns:
            For each picture the most probable classes, best first.

        Raises:
            ValueError: If one of them is no such picture.
        """
        if top < 1:
            raise ValueError(f"top is at least 1, not {top}")
        return [self._best(row, top) for row in self.probabilities(images)]

    def probabilities(self, images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Give the probability of every class for each of several pictures.

        Args:
            images: One array of number x height x width x channels, or pictures of any sizes, each of
                height x width x channels or height x width. They are uint8 from 0, black, to 255. Of channels there
                are 1 for grey, 2 for grey and alpha, 3 for red, green and blue, or 4 for those and alpha.

        Returns:
            Number x classes, float32.

        Raises:
            ValueError: If one of them is no such picture, or of a size that the model does not take.
        """
        pictures = [self._prepared(image, place) for place, image in enumerate(images)]
        result = np.empty((len(pictures), self.classes), np.float32)
        for places in _batches([picture.shape for picture in pictures], self._batch()):
            batch = np.stack([pictures[place] for place in places])
            # A file of a fixed number of images is fed so many; the surplus answers are dropped.
            if isinstance(self._input["shape"][0], int):
                surplus = self._input["shape"][0] - len(batch)
                batch = np.concatenate([batch, np.repeat(batch[-1:], surplus, axis=0)])
            (rows,) = self._session.run(["probabilities"], {self._input["name"]: batch})
            result[places] = rows[: len(places)]
        return result

    def _batch(self) -> int:
        size = self._input["shape"][0]
        return size if isinstance(size, int) else _LARGEST_BATCH

    def _prepared(self, image: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """One picture in the colours and the layout of the model's input."""
        name = f"image {place}"
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8:
            raise ValueError(f"{name} is {pixels.dtype}: pictures are uint8, from 0 to 255")
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.ndim != 3 or pixels.shape[2] not in {1, 2, 3, 4}:
            raise ValueError(
                f"{name} is {_shape(image)}: a picture is height x width x channels, 1 to 4 of them"
            )
        height, width = pixels.shape[:2]
        if not 0 < height * width <= MAX_PIXELS:
            raise ValueError(f"{name} is {_shape(image)}: a picture has from 1 to {MAX_PIXELS:,} pixels")
        if self.size is not None and (height, width) != self.size:
            wanted = f"{self.size[0]} x {self.size[1]}"
            raise ValueError(
                f"{name} is {height} x {width}: this model takes {wanted}, so resize and crop it first"
            )
        pixels = _recoloured(pixels, self.channels, self._background)
        return pixels if self._is_nhwc else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _best(self, row: NDArray[np.float32], top: int) -> list[Guess]:
        order = np.argsort(-row, kind="stable")[:top]
        names = self.labels
        return [Guess(int(each), None if names is None else names[each], float(row[each])) for each in order]


def read_picture(path: str | Path, background: int = 255) -> NDArray[np.uint8]:
    """Read a picture: a .npy file of an array, or with Pillow any format that it reads.

    Picture files come out upright and opaque.

    Args:
        path: The file.
        background: Grey level that shows through transparent pixels.

    Returns:
        Height x width x channels, uint8; what a .npy file holds, unchecked.

    Raises:
        ValueError: If it is no such file, or damaged, or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".npy":
        try:
            pixels: NDArray[np.uint8] = np.load(path, allow_pickle=False)
        except Exception as error:
            raise ValueError(f"{path} is not an array that numpy saved: {error}") from error
        return pixels
    try:
        # Not an import statement: type checkers would want Pillow for it.
        pillow: Any = import_module("PIL.Image")
    except ImportError as error:
        raise ValueError(
            f"{path}: reading pictures takes Pillow (pip install pillow), or save it as .npy"
        ) from error
    try:
        with pillow.open(path, formats=("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")) as image:
            return _opaque(_upright(image), background)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def _upright(image: Any) -> NDArray[np.uint8]:
    """The pixels of a picture file, of 2 to 4 channels, turned as the file says."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} is above {MAX_PIXELS:,} pixels")
    image.load()
    if image.mode in {"I", "F"}:
        raise ValueError("samples of 32 bits have no known white")
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64)
        opaque = levels != image.info.get("transparency", -1)
        pixels = np.stack([(levels * 255 + 32767) // 65535, opaque * 255], axis=-1).astype(np.uint8)
    else:
        pixels = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    # Asked for last: PNG may carry it behind the pixels.
    turned, mirrored = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1), (0, False))
    pixels = np.rot90(pixels, turned)
    return pixels[:, ::-1] if mirrored else pixels


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "cnnport.json"
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no cnnport.json: it is no package of cnnport") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise ValueError(f"{path} is of another version than this file: keep the files of a package together")
    return manifest


def _model(folder: Path, manifest: dict[str, Any]) -> bytes:
    """The model's bytes, which are those that were packaged."""
    path = folder / str(manifest["model"]["file"])
    try:
        data: bytes = path.read_bytes()
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}") from error
    found, wanted = hashlib.sha256(data).hexdigest(), manifest["model"]["sha256"]
    if found != wanted:
        raise ValueError(
            f"{path} is damaged or another model: its SHA-256 is {found[:16]}..., not {wanted[:16]}..."
        )
    return data


def _session(
    model: bytes, threads: int | None, providers: Sequence[str] | None
) -> onnxruntime.InferenceSession:
    known = onnxruntime.get_available_providers()
    wanted = ["CPUExecutionProvider"] if providers is None else list(providers)
    for provider in wanted:
        if provider not in known:
            raise ValueError(f"this onnxruntime has no provider {provider!r}: it has {', '.join(known)}")
    options = onnxruntime.SessionOptions()
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads are at least 1, not {threads}")
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=wanted)


def _batches(shapes: Sequence[tuple[int, ...]], largest: int) -> list[list[int]]:
    """The places of pictures in groups of one shape, of at most ``largest``."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(place)
    return [
        places[start : start + largest]
        for places in by_shape.values()
        for start in range(0, len(places), largest)
    ]


def _recoloured(pixels: NDArray[np.uint8], channels: int, background: int) -> NDArray[np.uint8]:
    """A picture of 1 to 4 channels, opaque and with 1 or 3 of them, as Pillow computes it."""
    opaque = _opaque(pixels, background)
    if opaque.shape[2] == channels:
        return np.ascontiguousarray(opaque)
    if channels == 3:
        return np.repeat(opaque, 3, axis=2)
    red, green, blue = (opaque[:, :, each].astype(np.int64) for each in range(3))
    levels = red * _LUMINANCE[0] + green * _LUMINANCE[1] + blue * _LUMINANCE[2] + 0x8000 >> 16
    return levels.astype(np.uint8)[:, :, None]


def _opaque(pixels: NDArray[np.uint8], background: int) -> NDArray[np.uint8]:
    """A picture without alpha, with the background showing through; in Pillow's rounding."""
    if pixels.ndim != 3 or pixels.shape[2] in {1, 3}:
        return pixels
    alpha = pixels[:, :, -1:].astype(np.int64)
    mixed = pixels[:, :, :-1] * alpha + background * (255 - alpha) + 128
    return ((mixed >> 8) + mixed >> 8).astype(np.uint8)


def _shape(image: Any) -> str:
    return " x ".join(str(size) for size in np.shape(image)) or "a single number"


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify the pictures that are named; gives the exit code, 2 if one of them cannot be read."""
    parser = argparse.ArgumentParser(prog="python model.py", description="Classify pictures.")
    parser.add_argument(
        "pictures", nargs="+", metavar="PICTURE", help=".npy, or with Pillow JPEG, PNG and others"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to show (5)")
    parser.add_argument("--threads", type=int, metavar="N", help="of one run; all cores if omitted")
    parser.add_argument(
        "--provider", action="append", metavar="P", help="of ONNX Runtime; the CPU if omitted"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    failed = False
    try:
        model = Model(threads=options.threads, providers=options.provider)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    background = model.manifest["preprocess"]["background"]
    for name in options.pictures:
        try:
            pixels = read_picture(name, background)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        try:
            top = model.classify(pixels, options.top)
        except ValueError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            failed = True
            continue
        results.append({"image": name, "top": [asdict(guess) for guess in top]})
        if not options.json:
            print(name)
            for guess in top:
                print(f"  {100 * guess.probability:6.2f} %  {guess.index:>5}  {guess.label or ''}".rstrip())
    if options.json:
        print(json.dumps({"model": model.name, "results": results}, indent=2))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

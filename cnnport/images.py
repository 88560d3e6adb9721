"""From a picture to a network's input, as torchvision's evaluation does it for a PIL image, bit for bit.

Pictures come from anywhere, so a file counts as hostile: only six formats are tried, the size is checked
before any pixel is decoded, and whatever Pillow stumbles over becomes one ``ImageError`` that names the file.
Embedded colour profiles are not applied, as torchvision does not apply them either.
"""

import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cnnport.errors import ImageError
from cnnport.preprocess import Preprocess

MAX_PIXELS = 100_000_000
"""The most pixels that a picture may have, in its file and while it is resized.

So many take 0.4 GB of memory, or 1.2 GB where transparency has to be resolved.
"""

# The order is Pillow's own order of import: it loads all of its plugins once it meets one of the last two.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# EXIF 2.32: the tag of the orientation, and what undoes each value of it.
_ORIENTATION = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# TIFF 6.0.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def read_image(path: str | Path, preprocess: Preprocess) -> Image.Image:
    """Decode the first frame of a picture file: upright, opaque, in the colours that the network takes.

    JPEG, PNG, WebP, GIF, BMP and TIFF are read, with integer samples of 1 to 16 bits. The EXIF orientation is
    applied, transparent pixels show ``preprocess.background``, 16-bit grey is scaled to 8 bits.

    Args:
        path: A file.
        preprocess: Its ``channels`` chooses RGB or luminance (ITU-R BT.601).

    Returns:
        An image of mode ``RGB`` or ``L``, as large as the picture.

    Raises:
        ImageError: If the file cannot be read, is not a picture, is damaged or has more than ``MAX_PIXELS``.
    """
    name = _printable(path)
    with _reading(name):
        status = Path(path).stat()
        # A pipe or a device would block, or never end.
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a file'}")
        if status.st_size == 0:
            raise ImageError(f"{name} is empty")
        with Path(path).open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            _check_size(name, image.size)
            image.load()
            picture = _flatten(name, image, preprocess)
            # Asked for last: PNG may carry it behind the pixels, and Pillow has applied TIFF's by now.
            if (turn := _TO_UPRIGHT.get(_orientation(image))) is not None:
                picture = picture.transpose(turn)
    # What the file said of itself no longer holds for these pixels.
    picture.info = {}
    return picture


def preprocess_image(image: Image.Image | str | Path, preprocess: Preprocess) -> NDArray[np.float32]:
    """Make the network's input from one picture: resize with antialias, crop, scale to 0..1, normalise.

    The result is what torchvision's ``ImageClassification`` preset makes of the same PIL image, to the bit,
    with its zero padding of pictures smaller than the crop. With ``preprocess.resize`` None both sides are
    scaled to ``preprocess.size`` and nothing is cropped.

    Args:
        image: A picture file, or an image of any mode; an image is taken as it stands, without a look at its
            EXIF orientation.
        preprocess: What to do.

    Returns:
        channels x height x width, float32.

    Raises:
        ImageError: As ``read_image``; also if the picture is so long and narrow that it would have more than
            ``MAX_PIXELS`` while it is resized.
    """
    return normalise(crop_image(image, preprocess), preprocess)


def crop_image(image: Image.Image | str | Path, preprocess: Preprocess) -> Image.Image:
    """All of ``preprocess_image`` but the normalisation: opaque, in the network's colours, resized and cropped.

    Args:
        image: As for ``preprocess_image``.
        preprocess: What to do.

    Returns:
        An image of mode ``RGB`` or ``L``, of ``preprocess.size``.

    Raises:
        ImageError: As ``preprocess_image``.
    """
    picture = resize_image(image, preprocess)
    height, width = preprocess.size
    left, top = centre(picture.size, (width, height))
    # What lies outside the picture comes out as zero, which is the padding that is wanted.
    return picture.crop((left, top, left + width, top + height))


def opaque_image(image: Image.Image | str | Path, preprocess: Preprocess) -> Image.Image:
    """What ``preprocess_image`` begins with: opaque, in the network's colours, and as large as the picture.

    Args:
        image: As for ``preprocess_image``.
        preprocess: What is to be done to it.

    Returns:
        An image of mode ``RGB`` or ``L``.

    Raises:
        ImageError: As ``preprocess_image``, also where the resize would be what cannot be done.
    """
    name = _name_of(image)
    if isinstance(image, Image.Image):
        _check_size(name, image.size)
        with _reading(name):
            picture = _flatten(name, image, preprocess)
    else:
        picture = read_image(image, preprocess)

    resized = _resized_size(picture.size, preprocess)
    # Pillow may scale the rows first: in between, the picture is as wide as the result and as high as before.
    if resized[0] * max(resized[1], picture.height) > MAX_PIXELS:
        raise ImageError(
            f"{name} is too long and narrow: {picture.width} x {picture.height} pixels cannot be scaled to "
            f"{resized[0]} x {resized[1]} within {MAX_PIXELS:,}"
        )
    return picture


def resize_image(image: Image.Image | str | Path, preprocess: Preprocess) -> Image.Image:
    """The first part of ``preprocess_image``: opaque, in the network's colours, resized, and not yet cropped.

    Args:
        image: As for ``preprocess_image``.
        preprocess: What to do.

    Returns:
        An image of mode ``RGB`` or ``L``.

    Raises:
        ImageError: As ``preprocess_image``.
    """
    picture = opaque_image(image, preprocess)
    with _reading(_name_of(image)):
        return picture.resize(_resized_size(picture.size, preprocess), _FILTERS[preprocess.interpolation])


def normalise(picture: Image.Image, preprocess: Preprocess) -> NDArray[np.float32]:
    """The last part of ``preprocess_image``: a picture of any size, scaled to 0..1 and normalised.

    Args:
        picture: Of the mode that ``preprocess`` wants.
        preprocess: Its mean and standard deviation.

    Returns:
        channels x height x width, float32.
    """
    pixels = np.asarray(picture).reshape(picture.height, picture.width, preprocess.channels)
    result = np.empty((preprocess.channels, picture.height, picture.width), np.float32)
    # Channel by channel and in place: several times as fast as one expression, and the same to the bit.
    for channel, (mean, std) in enumerate(zip(preprocess.mean, preprocess.std, strict=True)):
        plane = result[channel]
        np.divide(pixels[:, :, channel], np.float32(255), out=plane)
        plane -= np.float32(mean)
        plane /= np.float32(std)
    return result


def centre(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Where ``preprocess_image`` begins its crop: left and top, of a picture's width and height and the crop's."""
    return _crop_start(size[0], crop[0]), _crop_start(size[1], crop[1])


def load_batch(paths: Sequence[str | Path], preprocess: Preprocess) -> NDArray[np.float32]:
    """Make one batch of picture files, in their order.

    Args:
        paths: N files.
        preprocess: What to do with each.

    Returns:
        N x channels x height x width, float32.

    Raises:
        ImageError: As ``preprocess_image``, for the first file that fails.
    """
    batch = np.empty((len(paths), preprocess.channels, *preprocess.size), np.float32)
    for index, path in enumerate(paths):
        batch[index] = preprocess_image(path, preprocess)
    return batch


def _flatten(name: str, image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """An opaque image of mode ``L`` or ``RGB`` as ``preprocess`` wants it, from one of any mode."""
    if image.mode in {"I", "F"}:
        raise ImageError(f"{name} has 32-bit samples, whose white is unknown: convert it to 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = _eight_bit(image)
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        image = Image.new("RGB", pixels.size, (preprocess.background,) * 3)
        image.paste(pixels, mask=pixels)
    mode = "L" if preprocess.channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as ``L``, or ``LA`` where one value stands for transparent; Pillow itself would clip it."""
    # TIFF may use fewer bits of the 16 and call its largest value black: Pillow hands both on as they are.
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    levels = (np.arange(2**16).clip(max=white) * 255 + white // 2) // white
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = 255 - levels
    samples = np.asarray(image)
    grey = Image.fromarray(levels.astype(np.uint8)[samples])
    if "transparency" in image.info:
        alpha = np.where(samples == image.info["transparency"], 0, 255)
        return Image.merge("LA", (grey, Image.fromarray(alpha.astype(np.uint8))))
    return grey


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the pixels are good whatever the parser of the damaged notes beside them raises
        return 1


def _resized_size(size: tuple[int, int], preprocess: Preprocess) -> tuple[int, int]:
    """Width and height after the resize; the longer side is rounded down."""
    if preprocess.resize is None:
        return preprocess.size[1], preprocess.size[0]
    short = min(size)
    width, height = (int(preprocess.resize * side / short) for side in size)
    return width, height


def _crop_start(side: int, crop: int) -> int:
    """Where a centre crop begins; below zero where it must be padded, with the odd pixel at the far end.

    ``round`` takes halves to the even number, and so does torchvision.
    """
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2)


def _check_size(name: str, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"{name} is too large: {size[0]} x {size[1]} is above {MAX_PIXELS:,} pixels")


def _name_of(image: Image.Image | str | Path) -> str:
    """What messages call it."""
    if isinstance(image, Image.Image):
        return _printable(getattr(image, "filename", "") or "the image")
    return _printable(image)


def _printable(path: object) -> str:
    # Messages are one line, whatever a file is called.
    return str(path) if str(path).isprintable() else ascii(str(path))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Run Pillow without warnings and with every failure as an ``ImageError``."""
    try:
        with _quiet():
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a JPEG, PNG, GIF, BMP, WebP or TIFF, or is damaged") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: it is above {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        # Parsers of damaged files raise nearly anything: OSError, SyntaxError, KeyError, struct.error.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot read {name}: {reason}") from error


_quiet_lock = threading.Lock()
_quiet_filters = ExitStack()
_quiet_threads = 0


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings. Filters belong to the process: the first thread in sets them, the last out restores."""
    global _quiet_threads  # noqa: PLW0603
    with _quiet_lock:
        _quiet_threads += 1
        if _quiet_threads == 1:
            _quiet_filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_threads -= 1
            if _quiet_threads == 0:
                _quiet_filters.close()

"""Decoding and preprocessing of pictures: formats, geometry against a slow reference, and hostile files."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from cnnport import images
from cnnport.errors import ImageError
from cnnport.images import load_batch, preprocess_image, read_image
from cnnport.preprocess import Preprocess, imagenet

RGB = imagenet()
GREY = Preprocess((32, 32), None, "bilinear", (0.5,), (0.5,), background=0)

RNG = np.random.default_rng(0)
# Blocks of 8 x 8 equal pixels, so that JPEG keeps it; 48 wide and 32 high, so that a turn shows.
PICTURE = np.kron(RNG.integers(0, 256, (4, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def save(path: Path, picture: np.ndarray | Image.Image, **options) -> Path:
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(path, **options)
    return path


def png(
    width: int, height: int, bits: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    middle = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, bits: int, photometric: int, strip: bytes) -> bytes:
    """A grey TIFF by hand: one uncompressed strip, little endian."""
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: len(strip),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(strip))
        + strip
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


# ---- Formats and colours


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.webp", {"lossless": True}),
        ("a.tiff", {}),
        ("b.tiff", {"compression": "tiff_lzw"}),
        ("a.gif", {}),
        ("no_ending", {"format": "PNG"}),
        ("wrong_ending.jpg", {"format": "WEBP", "lossless": True}),
    ],
)
def test_lossless_formats_keep_every_pixel(tmp_path, name, options):
    image = read_image(save(tmp_path / name, PICTURE, **options), RGB)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PICTURE)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_formats_come_near(tmp_path, name):
    image = read_image(save(tmp_path / name, PICTURE, quality=95), RGB)
    assert np.abs(np.asarray(image).astype(int) - PICTURE).mean() < 12


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    for name in ("a.gif", "a.webp", "a.png", "a.tiff"):
        lossless = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **lossless)
        assert read_image(tmp_path / name, RGB).getpixel((4, 4)) == (10, 10, 10)


def test_greyscale_becomes_rgb_and_rgb_becomes_luminance(tmp_path):
    grey = PICTURE[:, :, 0]
    path = save(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(np.asarray(read_image(path, RGB)), np.dstack([grey] * 3))
    np.testing.assert_array_equal(np.asarray(read_image(path, GREY)), grey)

    colour = read_image(save(tmp_path / "colour.png", PICTURE), GREY)
    luminance = PICTURE @ np.array([0.299, 0.587, 0.114])
    assert colour.mode == "L"
    np.testing.assert_allclose(np.asarray(colour), luminance, atol=0.51)


def test_one_bit_and_palette(tmp_path):
    bits = PICTURE[:, :, 0] > 127
    image = read_image(save(tmp_path / "bits.png", Image.fromarray(bits)), GREY)
    np.testing.assert_array_equal(np.asarray(image), bits * 255)
    palette = Image.fromarray(PICTURE).quantize(256)
    image = read_image(save(tmp_path / "palette.png", palette), RGB)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(palette.convert("RGB")))


def test_cmyk(tmp_path):
    ink = Image.merge("CMYK", [Image.new("L", (16, 16), level) for level in (255, 0, 0, 0)])
    assert read_image(save(tmp_path / "cyan.tiff", ink), RGB).getpixel((8, 8)) == (0, 255, 255)
    red, green, blue = read_image(save(tmp_path / "cyan.jpg", ink), RGB).getpixel((8, 8))
    assert red < 5
    assert min(green, blue) > 250


LEVELS16 = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)


@pytest.mark.parametrize("name", ["grey16.png", "grey16.tiff"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, name):
    image = read_image(save(tmp_path / name, LEVELS16), GREY)
    np.testing.assert_array_equal(np.asarray(image), [[0, 0, 1, 1, 128, 255]])
    assert read_image(tmp_path / name, RGB).getpixel((4, 0)) == (128, 128, 128)


def test_sixteen_bit_grey_of_other_conventions(tmp_path):
    (tmp_path / "white_is_zero.tiff").write_bytes(tiff(6, 1, 16, 0, LEVELS16.astype("<u2").tobytes()))
    image = read_image(tmp_path / "white_is_zero.tiff", GREY)
    np.testing.assert_array_equal(np.asarray(image), [[255, 255, 254, 254, 127, 0]])
    # Two samples of 12 bits, 0xFFF and 0x800, lie in three bytes.
    (tmp_path / "twelve.tiff").write_bytes(tiff(2, 1, 12, 1, bytes([0xFF, 0xF8, 0x00])))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "twelve.tiff", GREY)), [[255, 128]])


def test_sixteen_bit_grey_with_a_transparent_value(tmp_path):
    rows = b"\0" + LEVELS16.astype(">u2").tobytes()
    (tmp_path / "a.png").write_bytes(png(6, 1, 16, 0, rows, (b"tRNS", struct.pack(">H", 32768))))
    assert np.asarray(read_image(tmp_path / "a.png", GREY)).tolist() == [[0, 0, 1, 1, 0, 255]]
    assert np.asarray(read_image(tmp_path / "a.png", RGB))[:, :, 1].tolist() == [[0, 0, 1, 1, 255, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("background", [0, 100, 255])
def test_transparency_shows_the_background(tmp_path, mode, background):
    alpha = Image.fromarray(np.array([[0, 128, 255]], np.uint8))
    image = Image.merge("LA", (Image.new("L", (3, 1), 40), alpha)).convert("RGBA")
    if mode == "P":
        # A palette with an alpha of its own for each of three equal colours.
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
        image.putpalette([40] * 9)
        path = save(tmp_path / "a.png", image, transparency=bytes([0, 128, 255]))
    else:
        path = save(tmp_path / "a.png", image.convert(mode))
    preprocess = Preprocess((1, 1), None, "bilinear", (0.5,) * 3, (0.5,) * 3, background)
    pixels = np.asarray(read_image(path, preprocess))[0]
    expected = [background, 40 * 128 / 255 + background * 127 / 255, 40]
    np.testing.assert_allclose(pixels, np.array([expected] * 3).T, atol=1)


def test_transparent_gif(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 60, 60, 60])
    path = save(tmp_path / "a.gif", image, transparency=0)
    assert np.asarray(read_image(path, RGB))[0].tolist() == [[255] * 3, [60] * 3]


def test_samples_without_a_known_range_are_refused(tmp_path):
    for name, kind in (("float.tiff", np.float32), ("int.tiff", np.int32)):
        with pytest.raises(ImageError, match="32-bit samples"):
            read_image(save(tmp_path / name, np.ones((4, 4), kind)), RGB)


# ---- Orientation

# What makes the stored picture upright, by EXIF's value.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
def test_exif_orientation_is_applied_once(tmp_path, name, value):
    options = {"lossless": True} if name == "a.webp" else {}
    plain = np.asarray(read_image(save(tmp_path / f"plain_{name}", PICTURE, **options), RGB))
    path = save(tmp_path / name, PICTURE, exif=orientation(value), **options)
    image = read_image(path, RGB)
    np.testing.assert_array_equal(np.asarray(image), UPRIGHT[value](plain))
    # Whoever applies it again finds nothing to do.
    assert image.getexif().get(0x0112, 1) == 1


def test_rotated_jpeg_gives_the_input_of_the_unrotated_one(tmp_path):
    upright = save(tmp_path / "upright.jpg", PICTURE, quality=100, subsampling=0)
    turned = save(
        tmp_path / "turned.jpg", np.rot90(PICTURE).copy(), exif=orientation(6), quality=100, subsampling=0
    )
    one, other = (preprocess_image(path, RGB) for path in (upright, turned))
    np.testing.assert_allclose(one, other, atol=0.05)


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    for number, exif in enumerate([b"Exif\0\0MM\0*\0\0\0\xff", b"Exif\0\0nonsense", b"Exif\0\0"]):
        path = save(tmp_path / f"{number}.jpg", PICTURE, exif=exif)
        assert read_image(path, RGB).size == (48, 32)


# ---- Geometry and arithmetic


def triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def keys(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -1/2, which Pillow uses."""
    x = np.abs(x)
    inner, outer = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def weights(source: int, target: int, kernel) -> np.ndarray:
    """target x source matrix of a resize with antialias: the kernel is widened by the factor of reduction."""
    scale = source / target
    width = max(scale, 1)
    centres = (np.arange(target)[:, None] + 0.5) * scale
    matrix = kernel((np.arange(source) + 0.5 - centres) / width)
    return matrix / matrix.sum(axis=1, keepdims=True)


def reference(
    picture: np.ndarray, resized: tuple[int, int], box: tuple[int, int, int, int], kernel
) -> np.ndarray:
    """In levels of 0..255: resize to height x width, then cut the box (top, left, height, width)."""
    height, width = resized
    rows = np.clip(np.einsum("ws,hsc->hwc", weights(picture.shape[1], width, kernel), picture), 0, 255)
    whole = np.clip(np.einsum("hs,swc->hwc", weights(picture.shape[0], height, kernel), rows), 0, 255)
    top, left, crop_height, crop_width = box
    result = np.zeros((crop_height, crop_width, picture.shape[2]))
    for y in range(crop_height):
        for x in range(crop_width):
            if 0 <= top + y < height and 0 <= left + x < width:
                result[y, x] = whole[top + y, left + x]
    return result


def distance(picture: np.ndarray, preprocess: Preprocess, expected: np.ndarray) -> float:
    """Largest difference from the reference in levels of 0..255."""
    result = preprocess_image(Image.fromarray(picture.squeeze()), preprocess)
    assert result.shape == (preprocess.channels, *preprocess.size)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    mean, std = (np.array(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    return float(np.abs((result * std + mean) * 255 - expected.transpose(2, 0, 1)).max())


# Rounding to whole levels after each of the two passes.
TOLERANCE = {"bilinear": 1.01, "bicubic": 1.3}

# Picture and crop as height x width, the resize, and by hand: size after it, top and left of the crop.
GEOMETRIES = [
    ((60, 80), (28, 28), 32, (32, 42), (2, 7)),  # 32 * 80 / 60 = 42.67
    ((80, 60), (28, 28), 32, (42, 32), (7, 2)),
    ((50, 50), (20, 20), 25, (25, 25), (2, 2)),  # 2.5 goes to the even 2
    ((50, 50), (20, 20), 27, (27, 27), (4, 4)),  # 3.5 goes to the even 4
    ((33, 100), (24, 24), 24, (24, 72), (0, 24)),  # 24 * 100 / 33 = 72.7
    ((10, 13), (24, 30), 20, (20, 26), (-2, -2)),  # enlarged, and padded on all sides
    ((10, 10), (25, 15), 20, (20, 20), (-2, 2)),  # one row more below than above; cropped sideways
    ((9, 12), (5, 7), 9, (9, 12), (2, 2)),  # not resized
    ((60, 80), (28, 20), None, (28, 20), (0, 0)),
    ((8, 8), (32, 32), None, (32, 32), (0, 0)),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size", "resize", "resized", "start"), GEOMETRIES)
def test_against_the_slow_reference(source, size, resize, resized, start, interpolation, channels):
    picture = np.random.default_rng(1).integers(0, 256, (*source, channels), np.uint8)
    preprocess = Preprocess(size, resize, interpolation, RGB.mean[:channels], RGB.std[:channels])
    kernel = triangle if interpolation == "bilinear" else keys
    assert (
        distance(picture, preprocess, reference(picture, resized, (*start, *size), kernel))
        <= TOLERANCE[interpolation]
    )


@pytest.mark.parametrize(
    ("fault", "replacement"),
    [
        ("_FILTERS", {"bilinear": Image.Resampling.NEAREST}),
        ("_FILTERS", {"bilinear": Image.Resampling.BOX}),
        ("_FILTERS", {"bilinear": Image.Resampling.BICUBIC}),
        ("_crop_start", lambda side, crop: (side - crop) // 2 + 1),
        ("_resized_size", lambda size, _: (43, 32)),
        ("_flatten", lambda _name, image, _: Image.merge("RGB", image.split()[::-1])),
    ],
)
def test_the_reference_notices_planted_faults(monkeypatch, fault, replacement):
    picture = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    preprocess = Preprocess((28, 28), 32, "bilinear", RGB.mean, RGB.std)
    expected = reference(picture, (32, 42), (2, 7, 28, 28), triangle)
    assert distance(picture, preprocess, expected) <= TOLERANCE["bilinear"]
    monkeypatch.setattr(images, fault, replacement)
    assert distance(picture, preprocess, expected) > 2 * TOLERANCE["bilinear"]


def test_missing_antialias_is_noticed():
    # Bilinear between the four neighbours of each centre: what a resize without antialias gives.
    picture = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    preprocess = Preprocess((20, 20), None, "bilinear", RGB.mean, RGB.std)
    centres = [(np.arange(20) + 0.5) * side / 20 - 0.5 for side in (60, 80)]
    down, across = (
        triangle(np.arange(side) - at[:, None]) for side, at in zip((60, 80), centres, strict=True)
    )
    aliased = np.einsum("yh,xw,hwc->yxc", down, across, picture)
    assert distance(picture, preprocess, aliased) > 30


def test_normalisation_is_exact_in_float32():
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    preprocess = Preprocess((16, 16), 16, "bilinear", RGB.mean, RGB.std)
    scaled = picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    mean, std = (np.float32(values)[:, None, None] for values in (RGB.mean, RGB.std))
    np.testing.assert_array_equal(
        preprocess_image(Image.fromarray(picture), preprocess), (scaled - mean) / std
    )


def test_path_image_and_batch_agree(tmp_path):
    paths = [save(tmp_path / "a.png", PICTURE), save(tmp_path / "b.png", PICTURE[::-1].copy())]
    batch = load_batch(paths, RGB)
    assert batch.shape == (2, 3, 224, 224)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch[0], preprocess_image(Image.fromarray(PICTURE), RGB))
    np.testing.assert_array_equal(batch[1], preprocess_image(str(paths[1]), RGB))
    with Image.open(paths[0]) as lazy:
        np.testing.assert_array_equal(batch[0], preprocess_image(lazy, RGB))
    assert load_batch([], GREY).shape == (0, 1, 32, 32)


# ---- Files that are not what they should be


def failure(path: str | Path, preprocess: Preprocess = RGB) -> str:
    """The message, which is one line and names the file."""
    with pytest.raises(ImageError) as caught:
        preprocess_image(path, preprocess)
    message = str(caught.value)
    assert "\n" not in message
    assert Path(path).name in message
    return message


def test_missing_folder_empty_and_foreign_files(tmp_path):
    assert "No such file" in failure(tmp_path / "missing.jpg")
    assert "folder" in failure(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "empty" in failure(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    assert "is not a JPEG, PNG" in failure(tmp_path / "text.jpg")
    # Readable by Pillow, but no format for pictures that a network gets: one of them starts Ghostscript.
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "is not a JPEG, PNG" in failure(tmp_path / "a.eps")
    assert "not a file" in failure("/dev/null")


def test_odd_names_stay_on_one_line(tmp_path):
    with pytest.raises(ImageError, match=r"two\\nlines") as caught:
        read_image(tmp_path / "two\nlines.png", RGB)
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="null"):
        read_image("nul\0byte.png", RGB)


def test_no_permission(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", PICTURE)

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    # The permission bits would not stop root.
    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in failure(path)


@pytest.mark.parametrize("fraction", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tiff"])
def test_truncated(tmp_path, name, fraction):
    noise = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)
    data = save(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * fraction)])
    failure(tmp_path / name)


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "damaged"
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(PICTURE).save(buffer, kind)
        for _ in range(60):
            data = bytearray(buffer.getvalue())
            for place in rng.integers(0, min(len(data), 200), 3):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data)
            with suppress(ImageError):
                preprocess_image(path, GREY)


@pytest.mark.parametrize("side", [10_001, 12_000, 50_000])
def test_huge_pictures_are_refused_before_decoding(tmp_path, monkeypatch, side):
    def decoded(_image):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    path = tmp_path / "huge.png"
    path.write_bytes(png(side, side, 8, 2, b""))
    assert "too large" in failure(path)


def test_text_bombs(tmp_path):
    text = b"comment\0\0" + zlib.compress(bytes(5_000_000))
    before = png(2, 1, 8, 0, b"\0\1\2", (b"zTXt", text))
    # The same chunk behind the pixels.
    chunk = before[before.index(b"zTXt") - 4 :][: len(text) + 12]
    after = png(2, 1, 8, 0, b"\0\1\2")
    for data in (before, after[:-12] + chunk + after[-12:]):
        (tmp_path / "bomb.png").write_bytes(data)
        failure(tmp_path / "bomb.png")


def test_long_and_narrow_pictures(tmp_path):
    path = tmp_path / "strip.png"
    for width, height in ((1, 20_000), (20_000, 1)):
        path.write_bytes(png(width, height, 8, 0, (b"\0" + b"\7" * width) * height))
        # A shorter side of 256 would make 1.3 thousand million pixels.
        assert "long and narrow" in failure(path)
        np.testing.assert_allclose(preprocess_image(path, GREY), (7 / 255 - 0.5) / 0.5, rtol=1e-6)
    # Within the limit as a file and as a result, but not between the two passes.
    path.write_bytes(png(1, 4_000_000, 8, 0, b"\0\7" * 4_000_000))
    assert "long and narrow" in failure(path, GREY)


def test_warnings_stay_inside_and_the_filters_survive_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = save(tmp_path / "a.png", PICTURE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: preprocess_image(path, GREY), range(64)))
        assert warnings.filters == before
    assert all(np.array_equal(result, results[0]) for result in results)


def test_importing_it_needs_no_torch():
    code = "import sys, cnnport.images; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Where samples come from: folders of pictures and of arrays, the digits, noise; and what is wrong with some."""

import os
import pickle
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnport.artifact import Artifact, TensorSpec
from cnnport.calibration import arrays, open_samples
from cnnport.calibration.pictures import DigitSamples, PictureFolder
from cnnport.calibration.samples import balanced
from cnnport.digits import load_digits
from cnnport.errors import ArtifactError, CnnportError, FeedError, ImageError
from cnnport.images import preprocess_image
from cnnport.metadata import to_json
from cnnport.preprocess import Preprocess, imagenet


def artifact(*shapes: tuple[int | str, ...], preprocess: Preprocess | None = None) -> Artifact:
    inputs = tuple(
        TensorSpec(name, "float32", shape)
        for name, shape in zip("xyz", shapes or [("batch", 3, 224, 224)], strict=False)
    )
    metadata = {"cnnport.preprocess": to_json(preprocess.to_json())} if preprocess else {}
    return Artifact(Path("net.onnx"), "0" * 64, "net", 18, "fp32", "portable", inputs, (), metadata)


RGB = artifact(preprocess=imagenet())
GREY = artifact(
    ("batch", 1, 32, 32), preprocess=Preprocess((32, 32), None, "bilinear", (0.5,), (0.5,), background=0)
)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def names(samples: PictureFolder) -> list[str]:
    return [samples.name(place) for place in range(len(samples))]


# ---- Folders of pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ImageNet's layout, with classes of different sizes."""
    for name, count in (("cat", 9), ("dog", 4), ("eel", 1)):
        for number in range(count):
            picture(tmp_path / "pictures" / name / f"{number}.png", number)
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


def test_samples_are_preprocessed_as_the_file_says(folder: Path) -> None:
    samples = open_samples(f"{folder}:5", RGB)
    for place in range(len(samples)):
        (array,) = samples.load(place).values()
        assert array.shape == (1, 3, 224, 224)
        assert np.array_equal(array[0], preprocess_image(folder / samples.name(place), imagenet()))
    assert samples.description == "5 of 14 pictures, 3 classes"
    assert not samples.is_random
    unstated = open_samples(str(folder), artifact(("batch", 3, "height", "width")))
    assert len(unstated) == 14
    assert np.array_equal(unstated.load(0)["x"], open_samples(str(folder), RGB).load(0)["x"])


def test_classes_are_balanced(folder: Path) -> None:
    for count, expected in ((3, [1, 1, 1]), (7, [3, 3, 1]), (11, [6, 4, 1]), (99, [9, 4, 1])):
        found = Counter(name.split("/")[0] for name in names(PictureFolder(folder, RGB, count)))
        assert sorted(found.values(), reverse=True) == expected
    assert len(set(names(PictureFolder(folder, RGB, 99)))) == 14
    assert len({name.split("/")[0] for name in names(PictureFolder(folder, RGB, 2))}) == 2
    # Without classes, everything in the order of the files would be of the first.
    assert balanced([3, 1, 2], lambda _: 0, lambda item: str(item).encode(), 2) == [1, 2]


def test_the_order_is_that_of_names_and_seed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PictureFolder(folder, RGB, 6)
    walk = os.walk

    def shuffled(*arguments: object, **options: object) -> Iterator[object]:
        for name, folders, files in walk(*arguments, **options):
            folders.reverse()
            yield name, folders, files[::-1]

    monkeypatch.setattr(os, "walk", shuffled)
    second = PictureFolder(folder, RGB, 6)
    assert names(second) == names(first)
    assert second.key == first.key
    assert names(PictureFolder(folder, RGB, 6, seed=1)) != names(first)
    # Another class more leaves the order within a class alone.
    before = [name for name in names(PictureFolder(folder, RGB, 99)) if name.startswith("cat")]
    picture(folder / "fox" / "0.png")
    assert [name for name in names(PictureFolder(folder, RGB, 99)) if name.startswith("cat")] == before


def test_the_key_is_that_of_the_bytes(folder: Path) -> None:
    key = PictureFolder(folder, RGB).key
    assert PictureFolder(folder, RGB).key == key
    assert PictureFolder(folder, RGB, 5).key != key
    assert PictureFolder(folder, artifact(("b", 3, 64, 64), preprocess=imagenet(64))).key != key
    picture(folder / "cat" / "3.png", 99)
    assert PictureFolder(folder, RGB).key != key


def bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot read"),
        (lambda path: path.write_text("hello"), "is not a JPEG"),
        (bomb, "is too large"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is not a file"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere.png")), "No such file"),
    ],
)
def test_one_bad_picture_is_an_image_error(
    folder: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(folder / "dog" / "2.png")
    samples = PictureFolder(folder, RGB)
    assert len(samples.key) == 64
    bad = names(samples).index("dog/2.png")
    with pytest.raises(ImageError, match=reason):
        samples.load(bad)
    assert samples.load(bad - 1)


def test_links_are_followed_and_loops_end(folder: Path) -> None:
    elsewhere = picture(folder.parent / "elsewhere" / "a.png").parent
    (folder / "gnu").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    found = names(PictureFolder(folder, RGB, 99))
    assert len(found) == 15
    assert "gnu/a.png" in found


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(CnnportError, match="no such folder"):
        open_samples(str(tmp_path / "none"), RGB)
    with pytest.raises(CnnportError, match=r"has no pictures: files that end in \.bmp"):
        open_samples(str(tmp_path), RGB)
    with pytest.raises(CnnportError, match="is one file"):
        open_samples(str(picture(tmp_path / "a.png")), RGB)
    for text in ("digits:0", "random:-1", "random:x", f"{tmp_path}:99999999999"):
        with pytest.raises(CnnportError, match="number behind it"):
            open_samples(text, RGB)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (artifact(("b", 4, 32, 32)), "takes 4 channels and does not say how to prepare"),
        (
            artifact(("b", 1, 224, 224), preprocess=imagenet()),
            "1 channel, but its pictures are prepared with 3",
        ),
        (artifact(("b", 3, 200, 224), preprocess=imagenet()), "takes 200x224 pixels.*prepared as 224x224"),
        (artifact(("b", 10)), "does not take a batch of images"),
        (artifact(("b", 3, 8, 8), ("b", 3, 8, 8)), "does not take a batch of images"),
    ],
)
def test_networks_that_do_not_take_pictures(folder: Path, net: Artifact, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        open_samples(str(folder), net)


# ---- Digits and noise


def test_digits_are_balanced_and_none_is_held_out() -> None:
    samples = DigitSamples(GREY, 105)
    digits = load_digits()
    label = dict(zip(digits.train_indices.tolist(), digits.train_labels.tolist(), strict=True))
    chosen = [int(samples.name(place).removeprefix("digit ")) for place in range(len(samples))]
    assert len(set(chosen)) == 105
    assert not set(chosen) & set(digits.test_indices.tolist())
    assert sorted(Counter(label[index] for index in chosen).values()) == [10] * 5 + [11] * 5
    (place,) = np.flatnonzero(digits.train_indices == chosen[7])
    image = Image.fromarray(digits.train_images[place])
    expected = preprocess_image(image, Preprocess((32, 32), None, "bilinear", (0.5,), (0.5,), background=0))
    assert np.array_equal(samples.load(7)["x"][0], expected)
    assert len(open_samples("digits", GREY)) == 512
    assert len(DigitSamples(GREY, 10_000)) == len(digits.train_images)
    assert DigitSamples(GREY, 105).key == samples.key != DigitSamples(GREY, 106).key


def test_noise_is_seeded_and_marked() -> None:
    net = artifact(("batch", 3, "height", 16), ("batch", 7))
    samples = open_samples("random:4", net)
    assert samples.is_random
    assert len(samples) == 4
    assert len(open_samples("random", net)) == 512
    first, second = samples.load(0), samples.load(1)
    assert first["x"].shape == (1, 3, 224, 16)
    assert first["y"].shape == (1, 7)
    assert all(np.array_equal(first[name], samples.load(0)[name]) for name in first)
    assert not np.array_equal(first["x"], second["x"])
    assert samples.key == open_samples("random:4", net).key != open_samples("random:5", net).key


# ---- Arrays


def test_arrays_by_input(tmp_path: Path) -> None:
    net = artifact(("b", 3, 8, 8), ("b", 2))
    x, y = np.random.default_rng(0).standard_normal((2, 6, 3, 8, 8)).astype(np.float32)[0], np.arange(12.0)
    np.savez(tmp_path / "some.npz", x=x, y=y.reshape(6, 2), other=np.zeros(3))
    samples = open_samples(str(tmp_path), net)
    assert len(samples) == 6
    assert samples.description == "6 of 6 samples in 1 file"
    for place in range(6):
        feeds = samples.load(place)
        assert np.array_equal(feeds["x"], x[place : place + 1])
        assert feeds["y"].dtype == np.float32
        assert feeds["y"].tolist() == [[2 * place, 2 * place + 1]]
    assert samples.name(2) == f"sample 2 of {tmp_path / 'some.npz'}"
    np.savez(tmp_path / "less.npz", x=x)
    with pytest.raises(FeedError, match=r"less\.npz has no array for input 'y': it has x"):
        open_samples(str(tmp_path), net)


def test_arrays_of_several_files_count_alike(tmp_path: Path) -> None:
    net = artifact(("b", 2))
    for name, count in (("a", 50), ("b", 4)):
        np.save(tmp_path / f"{name}.npy", np.zeros((count, 2), np.float64))
    samples = open_samples(f"{tmp_path}:8", net)
    assert Counter(samples.name(place)[-5] for place in range(8)) == {"a": 4, "b": 4}
    key = samples.key
    np.save(tmp_path / "b.npy", np.ones((4, 2)))
    assert open_samples(f"{tmp_path}:8", net).key != key


def test_nan_is_named(tmp_path: Path) -> None:
    values = np.zeros((5, 2), np.float32)
    values[3, 1] = np.nan
    np.save(tmp_path / "a.npy", values)
    samples = open_samples(str(tmp_path / "a.npy"), artifact(("b", 2)))
    assert samples.load(2)
    with pytest.raises(FeedError, match=r"sample 3 of .*a\.npy has NaN or infinity in input 'x'"):
        samples.load(3)


class Planted:
    """Writes a file if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Planted(trap)))
    assert trap.exists()
    trap.unlink()
    array = np.array([[Planted(trap), 1]], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=array)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Planted(trap)))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(CnnportError, match=f"cannot read .*{name}"):
            open_samples(str(tmp_path / name), artifact(("b", 2)))
    assert not trap.exists()


def test_arrays_that_do_not_fit_or_claim_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = artifact(("b", 3, 8, 8))
    path = tmp_path / "a.npy"
    for wrong in (
        np.zeros((4, 3, 8, 9)),
        np.zeros((3, 8, 8)),
        np.zeros((4, 3, 8, 8), np.int64),
        np.zeros(()),
    ):
        np.save(path, wrong)
        with pytest.raises(FeedError, match="does not fit input x:float32"):
            open_samples(str(path), net)
    np.save(path, np.zeros((0, 3, 8, 8)))
    with pytest.raises(CnnportError, match="holds no samples"):
        open_samples(str(path), net)
    whole = np.zeros((4, 3, 8, 8), np.float32)
    np.save(path, whole)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CnnportError, match="cannot read"):
        open_samples(str(path), net).load(0)
    np.savez_compressed(tmp_path / "b.npz", x=whole)
    assert len(open_samples(str(tmp_path / "b.npz"), net)) == 4
    # A file of a few bytes can hold any number of zeros.
    monkeypatch.setattr(arrays, "_LIMIT_BYTES", 1000)
    with pytest.raises(CnnportError, match=r"x\.npy in it has 3,200 bytes: use \.npy files"):
        open_samples(str(tmp_path / "b.npz"), net)
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 not a zip file")
    with pytest.raises(CnnportError, match="cannot read"):
        open_samples(str(tmp_path / "c.npz"), net)

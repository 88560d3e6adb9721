"""Packages for Python: the module alone, without cnnport, held against ort-cpu and Pillow."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnport.images import read_image
from cnnport.onnxfile import read_artifact
from cnnport.packaging import package
from cnnport.packaging.templates import template_files
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options, require_runtime
from package_files import COLOUR, GREY, write_picture_file

ROOT = Path(__file__).parents[1]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def made(preprocess: Preprocess = COLOUR, **options: object) -> Path:
        folder = tmp_path_factory.mktemp("python")
        file = write_picture_file(folder / "tiny.onnx", preprocess, **options)  # type: ignore[arg-type]
        return package(str(file), "python", folder / "app").folder

    return made


@pytest.fixture(scope="module")
def app(make: Make) -> Path:
    return make()


@pytest.fixture(scope="module")
def module(app: Path) -> ModuleType:
    return _module(app)


def _module(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"packaged_{folder.parent.name}", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def _python(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-W", "error", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- the smoke test


def test_the_smoke_test_passes_by_itself_and_by_pytest(app: Path) -> None:
    done = _python(app, "test_smoke.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 passed" in done.stdout
    done = _python(app, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_smoke.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_answer_fails_the_smoke_test(app: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(app, tmp_path / "app"))
    manifest = json.loads((folder / "cnnport.json").read_text())
    manifest["example"]["top"][1]["probability"] += 2 * manifest["example"]["tolerance"]
    (folder / "cnnport.json").write_text(json.dumps(manifest))
    done = _python(folder, "test_smoke.py")
    assert done.returncode == 1
    assert "FAILED  test_the_example_gets_the_expected_answer: class" in done.stdout
    assert "5 of 6 passed" in done.stdout


def test_a_changed_file_fails_the_smoke_test(app: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(app, tmp_path / "app"))
    (folder / "labels.txt").write_text("another\n")
    assert "labels.txt was changed" in _python(folder, "test_smoke.py").stdout


def test_a_flipped_bit_is_refused(app: Path, module: ModuleType, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(app, tmp_path / "app"))
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-50] ^= 4
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ValueError, match="damaged or another model: its SHA-256 is"):
        module.Model(folder)
    done = _python(folder, "model.py", "example.npy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("preprocess", "options"),
    [
        (COLOUR, {}),
        (GREY, {"layout": "nchw", "batch": 3}),
        (COLOUR, {"mode": "normalize", "batch": 2, "labels": False}),
    ],
)
def test_every_kind_of_file_gives_the_answers_of_ort_cpu(
    make: Make, preprocess: Preprocess, options: dict[str, object]
) -> None:
    folder = make(preprocess, **options)
    model = _module(folder).Model(threads=1, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    sizes = [(32, 48)] * 5 if "mode" in options else [(60, 41), (32, 48), (60, 41), (9, 80), (60, 41)]
    pictures = [random.integers(0, 256, (*size, preprocess.channels), dtype=np.uint8) for size in sizes]
    expected = []
    with require_runtime("ort-cpu").open(read_artifact(folder / "model.onnx"), Options(threads=1)) as session:
        for pixels in pictures:
            image = pixels.transpose(2, 0, 1) if options.get("layout") == "nchw" else pixels
            feed = np.ascontiguousarray(np.repeat(image[None], options.get("batch", 1), axis=0))
            expected.append(session.run({"image": feed})["probabilities"][0])
    found = model.probabilities(pictures)
    assert (found.shape, found.dtype) == ((5, 7), np.float32)
    assert np.abs(found - np.stack(expected)).max() < 1e-6
    best = model.classify(pictures[3], top=2)
    assert [guess.index for guess in best] == np.argsort(-expected[3], kind="stable")[:2].tolist()
    assert best[0].label == (None if "labels" in options else f"class {best[0].index}")
    assert len(model.classify_all(np.stack([pictures[0]] * 2))) == 2
    assert model.probabilities([]).shape == (0, 7)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "image 0 is float32: pictures are uint8"),
        (np.zeros((4, 4, 5), np.uint8), "image 0 is 4 x 4 x 5: a picture is height x width x channels"),
        (np.zeros((0, 4, 3), np.uint8), "from 1 to 100,000,000 pixels"),
        (np.zeros(7, np.uint8), "image 0 is 7: a picture is"),
        (np.uint8(3), "image 0 is a single number: a picture is"),
    ],
)
def test_what_is_no_picture_is_refused(module: ModuleType, image: NDArray[np.generic], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module.Model().classify(image)


def test_wrong_usage_is_refused(make: Make, module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no provider 'Abacus'"):
        module.Model(providers=["Abacus"])
    with pytest.raises(ValueError, match="threads are at least 1"):
        module.Model(threads=0)
    with pytest.raises(FileNotFoundError, match="no package of cnnport"):
        module.Model(tmp_path)
    (tmp_path / "cnnport.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="of another version"):
        module.Model(tmp_path)
    with pytest.raises(ValueError, match="top is at least 1"):
        module.Model().classify(np.zeros((4, 4, 3), np.uint8), top=0)
    fixed = _module(make(mode="normalize")).Model()
    with pytest.raises(ValueError, match="is 4 x 4: this model takes 32 x 48, so resize and crop it first"):
        fixed.classify(np.zeros((4, 4, 3), np.uint8))


# ---------------------------------------------------------------- pictures


def _pictures() -> dict[str, bytes]:
    random = np.random.default_rng(2)
    levels = random.integers(0, 256, (11, 7, 4), dtype=np.uint8)
    colours = Image.fromarray(levels)
    files = {}

    def add(name: str, image: Image.Image, form: str = "PNG", **options: object) -> None:
        file = BytesIO()
        image.save(file, form, **options)
        files[name] = file.getvalue()

    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        add(mode, colours.convert(mode))
    add("clear", colours.convert("P"), transparency=3)
    add("16 bits", Image.fromarray(random.integers(0, 2**16, (11, 7), dtype=np.uint16)))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"turn {orientation}", colours.convert("RGB"), "JPEG", exif=exif)
    add("CMYK", colours.convert("RGB").convert("CMYK"), "JPEG")
    return files


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_files_become_the_pixels_that_cnnport_reads(
    module: ModuleType, tmp_path: Path, channels: int
) -> None:
    wanted = Preprocess((8, 8), None, "bilinear", (0.5,) * channels, (0.5,) * channels, 90)
    for name, data in _pictures().items():
        path = tmp_path / "picture"
        path.write_bytes(data)
        expected = np.asarray(read_image(path, wanted)).reshape(-1, channels)
        found = module._recoloured(module.read_picture(path, 90), channels, 90)
        assert np.array_equal(found.reshape(-1, channels), expected), name


def test_pixels_with_alpha_show_the_background_as_in_pillow(module: ModuleType, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for channels in (1, 3):
        wanted = Preprocess((8, 8), None, "bilinear", (0.5,) * channels, (0.5,) * channels, 37)
        expected = np.asarray(read_image(tmp_path / "a.png", wanted)).reshape(40, 50, channels)
        assert np.array_equal(module._recoloured(pixels, channels, 37), expected)
        assert not np.array_equal(module._recoloured(pixels, channels, 38), expected)


def test_the_command_line_reads_arrays_and_pictures(app: Path) -> None:
    done = _python(app, "model.py", "--json", "--top", "2", "example.npy", "example.png")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["results"]
    assert first["top"] == second["top"]
    assert len(first["top"]) == 2
    (app / "broken.png").write_bytes(b"\x89PNG nothing")
    done = _python(app, "model.py", "missing.npy", "broken.png", "example.npy")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    assert "example.npy" in done.stdout
    (app / "broken.png").unlink()


# ---------------------------------------------------------------- what is stated


def test_the_pins_are_those_that_cnnport_is_tested_with() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    required = template_files("python")["requirements.txt"].decode()
    for name in ("numpy", "onnxruntime"):
        assert f'{name}=={pins[name]}; python_version >= "3.11"' in required


def test_the_module_is_typed(app: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--no-error-summary"]
    cache = ["--cache-dir", str(app.parent / "types")]
    done = subprocess.run(
        [*command, *cache, "model.py"], cwd=app, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    user = app / "user.py"
    user.write_text(
        "from model import Model\n\nlabel: str = Model().classify(__import__('numpy').zeros(3))[0].label\n"
    )
    done = subprocess.run([*command, *cache, "user.py"], cwd=app, capture_output=True, text=True, check=False)
    user.unlink()
    assert "Incompatible types in assignment" in done.stdout

"""Packages for Node.js: installed from their lock, tried by their own tests, and held against Pillow and ort-cpu."""

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from io import BytesIO
from itertools import product
from pathlib import Path

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
from png_files import CHANNELS, DEPTHS, PALETTE, png_file
from png_files import COLOUR as RGB
from png_files import GREY as LEVELS

_TYPESCRIPT = "typescript@7.0.2"


def _npm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def _node(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["node", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package in ``app``, and what it depends on beside it, where any package in it finds that."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed")
    root = tmp_path_factory.mktemp("node")
    package(str(write_picture_file(root / "tiny.onnx")), "node", root / "app")
    done = _npm(root / "app", "ci", "--no-audit", "--no-fund")
    if done.returncode:
        pytest.skip(f"no registry of npm can be reached: {done.stderr.strip().splitlines()[-1]}")
    (root / "app" / "node_modules").rename(root / "node_modules")
    return root


def _copy(root: Path, name: str) -> Path:
    return Path(shutil.copytree(root / "app", root / name))


def test_what_is_installed_passes_its_own_tests(root: Path) -> None:
    done = _npm(root / "app", "test")
    assert done.returncode == 0, done.stdout
    # Nothing was fetched beside what the lock names.
    assert not list(root.glob("node_modules/onnxruntime-node/**/*cuda*"))


def test_a_wrong_answer_fails_its_tests(root: Path) -> None:
    folder = _copy(root, "wrong_answer")
    manifest = json.loads((folder / "cnnport.json").read_text())
    manifest["example"]["top"][0]["probability"] -= 2 * manifest["example"]["tolerance"]
    (folder / "cnnport.json").write_text(json.dumps(manifest))
    done = _node(folder, "--test", "tests/model.test.mjs")
    assert done.returncode == 1
    assert "not ok 1 - the example gets the expected answer" in done.stdout


def test_a_damaged_model_is_refused(root: Path) -> None:
    folder = _copy(root, "damaged")
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-50] ^= 4
    (folder / "model.onnx").write_bytes(data)
    done = _node(folder, "cli.mjs", "example.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "damaged or another model: its SHA-256 is" in done.stderr


@pytest.mark.parametrize(
    ("preprocess", "mode", "layout", "batch"),
    [(COLOUR, "full", "nchw", None), (GREY, "full", "nhwc", 3), (COLOUR, "normalize", "nhwc", 2)],
)
def test_every_kind_of_file_gives_the_answers_of_ort_cpu(
    root: Path, preprocess: Preprocess, mode: str, layout: str, batch: int | None
) -> None:
    name = f"{mode}_{layout}_{batch}"
    file = write_picture_file(root / f"{name}.onnx", preprocess, mode=mode, layout=layout, batch=batch)
    package(str(file), "node", root / name)
    random = np.random.default_rng(1)
    sizes = [(32, 48)] * 4 if mode == "normalize" else [(60, 41), (32, 48), (60, 41), (9, 80)]
    pictures = [random.integers(0, 256, (*size, preprocess.channels), dtype=np.uint8) for size in sizes]
    program = """
import { readFileSync } from 'node:fs';
import { Model } from './index.mjs';
const model = await Model.load({ threads: 1 });
const pictures = JSON.parse(readFileSync(0, 'utf8')).map(([height, width, data]) =>
  ({ height, width, data: Buffer.from(data, 'base64') }));
console.log(JSON.stringify((await model.probabilities(pictures)).map((row) => [...row])));
"""
    (root / name / "ask.mjs").write_text(program)
    question = [[*each.shape[:2], base64.b64encode(each.tobytes()).decode()] for each in pictures]
    done = subprocess.run(
        ["node", "ask.mjs"],
        cwd=root / name,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = _answers(file, pictures, layout, batch or 1)
    assert np.abs(np.array(json.loads(done.stdout)) - expected).max() < 1e-5


def _answers(
    file: Path, pictures: Sequence[NDArray[np.uint8]], layout: str, batch: int
) -> NDArray[np.float32]:
    rows = []
    with require_runtime("ort-cpu").open(read_artifact(file), Options(threads=1)) as session:
        for pixels in pictures:
            image = pixels if layout == "nhwc" else pixels.transpose(2, 0, 1)
            feed = np.ascontiguousarray(np.repeat(image[None], batch, axis=0))
            rows.append(session.run({"image": feed})["probabilities"][0])
    return np.stack(rows)


# ---------------------------------------------------------------- decoding

_DECODE = """
import { readFileSync, writeFileSync } from 'node:fs';
import { PictureError, decode } from './index.mjs';
const found = {};
for (const [name, channels, background] of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    const { width, height, data } = decode(readFileSync(name), { channels, background });
    writeFileSync(`${name}.${channels}`, data);
    found[`${name}.${channels}`] = [height, width];
  } catch (error) {
    if (!(error instanceof PictureError)) throw error;
    found[`${name}.${channels}`] = error.message;
  }
}
console.log(JSON.stringify(found));
"""


def _decoded(root: Path, files: dict[str, bytes], background: int = 255) -> dict[str, object]:
    """What Node makes of files, each in colours and in grey: an array, or why there is none."""
    folder = root / "app"
    (folder / "decode.mjs").write_text(_DECODE)
    names = {name: folder / f"in_{place}" for place, name in enumerate(files)}
    for name, data in files.items():
        names[name].write_bytes(data)
    question = [[path.name, channels, background] for path in names.values() for channels in (1, 3)]
    done = subprocess.run(
        ["node", "decode.mjs"],
        cwd=folder,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    result: dict[str, object] = {}
    for (name, path), channels in product(names.items(), (1, 3)):
        answer = found[f"{path.name}.{channels}"]
        if isinstance(answer, list):
            data = np.frombuffer((folder / f"{path.name}.{channels}").read_bytes(), np.uint8)
            answer = data.reshape(*answer, channels)
        result[f"{name} {channels}"] = answer
    return result


def _by_pillow(path: Path, channels: int, background: int) -> NDArray[np.uint8]:
    wanted = Preprocess((8, 8), None, "bilinear", (0.5,) * channels, (0.5,) * channels, background)
    picture = read_image(path, wanted)
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def _png_files() -> dict[str, bytes]:
    random = np.random.default_rng(2)
    files = {}
    for kind, depths in DEPTHS.items():
        for depth, interlaced, has_clear in product(depths, (False, True), (False, True)):
            samples = random.integers(0, 2**depth, (11, 13, CHANNELS[kind]))
            chunks: list[tuple[bytes, bytes]] = []
            if kind == PALETTE:
                chunks.append((b"PLTE", random.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()))
            if has_clear and kind == PALETTE:
                chunks.append((b"tRNS", random.integers(0, 256, 2**depth, dtype=np.uint8).tobytes()))
            # Pillow takes the clear level of 2 and 4 bits, and the clear colour of 16, for one of 8.
            elif has_clear and kind in {LEVELS, RGB}:
                if depth in {2, 4} or (kind == RGB and depth == 16):
                    continue
                chunks.append((b"tRNS", samples[3, 4].astype(">u2").tobytes()))
            name = f"{kind} {depth} {interlaced} {has_clear}"
            files[name] = png_file(samples, kind, depth, interlaced=interlaced, chunks=tuple(chunks))
    return files


def _jpeg_files() -> dict[str, bytes]:
    random = np.random.default_rng(3)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((123, 77))
    files = {}
    for subsampling, progressive, mode in product((0, 1, 2), (False, True), ("RGB", "L")):
        file = BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 1 + (subsampling * 3 + progressive * 2 + (mode == "L")) % 8
        coarse.convert(mode).save(
            file, "JPEG", quality=80, subsampling=subsampling, progressive=progressive, exif=exif
        )
        files[f"{subsampling} {progressive} {mode}"] = file.getvalue()
    return files


def test_files_become_the_pixels_that_pillow_reads(root: Path, tmp_path: Path) -> None:
    files = {**_png_files(), **_jpeg_files()}
    background = 90
    found = _decoded(root, files, background)
    assert len(found) > 100
    wrong = []
    for name, data in files.items():
        path = tmp_path / "picture"
        path.write_bytes(data)
        for channels in (1, 3):
            expected, got = _by_pillow(path, channels, background), found[f"{name} {channels}"]
            if not isinstance(got, np.ndarray) or not np.array_equal(expected, got):
                wrong.append(f"{name} {channels}: {got if isinstance(got, str) else 'other pixels'}")
    assert not wrong


def test_the_comparison_sees_a_pixel_that_is_off(root: Path, tmp_path: Path) -> None:
    samples = np.full((3, 4, 1), 7)
    found = _decoded(root, {"one": png_file(samples, LEVELS, 8)})
    samples[1, 2] = 8
    (tmp_path / "other").write_bytes(png_file(samples, LEVELS, 8))
    assert np.sum(_by_pillow(tmp_path / "other", 1, 255) != found["one 1"]) == 1


def test_damaged_files_are_refused_and_nothing_else_happens(root: Path) -> None:
    random = np.random.default_rng(4)
    good = {**_png_files(), **_jpeg_files()}
    files = {}
    for number in range(150):
        name = sorted(good)[int(random.integers(len(good)))]
        data = bytearray(good[name])
        for _ in range(int(random.integers(1, 4))):
            data[int(random.integers(8, len(data)))] = int(random.integers(256))
        if number % 3 == 0:
            del data[int(random.integers(9, len(data))) :]
        files[f"{number}"] = bytes(data)
    # Anything but an answer or a PictureError ends the program that is asked.
    found = _decoded(root, files)
    refused = sum(isinstance(answer, str) for answer in found.values())
    assert 100 < refused < len(found)


# ---------------------------------------------------------------- what is stated


def test_the_lock_names_no_place_and_every_hash() -> None:
    files = template_files("node")
    stated, lock = json.loads(files["package.json"]), json.loads(files["package-lock.json"])
    assert lock["packages"][""]["dependencies"] == stated["dependencies"]
    assert all(version[0].isdigit() for version in stated["dependencies"].values())
    for name, entry in lock["packages"].items():
        assert "resolved" not in entry
        assert not name or entry["integrity"].startswith("sha512-")
    assert b"ignore-scripts=true" in files[".npmrc"]


_USE = """
import { Model, PictureError, decode, type Guess, type Picture } from './index.mjs';

const model: Model = await Model.load({ threads: 2 });
const picture = { width: 1, height: 1, data: new Uint8Array(3) } satisfies Picture;
const guesses: Guess[] = await model.classify(new Uint8Array(3), { top: 2 });
const rows: Float32Array[] = await model.probabilities([picture, new Uint8Array(3)]);
const { channels }: { channels: 1 | 3 } = decode(new Uint8Array(1), { channels: 1, background: 0 });
const size: number | undefined = model.size?.height;
const resize: number | null = model.manifest.preprocess.resize;
const error: Error = new PictureError('x');
export const label: LABEL = guesses[0]!.label;
export { channels, error, resize, rows, size };
"""


def test_the_types_are_those_of_the_module(root: Path) -> None:
    tools = root / "typescript"
    tools.mkdir()
    if (
        done := _npm(tools, "install", "--no-audit", "--no-fund", "--prefix", str(tools), _TYPESCRIPT)
    ).returncode:
        pytest.skip(f"TypeScript cannot be had: {done.stderr.strip().splitlines()[-1]}")
    folder = _copy(root, "typed")
    compiler = [str(tools / "node_modules" / ".bin" / "tsc"), "--strict", "--noEmit"]
    options = ["--module", "nodenext", "--target", "es2022", "use.mts"]

    def check(label: str) -> subprocess.CompletedProcess[str]:
        (folder / "use.mts").write_text(_USE.replace("LABEL", label))
        return subprocess.run([*compiler, *options], cwd=folder, capture_output=True, text=True, check=False)

    good = check("string | null")
    assert good.returncode == 0, good.stdout
    assert "'string | null' is not assignable to type 'string'" in check("string").stdout
    # What the types promise is there, and no more.
    names = "import('./index.mjs').then((all) => console.log(Object.keys(all).join()))"
    assert _node(folder, "-e", names).stdout.strip() == "Model,PictureError,decode"

"""The page of ``cnnport package --for web`` in headless Chromium, from a server for static files on loopback."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import axe
from cnnport.artifact import Artifact
from cnnport.errors import CheckFailedError, CnnportError
from cnnport.images import read_image
from cnnport.measuring.studies.chromium import Chromium, chromium, find
from cnnport.measuring.studies.loopback import Site, serve
from cnnport.measuring.studies.web_pages import open_page, page_probabilities, web_probabilities
from cnnport.metadata import preprocess_of
from cnnport.onnxfile import read_artifact
from cnnport.packaging import package
from cnnport.packaging.example import cropped
from cnnport.packaging.npm_files import npm_files
from cnnport.packaging.web_app import RUNTIME
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options, require_runtime
from package_files import COLOUR, write_picture_file

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium")

# Two sets of float32 kernels; a thousandth of what the issue allows between packages and PyTorch would be 1e-7.
TOLERANCE = 1e-5
PHONE = 360
PATIENCE_S = 60.0
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
KEPT = "document.documentElement.dataset.offline"
TEXT = "document.body.innerText"
NO_STORE = {"Cache-Control": "no-store"}

# Runs functions of the page's own modules and gives their pixels.
PIXELS = """(async (data, preprocess, limit, crop) => {
  const at = name => import(new URL(name, document.baseURI).href);
  const { readPixels } = await at("pixels.js");
  const { resizeAndCrop } = await at("resample.js");
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  const read = await readPixels(new Blob([bytes]), preprocess, limit);
  const shown = crop ? resizeAndCrop(read, preprocess) : read;
  let text = "";
  for (let start = 0; start < shown.data.length; start += 8192) {
    text += String.fromCharCode(...shown.data.subarray(start, start + 8192));
  }
  return [shown.height, shown.width, shown.channels, btoa(text)];
})"""


@pytest.fixture(scope="module", autouse=True)
def _runtime() -> None:
    """Everything here needs onnxruntime-web."""
    try:
        npm_files(RUNTIME, ["package.json"])
    except CnnportError as error:
        if not str(error).startswith("cannot fetch"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package around a network that takes no time."""
    folder = tmp_path_factory.mktemp("tiny")
    package(str(write_picture_file(folder / "tiny.onnx")), "web", folder / "app")
    return folder / "app"


@pytest.fixture(scope="module")
def site(tiny: Path) -> Iterator[Site]:
    with serve(tiny, below="some/where") as served:
        yield served


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Smooth colours with noise, of several sizes and formats, larger and smaller than networks take."""
    rng = np.random.default_rng(7)
    paths = []
    for place, (width, height) in enumerate([(301, 417), (640, 333), (97, 64)]):
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        image = small.resize((width, height), Image.Resampling.BICUBIC)
        for ending in ("png", "jpg"):
            paths.append(tmp_path / f"{place}.{ending}")
            image.save(paths[-1], quality=88)
    return paths


def plant(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def copy_of(folder: Path, target: Path) -> Path:
    """A package that may be damaged."""
    return Path(shutil.copytree(folder, target))


def preprocess_of_file(artifact: Artifact) -> Preprocess:
    preprocess = preprocess_of(artifact)
    assert preprocess is not None
    return preprocess


def expected(folder: Path, paths: list[Path]) -> NDArray[np.float32]:
    """What ONNX Runtime for Python says."""
    artifact = read_artifact(folder / "model.onnx")
    preprocess, manifest = preprocess_of_file(artifact), json.loads((folder / "cnnport.json").read_text())
    rows = []
    with require_runtime("ort-cpu").open(artifact, Options()) as session:
        for path in paths:
            image = read_image(path, preprocess)
            if manifest["picture"]["preprocess"] == "normalize":
                image = cropped(image, preprocess)
            pixels = np.asarray(image).reshape(1, image.height, image.width, preprocess.channels)
            if manifest["picture"]["layout"] == "nchw":
                pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
            rows.append(session.run({"image": pixels})["probabilities"][0])
    return np.stack(rows)


def pixels_of(
    browser: Chromium, path: Path, preprocess: Preprocess, *, limit: int = 10**9, crop: bool = False
) -> NDArray[np.uint8]:
    """What the page's modules make of a picture file."""
    arguments = (
        base64.b64encode(path.read_bytes()).decode(),
        {**preprocess.to_json(), "channels": preprocess.channels},
        limit,
        crop,
    )
    height, width, channels, data = browser.evaluate(f"{PIXELS}(...{json.dumps(arguments)})")
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, channels)


@pytest.mark.parametrize("network", ["lenet5", "shufflenet_v2"])
def test_answers_are_those_of_onnxruntime_for_python(
    network: str,
    exported: Callable[[str], Artifact],
    browser: Chromium,
    tmp_path: Path,
    pictures: list[Path],
    digit_scans: list[Path],
) -> None:
    """On first sight of the page, with threads, without a word on the console and from no other host."""
    paths = digit_scans[:4] if network == "lenet5" else pictures
    package(str(exported(network).path), "web", tmp_path / "app")
    wanted = expected(tmp_path / "app", paths)
    with serve(tmp_path / "app", below="in/a/folder") as site:
        open_page(browser, f"{site.address}?backend=wasm")
        found = np.array([page_probabilities(browser, path) for path in paths])
        assert browser.evaluate("crossOriginIsolated")
        threads = browser.evaluate("Math.min(4, navigator.hardwareConcurrency)")
        assert f"{threads} thread" in browser.evaluate(TEXT)
        assert len([name for _, name in browser.workers if name == "em-pthread"]) == threads - 1
        assert browser.complaints == []
        assert {address for address in browser.requests if not address.startswith(site.address)} == set()
    assert np.abs(found - wanted).max() < TOLERANCE
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()
    # Of another picture the answer is another one.
    assert np.abs(found[0] - wanted[1]).max() > TOLERANCE


def test_a_picture_file_with_channels_first_runs(
    browser: Chromium, tmp_path: Path, pictures: list[Path]
) -> None:
    package(str(write_picture_file(tmp_path / "tiny.onnx", layout="nchw")), "web", tmp_path / "app")
    with serve(tmp_path / "app") as site:
        open_page(browser, f"{site.address}?backend=wasm")
        found = np.array([page_probabilities(browser, path) for path in pictures[::2]])
    assert np.abs(found - expected(tmp_path / "app", pictures[::2])).max() < TOLERANCE


def test_the_page_resizes_for_a_model_that_does_not(tmp_path: Path, pictures: list[Path]) -> None:
    """And of a fixed batch, by what studies run: in a browser that goes with it."""
    model = write_picture_file(tmp_path / "tiny.onnx", mode="normalize", batch=2)
    package(str(model), "web", tmp_path / "app")
    found = web_probabilities(tmp_path / "app", pictures)
    alone = write_picture_file(tmp_path / "alone.onnx", mode="normalize")
    package(str(alone), "web", tmp_path / "other")
    assert np.abs(found - expected(tmp_path / "other", pictures)).max() < TOLERANCE


def test_it_works_when_the_server_is_gone(browser: Chromium, tiny: Path, pictures: list[Path]) -> None:
    with serve(tiny, headers=NO_STORE) as site:
        open_page(browser, f"{site.address}?backend=wasm")
        browser.wait_for(KEPT, PATIENCE_S)
        assert browser.evaluate(KEPT) == "yes"
        first = page_probabilities(browser, pictures[0])
    browser.open("about:blank")
    for address in (site.address, f"{site.address}index.html?backend=wasm"):
        open_page(browser, address)
        assert browser.evaluate("crossOriginIsolated")
        assert page_probabilities(browser, pictures[0]) == first
    # What was never loaded is not there: the test would notice a server that lives on.
    with pytest.raises(RuntimeError, match="Failed to fetch"):
        browser.evaluate("fetch('other.json').then(answer => answer.status)")


def test_a_page_that_was_replaced_is_replaced(browser: Chromium, tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "app")
    with serve(folder) as site:
        open_page(browser, site.address)
        browser.wait_for(KEPT, PATIENCE_S)
        plant(folder, "index.html", "Try the example", "Try it")
        old = read_artifact(folder / "model.onnx").sha256
        other = write_picture_file(tmp_path / "other.onnx", classes=9)
        package(str(other), "web", tmp_path / "new")
        for name in ("model.onnx", "cnnport.json", "example.png"):
            shutil.copy(tmp_path / "new" / name, folder / name)
        open_page(browser, site.address)
        browser.wait_for(KEPT, PATIENCE_S)
        assert "Try it" in browser.evaluate(TEXT)
        assert "9 classes" in browser.evaluate(TEXT)
        kept = browser.evaluate(
            "caches.open('cnnport ' + document.baseURI).then(cache => cache.keys())"
            ".then(all => all.map(each => each.url))"
        )
        assert not [address for address in kept if old in address]
        assert [address for address in kept if "model.onnx" in address]


def test_it_runs_without_service_worker_and_isolation(tiny: Path, pictures: list[Path]) -> None:
    """As over http from another computer."""
    with serve(tiny) as site, chromium() as browser:
        browser.before_pages("delete Navigator.prototype.serviceWorker")
        open_page(browser, site.address)
        browser.wait_for(KEPT, PATIENCE_S)
        assert not browser.evaluate("crossOriginIsolated")
        assert not [name for _, name in browser.workers if name == "em-pthread"]
        assert "1 thread" in browser.evaluate(TEXT)
        assert browser.evaluate(KEPT) == "no"
        found = page_probabilities(browser, pictures[0])
    assert np.abs(np.array(found) - expected(tiny, pictures[:1])[0]).max() < TOLERANCE


def test_it_falls_back_where_webgpu_fails(tiny: Path, pictures: list[Path]) -> None:
    """A browser that promises a graphics processor, and has none when it is asked for in earnest."""
    promise = "Object.defineProperty(navigator, 'gpu', {value: {requestAdapter: async () => ({info: {}})}})"
    with serve(tiny) as site, chromium() as browser:
        browser.before_pages(promise)
        open_page(browser, site.address)
        text = browser.evaluate(TEXT)
        assert "WebAssembly on the processor" in text
        assert "Why not WebGPU" in text
        assert any("ort.webgpu" in address for address in browser.requests)
        found = page_probabilities(browser, pictures[0])
        with pytest.raises(CheckFailedError, match="cannot run here"):
            open_page(browser, f"{site.address}?backend=webgpu")
    assert np.abs(np.array(found) - expected(tiny, pictures[:1])[0]).max() < TOLERANCE


def test_webgpu_in_software_gives_the_same_answer(
    exported: Callable[[str], Artifact], tmp_path: Path, digit_scans: list[Path]
) -> None:
    """A convolution of lenet5, over 6 channels, is one that onnxruntime-web gets wrong at first."""
    folder, picture = tmp_path / "app", digit_scans[0]
    package(str(exported("lenet5").path), "web", folder)
    with serve(folder) as site, chromium(gpu=True) as browser:
        browser.open(f"{site.address}icon.svg")
        if not browser.evaluate("navigator.gpu?.requestAdapter().then(found => found !== null) ?? false"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        open_page(browser, f"{site.address}?backend=webgpu")
        assert "Runs on\nWebGPU" in browser.evaluate(TEXT)
        found = page_probabilities(browser, picture)
        # Two questions at once are answered one after the other.
        example = "fetch('example.png').then(file => file.blob()).then(data => ready.classify(data))"
        both = f"cnnport.ready.then(ready => Promise.all([{example}, {example}]))"
        first, second = browser.evaluate(f"{both}.then(all => all.map(each => each.top))")
        assert first == second
        # Unless asked for, a simulated graphics processor is not taken.
        open_page(browser, site.address)
        assert "only simulated" in browser.evaluate(TEXT)
    assert np.abs(np.array(found) - expected(folder, [picture])[0]).max() < TOLERANCE


def test_a_wrong_model_or_answer_is_not_shown(browser: Chromium, tiny: Path, tmp_path: Path) -> None:
    flipped = copy_of(tiny, tmp_path / "flipped")
    data = bytearray((flipped / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (flipped / "model.onnx").write_bytes(data)
    other = copy_of(tiny, tmp_path / "other")
    manifest = json.loads((other / "cnnport.json").read_text())
    manifest["example"]["top"][0]["probability"] *= 0.99
    (other / "cnnport.json").write_text(json.dumps(manifest))
    gone = copy_of(tiny, tmp_path / "gone")
    (gone / "model.onnx").unlink()
    for folder, reason in (
        (flipped, "not the model that was packaged"),
        (other, "gives other answers here"),
        (gone, "the server answers 404"),
    ):
        with serve(folder) as site, pytest.raises(CheckFailedError, match=reason):
            open_page(browser, site.address)


def test_a_request_to_another_host_would_be_noticed(browser: Chromium, tiny: Path, tmp_path: Path) -> None:
    """From the thread that computes, which the page's policy does not reach."""
    folder = copy_of(tiny, tmp_path / "app")
    plant(folder, "worker.js", "const TASKS", 'fetch("http://localhost:9/").catch(() => {});\nconst TASKS')
    with serve(folder) as site:
        open_page(browser, site.address)
    assert "http://localhost:9/" in browser.requests


def jpeg(path: Path, image: Image.Image, **options: Any) -> None:
    image.save(path, "JPEG", quality=95, subsampling=0, **options)


def test_pixels_are_those_of_the_reference(browser: Chromium, site: Site, tmp_path: Path) -> None:
    """Orientation, transparency, colour profiles, grey, palettes, 16 bits, and more pixels than a tile."""
    y, x = np.mgrid[0:21, 0:34]
    image = Image.fromarray(np.stack([x * 7, y * 12, (x + y) * 4], axis=-1).astype(np.uint8))
    files: dict[str, tuple[Callable[[Path], None], int]] = {}
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files[f"turned{turn}.jpg"] = (lambda path, exif=exif: jpeg(path, image, exif=exif)), 0
        files[f"turned{turn}.png"] = (lambda path, exif=exif: image.save(path, exif=exif)), 0
    half = image.copy()
    half.putalpha(Image.fromarray((x * 7 % 256).astype(np.uint8)))
    whole = image.copy()
    whole.putalpha(Image.fromarray(((x // 5 % 2) * 255).astype(np.uint8)))
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5000, 3), dtype=np.uint8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Red and blue change places: whoever applies it shows that.
    at = {name: srgb.index(name) + 4 for name in (b"rXYZ", b"bXYZ")}
    red, blue = (srgb[at[name] : at[name] + 8] for name in (b"rXYZ", b"bXYZ"))
    swapped = srgb.replace(b"rXYZ" + red, b"rXYZ" + blue, 1).replace(b"bXYZ" + blue, b"bXYZ" + red, 1)
    assert swapped != srgb
    deep = Image.fromarray((np.arange(21 * 34).reshape(21, 34) * 91).astype(np.uint16))
    files |= {
        "half.png": (half.save, 1),
        "whole.png": (whole.save, 0),
        "half.webp": ((lambda path: half.save(path, lossless=True, exact=True)), 1),
        "grey.jpg": ((lambda path: jpeg(path, image.convert("L"))), 0),
        "grey_half.png": (half.convert("LA").save, 1),
        "palette.png": (image.quantize(16).save, 0),
        "palette.gif": (image.quantize(16).save, 0),
        "wide.png": (wide.save, 0),
        "progressive.jpg": ((lambda path: jpeg(path, image, progressive=True)), 0),
        "profile.png": ((lambda path: image.save(path, icc_profile=swapped)), 0),
        "profile.jpg": ((lambda path: jpeg(path, image, icc_profile=swapped)), 0),
        "deep.png": (deep.save, 1),
        "picture.bmp": (image.save, 0),
    }
    open_page(browser, site.address)
    grey = Preprocess((32, 32), None, "bilinear", (0.3,), (0.4,), background=0)
    off = {}
    for name, (write, slack) in files.items():
        path = tmp_path / name
        write(path)
        for preprocess in (COLOUR, grey):
            wanted = np.asarray(read_image(path, preprocess)).astype(int)
            found = pixels_of(browser, path, preprocess).astype(int)
            if (
                found.shape[:2] != wanted.shape[:2]
                or np.abs(found - wanted.reshape(found.shape)).max() > slack
            ):
                off[name, preprocess.channels] = (found.shape, wanted.shape)
    assert off == {}


def test_very_large_pictures_are_averaged(browser: Chromium, site: Site, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 4099, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    open_page(browser, site.address)
    found = pixels_of(browser, tmp_path / "wide.png", COLOUR, limit=pixels.shape[0] * pixels.shape[1] // 3)
    reduced = np.asarray(Image.fromarray(pixels).reduce(2))
    assert found.shape == (3, 2050, 3)
    assert np.abs(found.astype(int) - reduced).max() <= 1


def test_resizing_is_that_of_pillow(browser: Chromium, site: Site, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    open_page(browser, site.address)
    for width, height in ((31, 77), (400, 301), (33, 20), (48, 32), (7, 5), (1, 9)):
        path = tmp_path / f"{width}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        for preprocess in (
            COLOUR,
            Preprocess((33, 40), 21, "bicubic", (0.5,) * 3, (0.5,) * 3),
            Preprocess((20, 27), None, "bicubic", (0.5,), (0.5,)),
        ):
            wanted = np.asarray(cropped(read_image(path, preprocess), preprocess))
            found = pixels_of(browser, path, preprocess, crop=True)
            assert (found == wanted.reshape(found.shape)).all(), (width, height, preprocess)


def test_pictures_get_in_by_every_way(
    browser: Chromium, site: Site, pictures: list[Path], tmp_path: Path
) -> None:
    open_page(browser, site.address, width=PHONE)
    shown = "document.documentElement.dataset.shown"
    browser.choose("#choose", pictures[:1])
    browser.wait_for(f"{shown} === '2'", PATIENCE_S)
    assert browser.evaluate("document.querySelectorAll('#results li').length") == 5
    assert pictures[0].name in browser.evaluate("document.getElementById('preview').alt")
    assert browser.evaluate("document.getElementById('photograph').getAttribute('capture')") == "environment"
    browser.choose("#photograph", pictures[1:2])
    browser.wait_for(f"{shown} === '3'", PATIENCE_S)
    data = base64.b64encode(pictures[2].read_bytes()).decode()
    given = f"""(() => {{
      const bytes = Uint8Array.from(atob("{data}"), letter => letter.charCodeAt(0));
      const given = new DataTransfer();
      given.items.add(new File([bytes], "given.png", {{type: "image/png"}}));
      return given;
    }})()"""
    browser.evaluate(
        f"document.body.dispatchEvent(new DragEvent('drop', {{dataTransfer: {given}, bubbles: true}}))"
    )
    browser.wait_for(f"{shown} === '4'", PATIENCE_S)
    browser.evaluate(
        f"document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: {given}, bubbles: true}}))"
    )
    browser.wait_for(f"{shown} === '5'", PATIENCE_S)
    answer = browser.evaluate("document.getElementById('status').textContent")
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    browser.choose("#choose", [text])
    browser.wait_for("!document.getElementById('error').hidden", PATIENCE_S)
    assert "cannot read the file as a picture" in browser.evaluate(
        "document.getElementById('error').textContent"
    )
    assert browser.evaluate("document.querySelectorAll('#results li').length") == 0
    assert "%" in answer
    assert browser.complaints == [] or browser.complaints == ["No available adapters."]
    assert browser.evaluate(TOO_WIDE) == 0


def test_labels_are_text(browser: Chromium, tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "app")
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    manifest = json.loads((folder / "cnnport.json").read_text())
    manifest["labels"] = [f"{bad}{each}" for each in range(7)]
    manifest["model"]["name"] = manifest["licence"] = bad
    (folder / "cnnport.json").write_text(json.dumps(manifest))
    with serve(folder) as site:
        open_page(browser, f"{site.address}?backend=wasm")
        browser.evaluate("document.getElementById('example').click()")
        browser.wait_for("document.querySelectorAll('#results li').length", PATIENCE_S)
        assert browser.evaluate("document.querySelector('#results .label').textContent").startswith(bad)
        assert browser.evaluate("document.querySelectorAll('img, script').length") == 2
        assert browser.evaluate(TOO_WIDE) == 0
        assert browser.complaints == []
        # The policy is in force: text becomes no markup, and no script of another place runs.
        with pytest.raises(RuntimeError, match="TrustedHTML"):
            browser.evaluate("document.body.innerHTML = '<b>x</b>'")
        browser.evaluate(
            "document.body.append(Object.assign(document.createElement('img'), {src: 'http://localhost:9/'}))"
        )
        browser.wait_for("true", 1)
        assert any("Content Security Policy" in each for each in browser.complaints)


def test_it_is_for_everybody(browser: Chromium, site: Site, tmp_path: Path) -> None:
    """By axe in every state, light, dark and on a phone; by keyboard alone; still where motion is not liked."""
    if axe.source() is None:
        pytest.skip(axe.REASON)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for width, dark in ((1280, False), (1280, True), (PHONE, False)):
        open_page(browser, f"{site.address}?backend=wasm", width=width, dark=dark)
        assert axe.violations(browser) == []
        browser.evaluate("document.getElementById('example').click()")
        browser.wait_for("document.querySelectorAll('#results li').length", PATIENCE_S)
        browser.evaluate("document.getElementById('notice').hidden = false")
        browser.evaluate("document.getElementById('notice').textContent = 'Words'")
        browser.evaluate("document.querySelector('details').open = true")
        assert axe.violations(browser) == []
        browser.choose("#choose", [text])
        browser.wait_for("!document.getElementById('error').hidden", PATIENCE_S)
        assert axe.violations(browser) == []
        assert browser.evaluate(TOO_WIDE) == 0
    browser.evaluate("document.getElementById('status').style.color = '#bbb'")
    assert any(each.startswith("color-contrast") for each in axe.violations(browser))

    open_page(browser, f"{site.address}?backend=wasm")
    reached = []
    while "example" not in reached and len(reached) < 9:
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.id"))
    assert reached[0] == "choose"
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press("Enter")
    browser.wait_for("document.querySelectorAll('#results li').length", PATIENCE_S)
    said = browser.evaluate("document.querySelector('[role=status]').textContent")
    assert "%" in said
    moves = "getComputedStyle(document.querySelector('.bar')).animationName"
    assert browser.evaluate(moves) == "grow"
    browser.prefer(still=True)
    assert browser.evaluate(moves) == "none"


def test_packages_are_the_same_when_made_again(tiny: Path, tmp_path: Path) -> None:
    package(str(write_picture_file(tmp_path / "tiny.onnx")), "web", tmp_path / "app")
    names = sorted(path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "app") for path in (tmp_path / "app").rglob("*") if path.is_file()
    )
    assert [
        name for name in names if (tiny / name).read_bytes() != (tmp_path / "app" / name).read_bytes()
    ] == []
    readme = (tiny / "README.md").read_text()
    assert "$" not in readme
    for name in names:
        is_named = f"`{name.name}`" in readme or name.parts[0] == "runtime" or name.name == "README.md"
        assert is_named, f"the README does not say what {name} is"

"""``cnnport package``: what goes into a package, what is refused, and that it is written whole or not at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnport.artifact import Artifact
from cnnport.errors import OutputError
from cnnport.files import sha256_of
from cnnport.metadata import Picture, picture_of
from cnnport.onnxfile import load_model, read_artifact, write_foreign
from cnnport.packaging import KINDS, package
from cnnport.packaging.example import digit, drawing, example_of
from cnnport.packaging.folder import write_folder
from cnnport.packaging.licence import licence_note
from cnnport.packaging.packing import package_name
from cnnport.packaging.templates import template_files
from package_files import GREY, write_picture_file

Exported = Callable[[str], Artifact]
Run = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_picture_file(tmp_path_factory.mktemp("picture") / "tiny.onnx")


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


# ---------------------------------------------------------------- what comes out


def test_a_network_becomes_a_package(cli: Run) -> None:
    code, out, err = cli("package", "lenet5", "--for", "python", "-o", "app", "--json")
    assert code == 0, err
    said, manifest = json.loads(out), json.loads(Path("app/cnnport.json").read_text())
    assert (said["kind"], said["name"], said["manifest"]) == ("python", "lenet5", manifest)
    assert set(said["files"]) == set(_tree(Path("app"))) == {*manifest["files"], "cnnport.json"}
    assert all(sha256_of(Path("app", name)) == sha256 for name, sha256 in manifest["files"].items())
    model = read_artifact(Path("app/model.onnx"))
    assert manifest["model"]["sha256"] == model.sha256 == manifest["files"]["model.onnx"]
    assert picture_of(model) == Picture("full", "nhwc", 5)
    assert manifest["metadata"]["cnnport.weights"] == "default"
    assert manifest["labels"] == [str(digit) for digit in range(10)]
    # The example is a seven.
    assert manifest["example"]["top"][0]["index"] == 7
    assert np.array_equal(np.asarray(Image.open("app/example.png")), digit())
    assert cli("verify", "app/model.onnx")[0] == 0


def test_the_same_again_is_the_same_to_the_byte(tiny: Path, tmp_path: Path) -> None:
    for kind in ("python", "node"):
        first = package(str(tiny), kind, tmp_path / f"{kind}1")
        second = package(str(tiny), kind, tmp_path / f"{kind}2", overwrite=True)
        assert _tree(first.folder) == _tree(second.folder)
        assert first.manifest == second.manifest
    # A name is the least that may make a difference, and the comparison sees it.
    other = package(str(tiny), "python", tmp_path / "other", name="other")
    assert _tree(other.folder) != _tree(tmp_path / "python1")


def test_a_whole_packaging_again_is_the_same_to_the_byte(exported: Exported, tmp_path: Path) -> None:
    source = str(exported("lenet5").path)
    trees = [_tree(package(source, "node", tmp_path / name).folder) for name in ("one", "two")]
    assert trees[0] == trees[1]


def test_normalize_and_int8_and_a_name(exported: Exported, tmp_path: Path) -> None:
    done = package(
        str(exported("lenet5").path), "python", tmp_path / "app", preprocess="normalize", name="seven"
    )
    assert done.manifest["picture"]["preprocess"] == "normalize"
    assert (done.manifest["name"], done.manifest["inputs"][0]["shape"][1:]) == ("seven", [32, 32, 1])
    assert "exactly 32 x 32" in (tmp_path / "app" / "README.md").read_text()


def test_templates_ship(tmp_path: Path) -> None:
    """What pyproject.toml declares covers every template, those that begin with a dot among them."""
    import tomllib

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = ROOT / "cnnport" / "packaging"
    shipped = {path for pattern in stated["cnnport.packaging"] for path in folder.glob(pattern)}
    for kind in (*KINDS, "common"):
        for name in template_files(kind):
            assert folder / "templates" / kind / name in shipped
    # As setuptools has it, and unlike this, a star finds nothing that begins with a dot.
    dotted = [name for kind in KINDS for name in template_files(kind) if Path(name).name.startswith(".")]
    assert {Path(name).name for name in dotted} <= {Path(each).name for each in stated["cnnport.packaging"]}
    assert ".npmrc" in dotted


def test_the_licence_is_that_of_the_project() -> None:
    assert template_files("common")["LICENSE"] == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("weights", "origin", "words"),
    [
        ("default", "lenet5_digits.safetensors", "trained for cnnport and are under the Apache License"),
        (
            "default",
            "https://example.org/a.pth",
            "example.org/a.pth: they are under their publisher's licence",
        ),
        ("random", "seed 0", "nobody has rights in them"),
        ("file", "mine.pth", "those of whoever made this package"),
        ("own", "the callable's own", "those of whoever made this package"),
        ("url", "https://example.org/b.pth", "of whoever published them"),
    ],
)
def test_the_notice_says_whose_weights_they_are(
    exported: Exported, weights: str, origin: str, words: str
) -> None:
    network = exported("lenet5")
    stated = {**network.metadata, "cnnport.weights": weights, "cnnport.weights_origin": origin}
    note = licence_note(replace(network, metadata=stated))
    assert words in note
    assert "Apache License 2.0" in note


def test_the_digit_is_a_held_out_one() -> None:
    digits = pytest.importorskip("cnnport.digits")
    pytest.importorskip("sklearn")
    held = digits.load_digits()
    (place,) = np.flatnonzero(held.test_indices == 1467)
    assert held.test_labels[place] == 7
    assert np.array_equal(held.test_images[place], digit())
    assert not np.array_equal(held.test_images[place - 1], digit())


def test_the_example_fits_what_the_file_takes(tmp_path: Path) -> None:
    file = read_artifact(write_picture_file(tmp_path / "n.onnx", GREY, mode="normalize", batch=2))
    picture = picture_of(file)
    assert picture is not None
    example = example_of(file, GREY, picture, None)
    assert example.pixels.shape == (32, 32, 1)
    assert np.array_equal(
        np.asarray(Image.open(__import__("io").BytesIO(example.png))), example.pixels[:, :, 0]
    )
    assert drawing().shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("shufflenet_v2_x1_0", "shufflenet_v2_x1_0"),
        ("timm:resnet18.a1_in1k", "resnet18_a1_in1k"),
        ("My Net (final).onnx", "my_net_final"),
        ("net.py:make", "make"),
        ("7x7", "model_7x7"),
        ("日本", "model"),
    ],
)
def test_names_fit_folders_and_modules(model: str, name: str) -> None:
    assert package_name(model) == name


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--for", "java", "-o", "app"], "--for takes python, node, web, triton, not 'java'"),
        (["--for", "python", "-o", "app", "--preprocess", "half"], "--preprocess takes normalize or full"),
        (["--for", "python", "-o", "app", "--name", "My App"], "lower-case letters, digits and _: my_app"),
        (["--for", "python", "-o", "app", "--backend", "tensorrt"], "is for --for triton"),
        (["--for", "python", "-o", "missing/app"], "there is no folder missing"),
        (["--for", "python", "-o", "."], "is the current folder"),
        (["--for", "python", "-o", "app", "--preprocess", "normalize"], "prepares images itself"),
        (["--for", "python", "-o", "app", "--precision", "int8"], "is fp32, not int8"),
        (["--for", "python"], "Missing option '-o'"),
    ],
)
def test_wrong_usage_is_said_in_a_line_or_two(
    cli: Run, tiny: Path, arguments: list[str], message: str
) -> None:
    code, out, err = cli("package", tiny, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) <= 2
    assert not list(Path().iterdir())


def test_a_file_that_does_not_say_how_pictures_are_prepared_is_refused(
    cli: Run, exported: Exported, tmp_path: Path
) -> None:
    model = load_model(exported("lenet5").path)
    del model.metadata_props[:]
    write_foreign(model, tmp_path / "foreign.onnx")
    code, out, err = cli("package", "foreign.onnx", "--for", "python", "-o", "app")
    assert (code, out) == (2, "")
    assert "does not state how pictures are prepared" in err
    assert not (tmp_path / "app").exists()
    (tmp_path / "names.txt").write_text("".join(f"digit {each}\n" for each in range(10)))
    said = ("--mean", "0.1307", "--std", "0.3081", "--labels", "names.txt")
    code, out, err = cli("package", "foreign.onnx", "--for", "python", "-o", "app", "--json", *said)
    assert code == 0, err
    manifest = json.loads(out)["manifest"]
    assert (manifest["name"], manifest["labels"][7]) == ("foreign", "digit 7")
    assert (manifest["preprocess"]["mean"], manifest["preprocess"]["size"]) == ([0.1307], [32, 32])
    assert "made by others than cnnport" in manifest["licence"]
    (tmp_path / "names.txt").write_text("one\n")
    goal = ("--for", "python", "-o", "b")
    assert "1 labels do not fit foreign.onnx" in cli("package", "foreign.onnx", *goal, *said)[2]
    source = exported("lenet5").path
    assert "states how pictures are prepared" in cli("package", source, *goal, *said[:4])[2]
    assert "has labels of its own" in cli("package", source, *goal, *said[4:])[2]
    assert not (tmp_path / "b").exists()


def test_a_folder_of_someone_else_is_left_alone(cli: Run, tiny: Path, tmp_path: Path) -> None:
    arguments = ("package", tiny, "--for", "python", "-o", "app")
    (tmp_path / "app").mkdir()
    # An empty one is taken.
    assert cli(*arguments)[0] == 0
    assert "pass --overwrite" in cli(*arguments)[2]
    assert cli(*arguments, "--overwrite")[0] == 0
    (tmp_path / "app" / "node_modules").mkdir()
    (tmp_path / "app" / "node_modules" / "a.js").write_text("")
    assert cli(*arguments, "--overwrite")[0] == 0
    (tmp_path / "app" / "mine.py").write_text("work of days")
    before = _tree(tmp_path / "app")
    code, _, err = cli(*arguments, "--overwrite")
    assert (code, "also holds what is not of the package: mine.py" in err) == (2, True)
    assert _tree(tmp_path / "app") == before
    (tmp_path / "app" / "cnnport.json").write_text('{"something": "else"}')
    code, _, err = cli(*arguments, "--overwrite")
    assert (code, "no package of cnnport" in err) == (2, True)
    (tmp_path / "file").write_text("")
    assert "is not a folder" in cli(*arguments[:-1], "file", "--overwrite")[2]


# ---------------------------------------------------------------- whole or not at all


def test_a_failure_on_the_way_leaves_what_was_there(tiny: Path, tmp_path: Path) -> None:
    package(str(tiny), "python", tmp_path / "app")
    before = _tree(tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        write_folder(tmp_path / "app", {"a.txt": b"new", "b.bin": tmp_path / "not there"}, overwrite=True)
    assert _tree(tmp_path) == before


def test_folders_change_places_where_the_system_cannot_do_it_in_one_step(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnport.packaging.folder._exchange", lambda one, other: False)
    package(str(tiny), "python", tmp_path / "app")
    package(str(tiny), "node", tmp_path / "app", overwrite=True)
    assert json.loads((tmp_path / "app" / "cnnport.json").read_text())["kind"] == "node"
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from cnnport.packaging import folder
write = folder._write
def killed(path, content):
    if path.name == "second":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
folder._write = killed
folder.write_folder(Path(sys.argv[1]), {"first": b"new", "second": b"new"}, overwrite=True)
"""


def test_a_killed_command_leaves_the_old_package(tiny: Path, tmp_path: Path) -> None:
    package(str(tiny), "python", tmp_path / "app")
    before = _tree(tmp_path / "app")
    done = subprocess.run([sys.executable, "-c", _KILLED, tmp_path / "app"], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert _tree(tmp_path / "app") == before
    # What it left beside the package is in nobody's way.
    package(str(tiny), "python", tmp_path / "app", overwrite=True)
    assert _tree(tmp_path / "app") == before

"""Files out of npm packages, from a registry on loopback and from the configured one."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from conftest import Run

from cnnport.errors import CnnportError
from cnnport.measuring.studies.loopback import serve
from cnnport.packaging.npm_files import PUBLIC_REGISTRY, NpmPackage, npm_files, registry
from cnnport.packaging.web_app import RUNTIME, RUNTIME_FILES
from package_files import write_picture_file

CONTENTS = {"package.json": b"{}", "dist/index.js": b"export default 1;\n"}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """What a registry has."""
    return tmp_path / "shelf"


def publish(shelf: Path) -> NpmPackage:
    """Put a package into a registry."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in CONTENTS.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    digest = base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    package = NpmPackage("tiny", "1.2.3", f"sha512-{digest}")
    place(shelf, package).write_bytes(data.getvalue())
    return package


def place(shelf: Path, package: NpmPackage) -> Path:
    path = shelf / package.name / "-" / package.file
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_files_are_fetched_once(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = publish(shelf)
    with serve(shelf, below="npm") as site:
        monkeypatch.setenv("npm_config_registry", site.address)
        assert npm_files(package, ["dist/index.js"]) == {"dist/index.js": CONTENTS["dist/index.js"]}
        assert site.asked == ["/npm/tiny/-/tiny-1.2.3.tgz"]
    # The server is gone: what is kept is enough.
    assert npm_files(package, list(CONTENTS)) == CONTENTS
    with pytest.raises(CnnportError, match=r"^tiny-1\.2\.3\.tgz holds no dist/other\.js$"):
        npm_files(package, ["dist/other.js"])


def test_another_hash_is_refused_and_leaves_nothing(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = publish(shelf)
    path = place(shelf, package)
    right = path.read_bytes()
    path.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with serve(shelf) as site:
        monkeypatch.setenv("npm_config_registry", site.address)
        with pytest.raises(CnnportError, match="is not the file that was published") as caught:
            npm_files(package, ["dist/index.js"])
        assert "\n" not in str(caught.value)
        assert [each.name for each in tmp_path.joinpath("cache").rglob("*") if each.is_file()] == []
        path.write_bytes(right)
        assert npm_files(package, list(CONTENTS)) == CONTENTS
        # What was damaged since is fetched again.
        (kept,) = (each for each in tmp_path.joinpath("cache").rglob("*.tgz"))
        kept.write_bytes(b"damaged")
        assert npm_files(package, list(CONTENTS)) == CONTENTS


def test_the_command_says_in_a_line_why_there_is_no_runtime(
    cli: Run, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_picture_file(tmp_path / "tiny.onnx")
    place(shelf, RUNTIME).write_bytes(b"something else")
    with serve(shelf) as site:
        monkeypatch.setenv("npm_config_registry", site.address)
        wrong = cli("package", model, "--for", "web", "-o", "app")
    gone = cli("package", model, "--for", "web", "-o", "app")
    for (code, _, said), reason in (
        (wrong, "not the file that was published"),
        (gone, "refuses the connection"),
    ):
        assert code == 2
        lines = [line for line in said.splitlines() if line.startswith("error")]
        assert len(lines) == 1
        assert reason in said
        assert "Traceback" not in said
    assert not (tmp_path / "app").exists()


def test_the_registry_is_the_one_that_npm_would_ask(tmp_path: Path) -> None:
    settings = tmp_path / ".npmrc"
    home = {"HOME": str(tmp_path)}
    assert registry(home) == PUBLIC_REGISTRY
    settings.write_text(
        '; registry=http://no\n//host/:_authToken=secret\nregistry = "https://one.test/npm/"\n'
    )
    assert registry(home) == "https://one.test/npm"
    settings.write_text("registry=https://${WHERE}/npm\n")
    assert registry({**home, "WHERE": "two.test"}) == "https://two.test/npm"
    assert registry({**home, "NPM_CONFIG_REGISTRY": "http://three.test"}) == "http://three.test"
    both = {**home, "NPM_CONFIG_REGISTRY": "http://three.test", "npm_config_registry": "http://four.test/"}
    assert registry(both) == "http://four.test"
    (tmp_path / "other").write_text("registry=https://five.test")
    assert registry({**home, "npm_config_userconfig": str(tmp_path / "other")}) == "https://five.test"
    for wrong in ("file:///tmp/x", "nonsense", "https://["):
        with pytest.raises(CnnportError, match="no http address"):
            registry({**home, "npm_config_registry": wrong})
    with pytest.raises(CnnportError) as caught:
        registry({**home, "npm_config_registry": "ftp://user:secret@host/"})
    assert "secret" not in str(caught.value)


def test_the_runtime_comes_from_the_configured_registry() -> None:
    try:
        found = npm_files(RUNTIME, list(RUNTIME_FILES.values()))
    except CnnportError as error:
        if not str(error).startswith("cannot fetch"):
            raise
        pytest.skip(str(error))
    assert all(found[name].startswith(b"\0asm") for name in found if name.endswith(".wasm"))
    for module, wasm in zip(*[iter(RUNTIME_FILES.values())] * 2, strict=True):
        # Each module loads the WebAssembly that is taken with it.
        assert Path(wasm).name.encode() in found[module]
        assert RUNTIME.version.encode() in found[module][:200]

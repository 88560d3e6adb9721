"""What many tests share: files that the product's own export makes once in a run, and the command line."""

import hashlib
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest

from cnnport.artifact import Artifact, TensorSpec

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """No test reads or fills the user's cache, or another test run's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("CNNPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background job ignores SIGINT, and so would every command that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """Export a network of the zoo with its packaged weights, or with random ones if it has none.

    A file of that name in the folder ``CNNPORT_TEST_FILES`` is taken as it is: where runtimes are tried, what exports
    need not be installed.
    """
    from cnnport import registry
    from cnnport.onnxfile import read_artifact

    folder = tmp_path_factory.mktemp("exported")

    @cache
    def make(name: str) -> Artifact:
        ready = Path(os.environ.get("CNNPORT_TEST_FILES", folder)) / f"{name}.onnx"
        if ready.exists():
            return read_artifact(ready)
        from cnnport.exporting import export

        weights = registry.get(name).weights
        kind = "default" if weights and weights.is_packaged else "random"
        return export(name, folder / f"{name}.onnx", weights=kind).artifact

    return make


@pytest.fixture
def null_artifact(tmp_path: Path) -> Artifact:
    """What the null runtime takes, which does not read its file."""
    path = tmp_path / "none.onnx"
    path.write_bytes(b"the null runtime does not read this")
    return Artifact(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        model="none",
        opset=20,
        precision="fp32",
        target="portable",
        inputs=(TensorSpec("input", "float32", ("batch", 3, 8, 8)),),
        outputs=(TensorSpec("output", "float32", ("batch", 10)),),
        metadata=MappingProxyType({"cnnport.weights": "random"}),
    )


@pytest.fixture(scope="session")
def digit_scans() -> list[Path]:
    return sorted((Path(__file__).parents[1] / "examples" / "digits").glob("*.png"))


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in this process, in a folder of its own; gives exit code, standard output, standard error."""
    from cnnport.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            signal.signal(signal.SIGTERM, handler)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run

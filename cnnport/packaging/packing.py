"""From a network's name, or a file, to a folder that another application takes as it is."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError, CnnportError
from cnnport.metadata import labels_of, picture_of, preprocess_of
from cnnport.onnxfile import data_files, load_model
from cnnport.packaging.example import example_of
from cnnport.packaging.folder import check_folder, write_folder
from cnnport.packaging.kinds import Content, kind_of
from cnnport.packaging.licence import licence_note
from cnnport.packaging.manifest import EXAMPLE_FILE, MANIFEST, MODEL_FILE, manifest_of, manifest_text
from cnnport.packaging.statement import with_statement
from cnnport.packaging.subject import Subject
from cnnport.picture_file import with_picture_input
from cnnport.preprocess import Preprocess
from cnnport.runtimes import require_runtime
from cnnport.store import artifact_of

Mode = Literal["normalize", "full"]

BACKENDS = ("onnxruntime", "tensorrt")
"""What may run the network in a package for a server that has several."""

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Packaged:
    """A package that was written.

    Attributes:
        folder: Where it lies.
        kind: What it is for.
        manifest: What its ``cnnport.json`` says.
        sizes: Bytes of each file by its name.
    """

    folder: Path
    kind: str
    manifest: Mapping[str, Any]
    sizes: Mapping[str, int]


def package(
    model: str,
    kind: str,
    folder: str | Path,
    *,
    preprocess: Mode | None = None,
    pictures: Preprocess | Callable[[Artifact], Preprocess | None] | None = None,
    labels: Sequence[str] | None = None,
    precision: str | None = None,
    calibration: str | None = None,
    weights: str = "auto",
    name: str | None = None,
    backend: str = BACKENDS[0],
    overwrite: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_download: Callable[[int, int | None], None] | None = None,
) -> Packaged:
    """Put a model, and what it takes to run it, into a folder.

    Args:
        model: A network, which is exported; an .onnx file that states its preprocessing; or a picture file, which is
            taken as it is.
        kind: A name of ``KINDS``.
        folder: Where the package is to be.
        preprocess: ``full``, for images of any size, which is what None means, or ``normalize``, for images that the
            caller has resized and cropped. A picture file has one of them already.
        pictures: How a picture becomes the network's input, or what tells it of the file; for files that do not say.
        labels: The classes' names by index, likewise.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``; None for float32 of a network and for what a file has.
        calibration: Samples for int8, as of ``store.artifact_of``.
        weights: Of a network, as of ``export``.
        name: What the package and its parts are called; None for the model's own name.
        backend: One of ``BACKENDS``; only a package for Triton has the choice.
        overwrite: Whether a package that lies there may be replaced.
        on_step: Told the name of each step when it begins.
        on_warning: Told in a sentence what the user should know.
        on_download: Told the bytes so far and in all while something is fetched.

    Raises:
        CnnportError: On wrong usage or input; each subclass says what.
        CheckFailedError: If the packaged file does not compute what the network computes. Nothing is written.
        RuntimeMissingError: If onnxruntime, which verifies, is not installed.
    """
    folder = Path(folder)
    made_for = kind_of(kind)
    if backend not in BACKENDS:
        raise CnnportError(f"--backend takes {', '.join(BACKENDS)}, not {backend!r}")
    if backend != BACKENDS[0] and kind != "triton":
        raise CnnportError(f"--backend {backend} is for --for triton: a package for {kind} runs ONNX Runtime")
    if name is not None and name != package_name(name):
        raise CnnportError(
            f"--name {name!r}: a name has lower-case letters, digits and _: {package_name(name)}"
        )
    check_folder(folder, overwrite=overwrite)
    require_runtime("ort-cpu")
    given = artifact_of(
        model,
        weights=weights,
        precision=precision,
        calibration=calibration,
        on_step=on_step,
        on_warning=on_warning,
        on_download=on_download,
    )
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as scratch:
        said = pictures(given) if callable(pictures) else pictures
        given = with_statement(given, Path(scratch) / "stated" / given.path.name, said, labels)
        artifact, network = _picture_file(given, preprocess, Path(scratch) / MODEL_FILE, on_step)
        on_step(f"package for {kind}")
        subject = _subject(artifact, network, name or package_name(given.model), backend)
        files = {**made_for.files(subject), EXAMPLE_FILE: subject.example.png}
        manifest = manifest_of(subject, kind, files)
        files[MANIFEST] = manifest_text(manifest)
        sizes = {name: _size(content) for name, content in sorted(files.items())}
        write_folder(folder, files, overwrite=overwrite)
    return Packaged(folder, kind, manifest, sizes)


def package_name(model: str) -> str:
    """A model's name as one for folders, packages and modules: lower-case letters, digits and underscores."""
    last = model.rsplit("/", 1)[-1].rsplit(":", 1)[-1].removesuffix(".onnx").lower()
    name = re.sub(r"[^a-z0-9]+", "_", last).strip("_")[:_LONGEST_NAME].strip("_")
    return name if name[:1].isalpha() else f"model_{name}".rstrip("_")


def _picture_file(
    given: Artifact, preprocess: Mode | None, path: Path, on_step: Callable[[str], None]
) -> tuple[Artifact, Artifact | None]:
    """The picture file of a file, and the file if that is another one."""
    if not given.path.name.endswith(".onnx"):
        raise ArtifactError(
            f"{given.path} is built for one machine: a package is made of a network or an .onnx file"
        )
    if data_files(load_model(given.path, external_data=False)):
        raise ArtifactError(f"{given.path} keeps weights in other files: a package holds models of one file")
    if (picture := picture_of(given)) is not None:
        if preprocess not in {None, picture.preprocess}:
            raise ArtifactError(
                f"{given.path} prepares images itself ({picture.preprocess}) and is taken as it is: leave out "
                f"--preprocess {preprocess}, or name the network"
            )
        return given, None
    if preprocess_of(given) is None:
        raise ArtifactError(
            f"{given.path} does not state how pictures are prepared for it, and a package must not guess\n"
            "say it: --mean and --std, --resize and --size; 0.485,0.456,0.406 and 0.229,0.224,0.225 are ImageNet's"
        )
    on_step("picture file")
    made = with_picture_input(given.path, path, mode=preprocess or "full", layout="nhwc", on_step=on_step)
    return made, given


def _subject(artifact: Artifact, network: Artifact | None, name: str, backend: str) -> Subject:
    picture, preprocess, labels = picture_of(artifact), preprocess_of(artifact), labels_of(artifact)
    if picture is None or preprocess is None:
        raise ArtifactError(f"{artifact.path}: its metadata is damaged at cnnport.picture")
    return Subject(
        artifact=artifact,
        network=network,
        name=name,
        labels=labels,
        preprocess=preprocess,
        picture=picture,
        licence=licence_note(network or artifact),
        example=example_of(artifact, preprocess, picture, labels),
        backend=backend,
    )


def _size(content: Content) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)

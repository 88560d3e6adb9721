"""The same pictures through every kind of package: ``python -m cnnport.measuring.studies.embedding [NETWORK]...``.

Two networks that ship trained and one with random weights are packaged for Python, Node.js, the web and Triton, with
either preprocessing. Twenty pictures of several sizes go through each, and through PyTorch with Pillow's resize. The
record gets a row for every package, and docs/packages.md their table. What cannot be run here is named with why.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnport.classify import probabilities as softmax
from cnnport.errors import CnnportError, UnknownNameError, first_line
from cnnport.files import write_atomically
from cnnport.images import preprocess_image
from cnnport.measuring.environment import read_environment
from cnnport.measuring.progress import Tell, progress
from cnnport.measuring.record import Json
from cnnport.measuring.studies.embedding_page import with_table
from cnnport.measuring.studies.embedding_pictures import Shown, pictures_for, prepared_by_pillow
from cnnport.measuring.studies.embedding_ways import WAYS, Way
from cnnport.measuring.studies.rows import write_document
from cnnport.onnxfile import read_artifact
from cnnport.packaging import package
from cnnport.picture_check import FULL_TOLERANCE
from cnnport.prepared import prepare
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options, require_runtime
from cnnport.source import find_source
from cnnport.store import artifact_of

NETWORKS: Mapping[str, str] = {
    "shufflenet_v2": "random",
    "lenet5": "default",
    "digits_shufflenet_v2": "default",
}
"""What is packaged, and its weights."""

MODES: tuple[Literal["normalize", "full"], ...] = ("normalize", "full")

COUNT = 20

TOLERANCE = 1e-4
"""The most by which a probability may be off PyTorch's where nothing is resized."""

Matrix = NDArray[np.float64]


def study(networks: Sequence[str], ways: Sequence[Way], folder: Path, tell: Tell, count: int = COUNT) -> Json:
    """The record: a row for every package that was run, and why others were not.

    Args:
        networks: Of ``NETWORKS``.
        ways: What they are packaged for.
        folder: An empty one, for packages and pictures.
        tell: Is told before every step.
        count: How many pictures each gets.

    Raises:
        CnnportError: If a network cannot be had.
    """
    rows: list[Json] = []
    skipped: list[Json] = []
    total, done = len(networks) * len(MODES) * len(ways), 0
    for network in networks:
        file = artifact_of(network, weights=NETWORKS[network])
        preprocess = _preprocess(network)
        shown = pictures_for(preprocess, network, folder / f"{network}_pictures", count)
        logits = _by_pytorch(network, [each.image for each in shown], preprocess)
        for mode in MODES:
            given = shown if mode == "full" else prepared_by_pillow(shown, preprocess)
            own: Matrix | None = None
            for way in ways:
                tell(f"{network}, {mode}: {way.kind}", done, total)
                done += 1
                named = {"network": network, "preprocess": mode, "way": way.kind}
                place = folder / f"{network}_{mode}_{way.kind}"
                try:
                    made = package(str(file.path), way.kind, place, preprocess=mode, name=network)
                    own = _by_ort(made.folder, made.manifest["model"]["file"], given) if own is None else own
                    found = np.asarray(way.run(place, shown if way.resizes else given), np.float64)
                except (CnnportError, RuntimeError, OSError) as error:
                    skipped.append({**named, "reason": first_line(error)})
                    continue
                rows.append({**named, **compared(logits, own, found, mode)})
    return {"networks": dict(NETWORKS), "count": count, "rows": rows, "skipped": skipped}


def compared(logits: Matrix, own: Matrix | None, found: Matrix, mode: str) -> Json:
    """How far the probabilities of a package are from PyTorch's, and from ort-cpu's of the same file.

    Where the file resizes, each logit may be off by ``FULL_TOLERANCE`` of their standard deviation. If none is off by
    more than d, a probability p becomes one between those of odds p / (1 - p) times exp(-2d) and exp(2d), and is off
    by tanh(d / 2) at most.

    Args:
        logits: PyTorch's, pictures x classes.
        own: Probabilities of the picture file on ort-cpu; None where it is not in any package.
        found: Probabilities of the package.
        mode: ``normalize`` or ``full``.
    """
    expected = np.stack([softmax(row, "logits") for row in logits])
    if found.shape != expected.shape:
        raise CnnportError(f"gave {found.shape} probabilities, not {expected.shape}")
    spread = logits.std(axis=1, keepdims=True)
    allowed = TOLERANCE if mode == "normalize" else float(np.tanh(FULL_TOLERANCE * spread / 2).max())
    off = float(np.abs(found - expected).max())
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return {
        "top1_agreement": same,
        "max_abs": off,
        "allowed": allowed,
        "max_abs_ort_cpu": None if own is None else float(np.abs(found - own).max()),
        "pass": bool(np.isfinite(found).all()) and same == len(expected) and off <= allowed,
    }


def main(arguments: list[str] | None = None) -> int:
    """Package, run and compare; 1 if a package departs."""
    options = _parser().parse_args(arguments)
    try:
        chosen = [name for name in NETWORKS if any(fnmatchcase(name, each) for each in options.network)]
        if not chosen:
            raise UnknownNameError(f"no network of this study matches {' '.join(options.network)}")
        ways = [way for way in WAYS if way.kind in (options.way or [each.kind for each in WAYS])]
        with progress() as tell, tempfile.TemporaryDirectory(prefix="cnnport-") as scratch:
            record = study(chosen, ways, Path(scratch), tell)
        document = {"environment": read_environment().to_json(), **record}
        write_document(options.record, document)
        if options.page.is_file():
            page = with_table(options.page.read_text(encoding="utf-8"), document)
            write_atomically(options.page, page.encode())
    except CnnportError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    wrong = [row for row in record["rows"] if not row["pass"]]
    print(  # noqa: T201
        f"{len(record['rows']) - len(wrong)} of {len(record['rows'])} packages answer as PyTorch, "
        f"{len(record['skipped'])} were not run"
    )
    return int(bool(wrong))


def _preprocess(network: str) -> Preprocess:
    found = find_source(network).preprocess
    assert found is not None
    return found


def _by_pytorch(network: str, images: Sequence[Image.Image], preprocess: Preprocess) -> Matrix:
    """The logits of PyTorch in float32 on what Pillow made of the pictures."""
    import torch

    made = prepare(
        find_source(network), NETWORKS[network], 0, None, None, None, dense=False, on_download=None
    )
    inputs = [torch.from_numpy(preprocess_image(image, preprocess)[None]) for image in images]
    with torch.inference_mode():
        return np.stack([made.module(each).numpy()[0] for each in inputs]).astype(np.float64)


def _by_ort(folder: Path, name: str | None, given: Sequence[Shown]) -> Matrix | None:
    """Probabilities of a package's picture file on ort-cpu; None where it has no such file."""
    if name is None:
        return None
    with require_runtime("ort-cpu").open(read_artifact(folder / name), Options()) as session:
        rows = [session.run({"image": each.pixels[None]})["probabilities"][0] for each in given]
    return np.stack(rows).astype(np.float64)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.embedding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("network", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--way", action="append", choices=[way.kind for way in WAYS], help="repeatable; all")
    parser.add_argument("--record", type=Path, default=Path("bench/results/embedding.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/packages.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())

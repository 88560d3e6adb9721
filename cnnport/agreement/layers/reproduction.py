"""The smallest piece that shows a departure, as files that need nothing but onnxruntime and NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnport.agreement.layers.cut import Piece, alone
from cnnport.agreement.layers.graph import Array, Arrays, Graph
from cnnport.agreement.layers.isolated import Isolation
from cnnport.agreement.layers.localisation import Culprit
from cnnport.errors import OutputError
from cnnport.files import write_atomically
from cnnport.graphs.half.emulate import emulate
from cnnport.graphs.protos import read
from cnnport.onnxfile import write_foreign

if TYPE_CHECKING:
    import onnx

_SCRIPT = '''\
"""Run the piece on its inputs, and say how far it is from what the reference gives."""

import numpy as np
import onnxruntime as ort

session = ort.InferenceSession("piece.onnx", providers=["CPUExecutionProvider"])
expected = np.load("expected.npy")
found = session.run(None, dict(np.load("inputs.npz")))[0].astype(np.float32)
if found.shape != expected.shape:
    print(f"shape {found.shape} instead of {expected.shape}")
else:
    error, spread = np.abs(found - expected).max(), expected.std()
    print(f"largest difference {error:.3g}, where the values deviate by {spread:.3g}")
'''


@dataclass(frozen=True)
class Reproduction:
    """What is written.

    Attributes:
        piece: Of the candidate's graph.
        feeds: What it reads: the reference's values, in the types of the candidate's file.
        expected: The reference's value at its end.
        found: The candidate's.
    """

    piece: Piece
    feeds: Arrays
    expected: Array
    found: Array


def write_piece(
    folder: Path, shown: Reproduction, culprit: Culprit, isolation: Isolation, reference: Graph | None
) -> Path:
    """Write the files.

    Args:
        folder: Is made if need be; files of the same names in it are replaced.
        shown: What is to be shown.
        culprit: What was found.
        isolation: Knows the candidate.
        reference: Its graph, for the same piece of it; None where it is no file.

    Returns:
        The folder.

    Raises:
        OutputError: If the file system refuses.
    """
    subject = isolation.subject
    graph, piece = subject.graph, shown.piece
    shapes: dict[str, list[int | str]] = {name: list(value.shape) for name, value in shown.feeds.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    model = alone(graph, piece, shapes)
    readable(graph, piece, model)
    if subject.side.emulated:
        model = emulate(read(model, graph.folder))
    write_foreign(model, folder / "piece.onnx", graph.folder)
    feeds = {value.name: _as(model, value.name, shown.feeds[value.name]) for value in model.graph.input}
    _save(folder / "inputs.npz", feeds)
    _save(folder / "expected.npy", shown.expected)
    _save(folder / "found.npy", shown.found)
    files = ["piece.onnx", "inputs.npz", "expected.npy", "found.npy", "reproduce.py"]
    if reference is not None and (same := reference_piece(reference, piece, shapes)) is not None:
        write_foreign(same, folder / "reference.onnx", reference.folder)
        files.append("reference.onnx")
    write_atomically(folder / "reproduce.py", _SCRIPT.encode())
    how = "with its halves emulated" if subject.side.emulated else f"as it ran on {subject.side.runtime}"
    write_atomically(folder / "README.md", _readme(culprit, files, how).encode())
    return folder


def reference_piece(
    reference: Graph, piece: Piece, shapes: "Mapping[str, Sequence[int | str]]"
) -> "onnx.ModelProto | None":
    """The reference's graph between the same values; None where it does not have them all, or not between them."""
    from cnnport.agreement.layers.cut import piece_of
    from cnnport.agreement.layers.sites import Site

    value = piece.site.value
    if value not in reference.maker:
        return None
    same = piece_of(reference, Site(value, value, reference.maker[value]), piece.reads)
    if not set(same.reads) <= set(piece.reads):
        return None
    return alone(reference, same, shapes)


def readable(graph: Graph, piece: Piece, model: "onnx.ModelProto") -> None:
    """Have a piece that ends in a quantized value give the floating-point one."""
    tap = piece.site.tap
    if tap == piece.site.value:
        return
    for place in graph.readers.get(tap, ()):
        node = graph.nodes[place]
        if node.op_type == "DequantizeLinear":
            model.graph.node.append(node)
            held = {tensor.name for tensor in model.graph.initializer}
            model.graph.initializer.extend(
                graph.initializers[name]
                for name in node.input
                if name in graph.initializers and name not in held
            )
            del model.graph.output[:]
            model.graph.output.append(graph.described(node.output[0]))
            return


def _as(model: "onnx.ModelProto", name: str, value: Array) -> Array:
    from onnx import helper

    kind = next(each for each in model.graph.input if each.name == name).type.tensor_type.elem_type
    return np.asarray(value).astype(helper.tensor_dtype_to_np_dtype(kind))


def _save(path: Path, value: "Array | Arrays") -> None:
    try:
        with path.open("wb") as file:
            if isinstance(value, dict):
                np.savez(file, **value)  # type: ignore[arg-type]  # names of values are keys
            else:
                np.save(file, value)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _readme(culprit: Culprit, files: list[str], how: str) -> str:
    both = "reference.onnx" in files
    lines = [
        f"# {culprit.layer.nodes[-1]}",
        "",
        f"{culprit.layer}: {culprit.manner}.",
        *(f"In the file: {each}." for each in culprit.differences),
        "",
        f"`piece.onnx` is the part of the graph that departs, {how}; `inputs.npz` are the",
        "reference's values before it, `expected.npy` is the reference's value behind it, `found.npy` what came out.",
        "",
        "    python reproduce.py",
    ]
    if both:
        lines += [
            "",
            "`reference.onnx` is the same part of the reference's graph:",
            "",
            "    cnnport parity reference.onnx piece.onnx --runtime ort-cpu --data inputs.npz",
        ]
    return "\n".join(lines) + "\n"

"""Files of each precision for the TensorRT build check, and in what precision an engine computes them."""

from collections.abc import Sequence
from pathlib import Path

from cnnport.measuring.command import cnnport_command
from cnnport.measuring.record import Json
from cnnport.onnxfile import load_model
from cnnport.runtimes.trt.precision import WEIGHTED, wanted_types

PRECISIONS = ("fp32", "fp16", "int8")

TARGET = "trt"

CALIBRATION = "random:4"
"""Whether a file builds does not depend on its ranges, and nothing else is claimed."""

_TYPES = {"fp16": "Half", "int8": "Int8"}

# What TensorRT-RTX writes for a file on its own: arithmetic between products, in the type that it read.
_GENERATED = "kgen"

_EXPORT = ("-q", "export", "--weights", "random", "--overwrite", "--json")
_QUANTIZE = ("-q", "quantize", "--target", TARGET, "--calibration", CALIBRATION, "--overwrite", "--json")
# The plain form: neither is judged, nor is it to be fast here.
_PLAIN = ("--no-speed", "--method", "minmax", "--no-repair")


class CheckedFiles:
    """The ONNX files of networks, with seeded weights; each is made when it is wanted, unless it waits.

    ``NAME.onnx`` is the export of the zoo, in float32. ``NAME.trt.fp32.onnx`` has the passes of TensorRT, and
    ``NAME.trt.fp16.onnx`` and ``NAME.trt.int8.onnx`` are made of it.
    """

    def __init__(self, folder: Path, *, keep: bool) -> None:
        """Take up what waits in a folder; ``keep`` leaves there what is made."""
        self._folder, self._keep = folder, keep
        self._made: list[Path] = []

    def file(self, name: str, precision: str) -> Path:
        """The file of a network in one of ``PRECISIONS``. Raises ``CnnportError`` if it cannot be made."""
        path = self._path(name, precision)
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make(name, precision, path)
        return path

    def clear(self) -> None:
        """Remove what was made and is not to be kept."""
        for path in () if self._keep else self._made:
            path.unlink(missing_ok=True)
        self._made.clear()

    def _path(self, name: str, precision: str) -> Path:
        return self._folder / (f"{name}.onnx" if precision == "fp32" else f"{name}.{TARGET}.{precision}.onnx")

    def _make(self, name: str, precision: str, path: Path) -> None:
        self._made.append(path)
        if precision == "fp32":
            cnnport_command([*_EXPORT, name, "-o", str(path)])
            return
        source = self._folder / f"{name}.{TARGET}.fp32.onnx"
        if not source.exists():
            self._made.append(source)
            cnnport_command([*_EXPORT, name, "--target", TARGET, "-o", str(source)])
        if precision == "int8":
            cnnport_command([*_QUANTIZE, *_PLAIN, str(source), "-o", str(path)])
        else:
            from cnnport.half_file import half_file

            half_file(source, path, precision, overwrite=True)


def precision_facts(path: Path, precision: str, kernels: Sequence[Json]) -> Json:
    """In what precision a file asks for its products, and in what the engine computes them.

    Args:
        path: The file.
        precision: ``fp16`` or ``int8``.
        kernels: What ``cnnport build --json`` says of the engine's layers.

    Returns:
        ``products``: how many convolutions and matrix products there are; ``asked``: of those, whose operands are of
        the precision; ``computed``: of those, which a layer of the engine computes that reads it and is no generated
        arithmetic; ``layers_in``: how many such layers there are, poolings and parts of products among them;
        ``nameless``: of those layers, for which the engine names no node, as for a convolution that became a matrix
        product;
        ``faults``: what in an int8 file TensorRT would reject or misread, by node.

    Raises:
        ArtifactError: If the file cannot be read.
    """
    model = load_model(path, external_data=False)
    kind = _TYPES[precision]
    asked = [node for node, wanted in wanted_types(model).items() if wanted == kind]
    layers = [each for each in kernels if kind in each["reads"] and each["kind"] != _GENERATED]
    computed = {node for layer in layers for node in layer["nodes"]}
    return {
        "products": sum(node.op_type in WEIGHTED for node in model.graph.node),
        "asked": len(asked),
        "computed": sum(node in computed for node in asked),
        "layers_in": len(layers),
        "nameless": sum(not layer["nodes"] for layer in layers),
        "faults": _faults(path) if precision == "int8" else [],
    }


def _faults(path: Path) -> list[str]:
    from cnnport.graphs.protos import read
    from cnnport.graphs.quantize import faults

    return [str(fault) for fault in faults(read(load_model(path)))]

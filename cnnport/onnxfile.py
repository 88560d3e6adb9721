"""Reading ONNX files with clear errors, and writing them whole, with a checksum of themselves inside.

The checksum is the SHA-256 of the file's bytes in which the 64 digits of the checksum itself are zeros. It covers
every byte, so that any flipped bit is found, whether or not a parser would notice. Weights that lie in an external
data file (only above protobuf's limit of 2 GB) are covered by a hash of their own in the metadata.
"""

import hashlib
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact, Dim, TensorSpec
from cnnport.errors import ArtifactError, OutputError, first_line
from cnnport.files import sha256_of, write_pieces_atomically
from cnnport.offload import bring_back, set_aside
from cnnport.serialize import encoded_size, pieces, tensor_bytes

if TYPE_CHECKING:
    import onnx

CHECKSUM_KEY = "cnnport.sha256"
INITIALIZERS_KEY = "cnnport.initializers_sha256"

# Protobuf refuses messages of 2 GiB; the room is for metadata.
INLINE_LIMIT_BYTES = 2**31 - 2**20

_ZEROS = "0" * 64


def load_model(path: Path, *, external_data: bool = True) -> "onnx.ModelProto":
    """Parse a file.

    Args:
        path: The ONNX file.
        external_data: Whether tensors that lie in other files are read too.

    Raises:
        ArtifactError: If there is no such file, or it is not an ONNX model, or its data file is missing or short.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.exists():
        raise ArtifactError(f"{path}: no such file")
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder, not an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.output or not model.opset_import:
            raise ArtifactError(f"{path} is not an ONNX model, or is damaged")
        if external_data:
            onnx.load_external_data_for_model(model, str(path.parent))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not an ONNX model, or is damaged") from error
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ArtifactError(f"{path}: its external data cannot be read: {first_line(error)}") from error
    return model


def read_artifact(path: Path) -> Artifact:
    """The identity of a file, whether or not cnnport made it. Raises ``ArtifactError``."""
    return artifact_of(load_model(path, external_data=False), path)


def artifact_of(model: "onnx.ModelProto", path: Path) -> Artifact:
    """The identity of a file that has been parsed already."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    held = {tensor.name for tensor in model.graph.initializer}
    return Artifact(
        path=path,
        sha256=sha256_of(path),
        model=metadata.get("cnnport.model", path.stem),
        opset=default_opset(model),
        precision=metadata.get("cnnport.precision") or _precision(model),
        target=metadata.get("cnnport.target", "portable"),
        inputs=tuple(tensor_spec(value) for value in model.graph.input if value.name not in held),
        outputs=tuple(tensor_spec(value) for value in model.graph.output),
        metadata=MappingProxyType(metadata),
    )


def default_opset(model: "onnx.ModelProto") -> int:
    """The version of the default operator set that a model imports; 0 if it imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)


def initializers_sha256(model: "onnx.ModelProto", folder: Path | None = None) -> str:
    """A hash of the names, types, shapes and values of a model's initializers, in order of their names.

    Args:
        model: Is not changed.
        folder: Where external data lies, if there is any.
    """
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        digest.update(f"{tensor.name}\0{tensor.data_type}\0{list(tensor.dims)}\0".encode())
        for piece in tensor_bytes(tensor, folder):
            digest.update(piece)
    return digest.hexdigest()


def write_model(
    model: "onnx.ModelProto", path: Path, metadata: dict[str, str], folder: Path | None = None
) -> None:
    """Write a model with its metadata and checksums, whole or not at all.

    Args:
        model: Loses its present metadata, and its weights if they have to go into a data file.
        path: An existing file is replaced; ask ``files.check_writable`` first.
        metadata: What the file is to say of itself, without the checksums.
        folder: Where those of its weights lie that ``offload.set_aside`` moved.

    Raises:
        OutputError: If the file system refuses; the old file, or none, is left.
    """
    metadata = {**metadata, INITIALIZERS_KEY: initializers_sha256(model, folder), CHECKSUM_KEY: _ZEROS}
    del model.metadata_props[:]
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])
    if encoded_size(model, folder) > INLINE_LIMIT_BYTES:
        _write_with_data(model, path, metadata[INITIALIZERS_KEY], folder)
    else:
        _sign(model, folder)
        write_pieces_atomically(path, pieces(model, folder))


def write_foreign(model: "onnx.ModelProto", path: Path, folder: Path | None = None) -> None:
    """Write a model that says of itself what it says, whole or not at all.

    Args:
        model: Loses its weights if they have to go into a data file.
        path: An existing file is replaced; ask ``files.check_writable`` first.
        folder: Where those of its weights lie that ``offload.set_aside`` moved.

    Raises:
        OutputError: If the file system refuses; the old file, or none, is left.
    """
    if encoded_size(model, folder) > INLINE_LIMIT_BYTES:
        _write_with_data(model, path, initializers_sha256(model, folder), folder)
    else:
        write_pieces_atomically(path, pieces(model, folder))


def data_files(model: "onnx.ModelProto") -> set[str]:
    """Names of the files, relative to the model's, that hold initializers which were not loaded."""
    from onnx import TensorProto

    return {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def checksum_of(data: bytes, claimed: str) -> str:
    """What the checksum inside a file should be: the hash of its bytes with the claimed digits made zeros."""
    digest, view, start = hashlib.sha256(), memoryview(data), 0
    entry = _checksum_entry(claimed)
    while (found := data.find(entry, start)) >= 0:
        digest.update(view[start:found])
        digest.update(_checksum_entry(_ZEROS))
        start = found + len(entry)
    digest.update(view[start:])
    return digest.hexdigest()


def _checksum_entry(digits: str) -> bytes:
    # A StringStringEntryProto on the wire: field 1 is the key, field 2 the value, each with its length.
    key = CHECKSUM_KEY.encode()
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(digits)]) + digits.encode()


def _sign(model: "onnx.ModelProto", folder: Path | None) -> None:
    """Put the hash of a model that has zeros for a checksum in their place; without a checksum nothing happens."""
    entries = [entry for entry in model.metadata_props if entry.key == CHECKSUM_KEY]
    if entries:
        digest = hashlib.sha256()
        for piece in pieces(model, folder):
            digest.update(piece)
        entries[0].value = digest.hexdigest()


def _write_with_data(
    model: "onnx.ModelProto", path: Path, weights_hash: str, folder: Path | None = None
) -> None:
    """Put the weights into a data file of a name that depends on them, so that old and new never mix."""
    location = f"{path.name}.{weights_hash[:16]}.data"
    stale = {path.parent / name for name in _data_files(path)} - {path.parent / location}
    if folder is not None:
        bring_back(model, folder)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
            set_aside(model, Path(temporary), location)
            (Path(temporary) / location).replace(path.parent / location)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        _sign(model, None)
        write_pieces_atomically(path, pieces(model))
    except BaseException:
        if location not in _data_files(path):
            (path.parent / location).unlink(missing_ok=True)
        raise
    for data_file in stale:
        data_file.unlink(missing_ok=True)


def _data_files(path: Path) -> set[str]:
    """Names of the data files beside ``path``, named after it, that the model at ``path``, if any, refers to."""
    try:
        model = load_model(path, external_data=False)
    except ArtifactError:
        return set()
    return {name for name in data_files(model) if name.startswith(f"{path.name}.") and "/" not in name}


def tensor_spec(value: "onnx.ValueInfoProto") -> TensorSpec:
    """An input or output of a graph; a size without a name gets one of the tensor's name and the axis."""
    from onnx import helper

    tensor = value.type.tensor_type
    dims: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        known = dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0
        dims.append(dim.dim_value if known else dim.dim_param or f"{value.name}_{axis}")
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "unknown"
    return TensorSpec(value.name, dtype, tuple(dims))


def _precision(model: "onnx.ModelProto") -> str:
    """The precision of a file that does not state it: int8 if quantized, else that of most weight bytes."""
    from onnx import TensorProto

    quantized = {"QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
    if any(node.op_type in quantized for node in model.graph.node):
        return "int8"
    sizes = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0, TensorProto.BFLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes:
            count = 1
            for size in tensor.dims:
                count *= size
            sizes[tensor.data_type] += count
    most = max(sizes, key=lambda kind: sizes[kind])
    return {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}[most]

"""A model as the bytes of its file, piece by piece: weights are never copied as a whole.

Protobuf's own serialiser needs up to three times the size of a message beside it. The pieces here are those bytes, in
the same order; weights that lie in another file are read from there and stand in the model as if they never had.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

# Numbers of fields in onnx.proto.
_GRAPH = 7
_INITIALIZER = 5
_RAW_DATA = 9
_EXTERNAL = frozenset({13, 14})

_LENGTH_DELIMITED = 2
_PIECE_BYTES = 2**24


def pieces(model: "onnx.ModelProto", folder: Path | None = None) -> Iterator[bytes]:
    """The bytes of a model's file.

    Args:
        model: Is not changed.
        folder: Where external data lies that is to be in the file; None leaves tensors as they are.

    Raises:
        OSError: If external data cannot be read, or there is less than the model says.
    """
    graph = model.graph
    tensors = [_Tensor(tensor, folder) for tensor in graph.initializer]
    head = _part(graph, lambda number: number < _INITIALIZER)
    tail = _part(graph, lambda number: number > _INITIALIZER)
    inner = sum(len(_prefix(_INITIALIZER, tensor.size)) + tensor.size for tensor in tensors)
    yield _part(model, lambda number: number < _GRAPH)
    yield _prefix(_GRAPH, len(head) + inner + len(tail))
    yield head
    for tensor in tensors:
        yield _prefix(_INITIALIZER, tensor.size)
        yield from tensor.pieces()
    yield tail
    yield _part(model, lambda number: number > _GRAPH)


def encoded_size(model: "onnx.ModelProto", folder: Path | None = None) -> int:
    """How many bytes ``pieces`` gives."""
    graph = model.graph
    sizes = [_Tensor(tensor, folder).size for tensor in graph.initializer]
    inner = sum(len(_prefix(_INITIALIZER, size)) + size for size in sizes)
    inner += len(_part(graph, lambda number: number != _INITIALIZER))
    rest = _part(model, lambda number: number != _GRAPH)
    return len(_prefix(_GRAPH, inner)) + inner + len(rest)


def tensor_bytes(tensor: "onnx.TensorProto", folder: Path | None = None) -> Iterator[bytes]:
    """The raw numbers of a tensor, wherever they lie, in pieces. Raises ``OSError``."""
    from onnx import numpy_helper

    if folder is not None and _is_elsewhere(tensor):
        yield from _read(tensor, folder)
    else:
        yield tensor.raw_data or numpy_helper.to_array(tensor).tobytes()


class _Tensor:
    """An initializer on its way into a file."""

    def __init__(self, tensor: "onnx.TensorProto", folder: Path | None) -> None:
        self._tensor = tensor
        self._folder = folder if folder is not None and _is_elsewhere(tensor) else None
        if self._folder is None:
            self.size: int = tensor.ByteSize()
            return
        self._head = _part(tensor, lambda number: number < _RAW_DATA)
        self._tail = _part(tensor, lambda number: number > _RAW_DATA and number not in _EXTERNAL)
        length = _place(tensor)[2]
        self._prefix = _prefix(_RAW_DATA, length)
        self.size = len(self._head) + len(self._prefix) + length + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        if self._folder is None:
            yield self._tensor.SerializeToString(deterministic=True)
            return
        yield self._head
        yield self._prefix
        yield from _read(self._tensor, self._folder)
        yield self._tail


def _is_elsewhere(tensor: "onnx.TensorProto") -> bool:
    from onnx import TensorProto

    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _place(tensor: "onnx.TensorProto") -> tuple[str, int, int]:
    """The file, offset and length of external data, as ``offload.set_aside`` states all of them."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries["offset"]), int(entries["length"])


def _read(tensor: "onnx.TensorProto", folder: Path) -> Iterator[bytes]:
    name, offset, left = _place(tensor)
    with (folder / name).open("rb") as file:
        file.seek(offset)
        while left > 0:
            data = file.read(min(left, _PIECE_BYTES))
            if not data:
                raise OSError(f"{name} is shorter than it was")
            left -= len(data)
            yield data


def _part(message: Any, keep: Callable[[int], bool]) -> bytes:
    """The bytes of some fields of a message, by their numbers."""
    part = type(message)()
    for field, value in message.ListFields():
        if not keep(field.number):
            continue
        if hasattr(value, "extend"):
            getattr(part, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    data: bytes = part.SerializeToString(deterministic=True)
    return data


def _prefix(number: int, length: int) -> bytes:
    """What stands before a field of bytes or a message."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)

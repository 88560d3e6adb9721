"""A model's weights in a file of their own while work goes on, so that what is passed around is small."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_SMALL_BYTES = 1024
_ALIGNMENT_BYTES = 64


def set_aside(model: "onnx.ModelProto", folder: Path, name: str) -> None:
    """Move the large initializers into a file, as ONNX's external data.

    Args:
        model: Loses its large initializers, whose memory protobuf keeps until the model is gone: ``compact`` it. Its
            other tensors stay in it.
        folder: Must be where models that refer to the file are written.
        name: Of the file in ``folder``.
    """
    from onnx import TensorProto, external_data_helper

    with (folder / name).open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                continue
            _to_raw(tensor)
            if len(tensor.raw_data) < _SMALL_BYTES:
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNMENT_BYTES))
            offset, data = file.tell(), tensor.raw_data
            file.write(data)
            external_data_helper.set_external_data(tensor, name, offset, len(data))
            tensor.ClearField("raw_data")


def compact(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A model again, without the memory of what it no longer holds."""
    import onnx

    small = onnx.ModelProto()
    small.ParseFromString(model.SerializeToString())
    return small


def bring_back(model: "onnx.ModelProto", folder: Path) -> None:
    """Load what ``set_aside`` moved, or any external data that lies in ``folder``.

    Args:
        model: Gets its initializers back; nothing in it tells that they were elsewhere.
        folder: Where the files lie.
    """
    from onnx import TensorProto, external_data_helper

    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            del tensor.external_data[:]
            tensor.ClearField("data_location")


def weights_bytes(model: "onnx.ModelProto") -> int:
    """How much the initializers of a model hold, wherever they lie."""
    from onnx import TensorProto

    total = 0
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            total += sum(int(entry.value) for entry in tensor.external_data if entry.key == "length")
        else:
            total += tensor.ByteSize()
    return total


def _to_raw(tensor: "onnx.TensorProto") -> None:
    """Old exporters wrote numbers one by one, which cannot be set aside."""
    from onnx import TensorProto, numpy_helper

    plain = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64}
    if not tensor.HasField("raw_data") and tensor.data_type in plain and tensor.ByteSize() >= _SMALL_BYTES:
        raw = numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
        for field in ("float_data", "double_data", "int32_data", "int64_data"):
            tensor.ClearField(field)
        tensor.raw_data = raw

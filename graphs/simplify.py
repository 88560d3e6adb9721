"""onnxsim, held to its word: constants folded, shapes computed, nothing else said about it in the file."""

from typing import TYPE_CHECKING

from cnnport.errors import CheckFailedError

if TYPE_CHECKING:
    import onnx


def simplify(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Run onnxsim; the metadata and the inferred shapes that it adds are left out.

    Raises:
        CheckFailedError: If onnxsim says that its own result is not valid.
    """
    import onnxsim

    metadata = {entry.key: entry.value for entry in model.metadata_props}
    simplified: onnx.ModelProto
    simplified, ok = onnxsim.simplify(model)
    if not ok:
        raise CheckFailedError("onnxsim reports that its result is not a valid model")
    del simplified.metadata_props[:]
    for key, value in metadata.items():
        simplified.metadata_props.add(key=key, value=value)
    del simplified.graph.value_info[:]
    return simplified

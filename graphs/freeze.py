"""Initializers that are also inputs, as constants."""

import onnx

# Up to the version before, every initializer had to be an input as well.
_SEPARATE_SINCE = 4


def overridable(model: onnx.ModelProto) -> list[str]:
    """The initializers that are inputs too, so that a caller may give others: no pass touches those."""
    inputs = {value.name for value in model.graph.input}
    return [tensor.name for tensor in model.graph.initializer if tensor.name in inputs]


def freeze(model: onnx.ModelProto) -> None:
    """Make all initializers constants: they are no inputs any more.

    Args:
        model: Changed in place; only the main graph.
    """
    names = set(overridable(model))
    inputs = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _SEPARATE_SINCE)


def is_settled(model: onnx.ModelProto) -> bool:
    """Whether no caller can override an initializer, although all have to be inputs: files before IR version 4."""
    return model.ir_version < _SEPARATE_SINCE

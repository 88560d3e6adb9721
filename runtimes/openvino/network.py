"""From a file to a network that can run: read, compiled or brought back, and held against what was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cnnport.artifact import Artifact, TensorSpec
from cnnport.errors import ArtifactError
from cnnport.onnxfile import load_model
from cnnport.runtimes.build import Layer
from cnnport.runtimes.compiling import compiling
from cnnport.runtimes.openvino import package
from cnnport.runtimes.openvino.choices import NAME, Choices, check
from cnnport.runtimes.openvino.layers import check_precision, layers_of
from cnnport.runtimes.openvino.sizes import Sizes, from_text, misshapen, settle, to_text, without_weights

# What openvino and NumPy both know. In float64 and bfloat16 it computes too, but not as such: the former it makes
# float32 of, the latter its Python interface does not take.
_TYPES = {
    "bool",
    "float16",
    "float32",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
}


class FaultyFileError(ArtifactError):
    """A file that openvino does not take.

    Attributes:
        cause: In one line.
        node: Of the file, where openvino names one; else empty.
        parsed: Whether openvino understood the file and could only not compile it.
    """

    def __init__(self, artifact: Artifact, cause: str, node: str = "", *, parsed: bool = False) -> None:
        super().__init__(f"{NAME} cannot load {artifact.path}: {f'{node}: ' if node else ''}{cause}")
        self.cause = cause
        self.node = node
        self.parsed = parsed


@dataclass(frozen=True)
class Network:
    """A compiled network.

    Attributes:
        compiled: Openvino's own.
        device: On which it runs, as openvino calls it.
        inputs: Position among openvino's inputs of each input of the file, in the file's order.
        outputs: Likewise of outputs.
        sizes: What sizes it takes; None if they are fixed.
        data: The bytes that it was brought back from, which it goes on reading; None if it was compiled here.
    """

    compiled: Any
    device: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    sizes: Sizes | None
    data: Any = None

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What runs."""
        return layers_of(self.compiled)

    @property
    def sizes_text(self) -> str:
        """``sizes`` as text, to be kept beside the exported network; empty without them."""
        return to_text(self.sizes.model) if self.sizes else ""


def read(artifact: Artifact) -> Any:
    """Openvino's model of an ONNX file, with the sizes that the artifact settles. Raises ``FaultyFileError``."""
    _check_types(artifact)
    try:
        reader = package.readers().load_by_framework("onnx")
        model = reader.convert(reader.load(str(artifact.path)))
    except Exception as error:  # openvino's exceptions share no base but this
        raise _faulty(artifact, error) from error
    places = _places(artifact, "input", model.inputs, artifact.inputs)
    shapes = {
        place: [size if isinstance(size, int) else -1 for size in spec.shape]
        for place, spec in zip(places, artifact.inputs, strict=True)
    }
    try:
        settle(model, shapes)
    except Exception as error:
        raise _faulty(artifact, error) from error
    if name := _antialiased(artifact, model):
        raise FaultyFileError(artifact, f"{NAME} would leave out its antialias without a word", name)
    if found := misshapen(model):
        node, cause = found
        raise FaultyFileError(artifact, cause, _called_in_the_file(artifact, node))
    return model


@compiling()
def compile_network(artifact: Artifact, model: Any, choices: Choices) -> Network:
    """Compile what ``read`` gave.

    Raises:
        FaultyFileError: If openvino cannot.
        CnnportError: If what came of it is not what was asked for.
    """
    try:
        compiled = package.core().compile_model(model, choices.device, choices.properties)
    except Exception as error:
        raise _faulty(artifact, error, parsed=True) from error
    return _checked(artifact, compiled, choices, without_weights(model) if _is_open(artifact) else None)


def bring_back(artifact: Artifact, data: bytes, sizes: str, choices: Choices) -> Network:
    """The network of an engine's bytes.

    Args:
        artifact: The engine, or the file that it was made from.
        data: What was exported.
        sizes: ``Network.sizes_text`` of the network that was.
        choices: How it is to run.

    Raises:
        FaultyFileError: If this openvino on this device does not take them.
        CnnportError: If what came of it is not what was asked for.
    """
    import numpy as np

    openvino = package.load()
    # Openvino reads the weights where they lie for as long as the network lives.
    held = openvino.Tensor(openvino.Type.u8, [len(data)])
    held.data[:] = np.frombuffer(data, np.uint8)
    try:
        compiled = package.core().import_model(held, choices.device, choices.properties)
    except Exception as error:
        raise _faulty(artifact, error) from error
    try:
        model = from_text(sizes) if _is_open(artifact) else None
    except ValueError as error:
        raise FaultyFileError(artifact, "what is known of its sizes is damaged: build it again") from error
    return _checked(artifact, compiled, choices, model, held)


def _is_open(artifact: Artifact) -> bool:
    """Whether any size of an input is left to the caller."""
    return any(isinstance(size, str) for spec in artifact.inputs for size in spec.shape)


def _checked(artifact: Artifact, compiled: Any, choices: Choices, light: Any, data: Any = None) -> Network:
    check(compiled, choices)
    network = Network(
        compiled,
        ",".join(compiled.get_property("EXECUTION_DEVICES")),
        _places(artifact, "input", compiled.inputs, artifact.inputs),
        _places(artifact, "output", compiled.outputs, artifact.outputs),
        light and _sizes(artifact, light),
        data,
    )
    check_precision(network.layers, choices)
    return network


def _sizes(artifact: Artifact, light: Any) -> Sizes:
    inputs = _places(artifact, "input", light.inputs, artifact.inputs)
    return Sizes(light, inputs, _places(artifact, "output", light.outputs, artifact.outputs))


def _places(
    artifact: Artifact, kind: str, ports: Sequence[Any], specs: tuple[TensorSpec, ...]
) -> tuple[int, ...]:
    """Where each input or output of the file stands among openvino's.

    By position where the names agree there, because one tensor may bear several names, then by name.
    """
    names = [port.get_names() for port in ports]
    found = []
    for position, spec in enumerate(specs):
        if position < len(names) and spec.name in names[position]:
            found.append(position)
            continue
        bearers = [place for place, own in enumerate(names) if spec.name in own]
        if len(bearers) != 1:
            raise FaultyFileError(artifact, f"it has no {kind} {spec.name!r} after reading")
        found += bearers
    return tuple(found)


def _check_types(artifact: Artifact) -> None:
    for spec in (*artifact.inputs, *artifact.outputs):
        if spec.dtype not in _TYPES:
            raise FaultyFileError(artifact, f"{NAME} does not compute {spec.dtype}, the type of {spec}")


def _antialiased(artifact: Artifact, model: Any) -> str:
    """The first Resize with an antialias, with which openvino does not scale (seen to 2026.4); empty if none has."""
    if not any(op.get_type_name() == "Interpolate" for op in model.get_ops()):
        return ""
    for node in load_model(artifact.path, external_data=False).graph.node:
        if node.op_type == "Resize" and any(each.name == "antialias" and each.i for each in node.attribute):
            return str(node.name or node.output[0])
    return ""


def _faulty(artifact: Artifact, error: Exception, *, parsed: bool = False) -> FaultyFileError:
    node = _called_in_the_file(artifact, package.node_of(error))
    return FaultyFileError(artifact, package.reason(error), node, parsed=parsed)


def _called_in_the_file(artifact: Artifact, told: str) -> str:
    """A node's own name, if it has one: while reading, openvino calls it by what it writes."""
    if not told:
        return ""
    try:
        nodes = load_model(artifact.path, external_data=False).graph.node
    except ArtifactError:
        return told
    return next((node.name for node in nodes if told in node.output and node.name), told)

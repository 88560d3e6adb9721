"""What a compiled network is made of: the layers that openvino runs, with the type that each computes in."""

from collections import Counter
from typing import Any

from cnnport.errors import CnnportError
from cnnport.runtimes.build import Layer
from cnnport.runtimes.openvino.choices import NAME, Choices

# Where values come from and go to; nothing is computed there.
_ENDS = {"Const", "Input", "Output"}

# The layers whose type of arithmetic decides accuracy and speed, in the names of both plugins.
_MULTIPLY = {"convolution", "deconvolution", "fullyconnected", "fully_connected", "matmul", "gemm"}

_EIGHT_BITS = {"i8", "u8"}


def layers_of(compiled: Any) -> tuple[Layer, ...]:
    """The layers in the order in which they run; several nodes of the file may have become one."""
    found = []
    settled: set[str] = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        name, told = node.get_friendly_name(), _Told(node.get_rt_info())
        sources = {source.get_source_output().get_node().get_friendly_name() for source in node.inputs()}
        kind = told.text("layerType")
        # What depends on constants alone, such as a change of a weight's layout, was done once and for all.
        if kind == "Const" or (sources and sources <= settled):
            settled.add(name)
        elif kind not in _ENDS:
            found.append(
                Layer(
                    name=name,
                    kind=kind,
                    nodes=_nodes(told.list("originalLayersNames")),
                    reads=told.list("runtimePrecision"),
                    writes=tuple(dict.fromkeys(told.list("outputPrecisions"))),
                    kernel=told.text("primitiveType"),
                )
            )
    return tuple(found)


def _nodes(names: tuple[str, ...]) -> tuple[str, ...]:
    # A convolution with a bias is read as two operators, of which one has this at the end of its name.
    return tuple(dict.fromkeys(name.removesuffix("/WithoutBiases") for name in names))


class _Told:
    """What openvino tells of a layer; both plugins use these keys, and text that may be a list with commas."""

    def __init__(self, told: Any) -> None:
        self._told = told

    def text(self, key: str) -> str:
        return str(self._told[key].astype(str)) if key in self._told else ""

    def list(self, key: str) -> tuple[str, ...]:
        return tuple(filter(None, self.text(key).split(",")))


def placement_of(layers: tuple[Layer, ...]) -> dict[str, int]:
    """How many layers of each kind there are; what does not compute in f32 has its type behind the name."""
    names = (
        layer.kind if layer.reads in {(), ("f32",)} else f"{layer.kind} {layer.reads[0]}" for layer in layers
    )
    return dict(sorted(Counter(names).items()))


def check_precision(layers: tuple[Layer, ...], choices: Choices) -> None:
    """Hold the types that layers compute in against the precision that was asked for.

    Layers of a quantized file may compute in 8 bits whatever floating point is computed in.

    Raises:
        CnnportError: If a layer departs, with its name.
    """
    want = choices.properties["INFERENCE_PRECISION_HINT"]
    floating = [
        layer
        for layer in layers
        if layer.kind.lower() in _MULTIPLY and layer.reads and not set(layer.reads) & _EIGHT_BITS
    ]
    wrong = [layer for layer in floating if layer.reads[0] != want]
    # In a lower precision than f32 openvino leaves single layers in f32 where it finds that faster.
    if wrong and (want == "f32" or len(wrong) == len(floating)):
        raise CnnportError(
            f"{NAME} computes {wrong[0].name} ({wrong[0].kind}) in {wrong[0].reads[0]}, not in {want} as asked for"
        )

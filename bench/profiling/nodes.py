"""The nodes of a file, and which of them a kernel runs, by what the runtime calls it.

A kernel bears the name of a node or of the value that it writes, with something behind it (``_nchwc``, ``_token_7``).
Nodes that no kernel is called by run in the kernel of a neighbour.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnnport.measuring.profiling.kernels import Kernel

if TYPE_CHECKING:
    import onnx

CONVERSIONS = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear"})
"""Operators that give numbers another type and compute nothing."""

FIRST_OF_KERNEL = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Pad"})
"""Without a kernel of their own, these are in that of what reads them; all others in that of what they read."""

# In the names that runtimes give to what they made of a node: another layout, another kernel, a copy for one reader,
# parts of what was one.
_ADDED = re.compile(r"(_nchwc|_nhwc|_bn|_dq|_bias|_token_\d+|/duplicated|_\d+)$")
_FUSED = "fused "

# What runtimes put in of their own accord, under such names; one that the file has is found by its exact name.
_LAYOUT = frozenset({"Reorder", "ReorderInput", "ReorderOutput", "Transpose"})


class Nodes:
    """The nodes of a file by their places, and who writes and reads what."""

    def __init__(self, graph: "onnx.GraphProto") -> None:
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        constants = {tensor.name for tensor in graph.initializer}
        self.inputs = {value.name for value in graph.input} - constants
        self.outputs = {value.name for value in graph.output}
        self.maker = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = {}
        for place, node in enumerate(self.nodes):
            for name in node.input:
                self.readers.setdefault(name, []).append(place)
        # The name of a node comes before that of a value.
        self.place = {
            **self.maker,
            **{node.name: place for place, node in enumerate(self.nodes) if node.name},
        }

    def name(self, place: int) -> str:
        """Of a node, or of its first output."""
        node = self.nodes[place]
        return node.name or next(iter(node.output), "")

    def converts(self, place: int) -> bool:
        """Whether a node is one of ``CONVERSIONS``."""
        return self.nodes[place].op_type in CONVERSIONS

    def found(self, kernel: Kernel) -> list[int]:
        """The nodes that a kernel is known to run; there may be more."""
        known = (self._find(name, kernel) for name in kernel.names)
        return sorted({place for place in known if place is not None})

    def computing(self, kernel: Kernel) -> list[int]:
        """Those of them that are no conversions; none if it is one itself."""
        if kernel.operator in CONVERSIONS:
            return []
        return [place for place in self.found(kernel) if not self.converts(place)]

    def kind(self, kernel: Kernel) -> str:
        """What a kernel that belongs to no layer is called."""
        if kernel.operator in CONVERSIONS:
            return kernel.operator
        return next((self.nodes[place].op_type for place in self.found(kernel)), kernel.operator)

    def before(self, place: int) -> Iterator[int]:
        """The nodes that write what a node reads."""
        return (self.maker[name] for name in self.nodes[place].input if name in self.maker)

    def behind(self, place: int) -> Iterator[int]:
        """The nodes that read what a node writes."""
        return (reader for name in self.nodes[place].output for reader in self.readers.get(name, ()))

    def _find(self, name: str, kernel: Kernel) -> int | None:
        name = name.removeprefix(_FUSED)
        while (
            name not in self.place and (added := _ADDED.search(name)) and not _is_own(name, added[1], kernel)
        ):
            name = name[: added.start()]
        return self.place.get(name)


def _is_own(name: str, added: str, kernel: Kernel) -> bool:
    """Whether a name is the runtime's own, and what is behind it was not added to a name of the file."""
    if kernel.operator in _LAYOUT:
        return True
    # Who has a label tells the names of the file beside it, and numbers what it makes itself: ``ReduceMean_10060``.
    return bool(kernel.label) and added[1:].isdecimal() and not {"/", ":"} & set(name)

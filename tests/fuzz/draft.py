"""A graph under construction: nodes, constants in every form that a file may give them, and the shapes so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from fuzz.choices import Choices

Shape = tuple[int, ...]

_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}
_SUFFIXES = ("bn", "ch", "2", "part", "split", "fused", "order", "folded")


@dataclass(frozen=True)
class Tensor:
    """A value and its shape without the batch: channels, height, width; or features alone."""

    name: str
    shape: Shape

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def side(self) -> Shape:
        return self.shape[1:]


class Draft:
    """What has been decided so far.

    Attributes:
        images: Values of channels, height and width, in the order in which they were made.
        opset: Version of the default operator set.
        batch: The size of the batch, or None where it is open.
    """

    def __init__(self, choices: Choices) -> None:
        self.pick = choices.pick
        self.opset: int = self.pick(18, 9, 11, 13, 20, 22)
        self.dtype: str = self.pick(*["float32"] * 18, "float16", "float64")
        self.ir_version: int = self.pick(8, 8, 8, 8, 8, 8, 8, 8, 8, 3) if self.opset < 22 else 10
        self.batch: int | None = self.pick(None, None, None, 1, 2)
        self.open_sides: bool = self.pick(*[False] * 9, True)
        self.rng = np.random.default_rng(self.pick(*range(1000)))
        self._named_nodes: bool = self.pick(True, False)
        self._clashing: bool = self.pick(False, False, False, True)
        self._as_nodes: bool = self.pick(False, False, False, True)
        channels = self.pick(3, 4, 8, 1)
        side = (6, 6) if self.open_sides else self.pick((6, 6), (8, 8), (7, 5), (5, 5))
        self.inputs = [Tensor("x", (channels, *side))]
        self.images = [self.inputs[0]]
        self.others: list[Tensor] = []
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.domains: set[str] = set()
        self._names = {"x"}
        self._known: dict[tuple[object, ...], list[str]] = {}

    @property
    def elem_type(self) -> int:
        return _TYPES[self.dtype]

    def maybe(self, one_in: int = 2) -> bool:
        """True once in so many times."""
        return self.pick(*[False] * (one_in - 1), True)

    def fresh(self, base: str) -> str:
        """A name that is not taken; now and then one that a pass might want to give."""
        name = f"{base}_{self.pick(*_SUFFIXES)}" if self._clashing and self._names else base
        number = 0
        while name in self._names:
            number += 1
            name = f"{base}{number}"
        self._names.add(name)
        return name

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        shape: Shape,
        *,
        domain: str = "",
        image: bool = True,
        **given: Any,
    ) -> Tensor:
        """A node of one output, which later layers may read if it is an image."""
        return self.add_many(op, inputs, [shape], domain=domain, image=image, **given)[0]

    def add_many(
        self,
        op: str,
        inputs: Sequence[str],
        shapes: Sequence[Shape],
        *,
        domain: str = "",
        image: bool = True,
        **given: Any,
    ) -> list[Tensor]:
        made = [Tensor(self.fresh(f"v{len(self.nodes)}"), shape) for shape in shapes]
        name = f"n{len(self.nodes)}" if self._named_nodes else ""
        outputs = [tensor.name for tensor in made]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=name, domain=domain, **given))
        if image:
            self.images += [tensor for tensor in made if len(tensor.shape) == 3]
        return made

    def any_image(self) -> Tensor:
        """The newest value more often than not, so that chains get long; others, so that branches appear."""
        return self.pick(self.images[-1], self.images[-1], self.images[-1], *self.images)

    def numbers(self, shape: Shape, scale: float = 1.0, *, positive: bool = False) -> str:
        """Random numbers: new ones, ones that another node uses, or equal ones under another name."""
        key = (shape, scale, positive)
        known = self._known.setdefault(key, [])
        if known and self.maybe(8):
            return self.pick(*known)
        array = self.rng.normal(size=shape) * scale
        if positive:
            array = np.exp(0.7 * array) * scale
        name = self.constant(array)
        known.append(name)
        if self.maybe(16):
            self.constant(array)
        return name

    def constant(self, array: Any) -> str:
        """A floating-point tensor of the network's type, as an initializer or a node."""
        return self._stored(np.asarray(array, dtype=self.dtype))

    def integers(self, values: Sequence[int] | int) -> str:
        """An int64 tensor: axes, sizes, shapes."""
        return self._stored(np.array(values, dtype=np.int64))

    def tensor(self, array: np.ndarray[Any, Any]) -> str:
        """Any other tensor."""
        return self._stored(array)

    def _stored(self, array: np.ndarray[Any, Any]) -> str:
        name = self.fresh(f"k{len(self.initializers) + len(self.nodes)}")
        if self._as_nodes and self.maybe():
            node = self._constant_node(array, name)
            self.nodes.append(node)
        else:
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def _constant_node(self, array: np.ndarray[Any, Any], name: str) -> NodeProto:
        if self.opset >= 12 and array.ndim <= 1 and array.dtype in (np.int64, np.float32) and self.maybe():
            kind = "int" if array.dtype == np.int64 else "float"
            key = f"value_{kind}s" if array.ndim else f"value_{kind}"
            return helper.make_node("Constant", [], [name], **{key: array.tolist()})
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))

    def with_axes(
        self, op: str, source: Tensor, axes: Sequence[int], shape: Shape, *, as_input_since: int, **given: Any
    ) -> Tensor:
        """An operator whose axes are an attribute before some opset and an input from there on."""
        if self.opset >= as_input_since:
            return self.add(op, [source.name, self.integers(list(axes))], shape, **given)
        return self.add(op, [source.name], shape, axes=list(axes), **given)

    def reshape(self, source: Tensor, dims: Sequence[int], shape: Shape) -> Tensor:
        """To ``dims``, the batch left out; the batch is given in one of the ways that files give it."""
        first = self.pick(0, -1, *([self.batch] if self.batch else []))
        if first == 0 and self.maybe(3):
            target = self._computed_target(source, dims)
        else:
            target = self.integers([first, *dims])
        return self.add("Reshape", [source.name, target], shape)

    def _computed_target(self, source: Tensor, dims: Sequence[int]) -> str:
        size = self.add("Shape", [source.name], (), image=False).name
        if self.maybe():
            # The shape's first element by Slice (a vector), or by Gather (a number, which is unsqueezed).
            taken = self.add("Gather", [size, self.integers(0)], (), axis=0).name
            scalar = Tensor(taken, ())
            vector = self.with_axes("Unsqueeze", scalar, [0], (), as_input_since=13).name
        elif self.opset >= 10:
            limits = [self.integers([0]), self.integers([1]), self.integers([0])]
            vector = self.add("Slice", [size, *limits], ()).name
        else:
            vector = self.add("Slice", [size], (), starts=[0], ends=[1], axes=[0]).name
        return self.add("Concat", [vector, self.integers(list(dims))], (), axis=0).name

    def declared(self, tensor: Tensor) -> ValueInfoProto:
        """The value as a file declares it."""
        first: int | str = self.batch or "N"
        rest: list[int | str | None] = list(tensor.shape)
        if self.open_sides:
            rest = [tensor.channels, *[None for _ in tensor.side]] if len(rest) == 3 else [None] * len(rest)
        return helper.make_tensor_value_info(tensor.name, self.elem_type, [first, *rest])

    def graph(self, outputs: Sequence[ValueInfoProto]) -> GraphProto:
        inputs = [self.declared(tensor) for tensor in self.inputs]
        return helper.make_graph(self.nodes, "fuzz", inputs, list(outputs), self.initializers)

"""Places in a graph whose order of axes may be chosen, and how constants follow the choice.

With T a Transpose and f an operator, f'(T x) = T f(x) for an f' that is f with other attributes and constants: then f
may work on transposed values as well as on the ones that the file gives it. ``layout_operators`` and
``layout_reshapes`` say for which operators and orders that is so, ``layout_plan`` chooses.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from cnnport.graphs.affine import Array
from cnnport.graphs.channel.rechannel import Scope
from cnnport.graphs.layout.permutations import Permutation
from cnnport.graphs.values import constant, drop_unused


class Editor:
    """Changes of constants and attributes; what nothing uses any more is dropped at the end."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._known: dict[tuple[ir.Value, int, Permutation], ir.Value] = {}
        self._replaced: list[ir.Value] = []

    def set_array(self, node: ir.Node, index: int, array: Array, dtype: ir.DataType) -> None:
        """A new constant as an input, which may be one beyond those that the node has."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        old = node.inputs[index]
        base = (old.name if old else None) or f"{node.name or node.outputs[0].name}_axes"
        self.set_input(node, index, self._initializer(array, dtype, base))

    def set_integers(
        self, node: ir.Node, index: int, numbers: Sequence[int], dtype: ir.DataType | None = None
    ) -> None:
        """A one-dimensional constant of integers, of the type that the old one has where none is given."""
        if dtype is None:
            old = constant(node.inputs[index]) if index < len(node.inputs) else None
            dtype = ir.DataType.INT64 if old is None else old.dtype
        self.set_array(node, index, np.array(numbers, dtype.numpy()), dtype)

    def set_input(self, node: ir.Node, index: int, value: ir.Value) -> None:
        """Another value as an input."""
        old = node.inputs[index]
        node.replace_input_with(index, value)
        self._replaced += [old] if old is not None else []

    def release(self, value: ir.Value) -> None:
        """Note a constant that may not be needed any more."""
        self._replaced.append(value)

    def permute_input(self, node: ir.Node, index: int, dims: int, order: Permutation) -> None:
        """A constant input that is broadcast against values of ``dims`` dimensions, for them in another order."""
        value = node.inputs[index]
        tensor = constant(value)
        if value is None or tensor is None:
            raise ValueError(f"input {index} of {node.op_type} {node.name} is no constant")
        if tensor.size != 1:
            self.set_input(node, index, self.permuted(value, dims, order))

    def permuted(self, value: ir.Value, dims: int, order: Permutation) -> ir.Value:
        """A constant in another order of axes, the same one each time."""
        key = (value, dims, order)
        if key not in self._known:
            tensor = constant(value)
            assert tensor is not None
            array = tensor.numpy()
            short = array.ndim < dims
            array = array.reshape((1,) * (dims - array.ndim) + array.shape).transpose(order)
            while short and array.ndim and array.shape[0] == 1:
                array = array[0]
            self._known[key] = self._initializer(array, tensor.dtype, value.name or "constant")
        return self._known[key]

    def finish(self) -> None:
        """Drop the constants that were replaced everywhere."""
        drop_unused(self.scope.graph, self._replaced)

    def _initializer(self, array: Array, dtype: ir.DataType, base: str) -> ir.Value:
        name = self.scope.fresh(base if base.endswith("_perm") else f"{base}_perm")
        made = ir.Value(
            name=name,
            type=ir.TensorType(dtype),
            shape=ir.Shape(array.shape),
            const_value=ir.Tensor(np.array(array, order="C"), dtype=dtype, name=name),
        )
        self.scope.graph.register_initializer(made)
        return made


Allows: TypeAlias = Callable[[Permutation], bool]
Change: TypeAlias = Callable[[Permutation, Editor], None]


def _nothing(_order: Permutation, _editor: Editor) -> None:
    """What an operator needs that treats all axes alike."""


def _always(_order: Permutation) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Site:
    """One operator, or one side of it, that may work in another order of axes.

    Attributes:
        node: The operator.
        dims: How many dimensions the values have that follow the order.
        inputs: Which of its inputs follow; the others stay as they are.
        outputs: Which of its outputs follow.
        allows: Whether an order is possible.
        change: Makes the operator work on values in an order, given those that it works on now.
        is_early: Whether it has to change before any other, because it looks at more than its own operator.
    """

    node: ir.Node
    dims: int
    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = (0,)
    allows: Allows = field(default=_always)
    change: Change = field(default=_nothing)
    is_early: bool = False


Finder: TypeAlias = Callable[[ir.Node, int], Site | None]
"""From an operator and the version of the default operator set to how it may be transposed, if at all."""


def following(
    node: ir.Node, dims: int, follow: Sequence[int], fixed: Sequence[int] = (), axis: int | None = None
) -> Site:
    """An operator with some inputs constant, and perhaps an axis, all of which move.

    Args:
        node: The operator; all of its outputs follow.
        dims: Of what follows.
        follow: Inputs that follow.
        fixed: Constant inputs, broadcast against the others.
        axis: The operator's attribute of that name, counted from 0.
    """

    def change(order: Permutation, editor: Editor) -> None:
        for index in fixed:
            editor.permute_input(node, index, dims, order)
        if axis is not None:
            node.attributes["axis"] = ir.AttrInt64("axis", order.index(axis))

    return Site(node, dims, tuple(follow), tuple(range(len(node.outputs))), change=change)


def staying(axes: Iterable[int]) -> Allows:
    """Allows orders that leave these axes where they are."""
    fixed = tuple(axes)
    return lambda order: all(order[axis] == axis for axis in fixed)


def uses_more(node: ir.Node) -> bool:
    """Whether outputs beyond the first are wanted."""
    return any(output.uses() or output.is_graph_output() for output in node.outputs[1:])

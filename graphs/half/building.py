"""Nodes added to a graph that is only run, and then thrown away."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from cnnport.graphs.splice import initializer
from cnnport.graphs.values import fresh_names


class Building:
    """A graph that nodes are added to behind others."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._fresh: Callable[[str], str] = fresh_names(model)
        self._numbers: dict[tuple[str, float], ir.Value] = {}
        self._last: ir.Node | None = None
        self._next: ir.Node | None = None
        self._head: ir.Node | None = None

    def after(self, node: ir.Node | None) -> None:
        """Put what follows behind a node; behind what was put at the head of the graph, if None."""
        self._last, self._next = node, None

    def before(self, node: ir.Node) -> None:
        """Put what follows before a node."""
        self._next = node

    def add(self, op: str, inputs: Sequence[ir.Value | None], *attributes: ir.Attr) -> ir.Value:
        """One node of the default domain, and the value that it makes."""
        made = ir.Value(name=self._fresh(f"checked_{op}"))
        node = ir.Node("", op, inputs, attributes, outputs=[made], name=made.name)
        if self._next is not None:
            self._graph.insert_before(self._next, node)
        elif self._last is not None:
            self._graph.insert_after(self._last, node)
            self._last = node
        elif self._head is not None:
            self._graph.insert_after(self._head, node)
            self._head = node
        else:
            first = next(iter(self._graph), None)
            if first is None:
                self._graph.append(node)
            else:
                self._graph.insert_before(first, node)
            self._head = node
        return made

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """A Cast."""
        return self.add("Cast", [value], ir.AttrInt64("to", int(dtype)))

    def number(self, number: float, dtype: type[np.generic] = np.float32) -> ir.Value:
        """A constant without dimensions."""
        key = (dtype.__name__, number)
        if key not in self._numbers:
            name = self._fresh("checked_number")
            self._numbers[key] = initializer(np.array(number, dtype), name, self._graph)
        return self._numbers[key]

    def input(self, name: str, dtype: ir.DataType) -> ir.Value:
        """A further input of the graph, without dimensions."""
        value = ir.Value(name=self._fresh(name), type=ir.TensorType(dtype), shape=ir.Shape(()))
        self._graph.inputs.append(value)
        return value

    def rounded(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """A float32 value as a half format would hold it, in float32 again."""
        return self.cast(self.cast(value, dtype), ir.DataType.FLOAT)


def hand_over(value: ir.Value, other: ir.Value, readers: Iterable[tuple[ir.Node, int]]) -> None:
    """Have the given readers of a value, and the graph's outputs if it is one, take a float32 value instead."""
    other.type, other.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    for node, index in readers:
        node.replace_input_with(index, other)
    if value.is_graph_output():
        graph = value.graph
        assert isinstance(graph, ir.Graph)
        name = value.name
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = other
        value.name = other.name
        other.name = name

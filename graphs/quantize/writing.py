"""QuantizeLinear and DequantizeLinear into the graph.

A value gets a pair of both behind it, and whoever read the value reads the pair's result. Weights are written in 8
bits with a DequantizeLinear, which runtimes make part of the operator. Every zero point is written out, zeros too:
without one the standard takes uint8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.graphs.quantize.biases import least_weight_scales, moved, quantized_bias
from cnnport.graphs.quantize.moments import InputMoments
from cnnport.graphs.quantize.rounding import adapted
from cnnport.graphs.quantize.scales import Quantizer
from cnnport.graphs.quantize.weights import LEVELS, REDUCED_LEVELS, channel_axis, quantized
from cnnport.graphs.splice import initializer
from cnnport.graphs.values import constant, drop_unused


@dataclass
class Writer:
    """What writes into one graph.

    Attributes:
        graph: Is changed.
        fresh: Gives names that are new to the model.
        integer_biases: Whether biases of products are written in 32 bits.
        reduce_range: Whether weights have a bit less.
    """

    graph: ir.Graph
    fresh: Callable[[str], str]
    integer_biases: bool
    reduce_range: bool

    def quantize_value(self, value: ir.Value, quantizer: Quantizer) -> None:
        """Put a pair behind a value, for everything in this graph that reads it; outputs of the graph stay."""
        uses = [(node, index) for node, index in value.uses() if node.graph is self.graph]
        scale = np.array(quantizer.scale, quantizer.scale_dtype.numpy())
        zero_point = np.array(quantizer.zero_point, quantizer.dtype.numpy())
        inputs = [
            initializer(scale, self.fresh(f"{value.name}_scale"), self.graph),
            initializer(zero_point, self.fresh(f"{value.name}_zero_point"), self.graph),
        ]
        down = self._node("QuantizeLinear", [value, *inputs], f"{value.name}_quantized")
        up = self._node("DequantizeLinear", [down.outputs[0], *inputs], f"{value.name}_dequantized")
        maker = value.producer()
        if maker is None:
            self.graph.insert_before(self.graph[0], [down, up])
        else:
            self.graph.insert_after(maker, [down, up])
        for node, index in uses:
            node.replace_input_with(index, up.outputs[0])

    def quantize_weights(
        self, node: ir.Node, activation: Quantizer | None, moments: InputMoments | None = None
    ) -> None:
        """Write the weights of a product in 8 bits, and its bias in 32 where that is wanted.

        Args:
            node: A product with constant weights.
            activation: Of its input, for the bias.
            moments: Of its input, for levels and a bias that suit it.

        Raises:
            CnnportError: If the moments are those of another product.
        """
        axis = channel_axis(node)
        old = [value for value in node.inputs[1:] if value is not None]
        weights, bias = self._parameters(node, axis)
        # Of the inputs' scale, where a bias is written in integers.
        unit = activation.scale if activation is not None and self.integer_biases else None
        least = None if bias is None or unit is None else least_weight_scales(bias, unit)
        levels = REDUCED_LEVELS if self.reduce_range else LEVELS
        found = quantized(weights, axis, levels=levels, least=least)
        is_moved = False
        if moments is not None:
            found, drift = adapted(node, weights, found, levels, moments)
            is_moved = _takes_bias(node)
            bias = moved(bias, drift, weights.dtype) if is_moved else bias
        self._dequantized(node, 1, found.levels, found.scales, axis)
        if bias is not None and unit is not None:
            self._dequantized(node, 2, *quantized_bias(bias, unit, found.scales), 0)
        elif bias is not None and (is_moved or node.op_type == "Gemm"):
            name = self.fresh(f"{_title(node, 2)}_{'moved' if is_moved else 'row'}")
            _put(node, 2, initializer(bias, name, self.graph))
        drop_unused(self.graph, old)

    def _parameters(
        self, node: ir.Node, axis: int
    ) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]] | None]:
        """Weights and bias; what a Gemm multiplies them with is multiplied into them."""
        tensor = constant(node.inputs[1])
        assert tensor is not None
        weights: npt.NDArray[np.floating[Any]] = tensor.numpy()
        given = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        bias: npt.NDArray[np.floating[Any]] | None = None if given is None else given.numpy()
        if node.op_type == "Gemm":
            weights = (weights * np.float64(node.attributes.get_float("alpha", 1.0))).astype(weights.dtype)
            node.attributes.pop("alpha", None)
        if node.op_type == "Gemm" and bias is not None:
            scaled = bias * np.float64(node.attributes.get_float("beta", 1.0))
            bias = np.broadcast_to(scaled, (1, weights.shape[axis]))[0].astype(bias.dtype)
            node.attributes.pop("beta", None)
        return weights, bias

    def _dequantized(
        self,
        node: ir.Node,
        index: int,
        levels: npt.NDArray[np.integer[Any]],
        scales: npt.NDArray[np.floating[Any]],
        axis: int,
    ) -> None:
        """Put integers with a DequantizeLinear in place of an input."""
        title = _title(node, index)
        inputs = [
            initializer(levels, self.fresh(f"{title}_quantized"), self.graph),
            initializer(scales, self.fresh(f"{title}_scale"), self.graph),
            initializer(np.zeros_like(scales, levels.dtype), self.fresh(f"{title}_zero_point"), self.graph),
        ]
        up = self._node("DequantizeLinear", inputs, f"{title}_dequantized", {"axis": axis})
        self.graph.insert_before(node, up)
        _put(node, index, up.outputs[0])

    def _node(
        self, operator: str, inputs: list[ir.Value], name: str, attributes: dict[str, int] | None = None
    ) -> ir.Node:
        label = self.fresh(name)
        made = ir.node(operator, inputs, attributes, name=label)
        made.outputs[0].name = label
        return made


def _takes_bias(node: ir.Node) -> bool:
    """Whether a constant bias can be changed, or added."""
    if node.op_type == "MatMul":
        return False
    return len(node.inputs) < 3 or node.inputs[2] is None or constant(node.inputs[2]) is not None


def _title(node: ir.Node, index: int) -> str:
    """What is written in place of an input is named after it, or, where there is none, after the node."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return f"{node.name or node.outputs[0].name}_bias" if value is None else str(value.name)


def _put(node: ir.Node, index: int, value: ir.Value) -> None:
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)

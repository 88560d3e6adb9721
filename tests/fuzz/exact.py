"""A graph in float64, by the standard's own definitions, and how far the rounding of its weights can move it.

Two graphs that are equal in real arithmetic differ in floats by what rounding does. Where float32 kernels leave a
doubt, both are computed in float64, in which they may differ by no more than the weights' own rounding explains: the
same graph with each of its weights off by one part in 2^24 (or in 2^11, for float16) shows how much that is.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from fuzz.operators import OPERATORS

Array = np.ndarray[Any, Any]

_UNITS = {TensorProto.FLOAT: 2.0**-24, TensorProto.FLOAT16: 2.0**-11, TensorProto.DOUBLE: 2.0**-53}
_ALLOWANCE = 16


class InExact(Exception):
    """The reference cannot compute a graph."""


def run(model: ModelProto, feeds: Mapping[str, Array], *, shaken: int | None = None) -> list[Array]:
    """The outputs in float64.

    Args:
        model: Not changed.
        feeds: By name; widened.
        shaken: Where given, the seed by which all weights are moved by one unit in the last place.

    Raises:
        InExact: If the reference has no such operator or does not take its attributes.
    """
    wide = _widened(model, None if shaken is None else np.random.default_rng(shaken))
    kinds = _kinds(model)
    given = {
        name: array.astype(np.float64) if helper.np_dtype_to_tensor_dtype(array.dtype) in kinds else array
        for name, array in feeds.items()
    }
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outputs = ReferenceEvaluator(wide, new_ops=list(OPERATORS)).run(None, given)
    except Exception as error:
        raise InExact(f"{type(error).__name__}: {error}") from error
    return [np.asarray(output) for output in outputs]


def run_as_is(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs in the graph's own types, by the reference.

    Raises:
        InExact: As above.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return list(ReferenceEvaluator(model, new_ops=list(OPERATORS)).run(None, dict(feeds)))
    except Exception as error:
        raise InExact(f"{type(error).__name__}: {error}") from error


def differ(before: ModelProto, after: ModelProto, feeds: Mapping[str, Array]) -> str | None:
    """How the outputs of two graphs differ by more than rounding does, or None.

    Raises:
        InExact: As above.
    """
    expected, found = run(before, feeds), run(after, feeds)
    shaken = [run(before, feeds, shaken=seed) for seed in (1, 2)]
    for place, (one, other) in enumerate(zip(expected, found, strict=True)):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"output {place} is {other.dtype} of {other.shape} and was {one.dtype} of {one.shape}"
        if one.dtype != np.float64:
            if one.tobytes() != other.tobytes():
                return f"output {place} has other values"
            continue
        finite = np.isfinite(one)
        if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
            return f"output {place} differs where it is not finite"
        scale = float(np.abs(one[finite]).max(initial=0.0))
        moved = max(_largest((one - each[place])[finite]) for each in shaken)
        off = _largest((one - other)[finite])
        if not off <= 1e-7 * scale + _ALLOWANCE * moved:
            return f"output {place} differs by {off:.3g} in float64, of {scale:.3g}; rounding moves it {moved:.3g}"
    return None


def _largest(differences: Array) -> float:
    return float(np.nan_to_num(np.abs(differences)).max(initial=0.0))


def _kinds(model: ModelProto) -> frozenset[int]:
    """The types that become float64: float32, and float16 where it is what the network computes in.

    A Cast to float16 within a float32 network rounds on purpose, and goes on doing so.
    """
    inputs = {value.type.tensor_type.elem_type for value in model.graph.input}
    half = TensorProto.FLOAT16 in inputs and TensorProto.FLOAT not in inputs
    return frozenset({TensorProto.FLOAT, TensorProto.FLOAT16} if half else {TensorProto.FLOAT})


def _widened(model: ModelProto, rng: np.random.Generator | None) -> ModelProto:
    wide = ModelProto()
    wide.CopyFrom(model)
    kinds = _kinds(model)
    # What says how large a picture becomes is not a weight, nor is an exponent: of a number below 0 there is no
    # power that is all but whole.
    fixed = {
        name
        for node in model.graph.node
        if node.op_type in {"Pow", "Resize", "Upsample"}
        for name in node.input[1:]
    }

    def widen(tensor: TensorProto, name: str) -> None:
        array = numpy_helper.to_array(tensor)
        unit = _UNITS.get(tensor.data_type)
        if tensor.data_type in kinds:
            array = array.astype(np.float64)
        if rng is not None and unit is not None and array.size and name not in fixed:
            array = array * (1 + unit * rng.choice([-1.0, 1.0], size=array.shape))
        if tensor.data_type in kinds or rng is not None:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))

    for graph in _graphs(wide.graph):
        for tensor in graph.initializer:
            widen(tensor, tensor.name)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in kinds:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        _widen_nodes(graph.node, kinds, widen)
    for function in wide.functions:
        _widen_nodes(function.node, kinds, widen)
    return wide


def _widen_nodes(
    nodes: Iterable[NodeProto], kinds: frozenset[int], widen: Callable[[TensorProto, str], None]
) -> None:
    for node in nodes:
        if node.op_type == "ConstantOfShape" and not node.attribute and TensorProto.FLOAT in kinds:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                widen(attribute.t, node.output[0])
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in kinds:
                attribute.i = TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in {"value_float", "value_floats"}:
                given = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.array(given, np.float32))
                widen(tensor, node.output[0])
                attribute.CopyFrom(helper.make_attribute("value", tensor))


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)

"""Pad into the padding of the convolutions and poolings that read it.

Let p(x) be x with constants around it. A convolution that pads is one that does not, of p(x) with zeros; one that
pads by q, of p(x), pads by the sum of both. An average that counts its padding is such a convolution. A maximum pads
with what never wins: with a Pad of v it may do so itself where v never wins either, because it is minus infinity, or
because nothing in x is less than v and every window has something of x in it. Windows do if the padding on either
side is less than the kernel, which is what runtimes ask of poolings anyway.

It fires for a Pad of mode ``constant`` by constant, non-negative numbers on spatial axes, if all that reads it is

1.  Conv of any dimensions, groups, strides, dilations and own padding, with a value of 0;
2.  AveragePool that has no padding yet, or counts it; then it counts all of it;
3.  MaxPool, if the value is minus infinity, or not above the bounds of x (``bounds``): 0 after Relu, Sigmoid or a
    Clip from 0, also across poolings and Concat.

Padding, value and axes may be attributes (before opset 11) or inputs, and the axes (from opset 18) count from either
end.

It must not fire

10. if one reader cannot take the padding in, or the padded value is given out or captured;
11. in modes ``reflect``, ``edge`` and ``wrap``, for other values, and for padding of batch or channels;
12. for negative padding, which crops, or where padding or value are computed or a caller's;
13. if a reader has ``auto_pad`` SAME_UPPER or SAME_LOWER: what it adds depends on the padded size;
14. before a pooling with ``ceil_mode``, where what lies in a last window depends on who pads; with dilations, where a
    window may lie in the padding altogether; with a padding as large as the kernel; before a MaxPool whose indices
    are read: they count the padding;
15. before AveragePool with padding of its own that it does not count.
"""

import math
from dataclasses import dataclass

import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.bounds import bounds_of
from cnnport.graphs.extents import integers, is_missing
from cnnport.graphs.values import constant, drop_unused, named_in_subgraphs, opset_of, rank


class _StaysError(Exception):
    """Why a Pad stays, as the end of a sentence."""


@dataclass(frozen=True)
class _Padding:
    """What a Pad adds: begins and then ends of the spatial axes, as a convolution's ``pads``; and the value."""

    pads: tuple[int, ...]
    value: float


def fold_pad(model: ir.Model) -> int:
    """Fold Pad into the padding of convolutions and poolings.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of Pads that are gone.
    """
    opset, captured, gone = opset_of(model), named_in_subgraphs(model.graph), 0
    if opset < 7:
        return 0
    # What a Pad was folded into may stand in the way of the one before it no more.
    for node in reversed(list(model.graph)):
        if node.domain or node.op_type != "Pad":
            continue
        try:
            taken = _taken_in(node, opset, captured)
        except _StaysError as error:
            journal.refused(node, str(error))
            continue
        source = node.inputs[0]
        assert source is not None
        for reader, pads in taken.items():
            reader.attributes.pop("auto_pad", None)
            reader.attributes["pads"] = ir.AttrInt64s("pads", pads)
            if reader.op_type == "AveragePool":
                reader.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
        inputs = [value for value in node.inputs[1:] if value is not None]
        node.outputs[0].replace_all_uses_with(source)
        model.graph.remove(node, safe=True)
        drop_unused(model.graph, inputs)
        gone += 1
    return gone


def _taken_in(pad: ir.Node, opset: int, captured: frozenset[str]) -> dict[ir.Node, tuple[int, ...]]:
    """Every reader of a Pad with the padding that it has to have in its place."""
    output = pad.outputs[0]
    if output.is_graph_output() or output.name in captured or not output.uses():
        raise _StaysError(f"{output.name} is given out")
    padding = _padding_of(pad, opset)
    low, _ = bounds_of(pad.inputs[0], opset)
    taken = {}
    for reader, index in output.uses():
        if reader.graph is not pad.graph or index != 0 or reader.domain:
            raise _StaysError(f"{journal.title(reader)} reads it too")
        if reader.op_type == "Conv":
            _expect(padding.value == 0, reader, "pads with zeros, not with this value")
        elif reader.op_type == "AveragePool":
            _expect(padding.value == 0, reader, "pads with zeros, not with this value")
            counts = reader.attributes.get_int("count_include_pad", 0) == 1
            _expect(counts or not any(_own_pads(reader, padding)), reader, "does not count its own padding")
            _expect_plain_windows(reader, padding)
        elif reader.op_type == "MaxPool":
            never_wins = padding.value == -math.inf or low >= padding.value
            _expect(never_wins, reader, "could find its maximum in the padding")
            indices = any(each.uses() or each.is_graph_output() for each in reader.outputs[1:])
            _expect(not indices, reader, "gives out where its maxima are")
            _expect_plain_windows(reader, padding)
        else:
            raise _StaysError(f"{journal.title(reader)} has no padding of its own")
        own = _own_pads(reader, padding)
        taken[reader] = tuple(one + other for one, other in zip(own, padding.pads, strict=True))
    return taken


def _padding_of(pad: ir.Node, opset: int) -> _Padding:
    if pad.attributes.get_string("mode", "constant") != "constant":
        raise _StaysError("it does not pad with a constant")
    if opset < 11:
        pads = list(pad.attributes.get_ints("pads", ()))
        value: float | None = pad.attributes.get_float("value", 0.0)
        axes: list[int] | None = list(range(len(pads) // 2))
    else:
        given = integers(pad, 1)
        if given is None:
            raise _StaysError("its padding is computed")
        pads, value, axes = given, _value(pad), _axes(pad, len(given) // 2)
    if value is None or axes is None:
        raise _StaysError("its value or its axes are not known")
    dims = rank(pad.inputs[0])
    if dims is None and is_missing(pad, 3):
        dims = len(pads) // 2
    if dims is None or len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise _StaysError("its padding crops, or has no known place")
    whole = [0] * (2 * dims)
    for place, axis in enumerate(axes):
        whole[axis % dims] += pads[place]
        whole[axis % dims + dims] += pads[place + len(axes)]
    if any(whole[axis] for axis in (0, 1, dims, dims + 1) if axis < 2 * dims):
        raise _StaysError("it pads batch or channels")
    return _Padding((*whole[2:dims], *whole[dims + 2 :]), value)


def _value(pad: ir.Node) -> float | None:
    if is_missing(pad, 2):
        return 0.0
    tensor = constant(pad.inputs[2])
    return None if tensor is None or tensor.size != 1 else float(tensor.numpy().item())


def _axes(pad: ir.Node, count: int) -> list[int] | None:
    return list(range(count)) if is_missing(pad, 3) else integers(pad, 3)


def _own_pads(reader: ir.Node, padding: _Padding) -> tuple[int, ...]:
    kind = reader.attributes.get_string("auto_pad", "NOTSET")
    pads = tuple(reader.attributes.get_ints("pads", ())) if kind == "NOTSET" else ()
    pads = pads or (0,) * len(padding.pads)
    _expect(kind in {"NOTSET", "VALID"}, reader, "pads by as much as its input's size asks for")
    _expect(len(pads) == len(padding.pads) and min(pads, default=0) >= 0, reader, "has other dimensions")
    return pads


def _expect_plain_windows(pool: ir.Node, padding: _Padding) -> None:
    kernel = tuple(pool.attributes.get_ints("kernel_shape", ()))
    sums = [one + other for one, other in zip(_own_pads(pool, padding), padding.pads, strict=True)]
    _expect(
        not pool.attributes.get_int("ceil_mode", 0), pool, "may have a last window that hangs over the edge"
    )
    _expect(max(pool.attributes.get_ints("dilations", ()), default=1) == 1, pool, "has gaps in its windows")
    fits = len(sums) == 2 * len(kernel) and all(
        each < size for each, size in zip(sums, (*kernel, *kernel), strict=True)
    )
    _expect(fits, pool, "would be padded by as much as its kernel")


def _expect(condition: bool, reader: ir.Node, otherwise: str) -> None:
    if not condition:
        raise _StaysError(f"{journal.title(reader)} {otherwise}")

"""Transposes moved through what works in any order of axes, until pairs meet and cancel.

With T a Transpose, T^-1 its inverse and f an operator that works on transposed values too,

    T (T^-1 x) = x,    T f(x) = f'(T x),

where f' is f with its axes and constants in the other order (``layout_operators``, ``layout_reshapes``). So a region
of such operators may work in any order, and what is needed between regions follows. Files that were converted from
TensorFlow hold N x H x W x C between convolutions that want N x C x H x W: a Transpose before and behind each one, of
which those at the interface are left.

Which region works in which order is chosen by ``layout_plan``: a graph is changed only if that leaves fewer
Transposes and no more transposed elements, or as many Transposes of fewer elements. So running it again finds
nothing.

It fires for

1.  Transposes in a row, which become one or none; equal Transposes of one value; Transposes of constants;
2.  elementwise operators of one operand, Cast, inference Dropout, Identity;
3.  elementwise operators of several, where each has the same number of dimensions, is constant, or is one number:
    residual sums, gates, biases;
4.  Concat, Split, Slice, Pad, Tile, Gather, TopK and ArgMax, along the same axis at its new place;
5.  reductions, which keep their axes or leave the others in order;
6.  Softmax, unless that takes it away from the last axis; BatchNormalization, InstanceNormalization and LRN if batch
    and channels stay where they are; LayerNormalization if its own axes do; products of rows and a matrix if the last
    axis does; GlobalAveragePool and GlobalMaxPool, which over other axes are ReduceMean and ReduceMax;
7.  QuantizeLinear and DequantizeLinear, for each tensor or along an axis;
8.  Squeeze, Unsqueeze and Reshape where only axes of size 1 change their place; sizes picked from a Shape;
9.  Flatten and Reshape to features that only matrix products with constants read: these get their rows in the other
    order.

It must not fire

20. across convolutions, pooling, Resize and other operators whose axes have fixed meanings, custom and unknown ones;
21. where a number of dimensions is not known, or operands have different numbers of them;
22. for Softmax of opsets before 13 on another axis than the last, Dropout in training, axes that are computed;
23. into subgraphs: what they capture stays as it is, as do inputs and outputs of the graph;
24. where as much would have to be transposed as before.
"""

from collections.abc import Mapping
from typing import TypeAlias

import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.channel.rechannel import Scope
from cnnport.graphs.layout.operators import OPERATORS
from cnnport.graphs.layout.permutations import Permutation, identity, inverse, permutation_of, then
from cnnport.graphs.layout.plan import Cost, Plan, Request, Source, elements_of
from cnnport.graphs.layout.reshapes import RESHAPES
from cnnport.graphs.layout.rewrite import Rewriter
from cnnport.graphs.layout.site import Site
from cnnport.graphs.values import constant, fresh_names, named_in_subgraphs, opset_of, rank

_WINDOWS = frozenset(
    {"AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv"}
)

_Origins: TypeAlias = dict[ir.Value, tuple[ir.Value, Permutation]]
_Ends: TypeAlias = Mapping[tuple[ir.Node, bool, int], Site]


def move_transposes(model: ir.Model) -> int:
    """Move Transposes through other operators until they cancel.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        How many Transposes are gone; at least 1 if any were moved.
    """
    graph = model.graph
    if opset_of(model) < 9 or model.ir_version < 4 or named_in_subgraphs(graph):
        return 0
    origins = _origins(graph)
    if not origins:
        return 0
    scope = Scope(model, fresh_names(model))
    plan = Plan(_sources(graph, origins, _sites(graph, scope)))
    before = _cost_of(graph, origins)
    plan.improve()
    after = plan.cost()
    if after.is_below(before):
        transposes = [node for node in graph if node.outputs and node.outputs[0] in origins]
        Rewriter(plan, transposes, scope).carry_out()
        _explain(graph, _origins(graph), scope)
        return max(1, before.transposes - after.transposes)
    _explain(graph, origins, scope)
    return 0


def _origins(graph: ir.Graph) -> _Origins:
    """For each result of a Transpose, the value behind all Transposes, and the order in which it is read."""
    origins: _Origins = {}
    for node in graph:
        read = node.inputs[0] if node.inputs else None
        if node.domain or node.op_type != "Transpose" or read is None:
            continue
        root, before = origins.get(read, (read, None))
        order = permutation_of(node, rank(read) if before is None else len(before))
        tensor = constant(root)
        if order is None or (tensor is not None and tensor.dtype == ir.DataType.STRING):
            continue
        if before is None:
            origins[node.outputs[0]] = (root, order)
        elif len(before) == len(order):
            origins[node.outputs[0]] = (root, then(before, order))
    return origins


def _cost_of(graph: ir.Graph, origins: _Origins) -> Cost:
    """What the Transposes of the graph cost as they are."""
    total = Cost()
    for node in graph:
        if node.outputs and node.outputs[0] in origins:
            root, order = origins[node.outputs[0]]
            total += Cost(1, elements_of(root, len(order)), int(root.shape is None))
    return total


def _sites(graph: ir.Graph, scope: Scope) -> _Ends:
    """Sites by the ends that follow them: node, whether it is an input, and which."""
    ends: dict[tuple[ir.Node, bool, int], Site] = {}
    for node in graph:
        if node.domain:
            continue
        found: list[Site] = []
        if node.op_type in RESHAPES:
            found = RESHAPES[node.op_type](node, scope)
        elif node.op_type in OPERATORS:
            site = OPERATORS[node.op_type](node, scope.opset)
            found = [] if site is None else [site]
        for site in found:
            ends.update({(node, True, index): site for index in site.inputs})
            ends.update({(node, False, index): site for index in site.outputs})
    return ends


def _sources(graph: ir.Graph, origins: _Origins, ends: _Ends) -> list[Source]:
    """What every value that no Transpose makes is read as."""
    made = [value for node in graph for value in node.outputs]
    values = list(dict.fromkeys([*graph.inputs, *graph.initializers.values(), *made]))
    dims = {value: size for value in values if (size := rank(value)) is not None}
    dims.update({root: len(order) for root, order in origins.values()})
    for (node, is_input, index), site in ends.items():
        value = (node.inputs if is_input else node.outputs)[index]
        if value is not None and value not in origins:
            dims.setdefault(value, site.dims)

    def site_at(node: ir.Node | None, is_input: bool, index: int, root: ir.Value) -> Site | None:
        site = None if node is None or node.graph is not graph else ends.get((node, is_input, index))
        return site if site is not None and site.dims == dims[root] else None

    sources: dict[ir.Value, Source] = {}
    for value in values:
        root, order = origins.get(value, (value, identity(dims.get(value, 0))))
        if root not in dims:
            continue
        if root not in sources:
            maker = site_at(root.producer(), False, root.index() or 0, root)
            elements, is_sized = elements_of(root, dims[root]), root.shape is not None
            sources[root] = Source(root, maker, elements, is_sized, constant(root) is not None)
        source = sources[root]
        for node, index in value.uses():
            if node.graph is not graph or not node.outputs or node.outputs[0] not in origins:
                own = site_at(node, True, index, root)
                source.requests.append(Request(own, order, node, index, value is root))
        if value.is_graph_output():
            source.requests.append(Request(None, order, None, graph.outputs.index(value), value is root))
            source.is_constant = False
    return list(sources.values())


def _explain(graph: ir.Graph, origins: _Origins, scope: Scope) -> None:
    """Say what keeps a Transpose and its inverse apart, where that is not a convolution or pooling."""
    ends = _sites(graph, scope)
    for node in graph:
        if not node.outputs or node.outputs[0] not in origins:
            continue
        back = inverse(origins[node.outputs[0]][1])
        for reader, index in node.outputs[0].uses():
            site = ends.get((reader, True, index))
            is_between = reader.op_type not in _WINDOWS and any(
                user.outputs[0] in origins and permutation_of(user, len(back)) == back
                for output in reader.outputs
                for user, _ in output.uses()
            )
            if is_between and (site is None or not site.allows(back)):
                journal.refused(
                    node,
                    f"{journal.title(reader)} between it and its inverse does not work in another order of axes",
                )

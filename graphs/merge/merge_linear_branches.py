"""Parallel linear branches into one convolution.

What branches compute from one x and add up is linear in x as long as each is, so it is one convolution:

    sum over b of s_b (W_b * x + c_b) + t_b  =  (sum over b of s_b W_b) * x + sum over b of s_b c_b + t_b,

with s_b and t_b one number a channel: what a BatchNormalization or a constant behind branch b does, and the sign with
which it is added. ``convolution`` has the algebra of kernels of different sizes, dilations, paddings and groups,
``branches`` reads sums and branches. Networks are trained with such branches and are meant to be rewritten afterwards
(RepVGG, Ding et al., arXiv:2101.03697; ACNet, arXiv:1908.03930; MobileOne, arXiv:2206.04040; DiracNets, Zagoruyko and
Komodakis, arXiv:1706.00388); files exported before that step hold them all.

Nothing is merged that would cost more: a merge must not have more multiply-adds than the convolutions, and one
operation less for each output than they and what lies behind them have together. Of several possible merges the one
that saves most comes first.

It fires for branches of one value that are added or subtracted, in any tree of Add, Sub and Sum,

1.  kernels of any odd or even size, padded so that their outputs have the same size: the smaller takes its place in
    the larger;
2.  asymmetric kernels (1 x 3, 3 x 1) that fit into another one;
3.  with any common stride;
4.  with a bias or none, and with a BatchNormalization, constant factor or summand a channel, Identity and inference
    Dropout behind a convolution, in any order and number;
5.  an identity, and a BatchNormalization or constant factor on the input itself, into the centre of a convolution
    that has as many outputs as inputs;
6.  depthwise and grouped convolutions of any numbers of groups, where the smallest block structure that holds them
    costs no more;
7.  dilated kernels, where all taps lie in a grid that costs no more;
8.  an average over windows that are all of the same size (no padding, or padding that counts), into a convolution
    that has its taps;
9.  constants a channel in the same sum, which go into the bias;
10. sums with other terms, which stay: they are added to the merged convolution;
11. ``auto_pad``: VALID, and SAME where the stride is 1 or the file gives the size of the input;
12. branches that others read too: they stay for the others, and the sum does without them where that saves work;
13. weights that other nodes use too: the merged convolution has its own.

It must not fire

20. if branches read different values, or have anything between them and the sum that is not linear;
21. if inner results of the sum are used elsewhere, are graph outputs or are captured by a subgraph: they are sums of
    their own;
22. for strides, channels or output sizes that differ, or may differ;
23. if weights, bias, BN parameters or constants are computed, quantised or may be overridden by a caller, or a BN is
    in training mode;
24. if the merged convolution would take more multiply-adds: 1 x 3 and 3 x 1 without a 3 x 3, dense 1 x 1 and
    depthwise 3 x 3, a convolution that others read too;
25. without any convolution: x + x, x + BN(x), averages;
26. for an average that divides by fewer numbers at the edge, or has ceil_mode;
27. for constants that are not one number a channel: they stay;
28. if merged numbers overflow or underflow;
29. for two convolutions in a row, and for branches within subgraphs and functions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.affine import Array, CannotFoldError, round_to
from cnnport.graphs.merge.branches import Branch, Path, Reading, Term, a_channel
from cnnport.graphs.merge.convolution import Geometry, add_taps, geometry_of, joined, numbers_of, rounded
from cnnport.graphs.splice import initializer, stand_in
from cnnport.graphs.values import constant, fresh_names, opset_of


@dataclass(frozen=True)
class _Cluster:
    """Branches that become one convolution, and the constants that go into its bias."""

    branches: tuple[Branch, ...]
    geometry: Geometry
    cost: int
    constants: tuple[Term, ...] = ()

    @property
    def source(self) -> ir.Value:
        return self.branches[0].path.source

    @property
    def terms(self) -> tuple[Term, ...]:
        return (*(branch.path.term for branch in self.branches), *self.constants)

    @property
    def convs(self) -> list[ir.Node]:
        return [branch.path.conv for branch in self.branches if branch.path.conv is not None]

    def is_larger(self) -> bool:
        return len(self.branches) > 1


@dataclass(frozen=True)
class _Merged:
    cluster: _Cluster
    kernel: Array
    bias: Array | None


@dataclass(frozen=True)
class _Refusal:
    node: ir.Node
    reason: str


def merge_linear_branches(model: ir.Model) -> int:
    """Merge parallel convolutions, identities and batch norms that are added up into one convolution.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of sums in which branches were merged.
    """
    if opset_of(model) < 7:
        return 0
    fresh, total = fresh_names(model), 0
    while True:
        reading = Reading(model)
        refusals: list[_Refusal] = []
        roots = [node for node in model.graph if reading.is_sum(node) and not reading.is_inner(node)]
        found = sum(_rewrite(root, reading, fresh, refusals) for root in roots if reading.is_sum(root))
        if not found:
            break
        # A merge may have been the other reader of a branch: look again.
        total += found
    for each in refusals:
        journal.refused(each.node, each.reason)
    return total


def _rewrite(root: ir.Node, reading: Reading, fresh: Callable[[str], str], refusals: list[_Refusal]) -> bool:
    terms = list(reading.terms(root))
    paths = [path for term in terms if constant(term.value) is None for path in reading.paths(term)]
    by_source: dict[ir.Value, list[Path]] = {}
    for path in paths:
        by_source.setdefault(path.source, []).append(path)
    merged: list[_Merged] = []
    used: set[int] = set()
    for candidates in sorted(by_source.values(), key=len, reverse=True):
        free = [path for path in candidates if id(path.term) not in used]
        for cluster in _clusters(root, free, reading, refusals):
            whole = _with_constants(cluster, [term for term in terms if id(term) not in used])
            try:
                merged.append(_numbers(whole))
            except CannotFoldError as error:
                refusals.append(_Refusal(root, str(error)))
                continue
            used.update(id(term) for term in whole.terms)
    if not merged:
        return False
    _replace(root, terms, merged, reading, fresh)
    return True


def _clusters(
    root: ir.Node, paths: Sequence[Path], reading: Reading, refusals: list[_Refusal]
) -> list[_Cluster]:
    """What becomes one convolution each, of paths from one value."""
    convs = [path.conv for path in paths if path.conv is not None]
    if len(paths) < 2 or not convs:
        return []
    branches, reasons = [], []
    for path in paths:
        try:
            branches.append(reading.branch(path, _widest(convs)))
        except CannotFoldError as error:
            reasons.append(f"a branch of {path.source.name} stays: {error}")
    clusters = [_Cluster((branch,), branch.geometry, branch.cost) for branch in branches]
    while best := max(_pairs(clusters), key=_saved, default=None):
        one, other, _ = best
        clusters = [best[2] if each is one else each for each in clusters if each is not other]
    if len(clusters) > 1 and any(each.cost >= each.geometry.cost for each in clusters if each.convs):
        reasons.append(_reason(clusters))
    refusals += [_Refusal(root, reason) for reason in dict.fromkeys(reasons)]
    return [each for each in clusters if each.is_larger() and each.convs]


def _widest(convs: Iterable[ir.Node]) -> Geometry:
    found, reason = [], CannotFoldError()
    for conv in convs:
        try:
            found.append(geometry_of(conv))
        except CannotFoldError as error:
            reason = error
    if not found:
        raise reason
    return max(found, key=lambda each: each.cost)


_Pair = tuple[_Cluster, _Cluster, _Cluster]


def _pairs(clusters: Sequence[_Cluster]) -> Iterator[_Pair]:
    """Two clusters that are worth merging, and what they become."""
    for place, one in enumerate(clusters):
        for other in clusters[place + 1 :]:
            if not (one.convs or other.convs):
                continue
            try:
                pair = (one, other, _both(one, other))
            except CannotFoldError:
                continue
            if _saved(pair) > 0:
                yield pair


def _both(one: _Cluster, other: _Cluster) -> _Cluster:
    geometry = joined(one.geometry, other.geometry, one.source)
    return _Cluster((*one.branches, *other.branches), geometry, geometry.cost)


def _saved(pair: _Pair) -> int:
    one, other, both = pair
    return one.cost + other.cost + 1 - both.cost


def _reason(clusters: Sequence[_Cluster]) -> str:
    """Why not all of it is one convolution."""
    try:
        whole = reduce(_both, clusters)
    except CannotFoldError as error:
        return f"branches of {clusters[0].source.name} cannot be one convolution: {error}"
    before = sum(each.cost for each in clusters) + len(clusters) - 1
    return (
        f"one convolution for what is left of the branches of {whole.source.name} would take {whole.cost} "
        f"operations for each number of its output instead of {before}"
    )


def _with_constants(cluster: _Cluster, terms: Sequence[Term]) -> _Cluster:
    constants = [term for term in terms if a_channel(term.value, cluster.geometry) is not None]
    return _Cluster(cluster.branches, cluster.geometry, cluster.cost, tuple(constants))


def _numbers(cluster: _Cluster) -> _Merged:
    whole = cluster.geometry
    kernel, bias = np.zeros(whole.shape), np.zeros(whole.outputs)
    with np.errstate(all="ignore"):
        for branch in cluster.branches:
            part, conv = branch.geometry, branch.path.conv
            if conv is not None:
                taps, own = numbers_of(conv, part)
            else:
                taps, own = np.full(part.shape, 1 / np.prod(part.kernel)), np.zeros(part.outputs)
            taps *= branch.scale.reshape(-1, *[1] * (taps.ndim - 1))
            add_taps(kernel, whole, part, taps)
            bias += own * branch.scale + branch.shift
        for term in cluster.constants:
            numbers = a_channel(term.value, whole)
            assert numbers is not None
            bias += term.sign * numbers
    needed = bool(bias.any())
    return _Merged(cluster, rounded(kernel, whole.dtype), round_to(bias, whole.dtype) if needed else None)


def _replace(
    root: ir.Node,
    terms: Sequence[Term],
    merged: Sequence[_Merged],
    reading: Reading,
    fresh: Callable[[str], str],
) -> None:
    graph = reading.graph
    sums = list(reading.tree(root))
    home = {id(term): each for each in merged for term in each.cluster.terms}
    pieces: dict[int, Term] = {}
    for term in terms:
        each = home.get(id(term))
        if each is None:
            pieces[id(term)] = term
        elif id(each) not in pieces:
            pieces[id(each)] = Term(_convolution(each, root, graph, fresh), 1)
    stand_in(_sum(list(pieces.values()), sums, graph, fresh), root.outputs[0])
    reading.remove_dead([*sums, *(node for path in _all_paths(merged) for node in path.nodes)])


def _sum(
    pieces: Sequence[Term], sums: Sequence[ir.Node], graph: ir.Graph, fresh: Callable[[str], str]
) -> ir.Value:
    """Add up what is left, by operators that stand for those that there were."""
    root = sums[0]
    total, *rest = (piece.value for piece in sorted(pieces, key=lambda piece: -piece.sign))
    if len(rest) > 1 and all(node.op_type == "Sum" for node in sums):
        steps = [("Sum", rest)]
    else:
        negative = sum(piece.sign < 0 for piece in pieces)
        steps = [
            ("Add" if place < len(rest) - negative else "Sub", [each]) for place, each in enumerate(rest)
        ]
    # The last one stands for the root.
    for place, (op_type, operands) in enumerate(steps, start=1 - len(steps)):
        node = ir.node(op_type, [total, *operands])
        if -place < len(sums):
            node.name, node.doc_string = sums[-place].name, sums[-place].doc_string
            node.metadata_props.update(sums[-place].metadata_props)
        total = node.outputs[0]
        total.name, total.type = fresh(f"{root.outputs[0].name}_sum"), root.outputs[0].type
        graph.insert_before(root, node)
    return total


def _all_paths(merged: Iterable[_Merged]) -> Iterator[Path]:
    return (branch.path for each in merged for branch in each.cluster.branches)


def _convolution(merged: _Merged, root: ir.Node, graph: ir.Graph, fresh: Callable[[str], str]) -> ir.Value:
    cluster, geometry = merged.cluster, merged.cluster.geometry
    like = max(cluster.convs, key=lambda conv: geometry_of(conv).cost)
    weight, output = like.inputs[1], like.outputs[0]
    assert weight is not None
    inputs = [cluster.source, initializer(merged.kernel, fresh(f"{weight.name}_merged"), graph)]
    if merged.bias is not None:
        inputs.append(initializer(merged.bias, fresh(f"{weight.name}_merged_bias"), graph))
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": list(geometry.kernel),
        "strides": list(geometry.strides),
        "dilations": list(geometry.dilations),
        "pads": [*geometry.begins, *geometry.ends],
        "group": geometry.group,
    }
    node = ir.node("Conv", inputs, attributes, name=like.name, doc_string=like.doc_string)
    node.metadata_props.update(like.metadata_props)
    value = node.outputs[0]
    value.name = fresh(f"{output.name}_merged")
    value.shape, value.type = output.shape, output.type
    value.meta.update(output.meta)
    graph.insert_before(root, node)
    return value

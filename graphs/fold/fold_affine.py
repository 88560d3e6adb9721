"""Scalings and offsets into their linear neighbours, and what is left of them into as few operators as possible.

Files are full of arithmetic with constants: batch norms written out as Sub, Div, Mul and Add, the normalisation of
the picture, LayerScale (Touvron et al., arXiv:2103.17239), the scaled branches of Inception-ResNet (Szegedy et al.,
arXiv:1602.07261), scaled activations (LeCun et al. 1998, 1.7159 tanh(2/3 x)). Each x + c, x - c, c - x, x c, x / c
and -x is a map s x + t (``pointwise``), several of them one after the other are one map,

    s' (s x + t) + t' = (s' s) x + (s' t + t'),

and a map goes into a linear operator as that of a BatchNormalization does (``linear``, ``channels`` and
``affine_walk``).

The pass takes the longest chain of such operators in which nobody else reads what lies between, and does the first
of these that leaves fewer operators:

1.  the whole map into what makes its input: Conv, ConvTranspose, Gemm, MatMul with a constant matrix on the right,
    BatchNormalization, other arithmetic with a constant, across whatever the map commutes with;
2.  the whole map into everything that reads its result;
3.  its scale s into what makes its input, and x + t stays;
4.  its scale s into what reads its result, if no s is 0, and x + t / s stays: so a picture's normalisation before a
    padded convolution;
5.  nothing: x s and then + t stays, without whichever of them does nothing, or t - x where every s is -1.

Its constants may be

6.  numbers of shape (), (1,), (1, 1, 1, 1) and so on, on either side of the operator;
7.  numbers for each index of one axis: (C, 1, 1) or (1, C, 1, 1) for N x C x H x W, (C,) for two dimensions, and (C,)
    where the channels come last, as after a MatMul or between Transposes;
8.  shared: the operator that takes the map in gets weights of its own.

It must not fire

20. where the constant makes more of x than it was: more dimensions, or a larger one;
21. where the constant differs over the batch, over space, or over more than one axis; it then ends the chain, as does
    a constant on another axis than that of the others;
22. for c / x, division by 0, and constants that are not finite, or whose products overflow or underflow;
23. for integers, mixed types, and constants that a caller may override;
24. where x is used elsewhere too and the result is no linear operator's alone, or either is given out or captured;
25. with t in front of a padded convolution: the zeros around it are not mapped (but see 4);
26. where nothing gets less: a single operator, or Mul and Add, with no linear neighbour.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.affine import Affine, Array, CannotFoldError, Rewrite, round_to
from cnnport.graphs.fold.affine_walk import Scope, apply, downward, rename, upward
from cnnport.graphs.fold.pointwise import is_pointwise, map_of, operand_of, round_factor
from cnnport.graphs.splice import can_bypass, stand_in
from cnnport.graphs.values import drop_unused, rank


@dataclass(frozen=True)
class _Chain:
    """Arithmetic with constants, each on the result of the one before, and the map that all of it is."""

    nodes: tuple[ir.Node, ...]
    affine: Affine

    @property
    def source(self) -> ir.Value:
        return operand_of(self.nodes[0])

    @property
    def result(self) -> ir.Value:
        return self.nodes[-1].outputs[0]


@dataclass(frozen=True)
class _Plan:
    """What to do with a chain.

    Attributes:
        left: What the chain becomes: operators with their constant, and which input that is.
        rewrites: What changes elsewhere.
        below: Whether the result of the chain is another one, which those that read it make up for.
    """

    left: tuple[tuple[str, Array, int], ...]
    rewrites: tuple[Rewrite, ...] = ()
    below: bool = False


def fold_affine(model: ir.Model) -> int:
    """Fold scalings and offsets by constants into neighbouring convolutions and matrix products, or one another.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of operators that are gone.
    """
    scope = Scope.of(model, "affine")
    gone = 0
    while scope is not None:
        stays: dict[ir.Node, str] = {}
        saved = sum(_fold(chain, scope, stays) for chain in _chains(scope, stays))
        gone += saved
        if not saved:
            for node, reason in stays.items():
                journal.refused(node, reason)
            break
    return gone


def _chains(scope: Scope, stays: dict[ir.Node, str]) -> Iterator[_Chain]:
    """The chains of the graph, each read when it is its turn; why a node is in none goes into ``stays``."""
    seen: set[ir.Node] = set()
    for node in [node for node in scope.graph if is_pointwise(node)]:
        if node in seen:
            continue
        try:
            chain = _chain_from(node, scope)
        except CannotFoldError as error:
            stays[node] = str(error)
        else:
            seen.update(chain.nodes)
            yield chain


def _chain_from(node: ir.Node, scope: Scope) -> _Chain:
    nodes, affine = [node], map_of(node)
    while scope.only_use(value := nodes[-1].outputs[0]):
        (reader, _), *_ = value.uses()
        if reader.graph is not scope.graph or not is_pointwise(reader):
            break
        try:
            affine = affine.then(map_of(reader))
        except CannotFoldError:  # it begins a chain of its own, or is in none
            break
        nodes.append(reader)
    return _Chain(tuple(nodes), affine)


def _fold(chain: _Chain, scope: Scope, stays: dict[ir.Node, str]) -> int:
    reasons: list[str] = []
    for plan in _plans(chain, scope, reasons):
        saved = len(chain.nodes) - len(plan.left)
        if saved > 0:
            apply(plan.rewrites, scope)
            _shorten(chain, plan, scope)
            return saved
    if reasons and not _is_bias(chain):
        stays[chain.nodes[-1]] = "; ".join(dict.fromkeys(reasons))
    return 0


def _is_bias(chain: _Chain) -> bool:
    """Whether it is the other half of a linear layer, which is of no interest: a stack of matrices has no Gemm."""
    above = chain.source.producer()
    plain = len(chain.nodes) == 1 and bool((chain.affine.scale == 1).all())
    return plain and above is not None and not above.domain and above.op_type == "MatMul"


def _plans(chain: _Chain, scope: Scope, reasons: list[str]) -> Iterator[_Plan]:
    """What could be done, the best first; why not goes into ``reasons``."""
    source, result, whole = chain.source, chain.result, chain.affine
    scale = whole.without_shift()
    if whole.is_identity:
        if can_bypass(result, source, scope.captured):
            yield _Plan(())
        return
    with _noted(reasons, "above"):
        yield _Plan((), tuple(upward(source, whole, scope)))
    with _noted(reasons, "below"):
        yield _Plan((), tuple(downward(result, whole, scope)), below=True)
    if whole.shift.any() and not scale.is_identity and len(chain.nodes) > 1:
        with _noted(reasons, "above"):
            left = _arithmetic(whole.without_scale(), source)
            yield _Plan(left, tuple(upward(source, scale, scope)))
        with _noted(reasons, "below"):
            left = _arithmetic(_before(scale, whole), source)
            yield _Plan(left, tuple(downward(result, scale, scope)), below=True)
    if len(chain.nodes) > 1:
        with _noted(reasons, "alone"):
            yield _Plan(_arithmetic(whole, source))


@contextmanager
def _noted(reasons: list[str], where: str) -> Iterator[None]:
    try:
        yield
    except CannotFoldError as error:
        reasons.append(f"{where}, {error}")


def _before(scale: Affine, whole: Affine) -> Affine:
    """The offset that, with ``scale`` after it, is the whole map."""
    if (scale.scale == 0).any():
        raise CannotFoldError("a scale is 0, so that no offset in front of it does the same as one behind")
    with np.errstate(all="ignore"):
        return Affine(np.ones_like(whole.scale), whole.shift / whole.scale, whole.dtype, whole.axis)


def _arithmetic(affine: Affine, source: ir.Value) -> tuple[tuple[str, Array, int], ...]:
    """The fewest operators that are the map: each with its constant and the input at which that stands."""
    scale, shift = affine.column(rank(source))
    added = round_to(shift, affine.dtype)
    if (scale == 1).all():
        return (("Add", added, 1),) if shift.any() else ()
    if (scale == -1).all() and shift.any():
        return (("Sub", added, 0),)
    times = ("Mul", round_factor(scale, affine.dtype), 1)
    return (times, ("Add", added, 1)) if shift.any() else (times,)


def _shorten(chain: _Chain, plan: _Plan, scope: Scope) -> None:
    """Make the last nodes of a chain what is left of it, and take the others out."""
    source, result = chain.source, chain.result
    constants = [value for node in chain.nodes for value in node.inputs if value is not operand_of(node)]
    kept = chain.nodes[len(chain.nodes) - len(plan.left) :]
    if not kept and (plan.below or not (plan.rewrites or result.is_graph_output())):
        result.replace_all_uses_with(source)
    elif not kept:
        stand_in(source, result)
    operand = source
    for node, (op_type, array, place) in zip(kept, plan.left, strict=True):
        old = next((value for value in node.inputs if value is not operand_of(node)), None)
        base = old.name if old and old.name else node.name or node.outputs[0].name
        node.op_type = op_type
        node.resize_inputs(2)
        node.replace_input_with(1 - place, operand)
        node.replace_input_with(place, scope.initializer(array, f"{base}_{scope.mark}"))
        operand = node.outputs[0]
        if operand is not result or plan.below:
            rename(operand, scope)
    for node in reversed(chain.nodes[: len(chain.nodes) - len(plan.left)]):
        scope.graph.remove(node, safe=True)
    drop_unused(scope.graph, [value for value in constants if value])

"""Levels of weights that do to the sums of a product what the weights did, and the bias that takes up the rest.

The nearest level is the best for each weight, and not for the sum that it is part of. With W the weights of one
output channel, V those that its levels stand for, and x the columns of its unfolded input,

    E|(V - W) x|^2 = e G e^T,    e = V - W,  G = E[x x^T].

With an upper triangular R for which R R^T = G this is |e R|^2, and number k of e R is

    e[1] R[1, k] + ... + e[k] R[k, k]:

so the weights are rounded one after the other, each to the level next to W[k] - (e[1] R[1, k] + ... +
e[k-1] R[k-1, k]) / R[k, k], which takes up what those before it have done to inputs that go along with its own. That
is optimal brain quantisation in one pass: what Hassibi and Stork ("Second order derivatives for network pruning:
optimal brain surgeon", NIPS 1992) do with the inverse of G, and Frantar and others ("GPTQ", ICLR 2023) with the
Cholesky factor of the inverse, which is the inverse of R. Columns of the largest inputs come first, while there are
others left to take up what they do. G gets ``_DAMPING`` of its mean diagonal added to its own: what was seen of the
inputs is a sample. An output channel for which the result is worse by G itself keeps its nearest levels.

What rounding does to the mean of the sums, (V - W) E[x], the bias takes up whole (Nagel and others: "Data-free
quantization through weight equalization and bias correction", ICCV 2019, section 4.2).
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cnnport.errors import CnnportError
from cnnport.graphs.quantize.moments import InputMoments
from cnnport.graphs.quantize.weights import IntegerWeights, in_groups

_Numbers = npt.NDArray[np.float64]
_Number = TypeVar("_Number", bound=np.generic)

_DAMPING = 0.01
_BLOCK = 64


def adapted(
    node: ir.Node, weights: npt.NDArray[np.floating], found: IntegerWeights, most: int, moments: InputMoments
) -> tuple[IntegerWeights, _Numbers]:
    """Levels that suit the inputs, and what they do to the means of the sums.

    Args:
        node: A Conv, Gemm or MatMul.
        weights: As it has them.
        found: Their nearest levels.
        most: The largest magnitude of a level.
        moments: Of its inputs.

    Returns:
        Levels of the same scales; and for each output channel (V - W) E[x], which its bias has to be less by.

    Raises:
        CnnportError: If the moments are those of another product.
    """
    exact = _rows(node, weights.astype(np.float64))
    groups, outputs, columns = exact.shape
    gram = moments.gram
    if moments.mean.shape != (groups, columns) or (
        gram is not None and gram.shape != (groups, columns, columns)
    ):
        raise CnnportError(
            f"the moments of {node.name or node.outputs[0].name} are of {moments.mean.shape[0]} groups and "
            f"{moments.mean.shape[-1]} columns, but its weights of {groups} and {columns}"
        )
    scales = found.scales.astype(np.float64).reshape(groups, outputs)
    levels = found.levels
    if gram is not None:
        better = reconstructed(exact, scales, _rows(node, levels), gram, most)
        levels = np.empty_like(found.levels)
        view = in_groups(node, levels)
        view[...] = better.reshape(view.shape)
    error = _rows(node, levels) * scales[:, :, None] - exact
    drift = (error @ moments.mean[:, :, None]).reshape(-1)
    return replace(found, levels=levels), drift


def reconstructed(
    weights: _Numbers,
    scales: _Numbers,
    nearest: npt.NDArray[np.int8],
    gram: npt.NDArray[np.floating],
    most: int,
) -> npt.NDArray[np.int8]:
    """Levels with the least error of the sums that one pass over the columns finds.

    Args:
        weights: groups x outputs x columns.
        scales: groups x outputs.
        nearest: The levels next to the weights, of their shape.
        gram: groups x columns x columns.
        most: The largest magnitude of a level.

    Returns:
        For each output channel, levels that are no worse than the nearest by the gram.
    """
    diagonal = np.diagonal(gram, axis1=1, axis2=2)
    # Backwards, since what numpy has is the lower factor: the last column is the first to be rounded.
    order = np.argsort(-diagonal, axis=1, kind="stable")[:, ::-1]
    sorted_gram = np.empty(gram.shape)
    for group, places in enumerate(order):
        sorted_gram[group] = gram[group][np.ix_(places, places)]
    factor = _factor(sorted_gram)
    if factor is None:
        return nearest
    aims = np.take_along_axis(weights, order[:, None, :], axis=2).transpose(0, 2, 1)
    plain = np.take_along_axis(nearest, order[:, None, :], axis=2).transpose(0, 2, 1)
    across = scales[:, None, :]
    found = _fed_back(aims[:, ::-1], across[:, 0], factor[:, ::-1, ::-1], most)[:, ::-1]
    del factor
    # f G f^T - p G p^T = (f - p) G (f + p)^T for the errors f and p of the two.
    both = sorted_gram @ ((found + plain) * across - 2 * aims)
    is_better = np.einsum("gko,gko->go", (found - plain) * across, both) < 0
    chosen = np.where(is_better[:, None, :], found, plain).transpose(0, 2, 1)
    levels = np.empty_like(nearest)
    np.put_along_axis(
        levels, np.broadcast_to(order[:, None, :], levels.shape), chosen.astype(np.int8), axis=2
    )
    return levels


def _rows(node: ir.Node, weights: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Weights as groups x outputs x columns."""
    view: npt.NDArray[_Number] = in_groups(node, weights)
    return view.reshape(*view.shape[:2], -1)


def _factor(gram: _Numbers) -> _Numbers | None:
    """The lower triangular factor of each damped gram; None where there is none."""
    diagonal = np.einsum("gkk->gk", gram)
    before = diagonal.copy()
    mean = before.mean(axis=1, keepdims=True)
    # A group that reads nothing but zeros has any levels.
    diagonal += np.where(mean > 0, _DAMPING * mean, 1.0)
    try:
        return np.asarray(np.linalg.cholesky(gram), np.float64)
    except np.linalg.LinAlgError:
        return None
    finally:
        # A copy would be as large as all the rest.
        diagonal[...] = before


def _fed_back(aims: _Numbers, scales: _Numbers, factor: _Numbers, most: int) -> _Numbers:
    """Round column after column, each with what those before it owe.

    Args:
        aims: groups x columns x outputs.
        scales: groups x outputs.
        factor: groups x columns x columns, upper triangular.
        most: The largest magnitude of a level.
    """
    levels, errors = np.empty_like(aims), np.zeros_like(aims)
    columns = aims.shape[1]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        earlier = factor[:, :start, start:stop].swapaxes(1, 2) @ errors[:, :start]
        inner = np.ascontiguousarray(factor[:, start:stop, start:stop].swapaxes(1, 2))
        for place, column in enumerate(range(start, stop)):
            owed = earlier[:, place] + (inner[:, place : place + 1, :place] @ errors[:, start:column])[:, 0]
            aim = aims[:, column] - owed / inner[:, place, place, None]
            levels[:, column] = np.clip(np.rint(aim / scales), -most, most)
            errors[:, column] = levels[:, column] * scales - aims[:, column]
    return levels

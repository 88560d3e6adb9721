"""Which nodes float16 would break, by what a run has shown of their numbers.

Nothing is kept in float32 for its name alone: a global pool over 7x7 pixels is as safe in halves as a convolution.
A node stays in float32 where

- a value that it makes or reads comes within a margin of the format's largest number. What goes into an unfolded
  batch norm (x*x, Pow, Exp) falls under this;
- sums inside it do (``sums``): pools over many pixels, the squeeze of a squeeze-and-excitation block, means, norms,
  LRN, Softmax over very many classes;
- all numbers of a value that it makes or reads are below the smallest normal number, so that only a few of their bits
  would be left;
- it divides by numbers, or takes the logarithm of numbers, that come near zero within a margin.

The margin is for inputs that were not run: activations of other images are larger by some factor, rarely by four.
bfloat16 has the range of float32, and needs none of this.
"""

from collections.abc import Collection

import onnx_ir as ir

from cnnport.graphs.half.conversion import key_of
from cnnport.graphs.half.formats import HalfFormat
from cnnport.graphs.half.observe import DIVIDED_BY, Observed
from cnnport.graphs.values import constant

MARGIN = 4.0
"""How many times larger, or smaller, values may be in use than in the runs that were observed."""


def guards(
    graph: ir.Graph, nodes: Collection[ir.Node], observed: Observed, half: HalfFormat
) -> dict[str, str]:
    """The nodes that are to stay in float32, by ``key_of``, each with the reason.

    Args:
        graph: The main graph.
        nodes: Those that could compute in halves.
        observed: From runs of the graph in float32.
        half: The format.
    """
    if not half.is_narrow:
        return {}
    kept: dict[str, str] = {}
    for node in graph:
        if node in nodes and (reason := _reason(node, observed, half)):
            kept[key_of(node)] = reason
    return kept


def _reason(node: ir.Node, observed: Observed, half: HalfFormat) -> str | None:
    limit = half.largest / MARGIN
    made = [(value, "gives") for value in node.outputs]
    read = [(value, "reads") for value in node.inputs if value is not None and constant(value) is None]
    for value, verb in (*made, *read):
        largest = observed.largest.get(value.name or "")
        if largest is None:
            continue
        if largest > limit:
            return f"values near the largest number: it {verb} up to {largest:.3g}"
        if 0 < largest < half.smallest_normal:
            return f"values below the smallest normal number: it {verb} at most {largest:.3g}"
    total = observed.sums.get(key_of(node), 0.0)
    if total > limit:
        return f"sums near the largest number: it adds up to {total:.3g}"
    index = DIVIDED_BY.get(node.op_type)
    divisor = node.inputs[index] if index is not None else None
    if divisor is not None:
        smallest = observed.smallest.get(divisor.name or "")
        if smallest is not None and smallest < half.smallest_normal * MARGIN:
            return f"divisors and logarithms near zero: of numbers down to {smallest:.3g}"
    return None

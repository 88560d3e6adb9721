"""Why a pass left a candidate alone: a sentence each, for ``cnnport optimize --explain``.

A pass tells what it looked at and did not rewrite; whoever runs the pass decides whether anybody listens. Passes stay
functions from a model to a number, and what they say costs nothing where it is not asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Refusal:
    """What a pass could have rewritten and did not.

    Attributes:
        candidate: The operator, as ``title`` writes it.
        reason: Why, in a sentence without its full stop.
    """

    candidate: str
    reason: str


_refusals: ContextVar[list[Refusal] | None] = ContextVar("refusals", default=None)


@contextmanager
def recorded() -> Iterator[list[Refusal]]:
    """Collect what passes refuse from here on, in order."""
    refusals: list[Refusal] = []
    token = _refusals.set(refusals)
    try:
        yield refusals
    finally:
        _refusals.reset(token)


def refused(candidate: ir.Node, reason: str) -> None:
    """Say why ``candidate`` stays as it is."""
    refusals = _refusals.get()
    if refusals is not None:
        refusals.append(Refusal(title(candidate), reason))


def title(node: ir.Node) -> str:
    """An operator as people find it in a viewer: its type and its name, or the name of what it makes."""
    name = node.name or next((value.name for value in node.outputs if value.name), None)
    return f"{node.op_type} {name}" if name else node.op_type

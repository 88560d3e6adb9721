"""What a pass is, which ones there are, and how the command line picks among them."""

from collections.abc import Callable
from typing import TypeAlias

import onnx_ir as ir

from cnnport.errors import CnnportError, UnknownNameError
from cnnport.graphs.fold_batchnorm import fold_batchnorm
from cnnport.registry import nearest

Pass: TypeAlias = Callable[[ir.Model], int]
"""Rewrites a model in place and returns the number of rewrites; 0 means that it found nothing to do.

The function's name is its name on the command line, the first line of its docstring its help.
"""

PASSES: tuple[Pass, ...] = (fold_batchnorm,)
"""Every pass, in the order in which they run."""

DEFAULT_PASSES: tuple[Pass, ...] = (fold_batchnorm,)
"""The passes that run unless told otherwise, in order."""


def select_passes(spec: str | None) -> tuple[Pass, ...]:
    """Read the ``--passes`` option.

    Args:
        spec: None for the default passes; ``none`` for no pass; ``+name,-name`` for the default passes with
            some added and some left out, in the order of ``PASSES``; ``name,name`` for just these, in the
            order given.

    Raises:
        UnknownNameError: If there is no such pass; with the nearest names.
        CnnportError: If names with and without a sign are mixed, or a name is empty.
    """
    if spec is None:
        return DEFAULT_PASSES
    if spec.strip() == "none":
        return ()
    known = {name_of(each): each for each in PASSES}
    items = [item.strip() for item in spec.split(",")]
    signed = [item.startswith(("+", "-")) for item in items]
    if any(signed) != all(signed):
        raise CnnportError(f"--passes {spec}: give either +name,-name or name,name, not both")
    chosen: list[Pass] = list(DEFAULT_PASSES) if all(signed) else []
    for item in items:
        name = item.lstrip("+-").strip()
        if not name:
            raise CnnportError(f"--passes {spec}: a name is missing")
        if name not in known:
            listing = f"the passes: {', '.join(known)}"
            raise UnknownNameError(f"no pass is called {name!r}: {nearest(name, known, listing)}")
        if item.startswith("-"):
            chosen = [each for each in chosen if each is not known[name]]
        elif known[name] not in chosen:
            chosen.append(known[name])
    return tuple(sorted(chosen, key=PASSES.index)) if all(signed) else tuple(chosen)


def name_of(each: Pass) -> str:
    """The name of a pass: that of its function."""
    return getattr(each, "__name__", type(each).__name__)

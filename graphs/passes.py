"""What a pass is, which ones there are, and how the command line picks among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from cnnport.errors import CnnportError, UnknownNameError
from cnnport.graphs.channel.align_channels import align_channels
from cnnport.graphs.channel.align_groups import align_groups
from cnnport.graphs.channel.average_by_convolution import average_by_convolution
from cnnport.graphs.channel.eliminate_channel_shuffle import eliminate_channel_shuffle
from cnnport.graphs.channel.local_response_by_convolution import local_response_by_convolution
from cnnport.graphs.clean.clean_reshapes import clean_reshapes
from cnnport.graphs.clean.fold_constants import fold_constants
from cnnport.graphs.clean.fold_shapes import fold_shapes
from cnnport.graphs.clean.inline_branches import inline_branches
from cnnport.graphs.clean.merge_chains import merge_chains
from cnnport.graphs.clean.merge_duplicates import merge_duplicates
from cnnport.graphs.clean.remove_dead_code import remove_dead_code
from cnnport.graphs.clean.remove_noops import remove_noops
from cnnport.graphs.fold.fold_affine import fold_affine
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm
from cnnport.graphs.fold.fold_pad import fold_pad
from cnnport.graphs.fuse.fuse_activations import fuse_activations
from cnnport.graphs.fuse.fuse_norms import fuse_norms
from cnnport.graphs.fuse.use_global_average_pool import use_global_average_pool
from cnnport.graphs.layout.channels_first import channels_first
from cnnport.graphs.layout.move_transposes import move_transposes
from cnnport.graphs.layout.unwrap_gemm import unwrap_gemm
from cnnport.graphs.merge.merge_concatenated_branches import merge_concatenated_branches
from cnnport.graphs.merge.merge_linear_branches import merge_linear_branches
from cnnport.graphs.merge.merge_linear_chain import merge_linear_chain
from cnnport.graphs.merge.merge_parallel_convs import merge_parallel_convs
from cnnport.registry import nearest

Pass: TypeAlias = Callable[[ir.Model], int]
"""Rewrites a model in place and returns the number of rewrites; 0 means that it found nothing to do.

The function's name is its name on the command line, the first line of its docstring its help.
"""

TARGETS = ("portable", "ort", "cuda", "trt", "openvino")
"""What a file can be written for: any runtime, or one of them.

``ort`` is ONNX Runtime on the CPU, ``cuda`` ONNX Runtime on NVIDIA's GPUs, ``trt`` TensorRT.
"""

EVERYWHERE = frozenset(TARGETS)


@dataclass(frozen=True)
class Registered:
    """A pass, and where it runs unless told otherwise.

    Attributes:
        run: The pass.
        targets: For which targets it pays; members of ``TARGETS``.
        why: Why it pays there, and not elsewhere, in a sentence without its full stop.
        computes: Whether it computes new numbers. Passes that only drop, merge or move what is there may run on a
            model that nothing at hand can run, and so verify.
    """

    run: Pass
    targets: frozenset[str]
    why: str
    computes: bool = True


_BLOCKED = frozenset({"portable", "ort"})
"""Targets whose kernels keep channels in blocks of 16, and those that have to suit them."""

REGISTERED: tuple[Registered, ...] = (
    Registered(
        inline_branches,
        EVERYWHERE,
        "a branch that is never taken is not there",
        computes=False,
    ),
    Registered(
        fold_constants,
        EVERYWHERE,
        "what depends on constants alone is computed once",
    ),
    Registered(
        fold_shapes,
        EVERYWHERE,
        "sizes that the file knows need no operators",
        computes=False,
    ),
    Registered(
        remove_noops,
        EVERYWHERE,
        "operators that change nothing cost a copy, and stand between others that belong together",
        computes=False,
    ),
    Registered(
        remove_dead_code,
        EVERYWHERE,
        "what nobody reads",
        computes=False,
    ),
    Registered(
        merge_duplicates,
        EVERYWHERE,
        "what is computed or stored twice is computed and stored once",
        computes=False,
    ),
    Registered(
        merge_chains,
        EVERYWHERE,
        "one movement of elements where there were two",
        computes=False,
    ),
    Registered(
        unwrap_gemm,
        EVERYWHERE,
        "no Reshape on either side",
    ),
    Registered(
        clean_reshapes,
        EVERYWHERE,
        "one operator where several gave the same elements other shapes",
        computes=False,
    ),
    Registered(
        fuse_activations,
        EVERYWHERE,
        "one operator, and one pass over memory, where several wrote an activation out",
    ),
    Registered(
        fuse_norms,
        EVERYWHERE,
        "one operator where several wrote a normalisation out",
    ),
    Registered(
        channels_first,
        EVERYWHERE,
        "1 x 1 convolutions stay in blocks where products of matrices need another layout, and the Transposes go",
        computes=False,
    ),
    Registered(
        move_transposes,
        EVERYWHERE,
        "fewer elements are transposed",
        computes=False,
    ),
    Registered(
        fold_pad,
        EVERYWHERE,
        "the copy that a Pad makes is spared",
        computes=False,
    ),
    Registered(
        fold_affine,
        EVERYWHERE,
        "an operator less, and no other arithmetic",
    ),
    Registered(
        fold_batchnorm,
        EVERYWHERE,
        "an operator less, and no other arithmetic",
    ),
    Registered(
        merge_linear_branches,
        EVERYWHERE,
        "one convolution does the work of several, with no more arithmetic",
    ),
    Registered(
        merge_concatenated_branches,
        EVERYWHERE,
        "one convolution where several read the same value, and no Concat",
        computes=False,
    ),
    Registered(
        merge_linear_chain,
        EVERYWHERE,
        "one operator where two did more arithmetic",
    ),
    Registered(
        eliminate_channel_shuffle,
        EVERYWHERE,
        "a shuffle moves every element and computes nothing",
        computes=False,
    ),
    Registered(
        use_global_average_pool,
        EVERYWHERE,
        "runtimes keep blocks of channels through a pooling but not through a mean",
        computes=False,
    ),
    Registered(
        merge_parallel_convs,
        frozenset(),
        "to be asked for by name",
        computes=False,
    ),
    Registered(
        average_by_convolution,
        _BLOCKED,
        "pools of channels that fill no blocks run one channel after the other",
    ),
    Registered(
        local_response_by_convolution,
        _BLOCKED,
        "the kernel of LRN leaves the blocks, runs in one thread and takes a power of every element",
    ),
    Registered(
        align_groups,
        _BLOCKED,
        "groups that fill whole blocks are kept in blocks",
    ),
    Registered(
        align_channels,
        _BLOCKED,
        "channels that fill whole blocks are kept in blocks from layer to layer",
    ),
)
"""Every pass, in the order in which they run."""

PASSES: tuple[Pass, ...] = tuple(each.run for each in REGISTERED)
"""Every pass, in the order in which they run."""


OPPOSITES: tuple[tuple[Pass, Pass], ...] = ((merge_parallel_convs, align_channels),)
"""Passes of which each undoes the other: one cuts a convolution's result, the other the convolution."""


def compatible(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes that may run in one go: of two that undo each other, the latter."""
    dropped = {one for one, other in OPPOSITES if one in passes and other in passes}
    return tuple(each for each in passes if each not in dropped)


def passes_for(target: str) -> tuple[Pass, ...]:
    """The passes that run for a target unless told otherwise, in order.

    Raises:
        UnknownNameError: If there is no such target; with the nearest names.
    """
    if target not in TARGETS:
        hint = nearest(target, TARGETS, f"the targets: {', '.join(TARGETS)}")
        raise UnknownNameError(f"no target is called {target!r}: {hint}")
    return tuple(each.run for each in REGISTERED if target in each.targets)


DEFAULT_PASSES: tuple[Pass, ...] = passes_for("portable")
"""The passes that run unless told otherwise, in order."""


def select_passes(spec: str | None, target: str = "portable") -> tuple[Pass, ...]:
    """Read the ``--passes`` option.

    Args:
        spec: None for the target's passes; ``none`` for no pass; ``+name,-name`` for the target's passes with
            some added and some left out, in the order of ``PASSES``; ``name,name`` for just these, in the
            order given.
        target: One of ``TARGETS``.

    Raises:
        UnknownNameError: If there is no such pass or target; with the nearest names.
        CnnportError: If names with and without a sign are mixed, a name is empty, or two passes undo each other.
    """
    defaults = passes_for(target)
    if spec is None:
        return defaults
    if spec.strip() == "none":
        return ()
    known = {name_of(each): each for each in PASSES}
    items = [item.strip() for item in spec.split(",")]
    signed = [item.startswith(("+", "-")) for item in items]
    if any(signed) != all(signed):
        raise CnnportError(f"--passes {spec}: give either +name,-name or name,name, not both")
    chosen: list[Pass] = list(defaults) if all(signed) else []
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
    for one, other in OPPOSITES:
        if one in chosen and other in chosen:
            names = name_of(one), name_of(other)
            raise CnnportError(
                f"{names[0]} and {names[1]} undo each other: leave one out, as in +{names[0]},-{names[1]}"
            )
    return tuple(sorted(chosen, key=PASSES.index)) if all(signed) else tuple(chosen)


def named_in(spec: str | None) -> frozenset[Pass]:
    """The passes that a ``--passes`` option asks for by name; those that it leaves out are not among them."""
    names = {item.strip().lstrip("+").strip() for item in (spec or "").split(",")}
    return frozenset(each for each in PASSES if name_of(each) in names)


def needs_verifying(each: Pass) -> bool:
    """Whether a pass computes numbers, or nothing is known of it."""
    return next((known.computes for known in REGISTERED if known.run is each), True)


def name_of(each: Pass) -> str:
    """The name of a pass: that of its function."""
    return getattr(each, "__name__", type(each).__name__)

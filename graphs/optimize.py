"""The loop around the passes: each is checked when it changed something, undone and named if it did wrong.

A pass works on a clone that shares its tensors with the model before, so that going back costs nothing, and
the checks of the graph itself run without the weights: at no time are there more than the caller's model, the
tensors that passes wrote, and one serialised candidate. A pass that found nothing is not asked again until another
one has changed the graph, and leaves its clone, which is as it was, to the next.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
import onnx_ir as ir

from cnnport.errors import CnnportError, first_line
from cnnport.graphs.consistency import inconsistency
from cnnport.graphs.cost import Cost
from cnnport.graphs.journal import Refusal, recorded
from cnnport.graphs.operators import count_ops
from cnnport.graphs.passes import DEFAULT_PASSES, Pass, name_of
from cnnport.graphs.protos import annotate, read, write

Verify: TypeAlias = Callable[[onnx.ModelProto], str | None]
"""Compares a candidate with what it must compute: None if it agrees, or a sentence about the mismatch."""

Fault: TypeAlias = Literal["unreadable", "raised", "inconsistent", "mismatch"]
"""What a refused pass did: was not run on what cannot be read; raised; left no proper graph; changed the outputs."""

OnRefused: TypeAlias = Callable[["PassReport", Pass, onnx.ModelProto], None]

_MAX_ROUNDS = 50


@dataclass(frozen=True)
class PassReport:
    """One run of one pass.

    Attributes:
        name: The pass.
        rewrites: How many rewrites it made; 0 if it found nothing or was refused.
        ops_before: Nodes by operator before it ran, as ``count_ops`` counts them.
        ops_after: The same afterwards; what it was before if the pass was refused.
        refused: Why the model before it was kept, in a sentence; None if nothing was wrong.
        fault: The kind of what was wrong.
        cost_before: Of the graph before it ran; None where costs were not asked for.
        cost_after: The same afterwards.
        left: What the pass saw and did not rewrite, with reasons; of its last run, in its last report.
        seconds: How long the pass and the checks of its result took.
    """

    name: str
    rewrites: int
    ops_before: Mapping[str, int]
    ops_after: Mapping[str, int]
    refused: str | None = None
    fault: Fault | None = None
    cost_before: Cost | None = None
    cost_after: Cost | None = None
    left: tuple[Refusal, ...] = ()
    seconds: float = field(default=0.0, compare=False)


def optimize(
    model: onnx.ModelProto,
    passes: Sequence[Pass] = DEFAULT_PASSES,
    *,
    verify: Verify | None = None,
    folder: Path | None = None,
    cost: Callable[[ir.Model], Cost] | None = None,
    on_pass: Callable[[str], None] = lambda _: None,
    on_refused: OnRefused | None = None,
) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
    """Run the passes in order, round after round, until none finds anything.

    A pass that raises, leaves an inconsistent graph, touches the graph's interface or does not pass
    ``verify`` is undone, reported and not run again. Inputs, outputs, opsets, metadata, functions, subgraphs
    and custom operators stay.

    Args:
        model: Not changed. Weights in external files have to be loaded, or lie in ``folder``.
        passes: See ``select_passes``.
        verify: Called with each candidate after a pass that changed something. An error that it raises counts
            against the candidate, except cnnport's own, which are about usage.
        folder: Where external data of ``model`` lies; weights that no pass touched stay there, in candidates and in
            the result too.
        cost: What a graph costs, for the reports.
        on_pass: Told the name of each pass before it runs.
        on_refused: Told each report of a refused pass, with the pass and the model that it did wrong to.

    Returns:
        The optimised model, which is ``model`` itself where nothing was rewritten, and the reports in the
        order of the runs: the first of every pass, then those that did something or were refused.

    Raises:
        RuntimeError: If the passes do not come to an end, which is a bug in one of them.
    """
    names = [tensor.name for tensor in model.graph.initializer]
    loop = _Loop(passes, verify, cost, on_pass, on_refused)
    try:
        return loop.run(model, folder)
    finally:
        # The IR holds the caller's tensors and renames them together with its values.
        for tensor, name in zip(model.graph.initializer, names, strict=True):
            if tensor.name != name:
                tensor.name = name


@dataclass(frozen=True)
class _Attempt:
    model: ir.Model
    rewrites: int = 0
    refused: str | None = None
    fault: Fault | None = None
    left: tuple[Refusal, ...] = ()
    spare: ir.Model | None = None


class _Loop:
    """The passes over one model, and what is known of them: who is out, and who has nothing to do at present."""

    def __init__(
        self,
        passes: Sequence[Pass],
        verify: Verify | None,
        cost: Callable[[ir.Model], Cost] | None,
        on_pass: Callable[[str], None],
        on_refused: OnRefused | None,
    ) -> None:
        self._passes = passes
        self._verify = verify
        self._cost_of = cost
        self._on_pass = on_pass
        self._on_refused = on_refused
        self._reports: list[PassReport] = []
        self._last_report: dict[int, int] = {}
        self._left: dict[int, tuple[Refusal, ...]] = {}
        # By the place of a pass: the number of changes after which it has nothing to do; -1 if it is out.
        self._idle: dict[int, int] = {}
        self._changes = 0
        # A clone of the model on which the last pass found nothing to do.
        self._spare: ir.Model | None = None

    def run(
        self, model: onnx.ModelProto, folder: Path | None
    ) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
        ops = count_ops(model)
        try:
            current = read(model, folder)
        except Exception as error:  # whatever the reader cannot carry would be lost
            reason = f"onnx-ir cannot carry this model: {first_line(error)}"
            return model, tuple(
                PassReport(name_of(each), 0, ops, ops, reason, "unreadable") for each in self._passes
            )
        cost = self._cost(current) if self._passes else None
        for _ in range(_MAX_ROUNDS):
            for place in range(len(self._passes)):
                if not self._is_idle(place):
                    current, ops, cost = self._step(place, current, ops, cost)
            if all(self._is_idle(place) for place in range(len(self._passes))):
                return write(current) if self._changes else model, self._finished_reports()
        busy = ", ".join(dict.fromkeys(report.name for report in self._reports[-len(self._passes) :]))
        raise RuntimeError(f"the passes still rewrite after {_MAX_ROUNDS} rounds: {busy}")

    def _cost(self, model: ir.Model) -> Cost | None:
        return None if self._cost_of is None else self._cost_of(model)

    def _is_idle(self, place: int) -> bool:
        return self._idle.get(place) in {-1, self._changes}

    def _step(
        self, place: int, current: ir.Model, ops: dict[str, int], cost: Cost | None
    ) -> tuple[ir.Model, dict[str, int], Cost | None]:
        each = self._passes[place]
        self._on_pass(name_of(each))
        began = time.perf_counter()
        attempt = _attempt(current, self._spare, each, self._verify)
        self._spare = attempt.spare
        ops_after, cost_after = ops, cost
        if attempt.rewrites:
            self._changes += 1
            ops_after, cost_after = count_ops(attempt.model), self._cost(attempt.model)
        else:
            self._idle[place] = -1 if attempt.refused else self._changes
        self._left[place] = attempt.left
        if attempt.rewrites or attempt.refused or place not in self._last_report:
            report = PassReport(
                name_of(each),
                attempt.rewrites,
                ops,
                ops_after,
                attempt.refused,
                attempt.fault,
                cost,
                cost_after,
                seconds=time.perf_counter() - began,
            )
            self._last_report[place] = len(self._reports)
            self._reports.append(report)
            if attempt.refused and self._on_refused is not None:
                self._on_refused(report, each, write(current))
        return attempt.model, ops_after, cost_after

    def _finished_reports(self) -> tuple[PassReport, ...]:
        for place, index in self._last_report.items():
            self._reports[index] = replace(self._reports[index], left=self._left[place])
        return tuple(self._reports)


def _attempt(model: ir.Model, spare: ir.Model | None, each: Pass, verify: Verify | None) -> _Attempt:
    try:
        candidate = spare or model.clone()
        with recorded() as left:
            rewrites = each(candidate)
    except Exception as error:  # a bug in a pass must not cost the user the model
        reason = f"{name_of(each)} raised {type(error).__name__}: {first_line(error)}"
        return _Attempt(model, refused=reason, fault="raised")
    if not rewrites:
        return _Attempt(model, left=tuple(left), spare=candidate)
    if _needs_newer_file(model, candidate):
        return _Attempt(model, left=tuple(left))
    refused, inferred = inconsistency(model, candidate)
    if refused:
        return _Attempt(model, refused=refused, fault="inconsistent")
    if refused := _mismatch(candidate, verify):
        return _Attempt(model, refused=refused, fault="mismatch")
    annotate(candidate, inferred)
    return _Attempt(candidate, rewrites, left=tuple(left))


def _needs_newer_file(before: ir.Model, after: ir.Model) -> bool:
    """Whether there are new constants in a file of IR version 3, which holds none but what a caller may override."""
    known = before.graph.initializers
    return before.ir_version < 4 and any(
        name not in known and not value.is_graph_input() for name, value in after.graph.initializers.items()
    )


def _mismatch(candidate: ir.Model, verify: Verify | None) -> str | None:
    if verify is None:
        return None
    try:
        return verify(write(candidate))
    except CnnportError:
        raise
    except Exception as error:  # runtimes raise errors of their own for graphs that they cannot run
        return f"the result could not be run: {type(error).__name__}: {first_line(error)}"

"""The loop around the passes: each is checked when it changed something, undone and named if it did wrong.

Passes work in place, on one reading of the caller's model that shares its tensors: what goes well, as nearly
everything does, pays for no copy. To go back, the model is read again and the passes that were right run again on it,
which leads to the same, since passes depend on nothing but the graph. At no time are there more than the caller's
model, the tensors that passes wrote, and one serialised candidate. A pass that found nothing is not asked again until
another one has changed the graph.

The graph itself is checked without the weights. Where nobody verifies the outputs in between, one check of the last
graph vouches for all passes; if it finds fault, or anything else goes wrong, everything is done again with a check
after each of them, which tells whose fault it is.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
import onnx_ir as ir

from cnnport.errors import CnnportError, first_line
from cnnport.graphs.consistency import Examined, examined, interface_of
from cnnport.graphs.cost import GraphCost
from cnnport.graphs.journal import Refusal, recorded
from cnnport.graphs.operators import count_ops
from cnnport.graphs.passes import DEFAULT_PASSES, Pass, name_of
from cnnport.graphs.protos import annotate, has_open_values, read, write
from cnnport.graphs.values import note_nesting

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
    cost_before: GraphCost | None = None
    cost_after: GraphCost | None = None
    left: tuple[Refusal, ...] = ()
    seconds: float = field(default=0.0, compare=False)


def optimize(
    model: onnx.ModelProto,
    passes: Sequence[Pass] = DEFAULT_PASSES,
    *,
    verify: Verify | None = None,
    folder: Path | None = None,
    cost: Callable[[ir.Model], GraphCost] | None = None,
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
        on_pass: Told the name of each pass before it runs; again where everything is done again.
        on_refused: Told each report of a refused pass, with the pass and the model that it did wrong to.

    Returns:
        The optimised model, which is ``model`` itself where nothing was rewritten, and the reports in the
        order of the runs: the first of every pass, then those that did something or were refused.

    Raises:
        RuntimeError: If the passes do not come to an end, which is a bug in one of them.
    """

    def run(*, checks_each: bool) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
        return _Loop(model, passes, verify, folder, cost, on_pass, on_refused, checks_each).run()

    if verify is None:
        # Whatever goes wrong goes wrong again where each pass is checked, and is undone there.
        with suppress(Exception):
            return run(checks_each=False)
    return run(checks_each=True)


class _DoubtError(Exception):
    """Something is wrong with one of the passes that ran so far. Never leaves this module."""


@dataclass(frozen=True)
class _Outcome:
    rewrites: int = 0
    refused: str | None = None
    fault: Fault | None = None
    left: tuple[Refusal, ...] = ()


class _Loop:
    """The passes over one model, and what is known of them: who is out, and who has nothing to do at present."""

    def __init__(
        self,
        model: onnx.ModelProto,
        passes: Sequence[Pass],
        verify: Verify | None,
        folder: Path | None,
        cost: Callable[[ir.Model], GraphCost] | None,
        on_pass: Callable[[str], None],
        on_refused: OnRefused | None,
        checks_each: bool,
    ) -> None:
        """``checks_each``: whether to look at the graph after each pass that changed it, and to undo what is wrong.

        Otherwise it is looked at once, at the end.
        """
        self._given = model
        self._names = [tensor.name for tensor in model.graph.initializer]
        self._passes = passes
        self._verify = verify
        self._folder = folder
        self._cost_of = cost
        self._on_pass = on_pass
        self._on_refused = on_refused

        self._checks_each = checks_each
        self._reports: list[PassReport] = []
        self._last_report: dict[int, int] = {}
        self._left: dict[int, tuple[Refusal, ...]] = {}
        # By the place of a pass: the number of changes after which it has nothing to do; -1 if it is out.
        self._idle: dict[int, int] = {}
        # The places of the passes that changed something, in the order of the changes.
        self._accepted: list[int] = []
        self._is_checked = True
        # What is known of the model after the last change; None before there was one, until somebody asks.
        self._before: Examined | None = None
        self._ops = count_ops(model)
        self._cost: GraphCost | None = None

    def run(self) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
        """Round after round, to the end.

        Raises:
            _DoubtError: If something is wrong, unless each pass is checked.
            RuntimeError: If the passes do not come to an end.
        """
        try:
            with _collected_apart():
                return self._run()
        finally:
            self._restore_names()

    def _run(self) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
        try:
            self._take(self._read())
        except Exception as error:  # whatever the reader cannot carry would be lost
            reason, ops = f"onnx-ir cannot carry this model: {first_line(error)}", self._ops
            return self._given, tuple(
                PassReport(name_of(each), 0, ops, ops, reason, "unreadable") for each in self._passes
            )
        self._cost = self._cost_now() if self._passes else None
        for _ in range(_MAX_ROUNDS):
            for place in range(len(self._passes)):
                if not self._is_idle(place):
                    self._step(place)
            if all(self._is_idle(place) for place in range(len(self._passes))):
                return self._finished()
        busy = ", ".join(dict.fromkeys(report.name for report in self._reports[-len(self._passes) :]))
        raise RuntimeError(f"the passes still rewrite after {_MAX_ROUNDS} rounds: {busy}")

    def _restore_names(self) -> None:
        """Give the caller's tensors their names back: the IR holds them and renames them with its values."""
        for tensor, name in zip(self._given.graph.initializer, self._names, strict=True):
            if tensor.name != name:
                tensor.name = name

    def _read(self) -> ir.Model:
        self._restore_names()
        return read(self._given, self._folder)

    def _take(self, model: ir.Model) -> None:
        note_nesting(model.graph)
        self._model = model
        self._interface = interface_of(model)

    def _cost_now(self) -> GraphCost | None:
        return None if self._cost_of is None else self._cost_of(self._model)

    def _is_idle(self, place: int) -> bool:
        return self._idle.get(place) in {-1, len(self._accepted)}

    def _step(self, place: int) -> None:
        each, ops, cost = self._passes[place], self._ops, self._cost
        self._on_pass(name_of(each))
        began = time.perf_counter()
        outcome = self._attempt(place)
        if outcome.rewrites:
            self._accepted.append(place)
            self._ops, self._cost = count_ops(self._model), self._cost_now()
        else:
            self._idle[place] = -1 if outcome.refused else len(self._accepted)
        self._left[place] = outcome.left
        if outcome.rewrites or outcome.refused or place not in self._last_report:
            report = PassReport(
                name_of(each),
                outcome.rewrites,
                ops,
                self._ops,
                outcome.refused,
                outcome.fault,
                cost,
                self._cost,
                seconds=time.perf_counter() - began,
            )
            self._last_report[place] = len(self._reports)
            self._reports.append(report)
            if outcome.refused and self._on_refused is not None:
                self._on_refused(report, each, write(self._model))

    def _attempt(self, place: int) -> _Outcome:
        each, known = self._passes[place], _overridable_only(self._model)
        try:
            with recorded() as left:
                rewrites = each(self._model)
        except Exception as error:  # a bug in a pass must not cost the user the model
            return self._undone(
                f"{name_of(each)} raised {type(error).__name__}: {first_line(error)}", "raised"
            )
        if not rewrites:
            return _Outcome(left=tuple(left))
        if known is not None and _needs_newer_file(known, self._model):
            self._undo()
            return _Outcome(left=tuple(left))
        if not self._checks_each and not has_open_values(self._model):
            self._is_checked = False
            note_nesting(self._model.graph)
            return _Outcome(rewrites, left=tuple(left))
        found = examined(self._model, self._interface)
        if refused := found.fault or self._inconsistency(found):
            return self._undone(refused, "inconsistent")
        if refused := self._mismatch():
            return self._undone(refused, "mismatch")
        annotate(self._model, found.inferred)
        note_nesting(self._model.graph)
        self._before, self._is_checked = found, True
        return _Outcome(rewrites, left=tuple(left))

    def _inconsistency(self, found: Examined) -> str | None:
        """What is wrong with a graph, if it was right before: a file may have come with a fault."""
        if not self._checks_each:
            return found.invalid or found.contradiction
        blamed = None
        if found.invalid and self._examined_before().invalid is None:
            blamed = found.invalid
        elif found.contradiction and self._examined_before().contradiction is None:
            blamed = found.contradiction
        return None if blamed is None else f"the graph is inconsistent: {blamed}"

    def _examined_before(self) -> Examined:
        if self._before is None:
            self._before = examined(self._read())
        return self._before

    def _mismatch(self) -> str | None:
        if self._verify is None:
            return None
        try:
            return self._verify(write(self._model))
        except CnnportError:
            raise
        except Exception as error:  # runtimes raise errors of their own for graphs that they cannot run
            return f"the result could not be run: {type(error).__name__}: {first_line(error)}"

    def _undone(self, refused: str, fault: Fault) -> _Outcome:
        self._undo()
        return _Outcome(refused=refused, fault=fault)

    def _undo(self) -> None:
        """Go back to the model after the last pass that was accepted."""
        if not self._checks_each:
            raise _DoubtError
        model = self._read()
        for place in self._accepted:
            self._passes[place](model)
            if has_open_values(model):
                annotate(model, examined(model).inferred)
        self._take(model)

    def _finished(self) -> tuple[onnx.ModelProto, tuple[PassReport, ...]]:
        if not self._is_checked:
            found = examined(self._model, self._interface)
            if found.fault or self._inconsistency(found):
                raise _DoubtError
        for place, index in self._last_report.items():
            self._reports[index] = replace(self._reports[index], left=self._left[place])
        return write(self._model) if self._accepted else self._given, tuple(self._reports)


@contextmanager
def _collected_apart() -> Iterator[None]:
    """Have Python's collector look only at what comes into being from here on.

    A process holds hundreds of thousands of objects, modules most of them: to walk them all once can take as long as
    half of the passes. What passes drop is collected as ever.
    """
    if gc.get_freeze_count():
        # Somebody has done so already, and may not want it undone.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _overridable_only(model: ir.Model) -> frozenset[str] | None:
    """The names of the constants of a file of IR version 3, which holds none but what a caller may override."""
    return frozenset(model.graph.initializers) if model.ir_version < 4 else None


def _needs_newer_file(known: frozenset[str], after: ir.Model) -> bool:
    """Whether there are new constants that an old file cannot hold."""
    return any(
        name not in known and not value.is_graph_input() for name, value in after.graph.initializers.items()
    )

"""The passes over a model, each held to what the model computed before; and what to do where nothing can tell."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.artifact import Artifact
from cnnport.failing import keep_failing
from cnnport.graphs import Pass, PassReport, optimize
from cnnport.graphs.cost import GraphCost, cost_of
from cnnport.graphs.passes import name_of, needs_verifying
from cnnport.graphs.protos import read
from cnnport.metadata import Golden, golden_of
from cnnport.offload import bring_back, weights_bytes
from cnnport.onnxfile import CHECKSUM_KEY
from cnnport.original import CannotVerifyError, InsensitiveError, Original, Verdict, likely_trials, worse
from cnnport.other_weights import GAINS, with_other_weights
from cnnport.trial_inputs import shapes_in

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

# Models that say nothing with their own weights get others, and copies of them, up to this size.
_OTHER_WEIGHTS_LIMIT_BYTES = 2**30


class VerifiedPasses:
    """The passes over one model and what there is to say of them.

    Attributes:
        reports: What each pass did, those that were refused included.
        verdict: How far model and result are apart; None where nothing changed or that could not be found out.
        unverified: Why it could not, in a sentence; None where it could.
        left_out: Passes that did not run, since what they compute could not have been verified.
        failing: By the names of refused passes: models of the few nodes on which they fail.
        costs: Of the graph before and after; empty unless asked for.
        shapes: Of the inputs for which costs are given.
        notes: What else to know, in sentences.
    """

    def __init__(
        self, folder: Path, path: Path, stated: Artifact, costs: bool, on_step: Callable[[str], None]
    ) -> None:
        """Nothing runs yet.

        Args:
            folder: Where the model's weights lie, and files can be written meanwhile.
            path: Of the result; models on which passes fail are kept beside it.
            stated: What the file says of itself.
            costs: Whether to count what each pass saves.
            on_step: Told the name of each step when it begins.
        """
        self.reports: tuple[PassReport, ...] = ()
        self.verdict: Verdict | None = None
        self.unverified: str | None = None
        self.left_out: tuple[str, ...] = ()
        self.failing: dict[str, Path] = {}
        self.costs: tuple[GraphCost, ...] = ()
        self.notes: list[str] = []
        trial = next(likely_trials(stated))
        self.shapes = shapes_in(stated.inputs, trial)
        self._folder = folder
        self._path = path
        self._stated = stated
        self._has_costs = costs
        self._on_step = on_step
        self._original: Original | None = None
        # Of the last candidate that was right.
        self._accepted: Verdict | None = None

    def optimize(
        self, model: "onnx.ModelProto", passes: tuple[Pass, ...], insisted: frozenset[Pass]
    ) -> "onnx.ModelProto":
        """Give the optimised model, or ``model``; in both, weights lie in the folder.

        Raises:
            CheckFailedError: If the result departs from ``model``, whichever passes run.
        """
        try:
            result = self._run_verified(model, passes)
        except CannotVerifyError as error:
            self.unverified = str(error)
            self._original = None
            chosen = tuple(each for each in passes if each in insisted or not needs_verifying(each))
            self.left_out = tuple(name_of(each) for each in passes if each not in chosen)
            return self._run(model, chosen, None)
        if result is model:
            return model
        self._on_step("verify")
        assert self._original is not None
        assert self._accepted is not None
        self.verdict = worse(self._accepted, self._original.check(result, self._original.quick))
        if not self.verdict.ok:
            # A fault that shows on few inputs: with all of them after each pass it is found where it is.
            self._original.quick = len(self._original.trials)
            result = self._run(model, passes, self._departs)
            self.verdict = self._accepted if result is not model else None
        return result

    def _run_verified(self, model: "onnx.ModelProto", passes: tuple[Pass, ...]) -> "onnx.ModelProto":
        try:
            return self._run(model, passes, self._departs)
        except InsensitiveError:
            if weights_bytes(model) > _OTHER_WEIGHTS_LIMIT_BYTES:
                raise
        # What the model itself cannot tell, it tells with other weights.
        import onnx

        other = onnx.ModelProto()
        other.CopyFrom(model)
        bring_back(other, self._folder)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            for gain in GAINS:
                try:
                    self._original = Original(with_other_weights(other, gain), Path(name))
                except InsensitiveError:
                    if gain == GAINS[-1]:
                        raise
                else:
                    break
            self._run(with_other_weights(other, gain), passes, self._departs)
        refused = tuple(report for report in self.reports if report.refused)
        names = {report.name for report in refused}
        self._original = Original(model, self._folder, self._golden, may_be_insensitive=True)
        result = self._run(model, tuple(each for each in passes if name_of(each) not in names), self._departs)
        self.reports = (*refused, *self.reports)
        self.notes.append(
            "its outputs are the same for every input that was tried: each pass was verified on it with other weights"
        )
        return result

    def _departs(self, candidate: "onnx.ModelProto") -> str | None:
        """What is wrong with a candidate; the original runs first when somebody asks, since mostly nobody does."""
        original = self._reference()
        verdict = original.check(candidate, stop=original.quick)
        if verdict.ok:
            self._accepted = verdict
        return None if verdict.ok else str(verdict)

    def _reference(self) -> Original:
        if self._original is None:
            self._original = Original(self._model, self._folder, self._golden)
        return self._original

    @property
    def _golden(self) -> Golden | None:
        return golden_of(self._stated) if CHECKSUM_KEY in self._stated.metadata else None

    def _run(
        self,
        model: "onnx.ModelProto",
        passes: tuple[Pass, ...],
        verify: Callable[["onnx.ModelProto"], str | None] | None,
    ) -> "onnx.ModelProto":
        self._model = model
        self._accepted = None
        result, self.reports = optimize(
            model,
            passes,
            verify=verify,
            folder=self._folder,
            cost=self._cost if self._has_costs else None,
            on_pass=self._on_step,
            on_refused=self._keep_failing,
        )
        if self._has_costs:
            self.costs = self._total_costs(model)
        return result

    def _keep_failing(self, report: PassReport, each: Pass, before: "onnx.ModelProto") -> None:
        self._on_step(f"narrowing down {report.name}")
        path = self._path.with_name(f"{self._path.name.removesuffix('.onnx')}.{report.name}.failing.onnx")
        if kept := keep_failing(report, each, before, self._original, self._folder, path):
            self.failing[report.name] = kept

    def _cost(self, candidate: "ir.Model") -> GraphCost:
        return cost_of(candidate, self.shapes)

    def _total_costs(self, model: "onnx.ModelProto") -> tuple[GraphCost, ...]:
        found = [
            each
            for report in self.reports
            for each in (report.cost_before, report.cost_after)
            if each is not None
        ]
        if found:
            return (found[0], found[-1])
        try:
            return (self._cost(read(model, self._folder)),) * 2
        except Exception:  # what the reader cannot carry has no cost that could be told
            return ()

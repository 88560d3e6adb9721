"""Every candidate against one reference: the rows, what was left out, and whether all is well."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport.agreement.answers import Answered, SetResult, hold, record
from cnnport.agreement.candidates import Candidate, Left, labels
from cnnport.agreement.exact import Arbiter
from cnnport.agreement.inputs import InputSet, write_extremes, write_samples, write_set
from cnnport.agreement.invariance import Check, Invariance
from cnnport.agreement.metrics import Metrics, plain, worst_of
from cnnport.agreement.near_ties import find_near_ties
from cnnport.agreement.opened import CandidateError, Opened
from cnnport.agreement.rows import Array, read_rows
from cnnport.agreement.tolerances import Tolerance, coarser, tolerance_of
from cnnport.calibration import Samples
from cnnport.trial_inputs import Arrays

if TYPE_CHECKING:
    from cnnport.agreement.layers import Localisation


@dataclass(frozen=True)
class Row:
    """A candidate, held against the reference and against itself.

    Attributes:
        label: Of the candidate.
        candidate: Itself.
        tolerance: What it was held to.
        version: Of what ran it; empty where it could not be opened.
        sets: By set of inputs.
        checks: Against itself.
        problem: Why it could not be compared; empty where it could.
    """

    label: str
    candidate: Candidate
    tolerance: Tolerance
    version: str = ""
    sets: tuple[SetResult, ...] = ()
    checks: tuple[Check, ...] = ()
    problem: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """Everything that is not as it should be, in sentences."""
        found = [self.problem] if self.problem else []
        found += [text for each in self.sets for text in each.failures]
        found += [f"{check.name}: {check.detail}" for check in self.checks if check.ok is False]
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else to know."""
        return tuple(f"{each.inputs.name}: {each.note}" for each in self.sets if each.note)

    @property
    def ok(self) -> bool:
        """Whether it says the same as the reference, and as itself."""
        return not self.failures

    @property
    def metrics(self) -> Metrics | None:
        """Over the usual inputs, and all outputs; None where it could not be compared."""
        found: Metrics | None = None
        for each in self.sets:
            if each.inputs.is_usual and each.worst is not None:
                found = each.worst if found is None else worst_of(found, each.worst)
        return found

    def to_json(self, reference: str) -> dict[str, Any]:
        """Plain values."""
        artifact, metrics = self.candidate.artifact, self.metrics
        return {
            "reference": reference,
            "candidate": self.label,
            "model": artifact.model,
            "file": artifact.path.name,
            "sha256": artifact.sha256,
            "runtime": self.candidate.runtime,
            "runtime_version": self.version,
            "precision": self.candidate.precision,
            "weights": artifact.metadata.get("cnnport.weights", "unknown"),
            **(_no_metrics() if metrics is None else metrics.to_json()),
            "pass": self.ok,
            "tolerance": self.tolerance.to_json(),
            "failures": list(self.failures),
            "notes": list(self.notes),
            "checks": [check.to_json() for check in self.checks],
            "sets": [each.to_json() for each in self.sets],
        }


@dataclass(frozen=True)
class Matrix:
    """All of a comparison.

    Attributes:
        reference: What everything is held against, in words.
        model: Of the reference.
        reference_checks: The reference against itself; empty for goldens.
        answered: The inputs, and the reference's answers as long as their folder lasts.
        rows: Of the candidates, in order.
        left: Who was not compared.
        notes: What else to know.
        layers: Where rows depart, where that was asked for.
    """

    reference: str
    model: str
    reference_checks: tuple[Check, ...]
    answered: tuple[Answered, ...]
    rows: tuple[Row, ...]
    left: tuple[Left, ...] = ()
    notes: tuple[str, ...] = ()
    layers: tuple["Localisation", ...] = ()

    @property
    def reference_failures(self) -> tuple[str, ...]:
        """What is wrong with the reference itself."""
        return tuple(f"{each.name}: {each.detail}" for each in self.reference_checks if each.ok is False)

    @property
    def ok(self) -> bool:
        """Whether every row is well, and the reference is steady."""
        return all(row.ok for row in self.rows) and not self.reference_failures

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pass": self.ok,
            "model": self.model,
            "reference": self.reference,
            "reference_checks": [check.to_json() for check in self.reference_checks],
            "inputs": [
                {
                    "name": each.inputs.name,
                    "description": each.inputs.description,
                    "count": len(each.inputs),
                    "usual": each.inputs.is_usual,
                }
                for each in self.answered
            ],
            "rows": [row.to_json(self.reference) for row in self.rows],
            "skipped": [{"candidate": each.label, "reason": each.reason} for each in self.left],
            "notes": list(self.notes),
            **({"layers": [each.to_json() for each in self.layers]} if self.layers else {}),
        }


@dataclass(frozen=True)
class Plan:
    """How a comparison is made.

    Attributes:
        seed: Of what is drawn.
        extremes: Whether awkward inputs are tried beside the usual ones.
        checks: Whether candidates are held against themselves.
        atol: The user's tolerance, instead of those by precision.
        rtol: Likewise.
    """

    seed: int = 0
    extremes: bool = True
    checks: bool = True
    atol: float | None = None
    rtol: float | None = None

    def tolerance(self, candidate: Candidate, *, is_random: bool) -> Tolerance:
        """For a candidate by itself. Raises ``CnnportError``."""
        return tolerance_of(
            candidate.artifact, candidate.precision, is_random=is_random, atol=self.atol, rtol=self.rtol
        )


def compare(
    candidates: Sequence[Candidate],
    reference: Candidate,
    samples: Samples,
    folder: Path,
    plan: Plan,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> Matrix:
    """Run the reference, then every candidate, each in a process of its own, one at a time.

    Args:
        candidates: In order; the reference may be among them.
        reference: What they are held against.
        samples: The usual inputs.
        folder: Where inputs and answers are kept; they are good for as long as it lasts.
        plan: How.
        on_step: Told the name of each step when it begins.

    Raises:
        CandidateError: If the reference cannot be run.
        CnnportError: If no samples can be read.
    """
    names = labels((reference, *(each for each in candidates if each is not reference)))
    notes: list[str] = []
    own = plan.tolerance(reference, is_random=samples.is_random)
    on_step(f"inputs: {samples.description}")
    usual = write_samples(samples, folder / "inputs", notes.append)
    on_step(names[0])
    arbiter = Arbiter(reference, folder)
    with Opened(reference, folder / "found") as opened:
        answered = [record(opened, usual, folder / "outputs")]
        if plan.extremes:
            answered += _extremes(opened, answered[0], folder, plan.seed, notes)
        invariance = Invariance(opened, answered[0], own, arbiter) if plan.checks else None
        checks = () if invariance is None else invariance.within(opened)
    if invariance is not None:
        checks += invariance.anew(folder)
    rows = []
    others = [each for each in candidates if each is not reference]
    for label, candidate in zip(names[1:], others, strict=True):
        on_step(label)
        tolerance = coarser(own, plan.tolerance(candidate, is_random=samples.is_random))
        rows.append(
            row_of(label, candidate, answered, tolerance, folder, arbiter=arbiter, checks=plan.checks)
        )
    return Matrix(
        names[0], reference.artifact.model, checks, tuple(answered), tuple(rows), notes=tuple(notes)
    )


def row_of(
    label: str,
    candidate: Candidate,
    answered: Sequence[Answered],
    tolerance: Tolerance,
    folder: Path,
    *,
    arbiter: Arbiter | None = None,
    checks: bool = True,
) -> Row:
    """Hold one candidate against answers; whatever goes wrong with it is in the row.

    Args:
        label: What to call it.
        candidate: Which.
        answered: The inputs and the reference's answers.
        tolerance: What it is held to.
        folder: Where outputs are handed over.
        arbiter: Who decides whether a difference is float32's rounding; None where nobody can.
        checks: Whether it is held against itself as well.

    Raises:
        RuntimeMissingError: If its runtime is not available.
    """
    row = Row(label, candidate, tolerance)
    try:
        with Opened(candidate, folder / "found") as opened:
            row = replace(row, version=opened.version)
            for each in answered:
                result = hold(opened, each, tolerance)
                if arbiter is not None:
                    result = _arbitrated(arbiter, opened, each, result, tolerance)
                row = replace(row, sets=(*row.sets, result))
            invariance = None
            if checks and all(result.metrics for result in row.sets):
                usual = next(each for each in answered if each.inputs.is_usual)
                invariance = Invariance(opened, usual, tolerance, arbiter)
                row = replace(row, checks=invariance.within(opened))
        if invariance is not None:
            row = replace(row, checks=(*row.checks, *invariance.anew(folder)))
    except CandidateError as error:
        row = replace(row, problem=f"it cannot be run: {error}")
    return row


def _extremes(opened: Opened, samples: Answered, folder: Path, seed: int, notes: list[str]) -> list[Answered]:
    """The awkward inputs with the reference's answers."""
    artifact = opened.candidate.artifact
    sets = write_extremes(artifact, folder / "inputs", seed=seed)
    if not sets:
        notes.append("no input holds floating-point numbers: only the samples were tried")
        return []
    answered = [record(opened, each, folder / "outputs") for each in sets]
    name = next(iter(samples.files))
    scores, scale = read_rows(samples.files[name]), samples.scales[name]
    ties: InputSet | None = None
    if scale.is_float and scores.ndim >= 2 and scores.shape[1] >= 2:

        def run(feeds: Sequence[Arrays]) -> Array:
            trial = write_set("trial", "", [""] * len(feeds), feeds, folder / "inputs")
            return opened.run_all(trial)[name]

        found = find_near_ties(samples.inputs, scores, run, scale.spread)
        if found:
            lead = max(tie.lead for tie in found)
            description = f"pairs of samples mixed until the best class leads by no more than {lead:.1e} std"
            titles = [f"near-tie of {tie.title}" for tie in found]
            ties = write_set(
                "near-ties", description, titles, [tie.feeds for tie in found], folder / "inputs"
            )
            answered.append(record(opened, ties, folder / "outputs"))
    if ties is None:
        notes.append("no near-ties: all samples are of one class, or the outputs are no scores")
    return answered


def _arbitrated(
    arbiter: Arbiter, opened: Opened, answered: Answered, result: SetResult, tolerance: Tolerance
) -> SetResult:
    """The same, cleared of failures that are float32's own rounding; where they are not, with what float64 says."""
    worst = result.worst
    if not result.is_rounding or tolerance.precision != "fp32" or tolerance.is_given:
        return result
    if worst is None or worst.worst is None:
        return result
    found = arbiter.settle(opened, answered, worst.worst.sample)
    if found is None:
        return result
    if found.is_rounding and worst.error_in_std <= 2 * found.allowed:
        return replace(
            result, failures=(), is_rounding=False, note=f"{worst.error_in_std:.1e} std, but {found}"
        )
    return replace(result, failures=(*result.failures, str(found)))


def _widened(answered: Sequence[Answered], rows: Sequence[Row]) -> tuple[Answered, ...]:
    """The sets with what the rows showed of float32's own rounding."""
    return tuple(
        replace(
            each,
            rounding_in_std=max((row.sets[place].rounding_in_std for row in rows if row.sets), default=0.0),
        )
        for place, each in enumerate(answered)
    )


def _no_metrics() -> dict[str, Any]:
    names = ("max_abs", "mean_abs", "max_rel", "mean_rel", "error_in_std", "cosine", "sqnr_db", "psnr_db")
    return {name: plain(None) for name in (*names, "top1_agreement", "top5_agreement", "kl_mean")}

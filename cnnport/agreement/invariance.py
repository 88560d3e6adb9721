"""Whether a candidate agrees with itself: in another batch, once more, with other threads, opened anew."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnport.agreement.answers import Answered, matched
from cnnport.agreement.candidates import Candidate
from cnnport.agreement.exact import Arbiter
from cnnport.agreement.inputs import InputSet
from cnnport.agreement.meter import Meter
from cnnport.agreement.metrics import Metrics, plain
from cnnport.agreement.opened import CHUNK, CandidateError, Opened
from cnnport.agreement.rows import Array
from cnnport.agreement.scales import Scale
from cnnport.agreement.tolerances import Tolerance
from cnnport.runtimes import get_runtime

# Samples that are run again, and how often the first of them.
_SAMPLES = CHUNK
_TIMES = 5

_THREADS = (1, 2)


@dataclass(frozen=True)
class Check:
    """One way in which a candidate was held against itself.

    Attributes:
        name: ``batch``, ``repeat``, ``threads`` or ``rebuild``.
        ok: None where it could not be tried.
        is_same_bits: Whether every output was the same to the last bit.
        error_in_std: Largest difference in standard deviations of the output; None where nothing was compared.
        detail: For people.
    """

    name: str
    ok: bool | None
    is_same_bits: bool
    error_in_std: float | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "pass": self.ok,
            "same_bits": self.is_same_bits,
            "error_in_std": plain(self.error_in_std),
            "detail": self.detail,
        }

    def __str__(self) -> str:
        """As it stands in a table."""
        if self.ok is None:
            return "-"
        if self.is_same_bits:
            return "same bits"
        return f"{self.error_in_std:.0e} std" if self.ok else "FAILED"


class Invariance:
    """Tries all that can be tried with one candidate: first with its open session, then, that closed, with others."""

    def __init__(
        self, opened: Opened, answered: Answered, tolerance: Tolerance, arbiter: Arbiter | None
    ) -> None:
        """Run the first samples.

        Args:
            opened: The candidate.
            answered: Usual inputs, and the scale of the outputs.
            tolerance: As for the reference; a deterministic candidate owes the same bits in another run and session.
            arbiter: Who knows how far float32 may be off where that is more than the tolerance.

        Raises:
            CandidateError: If it no longer runs.
        """
        self._candidate = opened.candidate
        self._inputs = _first(answered.inputs)
        self._base = opened.run_all(self._inputs)
        self._judge = _Judge(answered, tolerance, opened.candidate, arbiter)

    def within(self, opened: Opened) -> tuple[Check, ...]:
        """In the session that is open: another batch, and the same again. Raises ``CandidateError``."""
        return (
            _batch(opened, self._inputs, self._base, self._judge),
            _repeat(opened, self._inputs, self._judge),
        )

    def anew(self, folder: Path) -> tuple[Check, ...]:
        """In other sessions, which hand over their outputs in ``folder``: other threads, and opened once more."""
        return (
            _threads(self._candidate, self._inputs, self._base, self._judge, folder),
            _rebuild(self._candidate, self._inputs, self._base, self._judge, folder),
        )


class _Judge:
    """Holds outputs of one candidate against others of the same."""

    def __init__(
        self, answered: Answered, tolerance: Tolerance, candidate: Candidate, arbiter: Arbiter | None
    ) -> None:
        self._answered, self._tolerance, self._candidate = answered, tolerance, candidate
        self._arbiter = arbiter if tolerance.precision == "fp32" and not tolerance.is_given else None

    def check(
        self,
        name: str,
        detail: str,
        base: dict[str, Array],
        other: dict[str, Array],
        *,
        promised: bool = False,
    ) -> Check:
        """Compare; ``promised`` for the very same again, of which a deterministic candidate owes the same bits."""
        names = list(self._answered.files)
        base, other = matched(base, names), matched(other, names)
        failures: list[str] = []
        is_same, error = True, 0.0
        for output, scale in self._answered.scales.items():
            left, right = base[output], other[output]
            if left.shape != right.shape:
                return Check(name, False, False, None, f"{detail}: {output} has another shape")
            is_same &= left.tobytes() == right.tobytes()
            found, is_ok = self._compare(output, scale, left, right)
            error = max(error, found.error_in_std)
            if is_ok or found.worst is None:
                continue
            sample = found.worst.sample
            if not self._is_rounding(found, sample, again=promised):
                title = self._answered.inputs.titles[sample]
                failures.append(f"{title}: {found.worst}, {found.error_in_std:.1e} std")
        if promised and self._candidate.options.deterministic and not is_same:
            failures.append("not the same bits, which deterministic promises")
        text = f"{detail}: {'; '.join(failures)}" if failures else detail
        return Check(name, not failures, is_same, error, text)

    def _compare(self, output: str, scale: Scale, left: Array, right: Array) -> tuple[Metrics, bool]:
        meter = Meter(output, scale, self._tolerance.allowed(scale, self._answered.rounding_in_std))
        meter.add(left, right)
        found = meter.metrics()
        limit = self._tolerance.sqnr_db
        is_loud = limit is not None and scale.is_float and found.sqnr_db < limit
        return found, not found.beyond and not found.misplaced and not is_loud

    def _is_rounding(self, found: Metrics, sample: int, *, again: bool) -> bool:
        """Whether float32 itself is as far off in this network."""
        if self._arbiter is None or found.misplaced:
            return False
        allowed = self._arbiter.allowed(self._candidate, self._answered, sample, again=again)
        return allowed is not None and found.error_in_std <= allowed


def _batch(opened: Opened, inputs: InputSet, base: dict[str, Array], judge: _Judge) -> Check:
    spec = opened.candidate.artifact.inputs[0]
    if not spec.dynamic_batch:
        return Check("batch", None, False, None, f"its batch is fixed at {spec.shape[0]}")
    if len(inputs) < 2 or opened.chunk < 2:
        return Check("batch", None, False, None, "there is nothing that could be run together")
    singles = opened.run_all(inputs, together=1)
    return judge.check("batch", f"{len(inputs)} together and one by one", base, singles)


def _repeat(opened: Opened, inputs: InputSet, judge: _Judge) -> Check:
    stop = min(len(inputs), opened.chunk)
    first = opened.run(inputs, 0, stop)
    checks = [
        judge.check(
            "repeat", f"the same {_TIMES + 1} times", first, opened.run(inputs, 0, stop), promised=True
        )
        for _ in range(_TIMES)
    ]
    worst = max(checks, key=lambda each: (not each.ok, each.error_in_std or 0.0))
    return replace(worst, is_same_bits=all(each.is_same_bits for each in checks))


def _threads(
    candidate: Candidate, inputs: InputSet, base: dict[str, Array], judge: _Judge, folder: Path
) -> Check:
    if not candidate.runtime.endswith("-cpu") and candidate.runtime != "openvino":
        return Check("threads", None, False, None, "its work is not on the CPU")
    counts = [count for count in _THREADS if count != candidate.options.threads]

    def again() -> list[Check]:
        checks = []
        for count in counts:
            other = replace(candidate, options=replace(candidate.options, threads=count))
            detail = f"with {count} thread{'s' * (count > 1)}"
            with Opened(other, folder / "again") as reopened:
                checks.append(judge.check("threads", detail, base, reopened.run_all(inputs)))
        return checks

    return _worst_of("threads", again)


def _rebuild(
    candidate: Candidate, inputs: InputSet, base: dict[str, Array], judge: _Judge, folder: Path
) -> Check:
    """Opened once more, and where engines are kept, built once more."""
    names = {setting.name for setting in get_runtime(candidate.runtime).settings}
    settings = dict(candidate.options.settings)
    if "cache" in names:
        settings["cache"] = "0"
    other = replace(candidate, options=replace(candidate.options, settings=settings))

    def again() -> list[Check]:
        with Opened(other, folder / "again") as reopened:
            detail = "built anew" if "cache" in names else "opened anew"
            return [judge.check("rebuild", detail, base, reopened.run_all(inputs), promised=True)]

    return _worst_of("rebuild", again)


def _worst_of(name: str, tries: Callable[[], list[Check]]) -> Check:
    try:
        checks = tries()
    except CandidateError as error:
        return Check(name, False, False, None, str(error))
    worst = max(checks, key=lambda each: (not each.ok, each.error_in_std or 0.0))
    return replace(worst, is_same_bits=all(each.is_same_bits for each in checks))


def _first(inputs: InputSet) -> InputSet:
    return replace(inputs, titles=inputs.titles[:_SAMPLES])

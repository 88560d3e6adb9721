"""Candidates measured in turn with the plain one; a few at a time, since their processes are open side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.measuring.case import Case, make_cases
from cnnport.measuring.paired import TURNS, measure_cases_in_turn
from cnnport.measuring.record import Json
from cnnport.measuring.statistics import Interval, interval_of, paired_ratio_interval
from cnnport.measuring.tuning.candidate import Candidate
from cnnport.metadata import at_native_size

# Processes beside the plain one's: each holds a network in memory.
_AT_ONCE = 4


@dataclass(frozen=True)
class Stage:
    """How long a race is.

    Attributes:
        name: In records.
        rounds: Processes that each candidate gets.
        duration_s: Seconds of counted runs in each.
        kept: How many go on to the next one at least; of more than twice as many, half.
    """

    name: str
    rounds: int
    duration_s: float
    kept: int


STAGES = (Stage("screening", 2, 0.15, 6), Stage("second round", 4, 0.3, 4), Stage("final", 9, 0.5, 1))
"""From many for a moment to few for long. Processes count more than seconds in each: a small network's latency
differs by a fifth from one process to the next, and hardly within one."""

MOST_ROUNDS = 36
"""Of the final, which goes on while noise does not let it be told who is faster."""


@dataclass(frozen=True)
class Race:
    """One candidate's turns in a stage, and those of the plain one beside it.

    Attributes:
        stage: Its name.
        plain_s: Median latency of each turn of the plain one, by rounds.
        own_s: Of the candidate, likewise.
    """

    stage: str
    plain_s: tuple[tuple[float, ...], ...]
    own_s: tuple[tuple[float, ...], ...]

    @property
    def latency_s(self) -> float:
        """The median of its turns."""
        return median(each for turns in self.own_s for each in turns)

    @property
    def interval_s(self) -> Interval:
        """Of that median."""
        return interval_of(self.own_s, "p50")

    @property
    def speedup(self) -> float:
        """How many times as fast as the plain one: the median over the turns."""
        return median(_ratios(self.own_s, self.plain_s))

    @property
    def interval(self) -> Interval:
        """Of the speed-up."""
        return paired_ratio_interval(list(zip(self.own_s, self.plain_s, strict=True)), "p50")

    def against(self, other: "Race") -> tuple[float, Interval | None]:
        """How many times as fast as another candidate; with an interval where both ran in the same turns."""
        if self.plain_s != other.plain_s:
            return self.speedup / other.speedup, None
        pairs = list(zip(self.own_s, other.own_s, strict=True))
        return median(_ratios(self.own_s, other.own_s)), paired_ratio_interval(pairs, "p50")

    def plus(self, more: "Race") -> "Race":
        """This race and further rounds of it."""
        return Race(self.stage, (*self.plain_s, *more.plain_s), (*self.own_s, *more.own_s))

    def to_json(self) -> Json:
        """As plain JSON values."""
        return {"plain_s": self.plain_s, "own_s": self.own_s}

    @classmethod
    def from_json(cls, stage: str, row: Json) -> "Race":
        """The other end of ``to_json``."""
        return cls(stage, tuple(map(tuple, row["plain_s"])), tuple(map(tuple, row["own_s"])))


def groups_of(candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], ...]:
    """Those that run side by side, in order."""
    return tuple(tuple(candidates[start : start + _AT_ONCE]) for start in range(0, len(candidates), _AT_ONCE))


def why_not(candidate: Candidate, artifact: Artifact) -> str:
    """Why a runtime does not open a file with a candidate's settings, in one line; empty if it does."""
    from cnnport.runtimes import Options, require_runtime

    options = Options(threads=candidate.threads, settings=candidate.settings)
    try:
        require_runtime(candidate.runtime).open(at_native_size(artifact), options).close()
    except CnnportError as error:
        return " ".join(str(error).split())
    return ""


def race(
    plain: Candidate,
    group: Sequence[Candidate],
    files: Mapping[str, Artifact],
    stage: Stage,
    *,
    batch: int,
    tell: Callable[[Path, int, int], None] | None = None,
) -> dict[str, Race | str]:
    """Measure candidates in turn with the plain one.

    Args:
        plain: What they are held against.
        group: A few of them; the plain one may be among them.
        files: By variant name.
        stage: How long.
        batch: Images a run.
        tell: As of ``measure_cases_in_turn``.

    Returns:
        By candidate name its race, or why it cannot run.

    Raises:
        CnnportError: If the plain one cannot run.
    """
    others = [each for each in group if each.name != plain.name]
    try:
        cases = [_case(each, files, batch) for each in (plain, *others)]
        turns = measure_cases_in_turn(cases, rounds=stage.rounds, duration_s=stage.duration_s, tell=tell)
    except CnnportError as error:
        if not others:
            raise
        if len(others) == 1:
            # If it is the plain one that fails, this says so.
            alone = race(plain, [plain], files, stage, batch=batch, tell=tell)
            return {**(alone if len(group) > 1 else {}), others[0].name: str(error)}
        found: dict[str, Race | str] = {}
        for each in others:
            found |= race(plain, [each], files, stage, batch=batch, tell=tell)
        return found
    rounds = [_by_rounds(each) for each in turns]
    return {
        each.name: Race(stage.name, rounds[0], own)
        for each, own in zip((plain, *others), rounds, strict=True)
    }


def _case(candidate: Candidate, files: Mapping[str, Artifact], batch: int) -> Case:
    artifact = files[candidate.variant.name]
    settings = {candidate.runtime: candidate.settings}
    return make_cases([artifact], [candidate.runtime], [batch], [candidate.threads], settings=settings)[0]


def _by_rounds(turns_s: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(turns_s[start : start + TURNS]) for start in range(0, len(turns_s), TURNS))


def _ratios(own_s: Sequence[Sequence[float]], base_s: Sequence[Sequence[float]]) -> list[float]:
    return [
        base / own
        for owns, bases in zip(own_s, base_s, strict=True)
        for own, base in zip(owns, bases, strict=True)
    ]

"""Files held against each other: in every round each gets a fresh process, and these run one at a time, in turn.

What is compared is a turn's figure with the same turn's figure of another file, fractions of a second away, so that a
machine that slows down for a while does so for both; and because a process keeps its place in memory, which alone
makes it some per cent faster or slower than the next, there are several rounds of processes. How far the ratios lie
apart says what is noise.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cnnport.artifact import Artifact
from cnnport.errors import CheckFailedError, CnnportError, RuntimeMissingError
from cnnport.measuring.case import Case, make_cases
from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json, percentile
from cnnport.measuring.run import question_of, unfit
from cnnport.process import Conversation, Failure, command_of

TURNS = 4
"""Of every process; at least one run each, since a large network at a large batch takes seconds for one."""

WARMUP_S = 0.25
"""Seconds of uncounted runs in every process."""

# Of one answer: loading is the longest.
_TIMEOUT_S = 600.0

_ERRORS: dict[int, type[CnnportError]] = {
    kind.exit_code: kind for kind in (CheckFailedError, RuntimeMissingError)
}


@dataclass(frozen=True)
class Ratio:
    """How much faster one file is than another: median and quartiles of the turns' ratios, above 1 is faster."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        """For people."""
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> Json:
        """Four digits: what lies behind them no turn tells apart."""
        return {"low": round(self.low, 4), "median": round(self.median, 4), "high": round(self.high, 4)}


def ratio(base_s: Sequence[float], other_s: Sequence[float]) -> Ratio:
    """How much faster the other is than the base.

    Args:
        base_s: Its latency in every turn.
        other_s: Of the same turns.
    """
    ratios = tuple(sorted(base / other for base, other in zip(base_s, other_s, strict=True)))
    return Ratio(percentile(ratios, 25), median(ratios), percentile(ratios, 75))


def circumstances(rounds: int, duration_s: float) -> Json:
    """When, where and how ``measure_in_turn`` is about to measure, for a record."""
    environment = read_environment()
    return {
        "date_utc": environment.date_utc,
        "cpu_model": environment.cpu_model,
        "load_average_start": environment.load_average_start,
        "rounds": rounds,
        "turns": TURNS,
        "warmup_s": WARMUP_S,
        "duration_s": duration_s,
    }


def measure_in_turn(
    artifacts: Sequence[Artifact],
    *,
    batch: int,
    threads: int,
    rounds: int,
    duration_s: float,
    warmup_s: float = WARMUP_S,
    runtimes: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    tell: Callable[[Path, int, int], None] | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Measure files, on ort-cpu unless told otherwise.

    Args:
        artifacts: The files; sizes other than the batch that they leave open they state themselves.
        batch: Images per run.
        threads: Threads inside one run.
        rounds: How often each file gets a process; every second one is started, and has its turns, backwards.
        duration_s: Seconds of counted runs in every process, all its turns together.
        warmup_s: Seconds of uncounted runs in every process.
        runtimes: On which each file runs, in their order; None for ort-cpu.
        settings: What is chosen of what runtimes offer, by runtime.
        tell: Is told before every process: the file that comes, processes started, processes in all.

    Returns:
        For every file, in order, the median latency in seconds of each turn: ``TURNS`` for each round.

    Raises:
        CnnportError: If a number is out of range, or a file does not take the batch.
        RuntimeMissingError: If a runtime is not available.
        CheckFailedError: If a process fails.
    """
    cases = [
        case
        for artifact, runtime in zip(artifacts, runtimes or ["ort-cpu"] * len(artifacts), strict=True)
        for case in make_cases([artifact], [runtime], [batch], [threads], settings=settings)
    ]
    return measure_cases_in_turn(cases, rounds=rounds, duration_s=duration_s, warmup_s=warmup_s, tell=tell)


def measure_cases_in_turn(
    cases: Sequence[Case],
    *,
    rounds: int,
    duration_s: float,
    warmup_s: float = WARMUP_S,
    tell: Callable[[Path, int, int], None] | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Measure cases of any kind, of which the processes of a round are open side by side.

    Args:
        cases: With as many threads each as the others.
        rounds: As of ``measure_in_turn``, and so are the others, what is returned, and the errors.
        duration_s: Seconds of counted runs in every process.
        warmup_s: Seconds of uncounted runs in every process.
        tell: Is told before every process.
    """
    if rounds < 1:
        raise CnnportError(f"rounds must be at least 1, not {rounds}")
    for case in cases:
        if skipped := unfit(case):
            raise refusal(case, skipped.reason, skipped.exit_code)
    turns_s: list[list[float]] = [[] for _ in cases]
    for number in range(rounds):
        places = list(range(len(cases)))[:: -1 if number % 2 else 1]
        with ExitStack() as stack:
            asked = {}
            for turn, place in enumerate(places):
                if tell is not None:
                    tell(cases[place].artifact.path, number * len(cases) + turn, rounds * len(cases))
                asked[place] = stack.enter_context(
                    Conversation(
                        command_of("cnnport.measuring.turns"),
                        threads=cases[place].threads,
                        timeout_s=_TIMEOUT_S,
                    )
                )
                _answered(cases[place], asked[place].ask(question_of(cases[place], warmup_s, 0.0, 1)))
            for turn in range(TURNS):
                for place in places[:: -1 if turn % 2 else 1]:
                    answer = _answered(cases[place], asked[place].ask({"duration_s": duration_s / TURNS}))
                    turns_s[place].append(answer["p50_s"])
    return tuple(map(tuple, turns_s))


def _answered(case: Case, answer: Json | Failure) -> Json:
    if isinstance(answer, Failure):
        raise refusal(case, answer.reason, answer.exit_code)
    return answer


def refusal(case: Case, reason: str, exit_code: int) -> CnnportError:
    """The error of a case that cannot be measured, by its exit code."""
    return _ERRORS.get(exit_code, CnnportError)(f"{case.artifact.path.name}: {reason}")

"""Measuring a list of cases: each in a process of its own, all of them in turn, over several rounds.

In turn, so that a machine that slows down or is disturbed for a while does so for all cases alike; over
several rounds, so that how far the rounds lie apart shows how much it was; and in every round in another order, drawn
by seed, so that none always follows the same neighbour.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cnnport.errors import CnnportError, RuntimeMissingError
from cnnport.measuring.case import Case, artifact_to_json
from cnnport.measuring.cpus import allowed_cpus, choose_cpus, cores_of
from cnnport.measuring.environment import load_average, read_environment
from cnnport.measuring.journal import Journal
from cnnport.measuring.measure import MIN_ITERATIONS, RULE
from cnnport.measuring.measurement import WALL
from cnnport.measuring.record import Environment, Json, Measurement, Method, Results, Round, Skipped
from cnnport.process import Failure, ask, command_of

Progress = Callable[[int, int, Case], None]
"""Is told before every process: processes done, processes in all, and the case that comes."""

_WORKER = "cnnport.measuring.worker"

WARMUP_FACTOR = 4.0
"""Warm-up takes at most so many times its least seconds, unless told otherwise."""

# Imports, loading (an engine may be built), and the last run that was begun.
_TIMEOUT_BASE_S = 300.0
_TIMEOUT_FACTOR = 10.0


@dataclass(frozen=True)
class Plan:
    """How long and how often.

    Attributes:
        rounds: How often each case gets a fresh process.
        warmup_s: Least seconds of uncounted runs in every process; see ``measure.RULE``.
        warmup_max_s: Most; None for four times the least.
        duration_s: Seconds of counted runs per case, all rounds together.
        min_iterations: Counted runs per round, however long they last.
        seed: Of the order of the cases in each round.
        timeout_s: Seconds until one process is given up; None for ten times the warm-up and duration of a round, and
            300 s for loading.
    """

    rounds: int = 3
    warmup_s: float = 0.5
    warmup_max_s: float | None = None
    duration_s: float = 3.0
    min_iterations: int = MIN_ITERATIONS
    seed: int = 0
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.min_iterations < 1:
            raise CnnportError(
                f"rounds ({self.rounds}) and iterations ({self.min_iterations}) must be at least 1"
            )
        if not all(0 <= each < float("inf") for each in (self.warmup_s, self.duration_s, self.most_s)):
            raise CnnportError(
                f"times must be at least 0 s: warm-up {self.warmup_s} to {self.most_s}, "
                f"duration {self.duration_s}"
            )

    @property
    def most_s(self) -> float:
        """Seconds after which a process is warm, settled or not."""
        return self.warmup_s * WARMUP_FACTOR if self.warmup_max_s is None else self.warmup_max_s

    @property
    def round_s(self) -> float:
        """Seconds of counted runs of a case in one round."""
        return self.duration_s / self.rounds

    @property
    def patience_s(self) -> float:
        """Until a process is given up."""
        if self.timeout_s is not None:
            return self.timeout_s
        return _TIMEOUT_BASE_S + _TIMEOUT_FACTOR * (max(self.warmup_s, self.most_s) + self.round_s)

    def order(self, number: int, count: int) -> list[int]:
        """The order of so many cases in the round of a number: drawn anew for each, the same for the same seed."""
        places = list(range(count))
        random.Random(f"{self.seed} {number}").shuffle(places)  # noqa: S311
        return places

    def method(self, *, command: str = "", resumed: int = 0) -> Method:
        """As a record states it."""
        return Method(
            self.rounds,
            self.seed,
            self.warmup_s,
            self.most_s,
            self.duration_s,
            self.min_iterations,
            RULE,
            command,
            resumed,
        )


def bench(
    cases: Sequence[Case],
    *,
    rounds: int = 3,
    warmup_s: float = 0.5,
    warmup_max_s: float | None = None,
    duration_s: float = 3.0,
    min_iterations: int = MIN_ITERATIONS,
    seed: int = 0,
    timeout_s: float | None = None,
    on_progress: Progress | None = None,
    journal: Journal | None = None,
    command: str = "",
) -> Results:
    """Measure cases.

    A case that cannot run is a row with its reason and costs the others nothing: a runtime that is not
    available and a batch size that the file does not take are found without starting a process; a case that
    fails in one round is given up.

    Args:
        cases: As ``make_cases`` gives them.
        rounds: As of ``Plan``.
        warmup_s: As of ``Plan``.
        warmup_max_s: As of ``Plan``.
        duration_s: As of ``Plan``.
        min_iterations: As of ``Plan``.
        seed: As of ``Plan``.
        timeout_s: As of ``Plan``.
        on_progress: Is told before every process.
        journal: Keeps what was measured, and has what a run before had measured.
        command: That makes this record again, for the record.

    Returns:
        A measurement or a skipped row for every case, in order.

    Raises:
        CnnportError: If a number is out of range, or the journal is of another run.
        UnknownNameError: If there is no runtime of that name.
        OutputError: If the journal cannot be written.
    """
    plan = Plan(rounds, warmup_s, warmup_max_s, duration_s, min_iterations, seed, timeout_s)
    journal = journal or Journal()
    environment = opened(journal, identity_of(cases, plan))
    rows = measure_rounds(cases, plan, journal, on_progress)
    return Results(
        environment=replace(environment, load_average_end=load_average()),
        results=tuple(row for row in rows if isinstance(row, Measurement)),
        skipped=tuple(row for row in rows if isinstance(row, Skipped)),
        method=plan.method(command=command, resumed=journal.resumed),
    )


def identity_of(cases: Sequence[Case], plan: Plan) -> Json:
    """What a run is, so that it can be told whether another one goes on with it."""
    environment = read_environment()
    return {
        "cases": [case.identity for case in cases],
        **asdict(plan),
        "cpu": environment.cpu_model,
        "cpus": list(environment.cpus_allowed),
        "packages": dict(environment.packages),
    }


def opened(journal: Journal, identity: Json) -> Environment:
    """Begin or go on with a journal; gives the environment of the beginning. Raises as ``Journal.open``."""
    facts = journal.open(identity, {"environment": read_environment().to_json()})
    return Environment.from_json(facts["environment"])


def measure_rounds(
    cases: Sequence[Case], plan: Plan, journal: Journal, on_progress: Progress | None = None
) -> list[Measurement | Skipped]:
    """A row for every case, in order; arguments and errors as of ``bench``."""
    outcomes: list[list[Json] | Skipped] = [unfit(case) or [] for case in cases]
    total = plan.rounds * sum(not isinstance(outcome, Skipped) for outcome in outcomes)
    done = 0
    for number in range(1, plan.rounds + 1):
        for position in plan.order(number, len(cases)):
            case, answers = cases[position], outcomes[position]
            if isinstance(answers, Skipped):
                continue
            if on_progress is not None:
                on_progress(done, total, case)
            key = f"round {number}, case {position}"
            answer = journal.get(key)
            if answer is None:
                journal.put(key, answer := _asked(case, plan))
            if "error" in answer:
                place = f" (round {number} of {plan.rounds})" if number > 1 else ""
                outcomes[position] = case.skipped(answer["error"] + place, answer["exit_code"])
                total -= plan.rounds - number
            else:
                answers.append(answer)
            done += 1
    return [
        outcome if isinstance(outcome, Skipped) else measurement_of(case, outcome)
        for case, outcome in zip(cases, outcomes, strict=True)
    ]


def unfit(case: Case) -> Skipped | None:
    """The row of a case that needs no process to be seen as impossible. Raises ``UnknownNameError``."""
    # The runtimes import NumPy, which whoever only reads records does not need.
    from cnnport.runtimes.table import get_runtime

    if reason := get_runtime(case.runtime).missing():
        return case.skipped(reason, RuntimeMissingError.exit_code)
    if reason := case.misfit():
        return case.skipped(reason, CnnportError.exit_code)
    return None


def question_of(
    case: Case,
    warmup_s: float,
    duration_s: float,
    min_iterations: int,
    *,
    warmup_max_s: float = 0.0,
) -> Json:
    """What ``worker`` is asked."""
    return {
        "artifact": artifact_to_json(case.artifact),
        "runtime": case.runtime,
        "batch": case.batch,
        "threads": case.threads,
        "settings": dict(case.settings),
        "device": case.device,
        "deterministic": case.deterministic,
        "concurrency": case.concurrency,
        "transfers": case.transfers,
        # Every request in flight may keep as many CPUs busy as one run does.
        "cpus": choose_cpus(case.threads * case.concurrency, cores_of(allowed_cpus())),
        "warmup_s": warmup_s,
        "warmup_max_s": warmup_max_s,
        "duration_s": duration_s,
        "min_iterations": min_iterations,
    }


def measurement_of(case: Case, answers: Sequence[Json]) -> Measurement:
    """The row of a case, of what its processes answered."""
    last = answers[-1]
    return Measurement(
        model=case.artifact.model,
        runtime=case.runtime,
        precision=case.artifact.precision,
        batch=case.batch,
        threads=case.threads,
        rounds=tuple(map(Round.from_answer, answers)),
        weights=case.weights,
        sha256=case.artifact.sha256,
        cpus=tuple(last["cpus"]),
        runtime_version=last["runtime_version"],
        device=last["device"],
        settings=case.stated_settings,
        concurrency=case.concurrency,
        clock=last.get("clock", WALL),
        transfers=last.get("transfers", False),
        file=stated_path(case.artifact.path),
    )


def stated_path(path: Path) -> str:
    """A path as records state it: from the current folder where the file lies in it, else from the root."""
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(whole)


def _asked(case: Case, plan: Plan) -> Json:
    """What a fresh process answers; a failure as what it says."""
    answer = ask(
        command_of(_WORKER),
        question_of(case, plan.warmup_s, plan.round_s, plan.min_iterations, warmup_max_s=plan.most_s),
        threads=case.threads,
        timeout_s=plan.patience_s,
    )
    if isinstance(answer, Failure):
        return {"error": answer.reason, "exit_code": answer.exit_code}
    return answer

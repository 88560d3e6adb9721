"""Measuring a list of cases: each in a process of its own, all of them in turn, over several rounds.

In turn, so that a machine that slows down or is disturbed for a while does so for all cases alike; over
several rounds, so that how far the rounds lie apart shows how much it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cnnport.bench.case import Case, artifact_to_json
from cnnport.bench.cpus import allowed_cpus, choose_cpus, cores_of
from cnnport.bench.environment import load_average, read_environment
from cnnport.bench.measure import MIN_ITERATIONS
from cnnport.bench.process import WORKER, Failure, ask, command_of
from cnnport.bench.record import Json, Measurement, Results, Round, Skipped
from cnnport.errors import CnnportError, RuntimeMissingError

Progress = Callable[[int, int, Case], None]
"""Is told before every process: processes done, processes in all, and the case that comes."""

# Imports, loading (an engine may be built), and the last run that was begun.
_TIMEOUT_BASE_S = 300.0
_TIMEOUT_FACTOR = 10.0


def bench(
    cases: Sequence[Case],
    *,
    rounds: int = 3,
    warmup_s: float = 0.5,
    duration_s: float = 3.0,
    min_iterations: int = MIN_ITERATIONS,
    timeout_s: float | None = None,
    on_progress: Progress | None = None,
) -> Results:
    """Measure cases.

    A case that cannot run is a row with its reason and costs the others nothing: a runtime that is not
    available and a batch size that the file does not take are found without starting a process; a case that
    fails in one round is given up.

    Args:
        cases: As ``make_cases`` gives them.
        rounds: How often each case gets a fresh process.
        warmup_s: Seconds of uncounted runs in every process.
        duration_s: Seconds of counted runs per case, all rounds together.
        min_iterations: Counted runs per round, however long they last.
        timeout_s: Seconds until one process is given up; without it, ten times the warm-up and duration of a
            round, and 300 s for loading.
        on_progress: Is told before every process.

    Returns:
        A measurement or a skipped row for every case, in order.

    Raises:
        CnnportError: If a number is out of range.
        UnknownNameError: If there is no runtime of that name.
    """
    if rounds < 1 or min_iterations < 1:
        raise CnnportError(f"rounds ({rounds}) and iterations ({min_iterations}) must be at least 1")
    if not (0 <= warmup_s < float("inf") and 0 <= duration_s < float("inf")):
        raise CnnportError(f"times must be at least 0 s: warm-up {warmup_s}, duration {duration_s}")
    round_s = duration_s / rounds
    if timeout_s is None:
        timeout_s = _TIMEOUT_BASE_S + _TIMEOUT_FACTOR * (warmup_s + round_s)

    environment = read_environment()
    outcomes: list[list[Json] | Skipped] = [unfit(case) or [] for case in cases]
    total = rounds * sum(not isinstance(outcome, Skipped) for outcome in outcomes)
    done = 0
    for number in range(1, rounds + 1):
        for position, case in enumerate(cases):
            answers = outcomes[position]
            if isinstance(answers, Skipped):
                continue
            if on_progress is not None:
                on_progress(done, total, case)
            answer = ask(
                command_of(WORKER),
                question_of(case, warmup_s, round_s, min_iterations),
                threads=case.threads,
                timeout_s=timeout_s,
            )
            if isinstance(answer, Failure):
                place = f" (round {number} of {rounds})" if number > 1 else ""
                outcomes[position] = case.skipped(answer.reason + place, answer.exit_code)
                total -= rounds - number
            else:
                answers.append(answer)
            done += 1
    return Results(
        environment=replace(environment, load_average_end=load_average()),
        results=tuple(
            _measurement(case, answers)
            for case, answers in zip(cases, outcomes, strict=True)
            if not isinstance(answers, Skipped)
        ),
        skipped=tuple(outcome for outcome in outcomes if isinstance(outcome, Skipped)),
    )


def unfit(case: Case) -> Skipped | None:
    """The row of a case that needs no process to be seen as impossible. Raises ``UnknownNameError``."""
    # The runtimes import NumPy, which whoever only reads records does not need.
    from cnnport.runtimes.table import get_runtime

    if reason := get_runtime(case.runtime).missing():
        return case.skipped(reason, RuntimeMissingError.exit_code)
    if reason := case.misfit():
        return case.skipped(reason, CnnportError.exit_code)
    return None


def question_of(case: Case, warmup_s: float, duration_s: float, min_iterations: int) -> Json:
    """What ``worker`` is asked."""
    return {
        "artifact": artifact_to_json(case.artifact),
        "runtime": case.runtime,
        "batch": case.batch,
        "threads": case.threads,
        "settings": dict(case.settings),
        "device": case.device,
        "deterministic": case.deterministic,
        "cpus": choose_cpus(case.threads, cores_of(allowed_cpus())),
        "warmup_s": warmup_s,
        "duration_s": duration_s,
        "min_iterations": min_iterations,
    }


def _measurement(case: Case, answers: list[Json]) -> Measurement:
    last = answers[-1]
    return Measurement(
        model=case.artifact.model,
        runtime=case.runtime,
        precision=case.artifact.precision,
        batch=case.batch,
        threads=case.threads,
        rounds=tuple(
            Round(
                samples_s=tuple(sample / 1e9 for sample in answer["samples_ns"]),
                load_s=answer["load_ns"] / 1e9,
                peak_memory_bytes=answer["peak_memory_bytes"],
            )
            for answer in answers
        ),
        weights=case.weights,
        sha256=case.artifact.sha256,
        cpus=tuple(last["cpus"]),
        runtime_version=last["runtime_version"],
        device=last["device"],
        settings=case.stated_settings,
    )

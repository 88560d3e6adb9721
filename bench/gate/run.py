"""The gate at work: cases whose baseline is at hand are measured in turn with it, until the verdict is clear."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cnnport.errors import CnnportError
from cnnport.measuring.case import Case
from cnnport.measuring.comparison import Comparison, Verdict
from cnnport.measuring.environment import load_average
from cnnport.measuring.fields import Json
from cnnport.measuring.gate.baselines import Baseline
from cnnport.measuring.gate.judge import compare_pair, compare_records, worst
from cnnport.measuring.gate.limits import Limit
from cnnport.measuring.gate.pairs import measure_pair
from cnnport.measuring.journal import Journal
from cnnport.measuring.record import Measurement, Results, Skipped
from cnnport.measuring.run import Plan, Progress, identity_of, measure_rounds, measurement_of, opened, unfit

ROUNDS = 5
"""At the least: with fewer, no interval is worth the name."""

MAX_ROUNDS = 40
"""After which what is not clear is called inconclusive."""


@dataclass
class _Pair:
    """A case and its baseline, and what has been measured of both."""

    place: int
    new: Case
    baseline: Case
    record: Measurement | None
    answers: list[Json] = field(default_factory=list)
    skipped: Skipped | None = None

    def sides(self) -> tuple[Measurement, Measurement]:
        """Baseline and new."""
        return (
            measurement_of(self.baseline, [each["baseline"] for each in self.answers]),
            measurement_of(self.new, [each["new"] for each in self.answers]),
        )

    def comparisons(self, limits: Sequence[Limit]) -> tuple[Comparison, ...]:
        """What follows so far."""
        base, new = self.sides()
        note = ""
        # What is measured now is today's runtime for both sides: only the files differ.
        if self.record is not None and self.record.runtime_version not in {"", base.runtime_version}:
            note = f"recorded with {self.record.runtime_version}, both measured with {base.runtime_version}"
        return tuple(compare_pair(self.new.title, limit, base, new, note) for limit in limits)


def bench_against(
    cases: Sequence[Case],
    baselines: Sequence[Baseline | None],
    limits: Sequence[Limit],
    plan: Plan,
    *,
    max_rounds: int = MAX_ROUNDS,
    on_progress: Progress | None = None,
    journal: Journal | None = None,
    command: str = "",
) -> Results:
    """Measure cases, and hold them against their baselines.

    Args:
        cases: As of ``bench``.
        baselines: One for each, as ``find_baselines`` gives them.
        limits: What is allowed.
        plan: Rounds are those after which it is first looked at; the duration is that of all of these together.
        max_rounds: Rounds after which a case that is still not clear is given up, of those that are paired.
        on_progress: Is told before every process, or pair of processes.
        journal: As of ``bench``.
        command: As of ``bench``.

    Raises:
        CnnportError: If there are more rounds than there may be, and as ``bench``.
    """
    if max_rounds < plan.rounds:
        raise CnnportError(f"--max-rounds {max_rounds} must be at least --rounds {plan.rounds}")
    journal = journal or Journal()
    identity = {
        **identity_of(cases, plan),
        "limits": [limit.text for limit in limits],
        "baselines": [_identity(each) for each in baselines],
        "max_rounds": max_rounds,
    }
    environment = opened(journal, identity)
    pairs, alone = [], []
    for place, (case, baseline) in enumerate(zip(cases, baselines, strict=True)):
        if baseline is None or baseline.case is None:
            alone.append(place)
        else:
            pair = _Pair(place, case, baseline.case, baseline.record)
            pair.skipped = unfit(case) or unfit(baseline.case)
            pairs.append(pair)
    rows: dict[int, Measurement | Skipped] = dict(
        zip(alone, measure_rounds([cases[place] for place in alone], plan, journal, on_progress), strict=True)
    )
    _measure_pairs(pairs, limits, plan, max_rounds, journal, on_progress)
    found: dict[int, tuple[Comparison, ...]] = {}
    bases: list[Measurement] = []
    for pair in pairs:
        if pair.skipped is None:
            base, rows[pair.place] = pair.sides()
            bases.append(base)
            found[pair.place] = pair.comparisons(limits)
        else:
            rows[pair.place] = pair.skipped
    for place in alone:
        row, baseline = rows[place], baselines[place]
        if isinstance(row, Measurement) and baseline is not None and baseline.record is not None:
            found[place] = tuple(
                compare_records(cases[place].title, limit, baseline.record, row, baseline.note)
                for limit in limits
            )
    ordered = [rows[place] for place in range(len(cases))]
    return Results(
        environment=replace(environment, load_average_end=load_average()),
        results=tuple(row for row in ordered if isinstance(row, Measurement)),
        skipped=tuple(row for row in ordered if isinstance(row, Skipped)),
        method=plan.method(command=command, resumed=journal.resumed),
        comparisons=tuple(each for place in sorted(found) for each in found[place]),
        baselines=tuple(bases),
    )


def _measure_pairs(
    pairs: Sequence[_Pair],
    limits: Sequence[Limit],
    plan: Plan,
    max_rounds: int,
    journal: Journal,
    on_progress: Progress | None,
) -> None:
    """Round after round of all pairs that are still open."""
    done, total = 0, plan.rounds * sum(pair.skipped is None for pair in pairs)
    for number in range(1, max_rounds + 1):
        waiting = [
            pairs[place]
            for place in plan.order(number, len(pairs))
            if pairs[place].skipped is None and (number <= plan.rounds or _is_open(pairs[place], limits))
        ]
        total = max(total, done + len(waiting))
        for pair in waiting:
            if on_progress is not None:
                on_progress(done, total, pair.new)
            key = f"round {number}, pair {pair.place}"
            answer = journal.get(key)
            if answer is None:
                journal.put(key, answer := measure_pair(pair.baseline, pair.new, plan, number))
            if "error" in answer:
                reason = f"{answer['error']} (round {number})"
                pair.skipped = pair.new.skipped(reason, answer["exit_code"])
            else:
                pair.answers.append(answer)
            done += 1


def _is_open(pair: _Pair, limits: Sequence[Limit]) -> bool:
    return worst(pair.comparisons(limits)) is Verdict.INCONCLUSIVE


def _identity(baseline: Baseline | None) -> Json | None:
    if baseline is None:
        return None
    at_hand, record = baseline.case, baseline.record
    return {
        "at_hand": at_hand and at_hand.identity,
        "record": None if record is None else {"sha256": record.sha256, "p50_s": record.p50_s},
    }

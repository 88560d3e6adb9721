"""One round of two cases against each other: a fresh process each, and these measure in turn, slice by slice."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from cnnport.measuring.case import Case
from cnnport.measuring.fields import Json
from cnnport.measuring.run import Plan, question_of
from cnnport.measuring.usage import Load, read_load
from cnnport.process import Conversation, Failure, command_of

SIDES = ("baseline", "new")

# Slices of a side in one round: short, so that both see the same machine; not so short that changing over shows.
_SLICE_S = 0.06
_FEWEST, _MOST = 2, 10


def measure_pair(baseline: Case, new: Case, plan: Plan, number: int) -> Json:
    """One round.

    Args:
        baseline: One side.
        new: The other.
        plan: How long.
        number: Of the round; in every second one the new side goes first.

    Returns:
        For each of ``SIDES`` what ``worker`` would answer; or ``error`` and ``exit_code``.
    """
    cases = {"baseline": baseline, "new": new}
    order = SIDES[:: 1 if number % 2 else -1]
    turns = max(_FEWEST, min(_MOST, math.floor(plan.round_s / _SLICE_S)))
    slice_ = {
        "duration_s": plan.round_s / turns,
        "min_iterations": -(-plan.min_iterations // turns),
        "samples": True,
    }
    with ExitStack() as stack:
        asked: dict[str, Conversation] = {}
        for side in order:
            asked[side] = stack.enter_context(
                Conversation(
                    command_of("cnnport.measuring.turns"),
                    threads=cases[side].threads,
                    timeout_s=plan.patience_s,
                )
            )
            question = question_of(
                cases[side], plan.warmup_s, 0.0, plan.min_iterations, warmup_max_s=plan.most_s
            )
            if isinstance(answer := asked[side].ask(question), Failure):
                return _failed(side, answer)
        slices: dict[str, list[Json]] = {side: [] for side in SIDES}
        before = _facts(asked)
        if isinstance(before, Failure):
            return _failed("one", before)
        begun = _load(before)
        for turn in range(turns):
            for side in order[:: -1 if turn % 2 else 1]:
                answer = asked[side].ask(slice_)
                if isinstance(answer, Failure):
                    return _failed(side, answer)
                slices[side].append(answer)
        after = _facts(asked)
        if isinstance(after, Failure):
            return _failed("one", after)
        others = begun.others_until(_load(after))
    return {
        side: {
            **after[side],
            **_together(slices[side]),
            "before": before[side]["sensors"],
            "after": after[side]["sensors"],
            "other_load": others,
        }
        for side in SIDES
    }


def _facts(asked: dict[str, Conversation]) -> dict[str, Json] | Failure:
    """What is known of both processes."""
    found: dict[str, Json] = {}
    for side, conversation in asked.items():
        answer = conversation.ask({"facts": True})
        if isinstance(answer, Failure):
            return answer
        found[side] = answer
    return found


def _load(facts: dict[str, Json]) -> Load:
    """What the CPUs of the pair have done so far; what both processes did is their own."""
    cpus = next(iter(facts.values()))["cpus"]
    own_s = sum(each["cpu_s"] for each in facts.values())
    now = read_load(cpus)
    return Load(now.busy_s, now.own_s + own_s, time.monotonic())


def _together(slices: Sequence[Json]) -> Json:
    """All slices of a side as one answer."""
    row: Json = {
        **slices[-1],
        "samples_ns": [sample for each in slices for sample in each["samples_ns"]],
    }
    if "elapsed_ns" in row:
        row["elapsed_ns"] = sum(each["elapsed_ns"] for each in slices)
    if "transfer_share" in row:
        row["transfer_share"] = median(each["transfer_share"] for each in slices)
    # Of one slice, and of no use to a round.
    del row["p50_s"], row["samples"]
    return row


def _failed(side: str, failure: Failure) -> Json:
    return {"error": f"{side} side: {failure.reason}", "exit_code": failure.exit_code}

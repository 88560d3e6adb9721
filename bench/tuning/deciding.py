"""Who wins: the fastest; what is less accurate, or not plain, has to be faster by more than noise."""

from collections.abc import Mapping, Sequence

from cnnport.measuring.tuning.accuracy import Accuracy
from cnnport.measuring.tuning.candidate import Candidate
from cnnport.measuring.tuning.racing import Race


def winner_of(
    plain: Candidate, fit: Sequence[Candidate], races: Mapping[str, Race], accuracies: Mapping[str, Accuracy]
) -> tuple[Candidate, str]:
    """The best candidate, and why.

    Args:
        plain: Wins where nothing is faster.
        fit: Those within the budget that were measured, in any order.
        races: By candidate name; the longest race of each.
        accuracies: By ``Candidate.run``.
    """
    best, why = plain, "nothing within the budget is faster by more than noise"
    for each in sorted(fit, key=lambda one: (_loss(one, accuracies), races[one.name].latency_s)):
        if each.name == plain.name:
            continue
        faster, reason = _beats(each, best, plain, races, accuracies)
        if faster:
            best, why = each, reason
    return best, why


def _beats(
    each: Candidate,
    best: Candidate,
    plain: Candidate,
    races: Mapping[str, Race],
    accuracies: Mapping[str, Accuracy],
) -> tuple[bool, str]:
    race = races[each.name]
    interval = race.interval
    reason = (
        f"{race.speedup:.2f} times as fast as {plain.name} ({interval.low:.2f} to {interval.high:.2f}), "
        f"{race.latency_s * 1e3:.3g} ms"
    )
    # By more than noise: the whole interval lies beyond 1.
    if interval.low <= 1:
        return False, reason
    if best.name == plain.name:
        return True, reason
    ratio, apart = race.against(races[best.name])
    if _loss(each, accuracies) > _loss(best, accuracies):
        low = apart.low if apart is not None else interval.low / races[best.name].interval.high
        return low > 1, reason
    return ratio > 1, reason


def _loss(candidate: Candidate, accuracies: Mapping[str, Accuracy]) -> tuple[float, int]:
    """Points that were lost, and by what arithmetic: less is better."""
    found = accuracies.get(candidate.run)
    return ((found.drop or 0.0) if found is not None else 0.0, candidate.rank)

"""What else to know about a search, in sentences."""

from collections.abc import Iterator

from cnnport.measuring.tuning.accuracy import AccuracyCheck
from cnnport.measuring.tuning.state import State
from cnnport.measuring.tuning.tuned import Wishes


def notes_of(wishes: Wishes, check: AccuracyCheck, state: State, *, is_complete: bool) -> Iterator[str]:
    """What bounds the result: samples that say little, time that was used up, files that could not be made."""
    if check.is_noise:
        yield "judged on random inputs: nothing follows from it about accuracy; --calibration takes real ones"
    elif not check.counts_classes:
        yield (
            "the network gives no classes, or one for all samples, so no points can be counted: candidates were held "
            "to its outputs"
        )
    if not is_complete:
        yield (
            f"the budget of {wishes.budget_s:g} s is used up: this is the best so far; the same command with a "
            "larger --budget goes on"
        )
    for name, row in state.built.items():
        if "problem" in row:
            yield f"{name} was not made: {row['problem']}"

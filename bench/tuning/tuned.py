"""What is asked of a search, and what it found."""

from dataclasses import dataclass
from pathlib import Path

from cnnport.measuring.record import Json
from cnnport.measuring.tuning.accuracy import Accuracy
from cnnport.measuring.tuning.candidate import Candidate
from cnnport.measuring.tuning.racing import Race

BUDGET_S = 600.0
"""Seconds that a search may take unless told otherwise."""


@dataclass(frozen=True)
class Wishes:
    """What a user asks for.

    Attributes:
        model: A network or an ONNX file, as named.
        max_drop: Points of accuracy that may be lost.
        calibration: Samples, as ``quantize`` takes them; None for noise, with which no 8 bits are tried.
        target_ms: Latency that suffices; None for the least.
        budget_s: Seconds that finished steps may take together, those of earlier runs included.
        batch: Images a run.
        runtimes: Names; None for all that are here.
        threads: Numbers of threads; None for a choice.
        weights: Of a network, as ``export`` takes them.
    """

    model: str
    max_drop: float = 0.5
    calibration: str | None = None
    target_ms: float | None = None
    budget_s: float = BUDGET_S
    batch: int = 1
    runtimes: tuple[str, ...] | None = None
    threads: tuple[int, ...] | None = None
    weights: str = "auto"


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        wishes: What was asked for.
        winner: What runs fastest within the budget.
        why: In words.
        file: Of the winner.
        plain: What it was held against.
        candidates: Everything that there was to try.
        races: The longest race of each candidate that ran, by name.
        accuracies: By ``Candidate.run``, of those that were judged.
        outcomes: By candidate name: why it did not win, or that it did.
        built: By variant name: what came of its file.
        is_noise: Whether accuracy was judged on noise.
        counts_classes: Whether losses are points of accuracy.
        is_complete: Whether the search came to its end before the time was used up.
        is_resumed: Whether steps of an earlier run were taken over.
        spent_s: Seconds of all steps.
        notes: What else to know, in sentences.
    """

    wishes: Wishes
    winner: Candidate
    why: str
    file: Path
    plain: Candidate
    candidates: tuple[Candidate, ...]
    races: dict[str, Race]
    accuracies: dict[str, Accuracy]
    outcomes: dict[str, str]
    built: dict[str, Json]
    is_noise: bool
    counts_classes: bool
    is_complete: bool
    is_resumed: bool
    spent_s: float
    notes: tuple[str, ...] = ()

    @property
    def latency_ms(self) -> float | None:
        """Of the winner; None where nothing was measured before the time was used up."""
        found = self.races.get(self.winner.name)
        return None if found is None else found.latency_s * 1e3

    @property
    def reaches_target(self) -> bool:
        """Whether the winner is as fast as wanted; true if nothing was."""
        wanted = self.wishes.target_ms
        return wanted is None or (self.latency_ms is not None and self.latency_ms <= wanted)

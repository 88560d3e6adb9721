"""Files held against each other: in every round each gets a fresh process, in turn, and rounds go there and back.

What is compared is a round's figure with the same round's figure of another file: neighbours in time, so that a
machine that slows down for a while does so for both. How far the rounds' ratios lie apart says what is noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cnnport.artifact import Artifact
from cnnport.bench.case import make_cases
from cnnport.bench.record import Json, percentile
from cnnport.bench.run import bench
from cnnport.errors import CheckFailedError, CnnportError, RuntimeMissingError

MIN_ITERATIONS = 3
"""Runs of one process however long they last; a large network at a large batch takes seconds for each."""

WARMUP_S = 0.25
"""Seconds of uncounted runs in every process."""

_ERRORS: dict[int, type[CnnportError]] = {
    kind.exit_code: kind for kind in (CheckFailedError, RuntimeMissingError)
}


@dataclass(frozen=True)
class Ratio:
    """How much faster one file is than another: median and quartiles of the rounds' ratios, above 1 is faster."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        """For people."""
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> Json:
        """Four digits: what lies behind them no round tells apart."""
        return {"low": round(self.low, 4), "median": round(self.median, 4), "high": round(self.high, 4)}


def ratio(base_s: Sequence[float], other_s: Sequence[float]) -> Ratio:
    """How much faster the other is than the base.

    Args:
        base_s: Its latency in every round.
        other_s: Of the same rounds.
    """
    ratios = tuple(sorted(base / other for base, other in zip(base_s, other_s, strict=True)))
    return Ratio(percentile(ratios, 25), median(ratios), percentile(ratios, 75))


def measure_in_turn(
    artifacts: Sequence[Artifact],
    *,
    batch: int,
    threads: int,
    rounds: int,
    duration_s: float,
    warmup_s: float = WARMUP_S,
    tell: Callable[[Path, int, int], None] | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Measure files on ort-cpu.

    Args:
        artifacts: The files; sizes other than the batch that they leave open they state themselves.
        batch: Images per run.
        threads: Threads inside one run.
        rounds: How often each file gets a process; every second round goes backwards.
        duration_s: Seconds of counted runs in every process.
        warmup_s: Seconds of uncounted runs in every process.
        tell: Is told before every process: the file that comes, processes done, processes in all.

    Returns:
        For every file, in order, the median latency in seconds of each round.

    Raises:
        CnnportError: If a number is out of range, or a file does not take the batch.
        RuntimeMissingError: If onnxruntime is not installed.
        CheckFailedError: If a process fails.
    """
    if rounds < 1:
        raise CnnportError(f"rounds must be at least 1, not {rounds}")
    cases = make_cases(artifacts, ["ort-cpu"], [batch], [threads])
    medians_s: list[list[float]] = [[] for _ in cases]
    for number in range(rounds):
        places = range(len(cases))
        for turn, place in enumerate(reversed(places) if number % 2 else places):
            if tell is not None:
                tell(cases[place].artifact.path, number * len(cases) + turn, rounds * len(cases))
            results = bench(
                [cases[place]],
                rounds=1,
                warmup_s=warmup_s,
                duration_s=duration_s,
                min_iterations=MIN_ITERATIONS,
            )
            for skipped in results.skipped:
                kind = _ERRORS.get(skipped.exit_code, CnnportError)
                raise kind(f"{cases[place].artifact.path.name}: {skipped.reason}")
            medians_s[place].append(results.results[0].p50_s)
    return tuple(map(tuple, medians_s))

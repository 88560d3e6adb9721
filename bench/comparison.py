"""One figure of one case against its baseline: what was found, and the verdict."""

from dataclasses import asdict, dataclass
from enum import StrEnum

from cnnport.measuring.fields import Json, RecordError, count, number, take


class Verdict(StrEnum):
    """What a comparison says."""

    PASS = "pass"  # noqa: S105
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"


# A ratio beyond which it does not matter how far it is.
_FARTHEST = 1e9


@dataclass(frozen=True)
class Comparison:
    """A figure held against a limit.

    Attributes:
        case: In words.
        metric: ``p50``, ``mean``, ``throughput``, ``memory``, ``load`` and their like.
        limit: As it was written, ``p50+5%``.
        bound: The ratio that is the limit: 1.05 for ``p50+5%``, 0.95 for ``throughput-5%``.
        ratio: What was found, new over baseline.
        low: Lower end of its interval.
        high: Upper end.
        confidence: Of the interval.
        verdict: What follows.
        paired: Whether both sides were measured in this run, in turn; else the baseline's record was taken.
        rounds: Processes that each side got in this run.
        baseline: The figure of the baseline, in the record's unit (ms, images per second, bytes, s).
        value: Of what was measured now.
        baseline_sha256: Of the baseline's file.
        note: What has to be said of the comparison; empty for nothing.
    """

    case: str
    metric: str
    limit: str
    bound: float
    ratio: float
    low: float
    high: float
    confidence: float
    verdict: Verdict
    paired: bool
    rounds: int
    baseline: float
    value: float
    baseline_sha256: str = ""
    note: str = ""

    def to_json(self) -> Json:
        """All fields by name; ratios to five digits."""
        names = ("ratio", "low", "high", "bound")
        # JSON knows no infinity.
        ratios = {name: round(min(getattr(self, name), _FARTHEST), 5) for name in names}
        return {**asdict(self), **ratios, "verdict": str(self.verdict)}

    @classmethod
    def from_json(cls, row: Json) -> "Comparison":
        """Read one. Raises ``RecordError``."""
        try:
            verdict = Verdict(take(row, "verdict", str))
        except ValueError as error:
            raise RecordError(f"'verdict' holds {row['verdict']!r}") from error
        return cls(
            case=take(row, "case", str, ""),
            metric=take(row, "metric", str, ""),
            limit=take(row, "limit", str, ""),
            bound=number(row.get("bound"), "bound"),
            ratio=number(row.get("ratio"), "ratio"),
            low=number(row.get("low"), "low"),
            high=number(row.get("high"), "high"),
            confidence=number(row.get("confidence"), "confidence"),
            verdict=verdict,
            paired=take(row, "paired", bool),
            rounds=count(row.get("rounds"), "rounds"),
            baseline=number(row.get("baseline"), "baseline"),
            value=number(row.get("value"), "value"),
            baseline_sha256=take(row, "baseline_sha256", str, ""),
            note=take(row, "note", str, ""),
        )

    def __str__(self) -> str:
        """Figure, ratio and interval in one line."""
        return (
            f"{self.case}: {self.metric} {self.ratio - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%} with "
            f"{self.confidence:.0%} confidence, limit {self.bound - 1:+.1%}): {self.verdict}"
        )

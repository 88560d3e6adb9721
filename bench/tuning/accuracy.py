"""Whether a candidate, as it runs, is near enough to the float network."""

from dataclasses import dataclass
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.calibration import Samples, open_samples
from cnnport.errors import CnnportError
from cnnport.measuring.record import Json
from cnnport.measuring.tuning.candidate import Candidate
from cnnport.quantization.judging import Judge, Judgement
from cnnport.quantization.quantize_file import judged_samples
from cnnport.runtimes import Options

NOISE = "random:64"

# As many as quantize takes.
_COUNT = 500

# Of noise, or where the outputs are no classes: what is further off than this computes something else.
_LEAST_DB = 10.0


@dataclass(frozen=True)
class Accuracy:
    """What was found of a candidate.

    Attributes:
        drop: Points of accuracy lost; None where samples do not tell.
        sqnr_db: Power of the float outputs over that of the difference, in dB; None for no difference.
        problem: Why it cannot be taken; empty if it can.
        said: The judgement in words.
    """

    drop: float | None
    sqnr_db: float | None
    problem: str
    said: str

    def to_json(self) -> Json:
        """As plain JSON values; the fields are those of the constructor."""
        return {"drop": self.drop, "sqnr_db": self.sqnr_db, "problem": self.problem, "said": self.said}


class AccuracyCheck:
    """Holds candidates to the answers of the base.

    Attributes:
        is_noise: Whether the samples are noise, from which nothing follows about accuracy.
        counts_classes: Whether a loss can be counted in points.
    """

    def __init__(self, base: Artifact, calibration: str | None, max_drop: float) -> None:
        """Run the base.

        Args:
            base: The float32 file.
            calibration: As ``--calibration``; None for noise.
            max_drop: Points of accuracy that may be lost.

        Raises:
            CnnportError: If there are no samples, or they do not fit.
        """
        self._samples: Samples = open_samples(calibration or NOISE, base)
        judged, _ = judged_samples(self._samples)
        self._judge = Judge(base.path, judged, count=_COUNT)
        self._max_drop = max_drop
        self._is_open = base.inputs[0].dynamic_batch
        self.is_noise = self._samples.is_random
        self.counts_classes = not self.is_noise and self._judge.classes > 1

    @property
    def key(self) -> str:
        """Changes with the samples."""
        return self._samples.key

    def check(self, candidate: Candidate, path: Path) -> Accuracy:
        """Judge a candidate.

        Args:
            candidate: Whose runtime and settings are taken.
            path: Its file.
        """
        # Samples come one by one, whatever batch a runtime compiles for.
        single = {"batch": "1"} if "batch" in candidate.settings and self._is_open else {}
        options = Options(settings={**candidate.settings, **single})
        try:
            judgement = self._judge.judge(path, candidate.runtime, options)
        except CnnportError as error:
            return Accuracy(None, None, str(error), "")
        return self._verdict(candidate, judgement)

    def _verdict(self, candidate: Candidate, judgement: Judgement) -> Accuracy:
        facts = judgement.to_json()
        drop = judgement.drop if self.counts_classes else None
        sqnr_db = facts["sqnr_db"]
        problem = ""
        if drop is not None and drop > self._max_drop + 1e-9:
            problem = f"{candidate.computes} lost {drop:.2f} points: over the budget of {self._max_drop:g}"
        elif drop is None and judgement.sqnr_db < _LEAST_DB:
            problem = f"its outputs are not the network's: SQNR {judgement.sqnr_db:.1f} dB"
        return Accuracy(drop, None if sqnr_db is None else float(sqnr_db), problem, str(judgement))

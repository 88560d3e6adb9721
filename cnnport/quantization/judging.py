"""How far a candidate is from the network in float: the distance of the outputs, and what becomes of the classes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnport.calibration import Samples
from cnnport.errors import CnnportError, ImageError
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, get_runtime, require_runtime

_Array = NDArray[Any]

# Samples that are kept from one candidate to the next, there may be a hundred: decoding a picture takes about as long
# as a small network. Those beyond it are loaded again.
_KEPT_BYTES = 2**28

# Labels say something of a network that gets so many of them right, in per cent. Of one that was made for something
# else, or has random weights, a candidate may lose all and be right as often by chance.
_LEAST_TOP1 = 50.0


@dataclass(frozen=True)
class Judgement:
    """What samples say of a candidate.

    Attributes:
        sqnr_db: Power of the float outputs over that of the difference, in dB, over all samples; of several outputs
            the least. Infinite where there is no difference.
        agreement: Share of samples (of positions, for maps of scores) whose best class is the float network's, in
            per cent; None where the output is no scores, or all samples are of one class to the float network.
        top1_float: Share of samples that the float network classifies right, in per cent; None without labels, or
            where these are not what the network was trained for.
        top1: Share of those that the candidate does.
        count: How many samples.
    """

    sqnr_db: float
    agreement: float | None
    top1_float: float | None
    top1: float | None
    count: int

    @property
    def drop(self) -> float | None:
        """Accuracy lost, in points: of right classifications where labels are known, else of agreement."""
        if self.top1 is not None and self.top1_float is not None:
            return self.top1_float - self.top1
        return None if self.agreement is None else 100.0 - self.agreement

    def to_json(self) -> dict[str, float | int | None]:
        """Plain values; no distance is None, for JSON has no infinity."""
        return {
            "sqnr_db": round(self.sqnr_db, 2) if math.isfinite(self.sqnr_db) else None,
            "agreement": _rounded(self.agreement),
            "top1_float": _rounded(self.top1_float),
            "top1": _rounded(self.top1),
            "samples": self.count,
        }

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"SQNR {self.sqnr_db:.1f} dB"]
        if self.agreement is not None:
            parts.append(f"same class {self.agreement:.2f} %")
        if self.top1 is not None:
            parts.append(f"top-1 {self.top1:.2f} % (float {self.top1_float:.2f} %)")
        return f"{', '.join(parts)} on {self.count} samples"


def runner_of(target: str) -> tuple[str, Options]:
    """Where candidates for a target are run: its own kernels, or what the file says in float arithmetic.

    Files for TensorRT, and for OpenVINO where that is missing, are run on ONNX Runtime with nothing fused: what
    quantizers round is rounded, everything between them is float32.
    """
    if target == "ort":
        return "ort-cpu", Options()
    if target == "openvino" and not get_runtime("openvino").missing():
        return "openvino", Options()
    return "ort-cpu", Options(optimize=False)


class Judge:
    """Holds candidates to the answers of the float network on some samples."""

    def __init__(self, original: Path, samples: Samples, *, count: int | None = None) -> None:
        """Run the float network.

        Args:
            original: Its file.
            samples: What is fed; those that cannot be read are passed over.
            count: So many of them at most, the first.

        Raises:
            CnnportError: If none can be read, it does not run on them, or gives nothing that can be compared.
        """
        self._samples = samples
        self._kept: dict[int, Mapping[str, _Array]] = {}
        self._room = _KEPT_BYTES
        self._unreadable = ""
        self._places: list[int] = []
        self._expected: list[Mapping[str, _Array]] = []
        places = range(min(len(samples), len(samples) if count is None else count))
        for place, answer in self._answers(original, places, "ort-cpu", Options()):
            self._places.append(place)
            self._expected.append(answer)
        if not self._places:
            raise CnnportError(f"none of the {len(samples)} samples can be read: {self._unreadable}")
        if not self._expected[0]:
            raise CnnportError(
                "the network has no output of floating-point numbers, by which candidates are judged: quantize it "
                "up to the scores that its outputs are made of"
            )

    @property
    def classes(self) -> int:
        """How many classes the float network finds among the samples; 0 if its first output is no scores."""
        found = [_classes(answer) for answer in self._expected]
        return len({int(each) for array in found if array is not None for each in np.unique(array)})

    def judge(self, candidate: Path, runtime: str, options: Options) -> Judgement:
        """Run a candidate on the same samples.

        Raises:
            CnnportError: If it cannot be loaded or run.
        """
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        agreed, right, right_float, labelled = [], 0, 0, 0
        # Where everything is one class, agreeing says nothing.
        tells = self.classes > 1
        answers = self._answers(candidate, self._places, runtime, options)
        for (place, found), expected in zip(answers, self._expected, strict=True):
            for name, value in expected.items():
                exact, other = np.asarray(value, np.float64), np.asarray(found[name], np.float64)
                signal[name] = signal.get(name, 0.0) + float(np.square(exact).sum())
                noise[name] = noise.get(name, 0.0) + float(np.square(exact - other).sum())
            ours, theirs = _classes(found), _classes(expected)
            if ours is None or theirs is None or not tells:
                continue
            agreed.append(float(np.mean(ours == theirs)))
            label = self._samples.label(place)
            if label is not None and theirs.size == 1:
                labelled += 1
                right += int(ours.item() == label)
                right_float += int(theirs.item() == label)
        is_labelled = labelled > 0 and 100.0 * right_float / labelled >= _LEAST_TOP1
        return Judgement(
            min(_decibels(signal[name], noise[name]) for name in signal),
            100.0 * float(np.mean(agreed)) if agreed else None,
            100.0 * right_float / labelled if is_labelled else None,
            100.0 * right / labelled if is_labelled else None,
            len(self._places),
        )

    def _answers(
        self, path: Path, places: "range | list[int]", runtime: str, options: Options
    ) -> Iterator[tuple[int, Mapping[str, _Array]]]:
        """What a file gives for each sample by itself; those that cannot be read are left out."""
        artifact = read_artifact(path)
        first = artifact.inputs[0].shape[:1]
        # A file of a fixed batch is fed one sample so many times.
        batch = first[0] if first and isinstance(first[0], int) else 1
        with require_runtime(runtime).open(artifact, options) as session:
            for place in places:
                try:
                    feeds = self._load(place)
                except ImageError as error:
                    self._unreadable = str(error)
                    continue
                answer = session.run({name: np.repeat(array, batch, 0) for name, array in feeds.items()})
                yield (
                    place,
                    {
                        name: value[:1] if value.shape[:1] == (batch,) else value
                        for name, value in answer.items()
                        if value.dtype.kind == "f"
                    },
                )

    def _load(self, place: int) -> Mapping[str, _Array]:
        """A sample, and keep it if there is room. Raises ``ImageError``."""
        if place in self._kept:
            return self._kept[place]
        feeds = self._samples.load(place)
        size = sum(array.nbytes for array in feeds.values())
        if size <= self._room:
            self._room -= size
            self._kept[place] = feeds
        return feeds


def _classes(answer: Mapping[str, _Array]) -> "NDArray[np.int64] | None":
    """The best class of each position of the first output, or None if it has no scores."""
    value = next(iter(answer.values()), None)
    if value is None or value.ndim < 2 or value.shape[1] < 2:
        return None
    best: NDArray[np.int64] = np.argmax(value, axis=1)
    return best


def _decibels(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal else -math.inf


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

"""What one run over the data found out about every value of a network, and the ranges that follow from it."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cnnport.calibration.histogram import Histogram
from cnnport.calibration.methods import PERCENTILE, Statistics, find_range
from cnnport.errors import ArtifactError, UnknownNameError
from cnnport.files import write_atomically
from cnnport.graphs.quantize.ranges import ValueRange

_FORMAT = 1

_Array = NDArray[Any]


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read: what it is called, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was seen of each value, which answers every method.

    Attributes:
        statistics: By the value's name.
        source: What was fed, for people.
        count: How many samples were run.
        skipped: Those that could not be read.
        is_random: Whether the samples were noise, from whose ranges no claim of accuracy follows.
    """

    statistics: Mapping[str, Statistics]
    source: str
    count: int
    skipped: tuple[Skipped, ...] = ()
    is_random: bool = False

    def range_of(
        self, value: str, method: str, *, percentile: float = PERCENTILE, symmetric: bool = False
    ) -> ValueRange:
        """The range of one value; see ``methods.find_range``.

        Raises:
            UnknownNameError: If the value was not calibrated, or there is no such method.
            CnnportError: If the percentile is none.
        """
        if value not in self.statistics:
            raise UnknownNameError(f"value {value!r} was not calibrated")
        return find_range(self.statistics[value], method, percentile=percentile, symmetric=symmetric)

    def ranges(
        self,
        method: str,
        values: Iterable[str] | None = None,
        *,
        percentile: float = PERCENTILE,
        symmetric: bool = False,
    ) -> dict[str, ValueRange]:
        """The ranges of several values, or of all. Raises as ``range_of``."""
        names = self.statistics if values is None else values
        return {
            name: self.range_of(name, method, percentile=percentile, symmetric=symmetric) for name in names
        }

    def merged(self, other: Self) -> Self:
        """What one run over both sets of samples would have found.

        Raises:
            ArtifactError: If the two are about other values.
        """
        if self.statistics.keys() != other.statistics.keys():
            raise ArtifactError("calibrations of different values cannot be merged")
        return type(self)(
            {name: found.merged(other.statistics[name]) for name, found in self.statistics.items()},
            self.source if self.source == other.source else f"{self.source}; {other.source}",
            self.count + other.count,
            self.skipped + other.skipped,
            self.is_random or other.is_random,
        )

    def to_metadata(self) -> dict[str, Any]:
        """What a quantized file says of the data behind it, as plain JSON values."""
        return {
            "source": self.source,
            "count": self.count,
            "skipped": len(self.skipped),
            "random": self.is_random,
        }

    def to_bytes(self) -> bytes:
        """The same bytes for the same findings."""
        header = {
            "format": _FORMAT,
            "values": list(self.statistics),
            "source": self.source,
            "count": self.count,
            "skipped": [[entry.name, entry.reason] for entry in self.skipped],
            "random": self.is_random,
        }
        found = list(self.statistics.values())
        parts = [entry.histogram.as_arrays() for entry in found]
        file = io.BytesIO()
        np.savez(
            file,
            header=np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8),
            ends=np.array([[entry.low, entry.high] for entry in found], np.float64).reshape(-1, 2),
            sizes=np.array([len(bins) for bins, _ in parts], np.int64),
            bins=_joined([bins for bins, _ in parts]).astype(np.int32),
            counts=_joined([counts for _, counts in parts]),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "it") -> Self:
        """The inverse of ``to_bytes``; nothing is unpickled.

        Args:
            data: As stored.
            name: What to call it in a message.

        Raises:
            ArtifactError: If it is no calibration, or a damaged one.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                ends, sizes = file["ends"].astype(np.float64), file["sizes"].astype(np.int64)
                bins, counts = file["bins"].astype(np.int64), file["counts"].astype(np.int64)
            values = _checked(header, ends, sizes, bins, counts)
            cuts = np.cumsum(sizes)[:-1]
            parts = zip(np.split(bins, cuts), np.split(counts, cuts), strict=True) if values else ()
            statistics = {
                value: Statistics(float(low), float(high), Histogram.from_arrays(*part))
                for value, (low, high), part in zip(values, ends, parts, strict=True)
            }
            skipped = tuple(Skipped(str(entry), str(reason)) for entry, reason in header["skipped"])
            return cls(
                statistics, str(header["source"]), int(header["count"]), skipped, bool(header["random"])
            )
        except (ValueError, KeyError, TypeError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
            raise ArtifactError(f"{name} is no calibration, or is damaged") from error

    def save(self, path: Path) -> None:
        """Write a file, whole or not at all. Raises ``OutputError``."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. Raises ``ArtifactError``."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
        return cls.from_bytes(data, str(path))


@dataclass
class Counter:
    """Statistics of one value while they grow; the least and the greatest number are at first those of nothing."""

    low: float = float("inf")
    high: float = float("-inf")
    histogram: Histogram = field(default_factory=Histogram)

    def reach(self, low: float, high: float) -> None:
        """Numbers as low and as high as these have been seen."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    @property
    def statistics(self) -> Statistics:
        """As they stand."""
        return Statistics(self.low, self.high, self.histogram)


def _joined(arrays: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _checked(header: Any, ends: _Array, sizes: _Array, bins: _Array, counts: _Array) -> list[str]:
    """The names of the values. Raises ``ValueError`` if the parts do not fit each other."""
    values: list[str] = header["values"]
    fit = header["format"] == _FORMAT and ends.shape == (len(values), 2) and sizes.shape == (len(values),)
    if not fit or np.any(sizes < 0) or sizes.sum() != len(bins) or bins.shape != counts.shape:
        raise ValueError("of another form")
    return values

"""The record of what a machine can do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeVar

Json = dict[str, Any]

_T = TypeVar("_T", "Product", "Stream")

# From the best run to the median one: a machine that does nothing else stays within it, even a virtual one.
_STEADY = 1.3


@dataclass(frozen=True)
class Product:
    """Arithmetic of one product of matrices, or one convolution.

    Attributes:
        operation: What was computed, with its size.
        runtime: By which library: a runtime's name, or ``torch`` for PyTorch's own routine.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        flops_s: Operations a second in the best run; a multiply-add counts two.
        median_flops_s: In the median run.
    """

    operation: str
    runtime: str
    precision: str
    flops_s: float
    median_flops_s: float

    @property
    def rate(self) -> float:
        """Of the best run."""
        return self.flops_s

    @property
    def median_rate(self) -> float:
        """Of the median run."""
        return self.median_flops_s

    def __str__(self) -> str:
        """For people."""
        return f"{self.operation} on {self.runtime}"


@dataclass(frozen=True)
class Stream:
    """Bandwidth of one of STREAM's kernels, counted as STREAM counts: what is read and what is written, once each.

    Attributes:
        kernel: ``copy``, ``scale``, ``add`` or ``triad``.
        level: ``memory`` for arrays well beyond the last cache, ``cache`` for arrays that lie in it together.
        array_bytes: Of each of the three arrays.
        bytes_s: Bytes a second in the best run.
        median_bytes_s: In the median run.
    """

    kernel: str
    level: str
    array_bytes: int
    bytes_s: float
    median_bytes_s: float

    @property
    def rate(self) -> float:
        """Of the best run."""
        return self.bytes_s

    @property
    def median_rate(self) -> float:
        """Of the median run."""
        return self.median_bytes_s


@dataclass(frozen=True)
class Machine:
    """What a machine can do with some threads.

    Attributes:
        threads: That worked, each on a CPU of its own.
        cpu_model: As the system calls it.
        products: What was computed.
        streams: What was moved.
        versions: Of the packages that computed, by name.
        skipped: What could not be measured and why, by library.
        date_utc: When.
        times: How often it was measured, of which these are the best figures.
    """

    threads: int
    cpu_model: str
    products: tuple[Product, ...]
    streams: tuple[Stream, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    date_utc: str = ""
    times: int = 1

    @property
    def peak_flops(self) -> Mapping[str, float]:
        """FLOP/s by precision: the largest that was seen."""
        return {precision: product.flops_s for precision, product in self.peaks.items()}

    @property
    def peaks(self) -> Mapping[str, Product]:
        """The product that was fastest, by precision."""
        found: dict[str, Product] = {}
        for product in sorted(self.products, key=lambda each: each.flops_s):
            found[product.precision] = product
        return {name: found[name] for name in sorted(found)}

    @property
    def bandwidth_bytes_s(self) -> float:
        """Bytes a second from and to memory: the largest of STREAM's four kernels."""
        return max((each.bytes_s for each in self.streams if each.level == "memory"), default=0.0)

    @property
    def cache_bytes_s(self) -> float:
        """The same of what lies in the last cache; 0 where its size is not known."""
        return max((each.bytes_s for each in self.streams if each.level == "cache"), default=0.0)

    @property
    def is_steady(self) -> bool:
        """Whether the median run came near the best one wherever a peak was found; if not, others were at work."""
        memory = [each for each in self.streams if each.level == "memory"]
        best: list[Product | Stream] = [
            *self.peaks.values(),
            *sorted(memory, key=lambda each: each.rate)[-1:],
        ]
        return all(each.rate <= _STEADY * each.median_rate for each in best)

    def roof(self, precision: str, intensity: float) -> float:
        """The most FLOP/s that can be had at so many FLOPs for each byte from or to memory.

        Args:
            precision: One without a peak of its own is computed in fp32.
            intensity: FLOPs per byte.
        """
        peak = self.peak_flops.get(precision, self.peak_flops["fp32"])
        return min(peak, intensity * self.bandwidth_bytes_s)

    def best_of(self, other: Self) -> Self:
        """The same machine with the better figure of either wherever both were measured."""
        return type(self)(
            threads=self.threads,
            cpu_model=self.cpu_model,
            products=_best(
                (*self.products, *other.products),
                lambda each: (each.operation, each.runtime, each.precision),
            ),
            streams=_best((*self.streams, *other.streams), lambda each: (each.kernel, each.level)),
            versions=self.versions,
            skipped={name: why for name, why in self.skipped.items() if name in other.skipped},
            date_utc=self.date_utc,
            times=self.times + other.times,
        )

    def to_json(self) -> Json:
        """As plain JSON values; ``from_json`` reads them back."""
        return {
            "threads": self.threads,
            "cpu_model": self.cpu_model,
            "peak_flops": dict(self.peak_flops),
            "bandwidth_bytes_s": self.bandwidth_bytes_s,
            "cache_bytes_s": self.cache_bytes_s,
            "is_steady": self.is_steady,
            "products": [asdict(each) for each in self.products],
            "streams": [asdict(each) for each in self.streams],
            "versions": dict(self.versions),
            "skipped": dict(self.skipped),
            "date_utc": self.date_utc,
            "times": self.times,
        }

    @classmethod
    def from_json(cls, row: Json) -> Self:
        """The other end of ``to_json``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        return cls(
            threads=int(row["threads"]),
            cpu_model=str(row["cpu_model"]),
            products=tuple(Product(**each) for each in row["products"]),
            streams=tuple(Stream(**each) for each in row["streams"]),
            versions=dict(row["versions"]),
            skipped=dict(row["skipped"]),
            date_utc=str(row["date_utc"]),
            times=int(row["times"]),
        )


def _best(rows: Sequence[_T], key: Callable[[_T], tuple[str, ...]]) -> tuple[_T, ...]:
    found: dict[tuple[str, ...], _T] = {}
    for row in rows:
        known = found.get(key(row))
        if known is None or row.rate > known.rate:
            found[key(row)] = row
    return tuple(found.values())

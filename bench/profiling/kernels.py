"""What a runtime runs as one, and how long that takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median

from cnnport.errors import CheckFailedError
from cnnport.measuring.fields import Json

INTEGER = "int8"

# Element types as runtimes call them, in the words of cnnport.
_PRECISIONS = {
    "bf16": "bf16",
    "bfloat16": "bf16",
    "double": "fp64",
    "f16": "fp16",
    "f32": "fp32",
    "f64": "fp64",
    "float": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "i8": INTEGER,
    "int8": INTEGER,
    "u8": INTEGER,
    "uint8": INTEGER,
}


@dataclass(frozen=True)
class Kernel:
    """Something that a runtime runs as one, which may be several nodes of the file or none.

    Attributes:
        names: Of nodes, or of values that they write, as the runtime calls them.
        operator: What the runtime calls what it computes.
        ms: In one run.
        precision: The type that it reads: ``fp32``, ``fp16``, ``bf16``, ``int8``, or as the runtime calls it; empty
            where that does not say.
        label: What the runtime calls it; empty where that is the first of the names.
        sources: Places of the kernels whose results it reads, as far as the runtime tells.
        module: Path of the PyTorch module that it is, where the runtime runs modules; None elsewhere.
        writes: Names of the values that it writes, in the graph that the runtime made of the file, where it tells.
        moved_bytes: What it reads and writes, where the runtime tells.
    """

    names: tuple[str, ...]
    operator: str
    ms: float
    precision: str = ""
    label: str = ""
    sources: tuple[int, ...] = ()
    module: str | None = None
    writes: tuple[str, ...] = ()
    moved_bytes: int | None = None

    @property
    def integer(self) -> bool:
        """Whether it reads 8-bit integers."""
        return self.precision == INTEGER

    @property
    def name(self) -> str:
        """What the runtime calls it."""
        return self.label or next(filter(None, self.names), self.operator)


@dataclass(frozen=True)
class Timed:
    """A kernel, and the milliseconds that it took in a run of each turn; its own ``ms`` is their median."""

    kernel: Kernel
    turns_ms: tuple[float, ...]

    def to_json(self) -> Json:
        """For another process."""
        return {**asdict(self.kernel), "turns_ms": list(self.turns_ms)}

    @classmethod
    def from_json(cls, row: Json) -> "Timed":
        """The other end of ``to_json``."""
        fields: Json = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
        }
        turns_ms = fields.pop("turns_ms")
        return cls(Kernel(**fields), turns_ms)


def timed(kernel: Kernel, turns_ms: Sequence[float]) -> Timed:
    """A kernel with its times."""
    return Timed(replace(kernel, ms=median(turns_ms)), tuple(turns_ms))


def merged(processes: Sequence[Sequence[Timed]]) -> tuple[Kernel, ...]:
    """The kernels of several processes that ran the same, each with the median of the turns of all.

    They are in the order of the first process: runtimes may order what does not depend on each other anew each time.

    Raises:
        CheckFailedError: If they did not run the same, with the first kernel that not all have.
    """
    named = [{each.kernel.name: each for each in part} for part in processes]
    for part in named[1:]:
        if odd := sorted(named[0].keys() ^ part.keys()):
            raise CheckFailedError(
                f"the runtime did not run the same kernels in every process: {odd[0]} differs"
            )
    return tuple(
        timed(each.kernel, [ms for part in named for ms in part[each.kernel.name].turns_ms]).kernel
        for each in processes[0]
    )


def precision_of(element: str) -> str:
    """An element type as cnnport calls it; one that it has no word for as it is."""
    return _PRECISIONS.get(element.lower(), element)


def middle_mean(values: Sequence[float]) -> float:
    """The mean of the middle half: as steady as the median, and finer where a clock counts whole microseconds."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    return fmean(ordered[cut : len(ordered) - cut])

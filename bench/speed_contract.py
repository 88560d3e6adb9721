"""Whether an int8 file is worth having: how much faster it runs than its float file, and if not, why.

The ratio is of the two files in turn, see ``paired``. Only where it falls short are the layers looked at, in runs of
their own: noting how long each kernel takes slows a run down, so that no figure of the ratio comes from there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from cnnport.measuring.case import make_cases
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.paired import Ratio, measure_in_turn, ratio
from cnnport.measuring.profiling.asking import glance
from cnnport.measuring.profiling.layer_times import Conversion, LayerTime, LayerTimes, layer_times
from cnnport.measuring.record import Json
from cnnport.onnxfile import load_model, read_artifact

# Of layers that are told in words; all of them are in the JSON.
_TOLD = 8


@dataclass(frozen=True)
class Speed:
    """An int8 file against its float file.

    Attributes:
        ratio: How much faster it is, above 1 is faster.
        original_ms: Latency of the float file: the median of its turns.
        quantized_ms: Of the int8 file.
        runtime: Where.
        threads: Inside one run.
        batch: Images a run.
        rounds: Processes that each file got.
        wanted: What the ratio was to be at least.
        slower: The layers that take longer in the int8 file, those that lose most first; empty where it is as fast
            as wanted.
        conversions: What is neither layer, likewise.
    """

    ratio: Ratio
    original_ms: float
    quantized_ms: float
    runtime: str
    threads: int
    batch: int
    rounds: int
    wanted: float = 1.0
    slower: tuple[LayerTime, ...] = ()
    conversions: tuple[Conversion, ...] = ()

    @property
    def is_faster(self) -> bool:
        """Whether it is faster at all."""
        return self.ratio.median > 1

    @property
    def is_kept(self) -> bool:
        """Whether it is faster, and as much as wanted."""
        return self.is_faster and self.ratio.median >= self.wanted

    def __str__(self) -> str:
        """For people: one line where the contract is kept, and the layers where it is not."""
        return "\n".join(self._lines())

    def to_json(self) -> Json:
        """As plain JSON values."""
        return {
            "ratio": self.ratio.to_json(),
            "original_ms": round(self.original_ms, 4),
            "quantized_ms": round(self.quantized_ms, 4),
            "runtime": self.runtime,
            "threads": self.threads,
            "batch": self.batch,
            "rounds": self.rounds,
            "wanted": self.wanted,
            "is_faster": self.is_faster,
            "slower": [layer.to_json() for layer in self.slower],
            "conversions": [each.to_json() for each in self.conversions],
        }

    def _lines(self) -> Iterator[str]:
        verdict = "" if self.is_faster else "int8 is not faster: "
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        rounds = f"{self.rounds} round{'s' * (self.rounds > 1)}"
        yield (
            f"{verdict}{self.ratio} times as fast as float32 on {self.runtime}, {self.quantized_ms:.3f} ms against "
            f"{self.original_ms:.3f} ms (batch {self.batch}, {threads}, {rounds})"
        )
        if self.is_kept:
            return
        if self.slower:
            yield "layers that take longer in 8 bits, by the runtime's own profile:"
            yield from (f"  {layer}" for layer in self.slower[:_TOLD])
            if len(self.slower) > _TOLD:
                yield f"  and {len(self.slower) - _TOLD} more"
        if converting := [each for each in self.conversions if each.count]:
            spent_ms = sum(each.int8_ms for each in converting)
            yield f"conversions, and what bears no name of the file, take {spent_ms:.3f} ms of a run:"
            yield from (f"  {each}" for each in converting)


def speed(
    original: Path,
    quantized: Path,
    *,
    runtime: str = "ort-cpu",
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 5,
    duration_s: float = 1.0,
    wanted: float = 1.0,
    tell: Callable[[Path, int, int], None] | None = None,
) -> Speed:
    """Measure an int8 file against its float file.

    Args:
        original: The float file, as it is fastest on the runtime.
        quantized: The int8 file.
        runtime: ``ort-cpu`` or ``openvino``, which compiles both for this batch.
        batch: Images a run.
        threads: Inside one run; None for all cores.
        rounds: Processes for each file.
        duration_s: Seconds of counted runs in each of them.
        wanted: Times as fast as it is to be; where it is not, or not faster at all, the layers are looked at.
        tell: As of ``measure_in_turn``.

    Raises:
        CnnportError: If a number is out of range, or a file does not take the batch.
        RuntimeMissingError: If the runtime is not available.
        ArtifactError: If a file is none.
        CheckFailedError: If a process fails.
    """
    threads = default_threads() if threads is None else threads
    artifacts = [read_artifact(path) for path in (original, quantized)]
    settings = settings_of(batch)
    first_s, other_s = measure_in_turn(
        artifacts,
        batch=batch,
        threads=threads,
        rounds=rounds,
        duration_s=duration_s,
        runtimes=[runtime] * 2,
        settings=settings,
        tell=tell,
    )
    found = Speed(
        ratio(first_s, other_s),
        median(first_s) * 1e3,
        median(other_s) * 1e3,
        runtime,
        threads,
        batch,
        rounds,
        wanted,
    )
    if found.is_kept:
        return found
    times = compare_layers(original, quantized, runtime=runtime, batch=batch, threads=threads)
    return replace(found, slower=times.slower, conversions=times.conversions)


def compare_layers(original: Path, quantized: Path, *, runtime: str, batch: int, threads: int) -> LayerTimes:
    """How long the layers of both files take, by the runtime's own profile. Arguments and errors as of ``speed``."""
    models = [load_model(path, external_data=False) for path in (original, quantized)]
    artifacts = [read_artifact(path) for path in (original, quantized)]
    cases = make_cases(artifacts, [runtime], [batch], [threads], settings=settings_of(batch))
    first, other = (glance(case) for case in cases)
    return layer_times(models[0], first, models[1], other)


def settings_of(batch: int) -> dict[str, dict[str, str]]:
    """OpenVINO is faster on a network that it compiles for one batch size, in float and in 8 bits."""
    return {"openvino": {"batch": str(batch)}}

"""Reasons to doubt the figures, enumerated, each with what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cnnport.measuring.case import title
from cnnport.measuring.comparison import Verdict
from cnnport.measuring.fields import Json
from cnnport.measuring.measurement import CUDA_EVENTS, Measurement
from cnnport.measuring.stability import (
    BUSY_LOAD,
    DRIFT,
    ENOUGH_SAMPLES,
    OTHER_LOAD,
    SPREAD,
    TAIL_RATIO,
    TRANSFER_SHARE,
    drift,
    is_throttled,
    other_load,
    spread,
    tail_ratio,
)

if TYPE_CHECKING:
    from cnnport.measuring.record import Results


class Code(StrEnum):
    """What is wrong; the names are part of the record."""

    BUSY_AT_START = "busy-at-start"
    OTHER_LOAD = "other-load"
    NOISY_MACHINE = "noisy-machine"
    ROUNDS_DIFFER = "rounds-differ"
    FREQUENCY_DRIFT = "frequency-drift"
    THERMAL_THROTTLING = "thermal-throttling"
    FEW_SAMPLES = "few-samples"
    NOT_SETTLED = "not-settled"
    MORE_THREADS_THAN_CPUS = "more-threads-than-cpus"
    TRANSFER_BOUND = "transfer-bound"
    BASELINE_NOT_MEASURED = "baseline-not-measured"
    INCONCLUSIVE = "inconclusive"


ADVICE = {
    Code.BUSY_AT_START: "stop other work",
    Code.OTHER_LOAD: "stop other work, or measure on a machine of your own",
    Code.NOISY_MACHINE: "stop other work on the machine",
    Code.ROUNDS_DIFFER: "use more --rounds, and stop other work",
    Code.FREQUENCY_DRIFT: "fix the clock (cpupower frequency-set, nvidia-smi --lock-gpu-clocks), or use more "
    "--rounds",
    Code.THERMAL_THROTTLING: "let the machine cool down, or see to its cooling",
    Code.FEW_SAMPLES: "use a longer --duration",
    Code.NOT_SETTLED: "use a longer --warmup-max",
    Code.MORE_THREADS_THAN_CPUS: "use as many --threads as there are CPUs",
    Code.TRANSFER_BOUND: "keep inputs and outputs on the device, or use a larger --batch or smaller images",
    Code.BASELINE_NOT_MEASURED: "keep the baseline's file beside its record, or name it: --baseline old.onnx",
    Code.INCONCLUSIVE: "use more --max-rounds or a longer --duration, and stop other work",
}
"""What to do about each."""


@dataclass(frozen=True)
class Caution:
    """One reason to doubt.

    Attributes:
        code: Which.
        case: The case in words; empty for the machine.
        message: What was found.
        advice: What to do.
    """

    code: Code
    case: str
    message: str
    advice: str

    def __str__(self) -> str:
        """All of it in one line."""
        return (
            f"{self.case}: {self.message}; {self.advice}" if self.case else f"{self.message}; {self.advice}"
        )

    def to_json(self) -> Json:
        """All fields by name."""
        return {"code": str(self.code), "case": self.case, "message": self.message, "advice": self.advice}


def cautions(results: "Results") -> tuple[Caution, ...]:
    """Every reason to doubt the figures; first the machine, then the rows, then the comparisons."""
    return (
        *_of_the_machine(results),
        *(caution for row in results.results for caution in _of_a_row(row)),
        *_of_comparisons(results),
    )


def title_of(row: Measurement) -> str:
    """The row in words, for messages."""
    return title(row.model, row.runtime, row.precision, row.batch, row.threads, row.concurrency)


def _of_the_machine(results: "Results") -> Iterator[Caution]:
    environment = results.environment
    load, cpus = environment.load_average_start, len(environment.cpus_allowed)
    if results.results and load is not None and cpus and load / cpus > BUSY_LOAD:
        text = f"the machine was busy at the start (load average {load:g} on {cpus} CPUs)"
        yield Caution(Code.BUSY_AT_START, "", text, ADVICE[Code.BUSY_AT_START])


def _of_a_row(row: Measurement) -> Iterator[Caution]:
    case = title_of(row)
    for code, message in _found(row):
        advice = ADVICE[code]
        if code is Code.MORE_THREADS_THAN_CPUS:
            advice = f"use --threads {len(row.cpus)}"
        yield Caution(code, case, message, advice)


def _found(row: Measurement) -> Iterator[tuple[Code, str]]:
    cpus, count = len(row.cpus), len(row.samples_s)
    if 0 < cpus < row.threads:
        yield Code.MORE_THREADS_THAN_CPUS, f"more threads than CPUs ({cpus}), so they take turns"
    if count < ENOUGH_SAMPLES:
        yield Code.FEW_SAMPLES, f"only {count} samples, so p95 and p99 say little"
    # Several requests in flight wait for each other, which is no noise.
    elif tail_ratio(row) > TAIL_RATIO and row.concurrency == 1:
        yield Code.NOISY_MACHINE, f"unstable, p99 is {tail_ratio(row):.1f} times p50"
    if spread(row) > SPREAD:
        yield Code.ROUNDS_DIFFER, f"rounds differ by {spread(row):.0%} in p50"
    if (load := other_load(row)) is not None and load > OTHER_LOAD:
        yield Code.OTHER_LOAD, f"others had up to {load:.0%} of the CPUs in use during a round"
    for sensor, name in (("cpu_mhz", "CPU"), ("gpu_mhz", "GPU")):
        is_used = sensor == "cpu_mhz" or row.clock == CUDA_EVENTS
        if is_used and (change := drift(row, sensor)) is not None and change > DRIFT:
            yield Code.FREQUENCY_DRIFT, f"the clock of the {name} fell by up to {change:.0%}"
    if is_throttled(row):
        yield Code.THERMAL_THROTTLING, "the processor slowed down for heat"
    restless = sum(each.warmup is not None and each.warmup.settled is False for each in row.rounds)
    if restless:
        yield (
            Code.NOT_SETTLED,
            f"latency had not settled when warm-up ended in {restless} of {len(row.rounds)} rounds",
        )
    share = max((each.transfer_share or 0.0 for each in row.rounds), default=0.0)
    if share > TRANSFER_SHARE:
        yield Code.TRANSFER_BOUND, f"copies to and from the device take {share:.0%} of a run"


def _of_comparisons(results: "Results") -> Iterator[Caution]:
    for each in results.comparisons:
        if not each.paired:
            code = Code.BASELINE_NOT_MEASURED
            text = f"{each.metric} is held against a record, not against a measurement of this run"
            yield Caution(code, each.case, f"{text} ({each.note})" if each.note else text, ADVICE[code])
        if each.verdict is Verdict.INCONCLUSIVE:
            code = Code.INCONCLUSIVE
            text = f"{each.limit} can be neither confirmed nor denied after {each.rounds} rounds"
            yield Caution(code, each.case, text, ADVICE[code])

"""Every warning has a code and says what to do, and none is given without its cause."""

from dataclasses import replace

import pytest

from cnnport.measuring import Code, Comparison, Environment, Measurement, Results, Round, Verdict, cautions
from cnnport.measuring.cautions import ADVICE
from cnnport.measuring.measurement import CUDA_EVENTS, Warmup
from cnnport.measuring.sensors import Sensors

# 100 samples: 1 ms to 1.099 ms.
STEADY = tuple(round(0.001 + step * 1e-6, 6) for step in range(100))
QUIET = Round(
    STEADY,
    warmup=Warmup(0.5, 500, True),
    before=Sensors(cpu_mhz=2600, gpu_mhz=1500, cpu_throttles=3),
    after=Sensors(cpu_mhz=2550, gpu_mhz=1490, cpu_throttles=3, gpu_throttled=0),
    other_load=0.04,
    transfer_share=0.1,
)
ROW = Measurement("lenet5", "ort-cpu", "fp32", 1, 2, (QUIET, QUIET), cpus=(0, 1))
COMPARISON = Comparison(
    "lenet5", "p50", "p50+5%", 1.05, 1.0, 0.99, 1.01, 0.99, Verdict.PASS, True, 5, 1.0, 1.0, "", ""
)
ENVIRONMENT = Environment(cpus_allowed=(0, 1), load_average_start=0.5)


def of(
    row: Measurement = ROW, comparison: Comparison = COMPARISON, **environment: float
) -> list[tuple[Code, str]]:
    results = Results(replace(ENVIRONMENT, **environment), (row,), comparisons=(comparison,))
    return [(each.code, str(each)) for each in cautions(results)]


def rounds(**changed: object) -> Measurement:
    return replace(ROW, rounds=(QUIET, replace(QUIET, **changed)))


def test_a_quiet_machine_gives_none() -> None:
    assert of() == []
    assert set(ADVICE) == set(Code)


NAME = "lenet5 on ort-cpu (fp32, batch 1, threads 2)"


@pytest.mark.parametrize(
    ("found", "code", "text"),
    [
        (
            of(load_average_start=3.0),
            Code.BUSY_AT_START,
            "the machine was busy at the start (load average 3 on 2 CPUs); stop other work",
        ),
        (
            of(replace(ROW, threads=3)),
            Code.MORE_THREADS_THAN_CPUS,
            "lenet5 on ort-cpu (fp32, batch 1, threads 3): more threads than CPUs (2), so they take turns; "
            "use --threads 2",
        ),
        (
            of(replace(ROW, rounds=(Round(STEADY[:20]),))),
            Code.FEW_SAMPLES,
            f"{NAME}: only 20 samples, so p95 and p99 say little; use a longer --duration",
        ),
        (
            of(rounds(samples_s=(*STEADY, *(2 * each for each in STEADY[:4])))),
            Code.NOISY_MACHINE,
            f"{NAME}: unstable, p99 is 1.9 times p50; stop other work on the machine",
        ),
        (
            of(rounds(samples_s=tuple(1.1 * each for each in STEADY))),
            Code.ROUNDS_DIFFER,
            f"{NAME}: rounds differ by 10% in p50; use more --rounds, and stop other work",
        ),
        (
            of(rounds(other_load=0.2)),
            Code.OTHER_LOAD,
            f"{NAME}: others had up to 20% of the CPUs in use during a round; "
            "stop other work, or measure on a machine of your own",
        ),
        (
            of(rounds(after=Sensors(cpu_mhz=1300))),
            Code.FREQUENCY_DRIFT,
            f"{NAME}: the clock of the CPU fell by up to 50%; fix the clock (cpupower frequency-set, "
            "nvidia-smi --lock-gpu-clocks), or use more --rounds",
        ),
        (
            of(rounds(after=Sensors(cpu_throttles=4))),
            Code.THERMAL_THROTTLING,
            f"{NAME}: the processor slowed down for heat; let the machine cool down, or see to its cooling",
        ),
        (
            of(rounds(after=Sensors(gpu_throttled=1))),
            Code.THERMAL_THROTTLING,
            f"{NAME}: the processor slowed down for heat; let the machine cool down, or see to its cooling",
        ),
        (
            of(rounds(warmup=Warmup(2.0, 9, False))),
            Code.NOT_SETTLED,
            f"{NAME}: latency had not settled when warm-up ended in 1 of 2 rounds; use a longer --warmup-max",
        ),
        (
            of(rounds(transfer_share=0.5)),
            Code.TRANSFER_BOUND,
            f"{NAME}: copies to and from the device take 50% of a run; "
            "keep inputs and outputs on the device, or use a larger --batch or smaller images",
        ),
        (
            of(comparison=replace(COMPARISON, paired=False, note="gone")),
            Code.BASELINE_NOT_MEASURED,
            "lenet5: p50 is held against a record, not against a measurement of this run (gone); "
            "keep the baseline's file beside its record, or name it: --baseline old.onnx",
        ),
        (
            of(comparison=replace(COMPARISON, verdict=Verdict.INCONCLUSIVE)),
            Code.INCONCLUSIVE,
            "lenet5: p50+5% can be neither confirmed nor denied after 5 rounds; "
            "use more --max-rounds or a longer --duration, and stop other work",
        ),
    ],
)
def test_each_cause_gives_its_own(found: list[tuple[Code, str]], code: Code, text: str) -> None:
    assert found == [(code, text)]


def test_what_is_no_cause() -> None:
    # A GPU's clock is of no matter to a CPU's times; several requests wait for each other.
    drifting = rounds(after=Sensors(gpu_mhz=700))
    assert of(drifting) == []
    assert [code for code, _ in of(replace(drifting, clock=CUDA_EVENTS))] == [Code.FREQUENCY_DRIFT]
    uneven = rounds(samples_s=(*STEADY, *(2 * each for each in STEADY[:4])))
    assert of(replace(uneven, concurrency=2)) == []
    assert of(rounds(warmup=Warmup(0.0, 1, None), before=None, after=None, other_load=None)) == []

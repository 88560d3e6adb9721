"""The soak tells what every cycle leaves behind from the single steps of an allocator, and says what it ran on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import soak_runtimes
from soak_runtimes import growth_kib, is_growth, steady_bytes

CYCLES = 1000
AT = np.arange(CYCLES)
# What the resident set of a process does by itself: pages that come and go.
UNREST = np.random.default_rng(0).integers(0, 30, CYCLES) * 4


@pytest.mark.parametrize(
    "course",
    [
        np.zeros(CYCLES),
        UNREST,
        # One step, wherever it comes, and three of them.
        UNREST + 2048 * (AT > 10),
        UNREST + 2048 * (AT > 500),
        UNREST + 600 * np.searchsorted([150, 420, 777], AT),
        # An arena that is given back, and grows again.
        UNREST + 3000 * (AT // 90 % 2),
    ],
)
def test_steps_are_no_growth(course: np.ndarray) -> None:
    found = [int(each) for each in 100_000 + course]
    assert not is_growth(found)
    assert abs(steady_bytes(found)) <= soak_runtimes.STEADY_BOUND_BYTES


@pytest.mark.parametrize(
    ("course", "bytes_per_cycle"),
    [
        (AT, 1024),
        (UNREST + AT, 1024),
        # As an allocator asks the system for it: 132 KiB at a time.
        (UNREST + 132 * (AT // 132), 1352),
        (UNREST + AT / 2 + 2048 * (AT > 10), 512),
    ],
)
def test_what_each_cycle_leaves_behind_is(course: np.ndarray, bytes_per_cycle: int) -> None:
    found = [int(each) for each in 100_000 + course]
    assert is_growth(found)
    # The bound on all growth alone would have let it pass.
    assert growth_kib(found) <= soak_runtimes.BOUND_KIB
    assert steady_bytes(found) == pytest.approx(bytes_per_cycle, rel=0.25)


def test_one_step_that_is_too_large_is() -> None:
    assert is_growth([100_000] * 500 + [105_000] * 500)


def test_a_leak_that_is_planted_is_found() -> None:
    """In real processes; what is planted is less in all than the bound on all growth."""
    command = [sys.executable, str(Path(soak_runtimes.__file__)), "--cycles", "200", "--runtime", "ort-cpu"]
    both = [
        subprocess.Popen([*command, *leak], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for leak in ([], ["--leak", "12288"])
    ]
    (sound, leaking) = ((json.loads(each.communicate(timeout=120)[0]), each.returncode) for each in both)
    assert [code for _, code in (sound, leaking)] == [0, 1]
    for document, _ in (sound, leaking):
        assert document["environment"]["date_utc"]
        assert document["environment"]["cpu_model"]
        assert "onnxruntime" in document["environment"]["packages"]
    (row,) = leaking[0]["results"]
    assert row["steady_bytes_per_cycle"] == pytest.approx(12288, rel=0.25)
    (row,) = sound[0]["results"]
    assert (row["cycles"], row["ok"], "onnxruntime" in row["version"]) == (200, True, True)

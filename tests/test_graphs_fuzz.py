"""Random CNNs through the graph passes, and wrong passes that the same checks must find."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fuzz_graphs
from cnnport.graphs import PASSES, optimize
from cnnport.graphs.fuse.use_global_average_pool import use_global_average_pool
from cnnport.graphs.passes import compatible, name_of
from fuzz.choices import Drawn
from fuzz.faults import FAULTS, swaps_channels
from fuzz.networks import network
from fuzz.properties import Broken, hold, idle_on
from fuzz.reduce import reduced
from fuzz.run import model_of, sets_of, subject_of


@st.composite
def _networks(draw):
    return network(Drawn(draw))


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@given(_networks())
def test_small_networks(model):
    """Those that hypothesis thinks of, and makes smaller when something does not hold."""
    subject = subject_of(model)
    assert subject.is_valid
    assert subject.outputs is not None
    hold(subject, compatible(PASSES))


@pytest.mark.parametrize("part", range(4))
def test_large_networks(part):
    """All passes in their order, and two of them alone, each in its turn."""
    for case in range(part * 12, part * 12 + 12):
        subject = subject_of(model_of(0, case))
        assert subject.is_valid
        assert subject.outputs is not None
        sets = sets_of(PASSES)
        for group in (
            sets[case % len(sets)],
            *([PASSES[(2 * case + more) % len(PASSES)]] for more in (0, 1)),
        ):
            hold(subject, group)


def test_every_pass_has_something_to_do():
    """What no network has a place for, ``make fuzz`` would not test."""
    idle = list(PASSES)
    for case in range(1000):
        model = model_of(1, case)
        idle = [each for each in idle if optimize(model, [each])[0] is model]
        if not idle:
            break
    assert not [name_of(each) for each in idle]


def first_finding(fault):
    """The kind of the first thing that does not hold, and its network; of those of one seed."""
    for case in range(300):
        model = model_of(0, case)
        try:
            subject = subject_of(model)
            if not idle_on(subject, (fault,)):
                hold(subject, (fault,))
        except Broken as broken:
            return broken.kind, model
    return None, None


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_a_wrong_pass_is_found(fault):
    kind, _ = first_finding(fault)
    assert kind == FAULTS[fault]


def test_what_is_found_becomes_small():
    def fails(model):
        try:
            hold(subject_of(model), (swaps_channels,))
        except Broken as broken:
            return broken.kind == "numbers"
        return False

    _, model = first_finding(swaps_channels)
    small = reduced(model, fails)
    assert fails(small)
    assert len(small.graph.node) <= 3 < len(model.graph.node)


def test_a_run_stops_at_the_first_finding_and_leaves_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fuzz.run.PASSES", (swaps_channels,))
    record = tmp_path / "fuzz.json"
    assert (
        fuzz_graphs.main(["--cases", "40", "--found", str(tmp_path / "found"), "--write", str(record)]) == 1
    )
    found = json.loads(record.read_text())["networks"]
    assert found["cases"] < 40
    assert found["mismatches"] == len(found["findings"]) > 0
    assert found["passes"]["swaps_channels"]["alone"] == 0
    printed = capsys.readouterr().out
    assert "seed 0" in printed
    assert all(finding["case"] in printed for finding in found["findings"])
    assert list((tmp_path / "found").glob("swaps_channels_numbers_0_*.onnx"))


def test_a_run_without_findings(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fuzz.run.PASSES", (use_global_average_pool,))
    assert fuzz_graphs.main(["--cases", "4", "--seed", "5"]) == 0
    assert "4 cases" in capsys.readouterr().out


def test_the_same_bytes_in_every_process():
    """Whatever order sets have there."""
    program = """
import hashlib, sys
from cnnport.graphs import PASSES, optimize
from cnnport.graphs.passes import compatible
from fuzz.run import model_of
digest = hashlib.sha256()
for case in range(20):
    optimized, _ = optimize(model_of(0, case), compatible(PASSES))
    digest.update(optimized.SerializeToString(deterministic=True))
print(digest.hexdigest())
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([*sys.path])},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1

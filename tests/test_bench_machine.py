"""What a machine can do: what counts as its peak, what is kept of it, and that a busy machine is measured again."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from cnnport.errors import CheckFailedError, CnnportError
from cnnport.measuring.machine import (
    Machine,
    Product,
    Stream,
    bandwidth,
    operations,
    rates,
    read_machine,
    reading,
)
from cnnport.onnxfile import read_artifact, write_foreign
from cnnport.process import Failure, ask, command_of
from cnnport.runtimes import Options, require_runtime

MACHINE = Machine(
    threads=2,
    cpu_model="a CPU",
    products=(
        Product("MatMul 512x512x512", "ort-cpu", "fp32", 100e9, 98e9),
        Product("mm 512x512x512", "torch", "fp32", 110e9, 60e9),
        Product("MatMul 1024x1024x1024", "openvino", "fp32", 120e9, 119e9),
        Product("MatMulInteger 512x512x512", "ort-cpu", "int8", 400e9, 390e9),
    ),
    streams=(
        Stream("copy", "memory", 2**27, 20e9, 19e9),
        Stream("triad", "memory", 2**27, 24e9, 23e9),
        Stream("copy", "cache", 2**22, 90e9, 50e9),
    ),
    versions={"torch": "2"},
)


def test_the_largest_figure_is_the_peak():
    assert MACHINE.peak_flops == {"fp32": 120e9, "int8": 400e9}
    assert MACHINE.peaks["fp32"].runtime == "openvino"
    # What lies in the cache is no bandwidth of memory.
    assert (MACHINE.bandwidth_bytes_s, MACHINE.cache_bytes_s) == (24e9, 90e9)
    assert MACHINE.roof("fp32", 1.0) == 24e9
    assert MACHINE.roof("fp32", 1000.0) == 120e9
    assert MACHINE.roof("int8", 1000.0) == 400e9
    assert MACHINE.roof("fp16", 1000.0) == 120e9


def test_steady_is_where_the_peaks_are():
    """A figure that is no peak may scatter; a peak whose median lies far below it was found among others' work."""
    assert MACHINE.is_steady
    shaken = replace(MACHINE.products[2], median_flops_s=60e9)
    assert not replace(MACHINE, products=(*MACHINE.products[:2], shaken)).is_steady
    slow = replace(MACHINE.streams[1], median_bytes_s=12e9)
    assert not replace(MACHINE, streams=(MACHINE.streams[0], slow)).is_steady


def test_a_record_is_read_back_as_it_was():
    assert Machine.from_json(json.loads(json.dumps(MACHINE.to_json()))) == MACHINE
    with pytest.raises(KeyError):
        Machine.from_json({"threads": 2})


def test_the_better_of_two_records():
    worse = replace(
        MACHINE,
        products=(replace(MACHINE.products[0], flops_s=130e9, median_flops_s=129e9),),
        streams=(replace(MACHINE.streams[0], bytes_s=1e9),),
    )
    both = MACHINE.best_of(worse)
    assert both.peak_flops["fp32"] == 130e9
    assert both.bandwidth_bytes_s == 24e9
    assert len(both.products) == len(MACHINE.products)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Machine], list[str]]:
    """Has every part answer with a machine's figures from now on; gives the list of parts that were asked."""
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))

    def give(machine: Machine, broken: tuple[str, ...] = ()) -> list[str]:
        asked: list[str] = []

        def answer(_command: object, question: dict[str, Any], **_rest: object) -> dict[str, Any] | Failure:
            part = question["part"]
            asked.append(part)
            if part in broken:
                return Failure(f"{part} is not here")
            products = [asdict(each) for each in machine.products if each.runtime == part]
            return {
                "products": products,
                "streams": [asdict(each) for each in machine.streams if part == "memory"],
            }

        monkeypatch.setattr(reading, "ask", answer)
        return asked

    return give


def test_a_machine_is_measured_once(answers: Callable[..., list[str]], tmp_path: Path):
    asked = answers(MACHINE)
    with pytest.raises(CnnportError, match="not been measured with 2 threads"):
        read_machine(2, measure=False)
    found = read_machine(2)
    assert asked == list(reading.PARTS)
    assert found.peak_flops == MACHINE.peak_flops
    assert read_machine(2) == read_machine(2, measure=False) == found
    assert asked == list(reading.PARTS)
    # Another number of threads is another record; so is a damaged one.
    read_machine(1)
    assert len(asked) == 2 * len(reading.PARTS)
    for path in (tmp_path / "cache" / "machine").iterdir():
        path.write_text("{}")
    assert read_machine(2) == replace(found, date_utc=read_machine(2).date_utc)
    assert len(asked) == 3 * len(reading.PARTS)


def test_a_busy_machine_is_measured_again(answers: Callable[..., list[str]]):
    low = tuple(
        replace(each, flops_s=each.flops_s / 2, median_flops_s=each.flops_s / 10) for each in MACHINE.products
    )
    answers(replace(MACHINE, products=low))
    assert not read_machine(2).is_steady
    asked = answers(MACHINE)
    assert not read_machine(2, measure=False).is_steady
    assert not asked
    found = read_machine(2)
    assert asked
    assert found.is_steady
    assert found.peak_flops == MACHINE.peak_flops


def test_a_machine_that_is_never_quiet_is_measured_three_times(answers: Callable[..., list[str]]):
    low = tuple(replace(each, median_flops_s=each.flops_s / 10) for each in MACHINE.products)
    asked = answers(replace(MACHINE, products=low))
    for _ in range(5):
        assert not read_machine(2).is_steady
    assert len(asked) == 3 * len(reading.PARTS)


def test_what_is_not_here_is_left_out(answers: Callable[..., list[str]]):
    answers(MACHINE, broken=("openvino",))
    found = read_machine(2)
    assert found.peaks["fp32"].runtime == "torch"
    assert found.skipped == {"openvino": "openvino is not here"}


def test_without_arithmetic_or_memory_there_is_no_roof(answers: Callable[..., list[str]]):
    answers(MACHINE, broken=("memory",))
    with pytest.raises(CheckFailedError, match="memory: memory is not here"):
        read_machine(2)
    with pytest.raises(CnnportError, match="at least 1"):
        read_machine(0)


def test_rates_are_of_the_shortest_and_of_the_median_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rates, "measure", lambda *_args, **_rest: (4_000_000, 1_000_000, 2_000_000))
    assert rates.rates(rates.Blocking(lambda: None), 1000, 1.0) == (1e6, 5e5)


def test_arrays_lie_beyond_the_cache(tmp_path: Path):
    for number, size in enumerate(("32K", "1024K", "32M", "odd")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
    assert bandwidth.last_cache_bytes(tmp_path) == 32 * 2**20
    assert bandwidth.last_cache_bytes(tmp_path / "nowhere") is None
    assert bandwidth.array_bytes(32 * 2**20) == 128 * 2**20
    assert bandwidth.array_bytes(2**50) < 2**40


def test_stream_kernels_do_what_their_bytes_are_counted_for(monkeypatch: pytest.MonkeyPatch):
    """STREAM: copy and scale name two arrays, add and triad three; the numbers show that each was touched."""
    made = bandwidth._kernels(1000)
    assert [(name, arrays) for name, arrays, _ in made] == [
        ("copy", 2),
        ("scale", 2),
        ("add", 3),
        ("triad", 3),
    ]
    arrays = made[0][2].run.__closure__
    assert arrays is not None
    a, c = (cell.cell_contents for cell in arrays)
    for _, _, run in made:
        run()
    # c = a; b = 3 c; c = a + b; a = b + 3 c
    assert (float(c[0]), float(a[-1])) == (4.0, 15.0)
    samples = (2_000, 1_000)
    monkeypatch.setattr(rates, "measure", lambda *_args, **_rest: samples)
    monkeypatch.setattr(bandwidth, "last_cache_bytes", lambda: None)
    found = list(bandwidth.streams(1, 0.0))
    assert [each.level for each in found] == ["memory"] * 4
    assert found[0].bytes_s == 2 * found[0].array_bytes / 1e-6
    assert found[3].bytes_s == 3 * found[3].array_bytes / 1e-6


def test_the_small_networks_compute_what_they_are_said_to(tmp_path: Path):
    rng = np.random.default_rng(0)
    for kind, each in operations.products(64).items():
        assert each.flops == 2 * 64**3
        path = tmp_path / f"{kind}.onnx"
        write_foreign(each.model, path)
        artifact = read_artifact(path)
        assert artifact.precision == ("fp32" if kind == "float" else "int8")
        levels = rng.integers(0, 256, (64, 64))
        feed = levels.astype(np.uint8) if kind == "integer" else (levels / 128 - 1).astype(np.float32)
        with require_runtime("ort-cpu").open(artifact, Options()) as session:
            found = session.run({"a": feed})["c"]
        exact = ReferenceEvaluator(each.model).run(None, {"a": feed})[0]
        np.testing.assert_allclose(found, exact, atol=0 if kind == "integer" else 0.1)
        assert np.std(np.asarray(exact, np.float64)) > 0.1


def test_a_part_is_measured_in_a_process_of_its_own():
    question = {"part": "torch", "cpus": [0], "threads": 1, "duration_s": 0.0}
    answer = ask(command_of("cnnport.measuring.machine.worker"), question, threads=1, timeout_s=120.0)
    assert isinstance(answer, dict), answer
    found = [Product(**each) for each in answer["products"]]
    assert len(found) == len(operations.SIZES)
    assert all(1e8 < each.median_flops_s <= each.flops_s < 1e15 for each in found)
    refused = ask(
        command_of("cnnport.measuring.machine.worker"),
        {**question, "part": "none"},
        threads=1,
        timeout_s=60.0,
    )
    assert isinstance(refused, Failure)
    assert "none" in refused.reason

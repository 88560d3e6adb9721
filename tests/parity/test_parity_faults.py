"""Faults that were planted in a file or a runtime: each is found, and the row says where."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cnnport.agreement import Plan, Request, parity
from cnnport.agreement import opened as opened_module
from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options
from cnnport.runtimes.null import NullRuntime
from cnnport.runtimes.table import RUNTIMES
from parity_files import changed, weights, write

QUICK = Plan(extremes=False, checks=False)


def held(good: Artifact, bad: Artifact, plan: Plan = QUICK, **options):
    """The row of a file against another, on ONNX Runtime."""
    files = (("good.onnx", good), ("bad.onnx", bad))
    matrix = parity(Request(files=files, runtimes=("ort-cpu",), plan=plan, count=8, **options))
    assert matrix.reference == "good.onnx ort-cpu fp32"
    return matrix.rows[0]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return write(tmp_path_factory.mktemp("good") / "good.onnx")


def test_a_file_agrees_with_itself_everywhere(good, tmp_path) -> None:
    """No fault is found where there is none: all sets of inputs, all checks."""
    same = write(tmp_path / "same.onnx", held=changed(lambda each: each.update(beta=-each["beta"])))
    row = held(good, same, Plan())
    assert row.ok, row.failures
    assert {each.inputs.name for each in row.sets} == {
        *("samples", "zeros", "constant", "large", "spikes", "near-ties")
    }
    assert [check.name for check in row.checks] == ["batch", "repeat", "threads", "rebuild"]
    assert all(check.ok for check in row.checks)
    assert row.metrics.error_in_std < 1e-5


def permute(each) -> None:
    each["u"] = each["u"][:, [0, 1, 3, 2, *range(4, 10)]]


def one_nan(each) -> None:
    each["u"][5, 7] = np.nan


def nudge(each) -> None:
    each["u"][0, 3] *= 1.01


@pytest.mark.parametrize(
    ("change", "index", "words"),
    [(permute, {2, 3}, "std, allowed"), (one_nan, {7}, "NaN"), (nudge, {3}, "std, allowed")],
)
def test_faults_in_weights(good, tmp_path, change, index, words) -> None:
    row = held(good, write(tmp_path / "bad.onnx", held=changed(change)))
    assert not row.ok
    assert words in row.failures[0]
    assert row.metrics.worst.index[0] in index
    assert row.metrics.worst.output == "logits"


def test_epsilon(good, tmp_path) -> None:
    row = held(good, write(tmp_path / "bad.onnx", epsilon=1e-3))
    assert not row.ok
    # Float64 says that it is the graph and no rounding.
    assert "in float64 the two are" in row.failures[-1]


def test_given_tolerances(good, tmp_path) -> None:
    bad = write(tmp_path / "bad.onnx", held=changed(nudge))
    far = held(good, bad).metrics.max_abs
    assert held(good, bad, Plan(extremes=False, checks=False, atol=2 * far)).ok
    assert not held(good, bad, Plan(extremes=False, checks=False, atol=far / 2)).ok


def test_rounding_alone_is_told_from_a_fault(good, tmp_path) -> None:
    """A sum of what nearly cancels: float32 is off by itself, and is cleared of it by float64."""

    def cancel(each) -> None:
        each["u"] = (each["u"] + 3e4).astype(np.float32)
        each["v"][1::2] = -each["v"][::2]

    def turned(each) -> None:
        cancel(each)
        order = [*range(0, 24, 2), *range(1, 24, 2)]
        each["v"], each["u"] = each["v"][order], each["u"][order]

    rough = write(tmp_path / "rough.onnx", held=changed(cancel))
    other = write(tmp_path / "other.onnx", held=changed(turned))
    row = held(rough, other)
    assert row.ok, row.failures
    if row.metrics.error_in_std > 1e-4:
        assert "in float64 the two are" in row.notes[0]
    # A weight that is off in the same network is still found.
    wrong = changed(turned)
    wrong["u"][3] += 300
    assert not held(rough, write(tmp_path / "wrong.onnx", held=wrong)).ok


def test_a_file_that_mixes_images(good, tmp_path) -> None:
    """By itself it shows only in the check of batches: as its own reference it agrees."""
    mixing = write(tmp_path / "mixing.onnx", mixes_batch=True)
    request = Request(
        files=(("a", mixing), ("b", mixing)), runtimes=("ort-cpu",), plan=Plan(extremes=False), count=8
    )
    matrix = parity(request)
    failed = [check.name for check in matrix.rows[0].checks if not check.ok]
    assert failed == ["batch"]
    assert not matrix.rows[0].sets[0].failures
    assert "batch" in matrix.reference_failures[0]
    assert not matrix.ok


def test_a_fixed_batch_is_fed_what_it_takes(good, tmp_path) -> None:
    row = held(good, write(tmp_path / "fixed.onnx", batch=3))
    assert row.ok, row.failures
    assert len(row.sets[0].inputs) == 8


def test_a_scale_of_8_bits_that_is_off_by_two(good, tmp_path) -> None:
    from cnnport.quantization import quantize_file

    done = quantize_file(good.path, tmp_path / "int8.onnx", "random:32", repair=False)
    row = held(good, done.artifact)
    assert row.ok, row.failures
    assert row.tolerance.sqnr_db == pytest.approx(done.judgement.sqnr_db - 6.0, abs=0.01)
    model = onnx.load(done.artifact.path)
    # That of weights: one that a quantizer shares would only be coarser.
    held_by = {each.name: each for each in model.graph.initializer}
    scale = next(
        held_by[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in held_by
    )
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))
    onnx.save(model, tmp_path / "off.onnx")
    row = held(good, read_artifact(tmp_path / "off.onnx"))
    assert not row.ok
    assert "SQNR" in row.failures[0]


BAD_WORKER = """
import os, signal
import numpy as np
from cnnport.agreement import worker
from cnnport.runtimes.ort import OrtCpuRuntime
from cnnport.runtimes.table import RUNTIMES


class Noisy(OrtCpuRuntime):
    def open(self, artifact, options):
        session = super().open(artifact, options)
        run, draw = session.run, np.random.default_rng()

        def noisy(feeds):
            return {name: value + 0.01 * draw.standard_normal(value.shape).astype(value.dtype)
                    for name, value in run(feeds).items()}

        session.run = noisy
        return session


class Dying(OrtCpuRuntime):
    def open(self, artifact, options):
        session = super().open(artifact, options)

        def die(feeds):
            os.write(2, b"illegal address in kernel 7")
            os.kill(os.getpid(), signal.SIGSEGV)

        session.run = die
        return session


RUNTIMES["noisy"], RUNTIMES["dying"] = Noisy(), Dying()
worker.main()
"""


@pytest.fixture
def bad_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bad_worker.py"
    script.write_text(BAD_WORKER)
    monkeypatch.setattr(opened_module, "command_of", lambda _: (sys.executable, "-P", str(script)))
    for name in ("noisy", "dying"):
        monkeypatch.setitem(RUNTIMES, name, NullRuntime())


@pytest.mark.usefixtures("bad_runtimes")
def test_runtimes_that_misbehave(good) -> None:
    """One draws random numbers, one crashes in its first run: both are rows, and the last one is still compared."""
    request = Request(
        files=(("net", good),),
        runtimes=("ort-cpu", "noisy", "dying", "openvino"),
        plan=Plan(extremes=False, atol=0.1),
        count=4,
    )
    noisy, dying, last = parity(request).rows
    assert [check.name for check in noisy.checks if check.is_same_bits] == []
    assert noisy.ok
    assert "SIGSEGV" in dying.problem
    assert "illegal address in kernel 7" in dying.problem
    assert last.ok
    options = {"noisy": Options(deterministic=True)}
    strict = Request(
        files=(("net", good),),
        runtimes=("ort-cpu", "noisy"),
        plan=Plan(extremes=False),
        count=4,
        options=options,
    )
    (row,) = parity(strict).rows
    assert {"batch", "repeat", "rebuild"} <= {text.partition(":")[0] for text in row.failures}


def test_other_outputs_are_told_of(good, tmp_path) -> None:
    smaller = weights()
    model = onnx.load(write(tmp_path / "bad.onnx", held=smaller).path)
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(smaller["u"][:, :9], "u"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    onnx.save(model, tmp_path / "bad.onnx")
    row = held(good, read_artifact(tmp_path / "bad.onnx"))
    assert row.failures == ("output 'logits' is [9] where the reference gives [10]",)
    with pytest.raises(CnnportError, match="candidate"):
        parity(Request(files=(("good", good),), runtimes=("ort-cpu",), reference="nobody"))
    assert os.path.exists(good.path)  # noqa: PTH110

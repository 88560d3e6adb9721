"""The check of a rewritten file against the first: inputs for any signature, outputs of any kind, and float64."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.artifact import TensorSpec
from cnnport.difference import difference
from cnnport.errors import FeedError
from cnnport.golden import seeded_input
from cnnport.original import Original
from cnnport.trial_inputs import Trial, guesses, make_inputs, open_names, shapes_in

IMAGE = TensorSpec("x", "float32", ("n", 3, "height", "width"))
LOGITS = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
CLASSES = np.arange(4000).reshape(4, 1000)


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    ("expected", "found", "reason"),
    [
        (LOGITS, LOGITS + np.float32(3e-5), None),
        (LOGITS, LOGITS + np.float32(3e-4), "max error 3.00e-04"),
        (LOGITS, LOGITS[:, :9], r"is float32\[4,9\] where the original gives float32\[4,10\]"),
        (LOGITS, LOGITS.astype(np.float64), "is float64"),
        (LOGITS, None, "is not there"),
        # Constant outputs have no deviation; what is left is rounding.
        (np.full(9, 0.1, np.float32), np.full(9, 0.1 + 3e-8, np.float32), None),
        (np.full(9, 0.1, np.float32), np.full(9, 0.1001, np.float32), "max error"),
        # NaN and infinity have to stay where they are.
        (np.array([1, np.nan, np.inf, 2]), np.array([1, np.nan, np.inf, 2]), None),
        (np.array([1, np.nan, np.inf, 2]), np.array([1, np.nan, -np.inf, 2]), "other places"),
        (np.array([1.0, 5, 7, 2]), np.array([1, np.nan, 7, 2]), "other places"),
        # One in a thousand decisions may fall to the other side, one of ten may not.
        (CLASSES, CLASSES + (CLASSES < 4), None),
        (CLASSES, CLASSES + (CLASSES < 5), "max error"),
        (CLASSES[0, :10], CLASSES[0, :10] + (CLASSES[0, :10] == 3), "max error"),
        (np.array(["a", "b"]), np.array(["a", "b"]), None),
        (np.array(["a", "b"]), np.array(["a", "c"]), "max error"),
        # What a runtime gives for sequences and maps.
        ([{"a": LOGITS, 2: 0.5}], [{"a": LOGITS.copy(), 2: 0.5}], None),
        ([{"a": LOGITS, 2: 0.5}], [{"a": LOGITS + 1, 2: 0.5}], "something else"),
        ([{"a": LOGITS, 2: 0.5}], [{"a": LOGITS}], "something else"),
        (np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), None),
    ],
)
def test_differences(expected: object, found: object, reason: str | None) -> None:
    result = difference({"y": expected}, {} if found is None else {"y": found}, 1e-4)
    assert result.ok == (reason is None)
    if reason is not None:
        assert re.search(reason, str(result))


def test_the_worst_output_is_named() -> None:
    found = {"a": LOGITS + np.float32(1e-5), "b": LOGITS * np.float32(1.01), "c": LOGITS}
    assert difference(dict.fromkeys("abc", LOGITS), found, 1e-4).output == "b"


# ---------------------------------------------------------------- inputs


def test_sizes_are_different_first_and_equal_where_that_is_not_taken() -> None:
    trials = list(guesses([IMAGE]))
    assert shapes_in([IMAGE], trials[0]) == {"x": (1, 3, 224, 256)}
    assert {"height": 224, "width": 224} in [trial.sizes for trial in trials]
    assert {"height": 32, "width": 32} in [trial.sizes for trial in trials]
    volume = TensorSpec("v", "float32", ("n", "depth", "height", "width", 2))
    assert max(shapes_in([volume], next(guesses([volume])))["v"]) <= 96


def test_one_name_is_one_size() -> None:
    """Of the batch too, wherever it stands."""
    specs = [
        IMAGE,
        TensorSpec("mask", "bool", ("n", "height", "width")),
        TensorSpec("w", "float32", (2, "n")),
    ]
    assert open_names(specs) == ["height", "width"]
    shapes = shapes_in(specs, Trial(5, 0, {"height": 8, "width": 9}))
    assert shapes == {"x": (5, 3, 8, 9), "mask": (5, 8, 9), "w": (2, 5)}


def test_images_are_golden_inputs_and_indices_are_small() -> None:
    specs = [
        TensorSpec("x", "float32", ("n", 3)),
        TensorSpec("ids", "int64", ("n", 50)),
        TensorSpec("pixels", "uint8", ("n", 500)),
    ]
    arrays = make_inputs(specs, Trial(2, 7, {}))
    np.testing.assert_array_equal(arrays["x"], seeded_input(specs, 2, 7)["x"])
    assert set(arrays["ids"].reshape(-1)) == {0, 1, 2, 3}
    assert arrays["pixels"].max() > 200
    assert set(make_inputs(specs, Trial(2, 7, {}, ones=True))["ids"].reshape(-1)) == {1}
    assert [arrays[spec.name].dtype for spec in specs] == ["float32", "int64", "uint8"]
    with pytest.raises(FeedError, match="cannot make an input for s"):
        make_inputs([TensorSpec("s", "object", (1,))], Trial(1, 0, {}))


# ---------------------------------------------------------------- float64


def scaled(factor: float, *, offset: float = 0.0) -> onnx.ModelProto:
    """x times a matrix and ``factor``; ``offset`` comes and goes, and with it float32's last digits."""
    matrix = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32) * np.float32(factor)
    nodes = [helper.make_node("MatMul", ["x", "m"], ["t"])]
    if offset:
        nodes += [helper.make_node("Add", ["t", "o"], ["u"]), helper.make_node("Sub", ["u", "o"], ["y"])]
    else:
        nodes += [helper.make_node("Identity", ["t"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(matrix, "m"), numpy_helper.from_array(np.float32(offset), "o")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_rounding_is_told_from_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far off in float32, one by rounding and the other by being wrong: float64 tells them apart."""
    original = Original(scaled(1.0), tmp_path)
    rough, wrong = original.check(scaled(1.0, offset=1e4)), original.check(scaled(1.0002))
    for verdict in (rough, wrong):
        assert 1e-4 < verdict.worst.error < 1e-2
        assert "computed in float64" in verdict.note
    assert rough.ok
    assert not wrong.ok
    # What cannot be computed in float64 is not excused, and neither is what float32 says nothing of any more.
    assert not original.check(scaled(1.0, offset=3e6)).ok
    monkeypatch.setattr("cnnport.original.run_in_float64", lambda model, feeds: None)
    assert not original.check(scaled(1.0, offset=1e4)).ok


def test_networks_that_magnify_roundings(tmp_path: Path) -> None:
    """A rewriting may be as far off, computed exactly, as the original is by its roundings; a hundredth at most."""
    original = Original(scaled(1.0, offset=3e4), tmp_path)
    near, far = original.check(scaled(1.0001)), original.check(scaled(1.003))
    assert near.ok
    assert not far.ok
    assert "the original in float32" in far.note
    folder = tmp_path / "rougher"
    folder.mkdir()
    original = Original(scaled(1.0, offset=1e6), folder)
    near, far = original.check(scaled(1.002)), original.check(scaled(1.01))
    assert min(near.worst.error, far.worst.error) > 1e-2
    assert near.ok
    assert not far.ok


def test_the_whole_is_as_bad_as_its_worst_part(tmp_path: Path) -> None:
    from cnnport.original import worse

    original = Original(scaled(1.0), tmp_path)
    good, bad = original.check(scaled(1.0), stop=2), original.check(scaled(2.0), start=2)
    assert (good.ok, good.count, bad.ok, bad.count) == (True, 2, False, 1)
    both = worse(good, bad)
    assert (both.ok, both.count, both.worst) == (False, 3, bad.worst)

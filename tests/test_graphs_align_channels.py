"""align_channels before and after, on graphs in ONNX text. The numbers are those of its docstring."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.channel import align_channels as module
from cnnport.graphs.channel import rechannel
from cnnport.graphs.channel.align_channels import align_channels
from cnnport.graphs.channel.rechannel import Taking, take

SIZES = {"sizes": [16, 30, 2], "unfilling": [22, 42]}


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its random weights, and the output channels of its convolutions afterwards."""

    id: str
    text: str
    weights: Mapping[str, tuple[int, ...]]
    channels: tuple[int, ...]


def model_of(case: Case) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {case.text}')
    rng = np.random.default_rng(0)
    for name, shape in case.weights.items():
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, sizes in SIZES.items():
        if name in case.text:
            model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, batch: int) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else batch for size in given.shape]
    image = np.random.default_rng(batch).normal(size=shape).astype(np.float32)
    return session.run(None, {given.name: image})[0]


def channels_of(model: onnx.ModelProto) -> tuple[int, ...]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return tuple(shapes[node.input[1]][0] for node in model.graph.node if node.op_type == "Conv")


CASES = (
    Case(
        "2-through-activation-and-depthwise",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 1, 1] y) {
            a = Conv (x, aw, ab)  r = Sigmoid (a)
            d = Conv <group = 29, pads = [1, 1, 1, 1]> (r, dw, db)
            p = GlobalAveragePool (d)
            y = Conv (p, yw, yb)
        }
        """,
        {"aw": (29, 3, 1, 1), "ab": (29,), "dw": (29, 1, 3, 3), "db": (29,), "yw": (5, 29, 1, 1), "yb": (5,)},
        (32, 32, 5),
    ),
    Case(
        "2-through-concat",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw)  r = Relu (a)
            b = Conv (x, bw)
            c = Conv <pads = [1, 1, 1, 1]> (x, cw)
            j = Concat <axis = 1> (r, b, c)
            y = Conv (j, yw)
        }
        """,
        {"aw": (15, 3, 1, 1), "bw": (16, 3, 1, 1), "cw": (30, 3, 3, 3), "yw": (5, 61, 1, 1)},
        (16, 16, 32, 5),
    ),
    Case(
        "2-through-residual-sums-and-a-gate",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw)
            b = Conv (a, bw, bb)
            p = GlobalAveragePool (b)  q = Conv (p, qw)  h = Relu (q)  k = Conv (h, kw, kb)  t = Sigmoid (k)
            m = Mul (b, t)
            s = Add (a, m)
            c = Conv (s, cw)
            u = Sub (s, c)
            j = Concat <axis = 1> (x, u)
            y = Conv (j, yw)
        }
        """,
        {
            "aw": (30, 3, 1, 1),
            "bw": (30, 30, 1, 1),
            "bb": (30,),
            "qw": (4, 30, 1, 1),
            "kw": (30, 4, 1, 1),
            "kb": (30,),
            "cw": (30, 30, 1, 1),
            "yw": (5, 33, 1, 1),
        },
        (32, 32, 4, 32, 32, 5),
    ),
    Case(
        "1-a-convolution-for-each-part",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw, ab)  r = Relu (a)
            left, middle, right = Split <axis = 1> (r, sizes)
            b = Conv (left, bw)
            c = Conv (middle, cw)
            d = Conv (right, dw)
            y = Sum (b, c, d)
        }
        """,
        {
            "aw": (48, 3, 1, 1),
            "ab": (48,),
            "bw": (5, 16, 1, 1),
            "cw": (5, 30, 1, 1),
            "dw": (5, 2, 1, 1),
        },
        (16, 32, 5, 5, 5),
    ),
)
STAYS = (
    Case(
        "10-an-output-of-the-graph",
        "g (float[N, 3, 6, 6] x) => (float[N, 30, 6, 6] y) { y = Conv (x, aw) }",
        {"aw": (30, 3, 1, 1)},
        (30,),
    ),
    Case(
        "10-a-sum-with-the-input",
        """
        g (float[N, 30, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw)  s = Add (a, x)  y = Conv (s, yw)
        }
        """,
        {"aw": (30, 30, 1, 1), "yw": (5, 30, 1, 1)},
        (30, 5),
    ),
    Case(
        "10-a-quotient-of-computed-values",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw)  b = Exp (a)  c = Conv (x, aw)  q = Div (c, b)  y = Conv (q, yw)
        }
        """,
        {"aw": (30, 3, 1, 1), "yw": (5, 30, 1, 1)},
        (30, 30, 5),
    ),
    Case(
        "10-across-channels",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw)  b = Softmax <axis = 1> (a)  y = Conv (b, yw)
        }
        """,
        {"aw": (30, 3, 1, 1), "yw": (5, 30, 1, 1)},
        (30, 5),
    ),
    Case(
        "11-too-few-channels",
        "g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) { a = Conv (x, aw)  y = Conv (a, yw) }",
        {"aw": (10, 3, 1, 1), "yw": (5, 10, 1, 1)},
        (10, 5),
    ),
    Case(
        "11-a-part-of-too-few-channels",
        """
        g (float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, aw)  r = Relu (a)
            left, right = Split <axis = 1> (r, unfilling)
            b = Conv (left, bw)  c = Conv (right, cw)
            y = Add (b, c)
        }
        """,
        {"aw": (64, 3, 1, 1), "bw": (5, 22, 1, 1), "cw": (5, 42, 1, 1)},
        (64, 5, 5),
    ),
    Case(
        "12-groups",
        "g (float[N, 4, 6, 6] x) => (float[N, 5, 6, 6] y) { a = Conv <group = 2> (x, aw)  y = Conv (a, yw) }",
        {"aw": (30, 2, 1, 1), "yw": (5, 30, 1, 1)},
        (30, 5),
    ),
)


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_left_alone(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [align_channels])
    assert report.refused is None
    assert after is before
    assert channels_of(after) == case.channels


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_aligned(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [align_channels])
    assert report.refused is None
    assert channels_of(after) == case.channels
    assert "Split" not in count_ops(after)
    for batch in (1, 3):
        expected = run(before, batch)
        np.testing.assert_allclose(run(after, batch), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    again, _ = optimize(after, [align_channels])
    assert again is after


def aligned(case: Case) -> bytes:
    return optimize(model_of(case), [align_channels])[0].SerializeToString(deterministic=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_numbers_written_once_are_those_written_each_time(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = aligned(case)
    monkeypatch.setattr(module, "postponed", lambda _: nullcontext())
    assert aligned(case) == once


def test_a_step_that_is_lost_on_the_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: of two selections of one axis only the second is kept."""
    (case,) = (each for each in CASES if each.id == "2-through-concat")
    expected = aligned(case)
    joined: list[Taking] = []

    def forgetful(first: Taking, second: Taking) -> Taking:
        joined.append(first)
        return second

    monkeypatch.setattr(rechannel, "_joined", forgetful)
    assert aligned(case) != expected
    assert joined


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "selection",
    [
        [*range(7), -1, -1],
        [-1, 0, 1, 2, -1, -1, 3, 4, 5, 6],
        [6, 5, 4, 3, 2, 1, 0],
        [0, 2, 4, 6, 1, 3, 5, -1],
        [3],
        [-1],
        [*range(7)] * 4,
        [-1, 1] * 20,
    ],
    ids=str,
)
def test_slices_are_taken(selection: list[int], axis: int) -> None:
    array = np.random.default_rng(0).normal(size=(7, 7, 7)).astype(np.float32)
    found = take(array, np.array(selection), axis, fill=2.0)
    fill = np.full((7, 7), 2.0, np.float32)
    slices = [fill if place < 0 else np.take(array, place, axis) for place in selection]
    np.testing.assert_array_equal(found, np.stack(slices, axis))
    assert found.dtype == array.dtype
    assert found.flags.c_contiguous


def test_selections_follow_each_other() -> None:
    """Of one axis, of two, and with other fillings, which do not compose."""
    array = np.arange(12.0).reshape(3, 4)
    tensor = rechannel.ir.Tensor(array)
    steps = [
        Taking(0, np.array([2, -1, 0, 1])),
        Taking(1, np.array([0, 1, 2, 3, -1])),
        Taking(0, np.array([3, -1, 1, 0, 2])),
        Taking(1, np.array([4, 1, -1]), 5.0),
        Taking(1, np.array([2, 0, -1])),
    ]
    unwritten = rechannel._Unwritten(tensor)
    for step in steps:
        array = step(array)
        unwritten.take(step)
        assert unwritten.held.shape == array.shape
        np.testing.assert_array_equal(unwritten.written().numpy(), array)
    assert len(unwritten.steps) == 4

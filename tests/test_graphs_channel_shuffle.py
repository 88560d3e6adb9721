"""eliminate_channel_shuffle before and after, on graphs in ONNX text. The numbers are those of its docstring."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.channel import rechannel
from cnnport.graphs.channel.eliminate_channel_shuffle import eliminate_channel_shuffle

MOVERS = ("Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Transpose")


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its random weights, its integer constants, and the movers that are left."""

    id: str
    text: str
    weights: Mapping[str, tuple[int, ...]]
    left: Mapping[str, int]
    integers: Mapping[str, list[int]] = field(default_factory=dict)
    opset: int = 18


def model_of(case: Case) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {case.opset}]> {case.text}')
    rng = np.random.default_rng(0)
    for name, shape in case.weights.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        )
    for name, values in case.integers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(batch)
    feeds = {
        each.name: rng.normal(size=[size if isinstance(size, int) else batch for size in each.shape]).astype(
            np.float32
        )
        for each in session.get_inputs()
    }
    return session.run(None, feeds)


def movers(model: onnx.ModelProto) -> dict[str, int]:
    return {op: count for op, count in count_ops(model).items() if op in MOVERS}


SHUFFLED = """
    five = Reshape (joined, split_up)
    turned = Transpose <perm = [0, 2, 1, 3, 4]> (five)
    shuffled = Reshape (turned, flat)
"""
UNIT = """
    g (float[N, 4, 5, 5] x) => (float[N, 3, 5, 5] y) {
        a = Conv (x, aw, ab)  ar = Relu (a)
        b = Conv (x, bw)
        joined = Concat <axis = 1> (ar, b)
        %s
        kept, worked = Split <axis = 1, num_outputs = 2> (shuffled)
        c = Conv (worked, cw)  cr = Relu (c)
        d = Conv <group = 4, pads = [1, 1, 1, 1]> (cr, dw, db)
        e = Conv (d, ew, eb)  er = Relu (e)
        again = Concat <axis = 1> (kept, er)
        second = Reshape (again, split_up)
        back = Transpose <perm = [0, 2, 1, 3, 4]> (second)
        last = Reshape (back, flat)
        y = Conv (last, yw)
    }
"""
UNIT_WEIGHTS = {
    "aw": (4, 4, 1, 1),
    "ab": (4,),
    "bw": (4, 4, 1, 1),
    "cw": (4, 4, 1, 1),
    "dw": (4, 1, 3, 3),
    "db": (4,),
    "ew": (4, 4, 1, 1),
    "eb": (4,),
    "yw": (3, 8, 1, 1),
}
SHAPES = {"split_up": [-1, 2, 4, 5, 5], "flat": [-1, 8, 5, 5]}
THREE = """
    five = Reshape (joined, in_three)
    turned = Transpose <perm = [1, 0, 2]> (five)
    halves = Reshape (turned, halves_shape)
    shuffled = Reshape (halves, flat)
"""
CASES = (
    Case("1-five-dimensions", UNIT % SHUFFLED, UNIT_WEIGHTS, {"Concat": 2, "Split": 2}, SHAPES),
    Case(
        "1-zero-keeps-the-batch",
        UNIT % SHUFFLED,
        UNIT_WEIGHTS,
        {"Concat": 2, "Split": 2},
        {"split_up": [0, 2, 4, 5, 5], "flat": [0, 8, 5, 5]},
    ),
    Case(
        "1-gather",
        UNIT % "shuffled = Gather <axis = 1> (joined, order)",
        UNIT_WEIGHTS,
        {"Concat": 2, "Split": 2},
        {**SHAPES, "order": [0, 4, 1, 5, 2, 6, 3, 7]},
    ),
    Case(
        "1-slices",
        (UNIT % SHUFFLED).replace(
            "kept, worked = Split <axis = 1, num_outputs = 2> (shuffled)",
            "kept = Slice (shuffled, zero, four, one)  worked = Slice (shuffled, four, many, one)",
        ),
        UNIT_WEIGHTS,
        {"Concat": 2, "Split": 2},
        {**SHAPES, "zero": [0], "four": [4], "one": [1], "many": [2**62]},
    ),
    Case(
        "2-3-through-what-works-on-each-channel",
        """
        g (float[N, 4, 6, 6] x) => (float[N, 3] y) {
            a = Conv (x, aw)
            n = BatchNormalization (a, scale, shift, mean, var)
            p = PRelu (n, slope)
            d = Conv <group = 6, strides = [2, 2], pads = [1, 1, 1, 1]> (p, dw, db)
            five = Reshape (d, split_up)
            turned = Transpose <perm = [0, 2, 1, 3, 4]> (five)
            shuffled = Reshape (turned, flat)
            m = MaxPool <kernel_shape = [2, 2]> (shuffled)
            s = Mul (m, factors)
            f = Flatten (s)
            y = Gemm <transB = 1> (f, w)
        }
        """,
        {
            "aw": (6, 4, 1, 1),
            "scale": (6,),
            "shift": (6,),
            "mean": (6,),
            "var": (6,),
            "slope": (6, 1, 1),
            "dw": (6, 1, 3, 3),
            "db": (6,),
            "factors": (6, 1, 1),
            "w": (3, 24),
        },
        {},
        {"split_up": [-1, 3, 2, 3, 3], "flat": [-1, 6, 3, 3]},
    ),
    Case(
        "4-groups-that-must-exchange-channels",
        """
        g (float[N, 6, 5, 5] x) => (float[N, 6, 5, 5] y) {
            joined = Conv <group = 3> (x, aw)
            five = Reshape (joined, split_up)
            turned = Transpose <perm = [0, 2, 1, 3, 4]> (five)
            shuffled = Reshape (turned, flat)
            d = Conv <group = 6, pads = [1, 1, 1, 1]> (shuffled, dw)
            y = Conv <group = 3> (d, yw)
        }
        """,
        {"aw": (6, 2, 1, 1), "dw": (6, 1, 3, 3), "yw": (6, 2, 1, 1)},
        {"Gather": 1},
        {"split_up": [-1, 3, 2, 5, 5], "flat": [-1, 6, 5, 5]},
    ),
    Case(
        "5-one-group-reads-another-makes-all",
        """
        g (float[N, 6, 5, 5] x) => (float[N, 6, 5, 5] y) {
            joined = Conv (x, aw)
            five = Reshape (joined, split_up)
            turned = Transpose <perm = [0, 2, 1, 3, 4]> (five)
            shuffled = Reshape (turned, flat)
            y = Conv <group = 3> (shuffled, yw)
        }
        """,
        {"aw": (6, 6, 1, 1), "yw": (6, 2, 1, 1)},
        {},
        {"split_up": [-1, 3, 2, 5, 5], "flat": [-1, 6, 5, 5]},
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_absorbed(case: Case) -> None:
    before = model_of(case)
    original = before.SerializeToString()
    after, (report, *_) = optimize(before, [eliminate_channel_shuffle])
    assert report.refused is None
    assert movers(after) == case.left
    assert before.SerializeToString() == original
    for batch in (1, 3):
        for expected, found in zip(run(before, batch), run(after, batch), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    again, reports = optimize(after, [eliminate_channel_shuffle])
    assert again is after
    assert not any(report.rewrites for report in reports)


HEAD = "g (float[N, 4, 5, 5] x) => (float[N, 8, 5, 5] y) { joined = Conv (x, aw) %s }"
STAYS = (
    Case(
        "10-an-output-of-the-graph",
        HEAD % SHUFFLED.replace("shuffled = ", "y = "),
        {"aw": (8, 4, 1, 1)},
        {"Reshape": 2, "Transpose": 1},
        SHAPES,
    ),
    Case(
        "11-rows-and-columns-unknown",
        """
        g (float[N, 8, H, W] x) => (float[N, 8, H, W] y) {
            five = Reshape (x, split_up)
            turned = Transpose <perm = [0, 2, 1, 3]> (five)
            y = Reshape (turned, flat)
        }
        """,
        {},
        {"Reshape": 2, "Transpose": 1},
        {"split_up": [0, 2, 4, -1], "flat": [0, 8, 2, -1]},
    ),
    Case(
        "12-rows-change-places-too",
        HEAD.replace("}", "y = Conv (shuffled, yw) }") % SHUFFLED.replace("0, 2, 1, 3, 4", "0, 2, 1, 4, 3"),
        {"aw": (8, 4, 1, 1), "yw": (8, 8, 1, 1)},
        {"Reshape": 2, "Transpose": 1},
        SHAPES,
    ),
    Case(
        "12-channels-of-several-images-mixed",
        """
        g (float[2, 4, 5, 5] x) => (float[2, 4, 5, 5] y) {
            joined = Conv (x, aw)
            five = Reshape (joined, in_three)
            turned = Transpose <perm = [1, 0, 2]> (five)
            shuffled = Reshape (turned, flat)
            y = Conv (shuffled, yw)
        }
        """,
        {"aw": (4, 4, 1, 1), "yw": (4, 4, 1, 1)},
        {"Reshape": 2, "Transpose": 1},
        {"in_three": [4, 2, 25], "flat": [2, 4, 5, 5]},
    ),
)


@pytest.mark.parametrize("case", STAYS, ids=lambda case: case.id)
def test_left_alone(case: Case) -> None:
    before = model_of(case)
    after, (report, *_) = optimize(before, [eliminate_channel_shuffle])
    assert report.refused is None
    assert movers(after) == case.left
    for expected, found in zip(run(before, 2), run(after, 2), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_residual_keeps_its_order() -> None:
    """10: what is added to something else cannot change its channels; the shuffle becomes a Gather."""
    text = HEAD.replace("}", "y = Add (shuffled, joined) }") % SHUFFLED
    before = model_of(Case("", text, {"aw": (8, 4, 1, 1)}, {}, SHAPES))
    after, _ = optimize(before, [eliminate_channel_shuffle])
    assert movers(after) == {"Gather": 1}
    np.testing.assert_array_equal(run(before, 2)[0], run(after, 2)[0])


def test_shared_weights_are_copied() -> None:
    """A convolution whose weights another one uses too gets its own, and the other keeps them."""
    text = HEAD.replace("}", "z = Conv (shuffled, yw) v = Conv (joined, yw) y = Sub (z, v) }") % SHUFFLED
    before = model_of(Case("", text, {"aw": (8, 4, 1, 1), "yw": (8, 8, 1, 1)}, {}, SHAPES))
    after, (report, *_) = optimize(before, [eliminate_channel_shuffle])
    assert report.refused is None
    np.testing.assert_allclose(run(before, 2)[0], run(after, 2)[0], rtol=0, atol=2e-5)


def test_a_wrong_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: weights in another order than the channels do not get past the check."""
    from cnnport.graphs.channel import eliminate_channel_shuffle as module

    case = CASES[0]
    before = model_of(case)
    real_take = rechannel.take

    def backwards(array: np.ndarray, *rest: object) -> np.ndarray:
        return real_take(array, *rest)[::-1]

    monkeypatch.setattr(rechannel, "take", backwards)

    def differs(candidate: onnx.ModelProto) -> str | None:
        pairs = zip(run(before, 2), run(candidate, 2), strict=True)
        return None if all(np.allclose(*pair, atol=1e-4) for pair in pairs) else "outputs differ"

    after, (report, *_) = optimize(before, [module.eliminate_channel_shuffle], verify=differs)
    assert report.refused == "outputs differ"
    assert movers(after) == movers(before)

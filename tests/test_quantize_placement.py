"""Where quantizers stand, rule by rule and target by target, on graphs in ONNX text."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from cnnport.errors import CnnportError, UnknownNameError
from cnnport.graphs.protos import read, write
from cnnport.graphs.quantize import quantize, wanted
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rules import RULES
from quantize_graphs import Constants, fused, images, model_of, pairs, parameters, quantized, ranges_of, run


@dataclass(frozen=True)
class Case:
    """A graph, and for each target the values that are quantized and the operators that stay in float.

    Attributes:
        id: The rule.
        text: The graph.
        constants: Of it.
        values: By target.
        left: By target; none where a target is missing.
        fused: What ONNX Runtime makes of the file for it, without what converts at both ends.
    """

    id: str
    text: str
    constants: Constants
    values: dict[str, str]
    left: dict[str, str]
    fused: dict[str, int]


CASES = (
    Case(
        "convolution, bias, activation",
        """g (float[N, 8, 6, 6] x) => (float[N, 16, 6, 6] y) {
            a = Conv (x, aw, ab)  r = Relu (a)  b = Conv (r, bw, bb)  c = Clip (b, zero, six)
            d = Conv (c, dw)  y = Sigmoid (d)
        }""",
        {
            "aw": (16, 8, 1, 1),
            "ab": (16,),
            "bw": (16, 16, 1, 1),
            "bb": (16,),
            "dw": (16, 16, 1, 1),
            "zero": np.float32(0),
            "six": np.float32(6),
        },
        {"ort": "x r c d", "trt": "x r c", "openvino": "x r c"},
        {"ort": "Sigmoid", "trt": "Sigmoid", "openvino": "Sigmoid"},
        {"QLinearConv": 3, "Sigmoid": 1},
    ),
    Case(
        "residual sum",
        """g (float[N, 8, 6, 6] x) => (float[N, 10] y) {
            a = Conv (x, aw)  r = Relu (a)
            b = Conv (r, bw)  s = Add (b, r)  t = Relu (s)
            c = Conv (t, bw2)  d = Conv (t, bw3)  u = Add (c, d)  v = Relu (u)
            p = GlobalAveragePool (v)  f = Flatten (p)  y = Gemm <transB = 1> (f, yw, yb)
        }""",
        {
            "aw": (16, 8, 1, 1),
            "bw": (16, 16, 1, 1),
            "bw2": (16, 16, 1, 1),
            "bw3": (16, 16, 1, 1),
            "yw": (10, 16),
            "yb": (10,),
        },
        # Of the two convolutions before the second sum, the first; of the first sum, what skips.
        {
            "ort": "x r b t c d v p f",
            "trt": "x r t c v f",
            "openvino": "x r b t c d v f",
        },
        {},
        {"QLinearConv": 4, "QLinearAdd": 2, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1},
    ),
    Case(
        "squeeze and excitation",
        """g (float[N, 8, 6, 6] x) => (float[N, 4, 6, 6] y) {
            a = Conv (x, aw)  r = Relu (a)
            p = GlobalAveragePool (r)  q = Conv (p, qw, qb)  h = Relu (q)  k = Conv (h, kw, kb)  g = Sigmoid (k)
            m = Mul (r, g)  c = Conv (m, cw)  y = Tanh (c)
        }""",
        {
            "aw": (16, 8, 1, 1),
            "qw": (4, 16, 1, 1),
            "qb": (4,),
            "kw": (16, 4, 1, 1),
            "kb": (16,),
            "cw": (4, 16, 1, 1),
        },
        {"ort": "x r p h k g m c", "trt": "x r p h g m", "openvino": "x r p h g m"},
        {"ort": "Tanh", "trt": "Sigmoid Tanh", "openvino": "Sigmoid Tanh"},
        {"QLinearConv": 4, "QLinearGlobalAveragePool": 1, "QLinearSigmoid": 1, "QLinearMul": 1, "Tanh": 1},
    ),
    Case(
        "concatenation, split, pooling and movement",
        """g (float[N, 8, 8, 8] x) => (float[N, 4, 4, 4] y) {
            a = Conv (x, aw)  r = Relu (a)  b = Conv (x, bw)  s = Relu (b)
            j = Concat <axis = 1> (r, s)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (j)
            left, right = Split <axis = 1, num_outputs = 2> (m)
            c = Conv (left, cw)  d = Conv (right, dw)  e = Relu (d)
            k = Concat <axis = 1> (c, e)
            f = Conv (k, fw)  y = Tanh (f)
        }""",
        {
            "aw": (8, 8, 1, 1),
            "bw": (8, 8, 1, 1),
            "cw": (4, 8, 1, 1),
            "dw": (4, 8, 1, 1),
            "fw": (4, 8, 1, 1),
        },
        {
            "ort": "x r s j m left right c e k f",
            "trt": "x r s left right c e k",
            "openvino": "x r s left right c e k",
        },
        {"ort": "Tanh", "trt": "Tanh", "openvino": "Tanh"},
        {"QLinearConv": 5, "QLinearConcat": 2, "NhwcMaxPool": 1, "Split": 1, "Tanh": 1},
    ),
    Case(
        "movements in between are bytes, those at the ends are floats",
        """g (float[N, 4, 4, 8] image) => (float[N, 2, 4, 8] y) {
            x = Transpose <perm = [0, 3, 1, 2]> (image)
            a = Conv (x, aw)  t = Transpose <perm = [0, 1, 3, 2]> (a)  b = Conv (t, bw)
            u = Reshape (b, shape)  y = Tanh (u)
        }""",
        {"aw": (8, 8, 1, 1), "bw": (4, 8, 1, 1), "shape": np.array([0, 2, 4, 8], np.int64)},
        {"ort": "x a t b", "trt": "x t", "openvino": "x t"},
        dict.fromkeys(("ort", "trt", "openvino"), "Transpose Reshape Tanh"),
        {},
    ),
    Case(
        "depthwise, and what has no integer kernel",
        """g (float[N, 16, 6, 6] x) => (float[N, 16, 6, 6] y) {
            a = Conv <group = 16, pads = [1, 1, 1, 1]> (x, aw, ab)  h = HardSwish (a)
            b = Conv <group = 4> (h, bw)  e = Elu (b)
            c = ConvTranspose <group = 2> (e, cw, cb)  y = Relu (c)
        }""",
        {
            "aw": (16, 1, 3, 3),
            "ab": (16,),
            "bw": (16, 4, 1, 1),
            "cw": (16, 8, 1, 1),
            "cb": (16,),
        },
        {"ort": "x a h b", "trt": "x h", "openvino": "x h e"},
        {
            "ort": "HardSwish Elu ConvTranspose Relu",
            "trt": "HardSwish Elu ConvTranspose Relu",
            "openvino": "HardSwish Elu",
        },
        {},
    ),
    Case(
        "products of matrices",
        """g (float[N, 12] x) => (float[N, 5] y, float[N, 6] z) {
            a = MatMul (x, aw)  b = Add (a, ab)  r = Relu (b)
            c = Gemm <alpha = 0.5, beta = 2.0> (r, cw, cb)  s = Relu (c)
            y = Gemm <transB = 1> (s, yw)
            z = MatMul (r, zw)
        }""",
        {
            "aw": (12, 8),
            "ab": (8,),
            "cw": (8, 7),
            "cb": (7,),
            "yw": (5, 7),
            "zw": (8, 6),
        },
        {"ort": "x r s", "trt": "x r s", "openvino": "x r s"},
        # A constant is added exactly, and so in float.
        dict.fromkeys(("ort", "trt", "openvino"), "Add Relu"),
        {},
    ),
    Case(
        "a result that is given out stays in float",
        """g (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y, float[N, 8, 6, 6] z) {
            y = Conv (x, aw)  b = Conv (y, bw)  z = Relu (b)
        }""",
        {"aw": (8, 8, 1, 1), "bw": (8, 8, 1, 1)},
        {"trt": "x y", "openvino": "x y"},
        {},
        {},
    ),
)


def names(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize("target", RULES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_quantizers_stand_where_the_rules_say(case: Case, target: str, tmp_path: Path) -> None:
    model = model_of(case.text, case.constants)
    if target not in case.values:
        with pytest.raises(CnnportError, match="nothing in this graph can be quantized"):
            quantized(model, target)
        return
    made, report = quantized(model, target)
    assert pairs(made) == names(case.values[target])
    assert set(report.quantizers) == names(case.values[target])
    assert sorted(each.operator for each in report.left) == sorted(case.left.get(target, "").split())
    assert all(each.reason for each in report.choices)
    if target == "ort" and case.fused:
        found = fused(made, str(tmp_path / "fused.onnx"))
        for converting in ("QuantizeLinear", "DequantizeLinear", "Transpose"):
            found.pop(converting, None)
        assert found == case.fused


@pytest.mark.parametrize("target", RULES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_only_some_ranges_are_asked_for_and_the_rest_follows(case: Case, target: str) -> None:
    """A range for every quantized value gives the same file as those that were asked for."""
    if target not in case.values:
        return
    model = model_of(case.text, case.constants)
    asked = wanted(read(model), target)
    assert asked <= names(case.values[target])
    sparse, full = read(model), read(model)
    quantize(sparse, ranges_of(model, asked), target)
    quantize(full, ranges_of(model, names(case.values[target])), target)
    assert write(sparse) == write(full)


def test_what_is_pooled_joined_or_cut_needs_no_range() -> None:
    case = next(each for each in CASES if each.id.startswith("concatenation"))
    model = model_of(case.text, case.constants)
    assert wanted(read(model), "ort") == names("x r s c e f")
    assert wanted(read(model), "trt") == names("x r s left right c e")


def test_values_that_are_joined_share_a_scale_unless_a_bound_or_a_reader_forbids_it() -> None:
    case = next(each for each in CASES if each.id.startswith("concatenation"))
    made, report = quantized(model_of(case.text, case.constants), "ort")
    one = {parameters(made, value) for value in names("r s j m left right")}
    assert len(one) == 1
    # The Relu before e has become its quantizer's zero point, which the negative c does not have.
    assert parameters(made, "e")[1] == 0
    assert parameters(made, "c") == parameters(made, "k")
    assert parameters(made, "k")[1] > 0
    assert report.quantizers["c"].scale == report.quantizers["k"].scale


def test_an_input_of_a_concat_that_others_read_keeps_its_digits() -> None:
    text = """g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y, float[N, 4, 6, 6] z) {
        a = Conv (x, aw)  b = Conv (x, bw)  j = Concat <axis = 1> (a, b)
        c = Conv (j, cw)  y = Tanh (c)  d = Conv (a, dw)  z = Tanh (d)
    }"""
    constants = {"aw": (4, 4, 1, 1), "bw": (4, 4, 1, 1), "cw": (4, 8, 1, 1), "dw": (4, 4, 1, 1)}
    model = model_of(text, constants)
    small, large = ValueRange(-1, 1), ValueRange(-3, 3)
    for reach, shared in ((small, False), (ValueRange(-2, 2), True)):
        ranges = dict.fromkeys(wanted(read(model), "ort"), large) | {"a": reach}
        draft = read(model)
        report = quantize(draft, ranges, "ort")
        assert (report.quantizers["a"] == report.quantizers["j"]) is shared
        assert report.quantizers["b"] == report.quantizers["j"]


def test_what_a_bound_behind_a_concat_cuts_off_gets_no_levels() -> None:
    """ShuffleNet v1's unit: a convolution's result is joined to a pooled one, then the Relu comes."""
    text = """g (float[N, 4, 6, 6] x) => (float[N, 4, 3, 3] y) {
        q = Conv (x, qw)  r = Relu (q)
        p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (r)
        c = Conv <strides = [2, 2]> (r, cw)  j = Concat <axis = 1> (p, c)  s = Relu (j)
        d = Conv (s, dw)  y = Tanh (d)
    }"""
    made, report = quantized(
        model_of(text, {"qw": (4, 4, 1, 1), "cw": (4, 4, 1, 1), "dw": (4, 8, 1, 1)}), "ort"
    )
    assert report.quantizers["c"].zero_point == 0
    assert report.quantizers["c"] == report.quantizers["p"] == report.quantizers["s"]
    assert "j" not in pairs(made)


def test_nodes_are_kept_in_float_by_name_and_the_report_says_so() -> None:
    case = CASES[1]
    model = model_of(case.text, case.constants)
    kept = {node.output[0]: node.name for node in model.graph.node}
    made, report = quantized(model, "ort", keep=[kept["b"], kept["y"]])
    assert pairs(made) == names("x r b t c d")
    by_name = {each.node: each for each in report.choices}
    assert by_name[kept["b"]].reason == "to be kept in float"
    assert not by_name[kept["y"]].quantized
    assert by_name[kept["p"]].reason == "nothing that reads it wants 8 bits"
    with pytest.raises(UnknownNameError, match="no node is called 'Conv_99'"):
        quantized(model, "ort", keep=["Conv_99"])


def test_what_cannot_be_quantized_is_refused_in_a_sentence() -> None:
    case = CASES[0]
    model = model_of(case.text, case.constants)
    made, _ = quantized(model, "ort")
    for target in RULES:
        with pytest.raises(CnnportError, match="quantized already: it has a QuantizeLinear"):
            wanted(read(made), target)
    with pytest.raises(UnknownNameError, match="no int8 target is called 'tensorrt'"):
        wanted(read(model), "tensorrt")
    with pytest.raises(CnnportError, match="needs opset 13 or newer"):
        wanted(read(model_of(case.text, case.constants, opset=12)), "ort")
    ranges = ranges_of(model, wanted(read(model), "ort"))
    for wrong, message in (
        ({}, "ranges of 4 values are missing: c, d, r"),
        (ranges | {"r": ValueRange(0, float("inf"))}, "range of r is not finite"),
        (ranges | {"r": ValueRange(1, 2)}, "range of r does not hold 0"),
    ):
        with pytest.raises(CnnportError, match=message):
            quantize(read(model), wrong, "ort")


def test_interface_names_and_notes_stay_and_the_batch_stays_open() -> None:
    case = CASES[1]
    model = model_of(case.text, case.constants)
    model.doc_string = "a network"
    onnx.helper.set_model_props(model, {"cnnport.model": "small"})
    made, _ = quantized(model, "ort")
    again, _ = quantized(model, "ort")
    assert made == again
    assert (made.graph.input, made.graph.output) == (model.graph.input, model.graph.output)
    assert (made.doc_string, made.metadata_props) == (model.doc_string, model.metadata_props)
    before = {(node.name, tuple(node.output)) for node in model.graph.node}
    assert before <= {(node.name, tuple(node.output)) for node in made.graph.node}
    for batch in (1, 3):
        assert run(made, images(made, batch)).shape == (batch, 10)


def test_subgraphs_go_on_reading_floats() -> None:
    text = """g (float[N, 4, 6, 6] x, bool which) => (float[N, 4, 6, 6] y) {
        a = Conv (x, aw)  r = Relu (a)  b = Conv (r, bw)  t = Tanh (b)
        u = If (which) <
            then_branch = yes () => (float[N, 4, 6, 6] v) { v = Add (t, r) },
            else_branch = no () => (float[N, 4, 6, 6] w) { w = Sub (t, r) }
        >
        y = Tanh (u)
    }"""
    model = model_of(text, {"aw": (4, 4, 1, 1), "bw": (4, 4, 1, 1)})
    for target, values in (("ort", {"x", "r", "b"} - {"x"}), ("trt", {"x", "r"})):
        draft = read(model)
        report = quantize(draft, dict.fromkeys(wanted(draft, target), ValueRange(-1, 1)), target)
        made = write(draft)
        onnx.checker.check_model(made, full_check=True)
        assert pairs(made) == values
        branch = next(node for node in made.graph.node if node.op_type == "If").attribute[0].g
        assert list(branch.node[0].input) == ["t", "r"]
        first = next(each for each in report.choices if each.operator == "Conv")
        assert first.quantized is (target == "trt")
        assert target == "trt" or first.reason == "its result is given out, in float"

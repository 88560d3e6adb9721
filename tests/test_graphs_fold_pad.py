"""fold_pad before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.fold import fold_pad

SHAPES = {"w": (4, 3, 3, 3), "w2": (2, 3, 2, 2), "wg": (6, 1, 3, 3), "w1": (4, 3, 3), "wide": (4, 3, 2, 2)}
FULL = "[0,0,1,2,0,0,0,1]"  # a row above, none below; two columns before, one behind


def build(
    body,
    pads=FULL,
    value=None,
    *,
    opset=17,
    axes=None,
    x="float[N,3,H,W]",
    outputs="float[A,B,C,D] y",
    dtype=np.float32,
):
    """A model of a body in ONNX text in which PAD (name) is a Pad of that name by ``pads`` and ``value``."""
    inputs = ["p", "v" if value is not None else "", "a" if axes else ""]
    if opset >= 11:
        given = ", ".join(inputs).rstrip(", ")
        body = body.replace("PAD (", "Pad (").replace(" !)", f", {given})")
    else:
        attributes = f"pads = {pads}" + (f", value = {value}" if value is not None else "")
        body = body.replace("PAD (", f"Pad <{attributes}> (").replace(" !)", ")")
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({x} x) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text.replace('""', '""'))
    rng = np.random.default_rng(0)
    used = {name for node in model.graph.node for name in node.input}
    arrays = {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items() if name in used}
    arrays |= {"b": np.ones(4, dtype)} if "b" in used else {}
    if opset >= 11:
        arrays["p"] = np.array(eval(pads), np.int64)
        arrays |= {"v": np.array(value, dtype)} if value is not None else {}
        arrays |= {"a": np.array(axes, np.int64)} if axes else {}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(model)
    return model


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def assert_agree(before, after, sides=((5, 7), (9, 4))):
    dims = len(before.graph.input[0].type.tensor_type.shape.dim) - 2
    for side in sides:
        # Negative throughout, where nothing rectifies it: a maximum would find a padded zero.
        x = -np.abs(np.random.default_rng(1).normal(size=(2, 3, *side[:dims]))).astype(np.float32)
        for image in (x, x + 1):
            for expected, found in zip(run(before, {"x": image}), run(after, {"x": image}), strict=True):
                assert found.shape == expected.shape
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


CONV = "q = PAD (x !) y = Conv (q, w)"
MAX = "q = PAD (r !) y = MaxPool <kernel_shape=[3,3]> (q)"
AVERAGE = "q = PAD (x !) y = AveragePool <kernel_shape=[3,3]> (q)"

FIRES = {
    "1-conv": ({"body": CONV}, [1, 2, 0, 1]),
    "1-own-padding": (
        {"body": "q = PAD (x !) y = Conv <pads=[1,0,2,1], strides=[2,1]> (q, w, b)"},
        [2, 2, 2, 2],
    ),
    "1-valid": ({"body": 'q = PAD (x !) y = Conv <auto_pad="VALID", dilations=[2,1]> (q, w)'}, [1, 2, 0, 1]),
    "1-depthwise": ({"body": "q = PAD (x !) y = Conv <group=3> (q, wg)"}, [1, 2, 0, 1]),
    "1-wider-than-kernel": (
        {"body": "q = PAD (x !) y = Conv (q, wide)", "pads": "[0,0,3,4,0,0,2,5]"},
        [3, 4, 2, 5],
    ),
    "1-one-dimension": (
        {
            "body": "q = PAD (x !) y = Conv (q, w1)",
            "pads": "[0,0,2,0,0,1]",
            "x": "float[N,3,L]",
            "outputs": "float[A,B,C] y",
        },
        [2, 1],
    ),
    "1-value-given": ({"body": CONV, "value": 0.0}, [1, 2, 0, 1]),
    "1-opset-10": ({"body": CONV, "opset": 10}, [1, 2, 0, 1]),
    "1-opset-11": ({"body": CONV, "opset": 11}, [1, 2, 0, 1]),
    "1-axes": ({"body": CONV, "opset": 18, "pads": "[2,1,1,0]", "axes": [-1, 2]}, [1, 2, 0, 1]),
    "1-opset-25": ({"body": CONV, "opset": 25, "pads": "[2,1]", "axes": [3]}, [0, 2, 0, 1]),
    "2-average": ({"body": AVERAGE}, [1, 2, 0, 1]),
    "2-counts-already": (
        {
            "body": "q = PAD (x !) y = AveragePool <kernel_shape=[4,4], pads=[1,1,0,1], count_include_pad=1> (q)"
        },
        [2, 3, 0, 2],
    ),
    "3-minus-infinity": (
        {"body": "q = PAD (x !) y = MaxPool <kernel_shape=[3,3], strides=[2,2]> (q)", "value": -np.inf},
        [1, 2, 0, 1],
    ),
    "3-relu": ({"body": f"r = Relu (x) {MAX}"}, [1, 2, 0, 1]),
    "3-sigmoid-pool": ({"body": f"s = Sigmoid (x) r = MaxPool <kernel_shape=[1,1]> (s) {MAX}"}, [1, 2, 0, 1]),
    "3-below-the-least": ({"body": f"r = Tanh (x) {MAX}", "value": -1.0}, [1, 2, 0, 1]),
    "3-clip": ({"body": f"z = Constant <value_float=0.0> () r = Clip (x, z) {MAX}"}, [1, 2, 0, 1]),
}


@pytest.mark.parametrize("id_", FIRES)
def test_fires(id_):
    options, pads = FIRES[id_]
    before = build(**options)
    after, (report, *_) = optimize(before, [fold_pad.fold_pad])
    assert (report.rewrites, report.refused) == (1, None)
    assert "Pad" not in count_ops(after)
    reader = after.graph.node[-1]
    assert {each.name: list(each.ints) for each in reader.attribute}["pads"] == pads
    assert not {"p", "v", "a"} & {tensor.name for tensor in after.graph.initializer}
    if options.get("opset", 17) < 25:
        onnx.checker.check_model(after, full_check=True)
    assert_agree(before, after)
    again, _ = optimize(after, [fold_pad.fold_pad])
    assert again is after


def test_all_readers_take_it():
    """1 to 3 at once: a Pad that several read goes if every one of them can take it in."""
    body = "r = Relu (x) q = PAD (r !) c = Conv (q, w) d = Conv (q, w) m = MaxPool <kernel_shape=[3,3]> (q)"
    before = build(f"{body} y = Concat <axis=1> (c, d, m)")
    after, _ = optimize(before, [fold_pad.fold_pad])
    assert count_ops(after) == {"Concat": 1, "Conv": 2, "MaxPool": 1, "Relu": 1}
    assert_agree(before, after)


def as_default(model, name):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    return model


def of_mode(mode):
    model = build(CONV)
    model.graph.node[0].attribute.append(helper.make_attribute("mode", mode))
    return model


def captured():
    model = build(f"{CONV} yes = Constant <value = bool {{1}}> ()")
    branch = helper.make_graph(
        [helper.make_node("Relu", ["q"], ["t"])],
        "branch",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    return model


def custom():
    model = build(CONV)
    model.graph.node[-1].domain = "acme"
    model.opset_import.add(domain="acme", version=1)
    return model


TWO = "float[A,B,C,D] y, float[E,F,G,H2] q"

STAYS = {
    "10-other-reader": (
        lambda: build("q = PAD (x !) c = Conv (q, w) s = ReduceSum (q) y = Add (c, s)"),
        "ReduceSum s",
    ),
    "10-one-of-two": (
        lambda: build(
            'q = PAD (x !) c = Conv (q, w) d = Conv <auto_pad="SAME_UPPER"> (q, w) e = ReduceSum (d) y = Add (c, e)'
        ),
        "size asks for",
    ),
    "10-given-out": (lambda: build(CONV, outputs=TWO), "q is given out"),
    "10-captured": (captured, "Relu t reads it too"),
    "10-custom": (custom, "reads it too"),
    "10-as-weight": (
        lambda: build("q = PAD (w !) y = Conv (x, q)", pads="[0,0,0,0,0,0,0,0]"),
        "reads it too",
    ),
    "11-reflect": (lambda: of_mode("reflect"), "not pad with a constant"),
    "11-edge": (lambda: of_mode("edge"), "not pad with a constant"),
    "11-value": (lambda: build(CONV, value=1.0), "not with this value"),
    "11-average-value": (lambda: build(AVERAGE, value=1.0), "not with this value"),
    "11-max-of-anything": (
        lambda: build("q = PAD (x !) y = MaxPool <kernel_shape=[3,3]> (q)"),
        "maximum in the padding",
    ),
    "11-max-above": (lambda: build(f"r = Relu (x) {MAX}", value=0.5), "maximum in the padding"),
    "11-conv-minus-infinity": (lambda: build(CONV, value=-np.inf), "not with this value"),
    "11-channels": (
        lambda: build("q = PAD (x !) y = Conv (q, w)", pads="[0,0,1,1,0,1,0,0]"),
        "batch or channels",
    ),
    "11-batch": (lambda: build(CONV, pads="[1,0,1,1,0,0,0,0]"), "batch or channels"),
    "12-crops": (lambda: build(CONV, pads="[0,0,1,-1,0,0,1,1]"), "crops"),
    "12-default": (lambda: as_default(build(CONV), "p"), "padding is computed"),
    "12-default-value": (lambda: as_default(build(CONV, value=0.0), "v"), "not known"),
    "13-same": (lambda: build('q = PAD (x !) y = Conv <auto_pad="SAME_LOWER"> (q, w)'), "size asks for"),
    "14-max-ceil": (
        lambda: build(
            "q = PAD (x !) y = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (q)",
            "[0,0,0,0,0,0,2,2]",
            -np.inf,
        ),
        "hangs over the edge",
    ),
    "14-average-ceil": (
        lambda: build("q = PAD (x !) y = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (q)"),
        "hangs over the edge",
    ),
    "14-dilated": (
        lambda: build("r = Relu (x) q = PAD (r !) y = MaxPool <kernel_shape=[3,3], dilations=[2,1]> (q)"),
        "gaps",
    ),
    "14-as-large": (
        lambda: build("r = Relu (x) q = PAD (r !) y = MaxPool <kernel_shape=[2,2]> (q)"),
        "as much as its kernel",
    ),
    "14-as-large-together": (
        lambda: build("r = Relu (x) q = PAD (r !) y = MaxPool <kernel_shape=[3,3], pads=[0,1,0,0]> (q)"),
        "as much as its kernel",
    ),
    "14-indices": (
        lambda: build(
            "r = Relu (x) q = PAD (r !) y, i = MaxPool <kernel_shape=[3,3]> (q)",
            outputs="float[A,B,C,D] y, int64[E,F,G,H2] i",
        ),
        "where its maxima are",
    ),
    "15-not-counted": (
        lambda: build("q = PAD (x !) y = AveragePool <kernel_shape=[4,4], pads=[1,1,0,1]> (q)"),
        "does not count its own",
    ),
}


@pytest.mark.parametrize("id_", STAYS)
def test_stays(id_):
    make, reason = STAYS[id_]
    before = make()
    after, (report, *_) = optimize(before, [fold_pad.fold_pad])
    assert after is before
    assert (report.rewrites, report.refused) == (0, None)
    (refusal,) = report.left
    assert reason in refusal.reason


@pytest.mark.parametrize(
    ("id_", "name", "wrong"),
    [
        ("11-max-of-anything", "bounds_of", lambda *_: (0.0, np.inf)),
        ("15-not-counted", "_expect", lambda *_: None),
        ("14-max-ceil", "_expect", lambda *_: None),
    ],
)
def test_a_planted_fault_shows(id_, name, wrong, monkeypatch):
    """Without the condition the pass fires, and the comparison of numbers notices."""
    before = STAYS[id_][0]()
    monkeypatch.setattr(fold_pad, name, wrong)
    after = ir.from_proto(before)
    assert fold_pad.fold_pad(after) == 1
    with pytest.raises(AssertionError):
        assert_agree(before, ir.to_proto(after), sides=((6, 8), (4, 4)))

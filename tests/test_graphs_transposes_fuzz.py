"""Random graphs full of Transposes through move_transposes: the numbers stay, and no Transpose is added."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.layout.move_transposes import move_transposes
from cnnport.graphs.layout.operators import OPERATORS

START = (2, 3, 4, 6)
ORDERS = ([0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [3, 2, 1, 0], [1, 0, 2, 3])


class Network:
    """A graph under construction; ``values`` are the names so far with their shapes."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.nodes, self.initializers, self.values = [], [], [("x", START)]

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def constant(self, array):
        name = f"k{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def numbers(self, shape):
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def add(self, op, inputs, *shapes, **attributes):
        names = [f"v{len(self.nodes)}_{index}" for index in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        self.values += zip(names, shapes, strict=True)

    def source(self):
        return self.pick(self.values[-1], self.values[-1], self.values[-1], *self.values)

    def transpose(self, name, shape):
        order = self.pick(*(order for order in ORDERS if len(shape) == 4)) if len(shape) == 4 else [1, 0]
        self.add("Transpose", [name], tuple(shape[axis] for axis in order), perm=order)

    def unary(self, name, shape):
        self.add(self.pick("Relu", "Sigmoid", "Identity", "Dropout", "Neg"), [name], shape)

    def binary(self, name, shape):
        small = tuple(self.pick(size, 1) for size in shape)
        other = self.numbers(self.pick(small, small[1:], small[-1:], ()))
        self.add(self.pick("Add", "Mul", "Sub"), self.pick([name, other], [other, name]), shape)

    def residual(self, name, shape):
        other, _ = self.pick(*(value for value in self.values if value[1] == shape))
        self.add(self.pick("Add", "Max"), [name, other], shape)

    def concat(self, name, shape):
        axis = self.pick(*range(len(shape)))
        matching = [
            value
            for value in self.values
            if len(value[1]) == len(shape)
            and all(
                one == two or place == axis
                for place, (one, two) in enumerate(zip(value[1], shape, strict=True))
            )
            and value[1][axis] + shape[axis] < 14
        ]
        if matching:
            other, more = self.pick(*matching)
            wide = tuple(size + more[axis] * (place == axis) for place, size in enumerate(shape))
            self.add("Concat", [name, other], wide, axis=self.pick(axis, axis - len(shape)))

    def split(self, name, shape):
        axis = self.pick(*range(len(shape)))
        if shape[axis] > 1:
            sizes = [1, shape[axis] - 1]
            shapes = [
                tuple(size if place == axis else own for place, own in enumerate(shape)) for size in sizes
            ]
            self.add("Split", [name, self.constant(np.array(sizes, np.int64))], *shapes, axis=axis)

    def pad(self, name, shape):
        if max(shape) > 9:
            return
        before = [self.pick(0, 0, 1) for _ in shape]
        pads = self.constant(np.array([*before, *[0] * len(shape)], np.int64))
        self.add("Pad", [name, pads], tuple(np.add(shape, before).tolist()))

    def cut(self, name, shape):
        axis = self.pick(*range(len(shape)))
        if shape[axis] > 2:
            inputs = [self.constant(np.array([number], np.int64)) for number in (1, 99, axis)]
            self.add("Slice", [name, *inputs], tuple(s - (p == axis) for p, s in enumerate(shape)))

    def reduce(self, name, shape):
        axes = self.pick([1], [2, 3], [1, 2], [3]) if len(shape) == 4 else [1]
        if len(shape) == 4 and self.pick(True, False, False):
            kept = tuple(size for place, size in enumerate(shape) if place not in axes)
            self.nodes.append(
                helper.make_node("ReduceMean", [name], [f"r{len(self.nodes)}"], axes=axes, keepdims=0)
            )
            if len(kept) == 2:
                self.values.append((self.nodes[-1].output[0], kept))
            return
        shape = tuple(1 if place in axes else size for place, size in enumerate(shape))
        self.add("ReduceMean", [name], shape, axes=axes, keepdims=1)

    def softmax(self, name, shape):
        self.add("Softmax", [name], shape, axis=self.pick(*range(-1, len(shape))))

    def pool(self, name, shape):
        if len(shape) == 4:
            kind = self.pick("MaxPool", "GlobalAveragePool")
            if kind == "MaxPool":
                self.add(kind, [name], shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            else:
                self.add(kind, [name], (*shape[:2], 1, 1))

    def head(self, name, shape):
        features = int(np.prod(shape[1:]))
        if len(shape) == 4 and features < 200:
            self.add("Flatten", [name], (shape[0], features))
            flat, _ = self.values.pop()
            self.add("MatMul", [flat, self.numbers((features, 3))], (shape[0], 3))

    def unsqueezed(self, name, shape):
        if len(shape) == 2:
            axes = self.constant(np.array(self.pick([2, 3], [1, 2]), np.int64))
            sizes = (
                (*shape, 1, 1)
                if numpy_helper.to_array(self.initializers[-1])[0] == 2
                else (shape[0], 1, 1, shape[1])
            )
            self.add("Unsqueeze", [name, axes], sizes)

    def model(self):
        names = [name for name, _ in self.values[1:]]
        chosen = {*self.draw(st.lists(st.sampled_from(names), max_size=2)), names[-1]}
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in self.values
            if name in chosen
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, START)]
        graph = helper.make_graph(self.nodes, "fuzz", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@st.composite
def networks(draw):
    network = Network(draw)
    steps = [network.transpose] * 5 + [network.unary, network.binary, network.residual] * 2
    steps += [network.concat, network.split, network.pad, network.cut, network.reduce, network.softmax]
    steps += [network.pool, network.head, network.unsqueezed]
    for _ in range(draw(st.integers(2, 16))):
        draw(st.sampled_from(steps))(*network.source())
    if len(network.values) == 1:
        network.transpose(*network.values[0])
    return network.model()


def run(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(0).normal(size=START).astype(np.float32)})


def check(model):
    """Same interface, same numbers, valid, as many Transposes less as it says, and nothing left to do."""
    onnx.checker.check_model(model, full_check=True)
    after, (report, *_) = optimize(model, [move_transposes])
    assert report.refused is None
    onnx.checker.check_model(after, full_check=True)
    gone = count_ops(model).get("Transpose", 0) - count_ops(after).get("Transpose", 0)
    assert 0 <= gone <= report.rewrites
    assert list(after.graph.input) == list(model.graph.input)
    assert list(after.graph.output) == list(model.graph.output)
    again, _ = optimize(after, [move_transposes])
    assert again is after
    for found, expected in zip(run(after), run(model), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_any_network(model):
    check(model)


def test_a_wrong_rule_is_noticed(monkeypatch):
    """Planted: Concat and Pad are taken for operators that treat all axes alike."""
    monkeypatch.setitem(OPERATORS, "Concat", OPERATORS["Relu"])
    monkeypatch.setitem(OPERATORS, "Pad", OPERATORS["Relu"])
    once = settings(
        max_examples=400,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        once(given(networks())(check))()

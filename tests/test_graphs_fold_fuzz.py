"""Random graphs of arithmetic with constants, linear operators and what lies between, through the folding passes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.fold import channels
from cnnport.graphs.fold.fold_affine import fold_affine
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm
from cnnport.graphs.fold.fold_pad import fold_pad

CHANNELS, SIDE = 4, 6
PASSES = (fold_pad, fold_affine, fold_batchnorm)
FORMS = (
    (),
    (1,),
    (1, 1, 1, 1),
    (CHANNELS, 1, 1),
    (1, CHANNELS, 1, 1),
    (SIDE, 1),
    (SIDE,),
    (CHANNELS, SIDE, SIDE),
)


class Network:
    """A graph under construction, all of whose values are N x 4 x 6 x 6."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.nodes, self.initializers, self.values = [], [], ["x"]

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def constant(self, shape, low=0.5, high=1.5, *, signs=True):
        array = self.rng.uniform(low, high, shape) * (self.rng.choice([-1, 1], shape) if signs else 1)
        return self.given(np.asarray(array, np.float32))

    def given(self, array):
        name = f"k{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op, *inputs, last=True, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        if last:
            self.values.append(names[0])
        return names[0] if outputs == 1 else names

    def arithmetic(self, source):
        op = self.pick("Add", "Sub", "Mul", "Div", "Mul", "Add", "Neg")
        if op == "Neg":
            return self.add(op, source)
        constant = self.constant(self.pick(*FORMS[:5], *FORMS), signs=self.pick(True, False))
        # Not constant / source, which is near infinity somewhere.
        right = op == "Div" or self.pick(True, True, False)
        return self.add(op, *((source, constant) if right else (constant, source)))

    def conv(self, source):
        groups, kernel = self.pick(1, 2, CHANNELS), self.pick(1, 3)
        weight = self.constant((CHANNELS, CHANNELS // groups, kernel, kernel), 0.05, 0.3)
        bias = [self.constant((CHANNELS,))] if self.pick(True, False) else []
        if kernel == 3 and self.pick(True, False):
            source, pads = (
                self.add("Pad", source, self.given(np.array([0, 0, 1, 1, 0, 0, 1, 1])), last=False),
                [0] * 4,
            )
        else:
            pads = [kernel // 2] * 4
        return self.add("Conv", source, weight, *bias, group=groups, pads=pads)

    def transposed(self, source):
        return self.add("ConvTranspose", source, self.constant((CHANNELS, 2, 1, 1)), group=2)

    def norm(self, source):
        scale = self.constant((CHANNELS,), signs=self.pick(True, False))
        others = [self.constant((CHANNELS,)) for _ in range(2)]
        return self.add("BatchNormalization", source, scale, *others, self.constant((CHANNELS,), signs=False))

    def between(self, source):
        op = self.pick("Relu", "Identity", "Tanh", "MaxPool", "AveragePool", "LeakyRelu")
        pool = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if op.endswith("Pool") else {}
        if op == "AveragePool":
            pool["count_include_pad"] = self.pick(0, 1)
        return self.add(op, source, **pool)

    def padded_pool(self, source):
        if self.pick(True, False):
            source = self.add("Relu", source)
        pads = self.given(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
        return self.add(
            self.pick("MaxPool", "AveragePool"),
            self.add("Pad", source, pads, last=False),
            kernel_shape=[3, 3],
        )

    def channels_last(self, source):
        source = self.add("Transpose", source, perm=[0, 2, 3, 1], last=False)
        for _ in range(self.pick(1, 2, 3)):
            op = self.pick("MatMul", "Add", "Mul")
            shape = (CHANNELS, CHANNELS) if op == "MatMul" else self.pick((), (CHANNELS,))
            source = self.add(op, source, self.constant(shape), last=False)
        return self.add("Transpose", source, perm=[0, 3, 1, 2])

    def joined(self, source):
        whole = self.add("Concat", self.pick(source, *self.values), source, axis=self.pick(1, -3), last=False)
        if self.pick(True, False):
            return self.add("Conv", whole, self.constant((CHANNELS, 2 * CHANNELS, 1, 1)))
        one, other = self.add("Split", whole, axis=1, last=False, outputs=2)
        return self.add("Add", one, other)

    def parted(self, source):
        parts = self.add("Split", source, self.given(np.array([1, 3])), axis=1, last=False, outputs=2)
        made = [
            self.add("Conv", part, self.constant((2, width, 1, 1)), last=False)
            for part, width in zip(parts, (1, 3), strict=True)
        ]
        return self.add("Concat", *made, axis=1)

    def residual(self, source):
        return self.add("Add", source, self.pick(*self.values))

    def model(self):
        chosen = {*self.draw(st.lists(st.sampled_from(self.values[1:]), max_size=1)), self.values[-1]}
        maps = [CHANNELS, SIDE, SIDE]
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *maps])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *maps]) for name in sorted(chosen)],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@st.composite
def networks(draw):
    network = Network(draw)
    steps = [network.arithmetic] * 6 + [
        network.conv,
        network.conv,
        network.transposed,
        network.norm,
        network.between,
    ]
    steps += [network.padded_pool, network.channels_last, network.joined, network.parted, network.residual]
    for _ in range(draw(st.integers(2, 12))):
        # The newest value more often than not, so that chains get long; others, so that branches appear.
        source = network.values[-1] if draw(st.booleans()) else draw(st.sampled_from(network.values))
        draw(st.sampled_from(steps))(source)
    return network.model()


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def check(model):
    """Same interface, same numbers, as many operators fewer as rewrites, and nothing left to do."""
    optimized, reports = optimize(model, PASSES)
    assert not [report.refused for report in reports if report.refused]
    onnx.checker.check_model(optimized, full_check=True)
    gone = sum(count_ops(model).values()) - sum(count_ops(optimized).values())
    assert gone == sum(report.rewrites for report in reports)
    assert list(optimized.graph.output) == list(model.graph.output)
    assert optimize(optimized, PASSES)[0] is optimized
    feeds = {"x": np.random.default_rng(0).normal(size=(2, CHANNELS, SIDE, SIDE)).astype(np.float32)}
    for expected, found in zip(run(model, feeds), run(optimized, feeds), strict=True):
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-4 * max(float(np.abs(expected).max()), 1.0)
        )


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_any_network(model):
    onnx.checker.check_model(model, full_check=True)
    check(model)


def test_a_planted_fault_is_found(monkeypatch):
    """Activations and poolings that let every map pass: some network shows it, one in about 300."""
    wrong = {"AveragePool", "LeakyRelu", "MaxPool", "Relu", "Tanh"}
    monkeypatch.setattr(channels, "_commutes", lambda node, affine, opset: node.op_type in wrong)
    monkeypatch.setattr(channels, "_keeps_axes", lambda node: node.op_type in wrong)

    @settings(
        max_examples=4000,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(networks())
    def any_network(model):
        check(model)

    with pytest.raises(AssertionError):
        any_network()

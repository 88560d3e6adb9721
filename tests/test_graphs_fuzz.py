"""Random small CNNs through the graph passes: the numbers stay, and no BatchNormalization is added."""

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cnnport.graphs import count_ops, optimize

SIDE = 6


class Network:
    """A graph under construction; ``values`` are the names so far with channels, height and width."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.nodes, self.initializers, self.values = [], [], [("x", (4, SIDE, SIDE))]
        self.shared = {}

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def constant(self, shape, scale=1.0, offset=0.0):
        """A new constant, or one of the same kind that is in use already."""
        key = (shape, scale, offset)
        known = self.shared.setdefault(key, [])
        if known and self.pick(False, False, True):
            return self.pick(*known)
        name = f"k{len(self.initializers)}"
        array = np.asarray(self.rng.normal(size=shape) * scale + offset, np.float32)
        self.initializers.append(numpy_helper.from_array(np.abs(array) if offset else array, name))
        known.append(name)
        return name

    def add(self, op, inputs, shape, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, shape))
        return name, shape

    def source(self):
        # The newest value more often than not, so that chains get long; others, so that branches appear.
        return self.pick(self.values[-1], self.values[-1], *self.values)

    def norm(self, source):
        name, shape = source
        size = (shape[0],)
        inputs = [
            name,
            self.constant(size),
            self.constant(size),
            self.constant(size),
            self.constant(size, 0.5, 1.0),
        ]
        return self.add("BatchNormalization", inputs, shape, epsilon=self.pick(1e-5, 1e-2))

    def conv(self, source):
        name, (channels, height, width) = source
        groups = self.pick(*[g for g in (1, 2, channels) if channels % g == 0])
        kernel = self.pick(*[k for k in (1, 2, 3) if k <= min(height, width)])
        pad = self.pick(0, 0, 1) if kernel > 1 else 0
        out = groups * self.pick(1, 2) if groups > 1 else self.pick(2, 4)
        weight = self.constant(
            (out, channels // groups, kernel, kernel), (channels // groups * kernel**2) ** -0.5
        )
        inputs = [name, weight, *([self.constant((out,))] if self.pick(True, False) else [])]
        side = [size + 2 * pad - kernel + 1 for size in (height, width)]
        attributes = (
            {"group": groups, "pads": [pad] * 4} if pad or groups > 1 or self.pick(True, False) else {}
        )
        return self.add("Conv", inputs, (out, *side), **attributes)

    def transposed(self, source):
        name, (channels, height, width) = source
        groups = self.pick(*[g for g in (1, 2, channels) if channels % g == 0])
        kernel, out = self.pick(1, 2), self.pick(1, 2)
        weight = self.constant((channels, out, kernel, kernel), channels**-0.5)
        inputs = [name, weight, *([self.constant((groups * out,))] if self.pick(True, False) else [])]
        shape = (groups * out, height + kernel - 1, width + kernel - 1)
        return self.add("ConvTranspose", inputs, shape, group=groups)

    def simple(self, source):
        name, shape = source
        return self.add(self.pick("Relu", "Identity", "Dropout"), [name], shape)

    def pool(self, source):
        name, (channels, height, width) = source
        kind = self.pick("MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool")
        if kind == "GlobalAveragePool" or min(height, width) < 2:
            return self.add("GlobalAveragePool", [name], (channels, 1, 1))
        pad = self.pick(0, 1)
        attributes = {"kernel_shape": [2, 2], "pads": [pad] * 4}
        if kind == "AveragePool":
            attributes["count_include_pad"] = self.pick(0, 1)
        return self.add(kind, [name], (channels, height + 2 * pad - 1, width + 2 * pad - 1), **attributes)

    def bias(self, source):
        name, shape = source
        constant = self.constant(self.pick((), (shape[0], 1, 1), (1, shape[0], 1, 1)))
        return self.add("Add", [name, constant] if self.pick(True, False) else [constant, name], shape)

    def joined(self, source):
        name, (channels, *side) = source
        others = [value for value in self.values if list(value[1][1:]) == side]
        other, (more, *_) = self.pick(*others)
        if channels + more > 16:
            return source
        return self.add("Concat", [name, other], (channels + more, *side), axis=self.pick(1, -3))

    def residual(self, source):
        name, shape = source
        other, _ = self.pick(*[value for value in self.values if value[1] == shape])
        return self.add("Add", [name, other], shape)

    def head(self, source):
        name, (channels, height, width) = source
        features = channels * height * width
        name, _ = (
            self.add("Flatten", [name], (features,))
            if self.pick(True, False)
            else self.reshaped(name, features)
        )
        if self.pick(True, False):
            name, _ = self.norm((name, (features,)))
        out, transposed = 3, self.pick(0, 1)
        weight = self.constant((out, features) if transposed else (features, out), features**-0.5)
        if not transposed and self.pick(True, False):
            name, _ = self.add("MatMul", [name, weight], (out,))
            if self.pick(True, False):
                name, _ = self.add("Add", [name, self.constant((out,))], (out,))
        else:
            inputs = [
                name,
                weight,
                *([self.constant(self.pick((), (out,), (1, out)))] if self.pick(True, False) else []),
            ]
            scales = {"alpha": self.pick(1.0, 0.5), "beta": self.pick(1.0, -2.0)}
            name, _ = self.add("Gemm", inputs, (out,), transB=transposed, **scales)
        return self.norm((name, (out,))) if self.pick(True, False) else (name, (out,))

    def reshaped(self, name, features):
        target = f"t{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array([self.pick(0, -1), features]), target))
        return self.add("Reshape", [name, target], (features,))

    def model(self):
        names = [name for name, _ in self.values[1:]]
        chosen = [*self.draw(st.lists(st.sampled_from(names), max_size=1)), names[-1]]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
            for name, shape in self.values
            if name in chosen
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, SIDE, SIDE])]
        graph = helper.make_graph(self.nodes, "fuzz", inputs, outputs, self.initializers)
        if self.pick(True, False):
            graph.value_info.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
                for name, shape in self.values[1:]
                if name not in chosen
            )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@st.composite
def networks(draw):
    network = Network(draw)
    steps = [network.conv, network.norm, network.norm, network.transposed, network.simple, network.pool]
    steps += [network.bias, network.joined, network.residual, network.conv, network.norm]
    for _ in range(draw(st.integers(2, 14))):
        draw(st.sampled_from(steps))(network.source())
    if draw(st.booleans()):
        network.head(network.values[-1])
    return network.model()


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_any_network(model):
    """Same interface, same numbers, valid, one node less for each rewrite, and nothing left to do."""
    onnx.checker.check_model(model, full_check=True)
    before = count_ops(model)
    optimized, reports = optimize(model)
    assert not any(report.refused for report in reports)
    onnx.checker.check_model(optimized, full_check=True)
    after = count_ops(optimized)
    folded = sum(report.rewrites for report in reports)
    assert before.get("BatchNormalization", 0) - after.get("BatchNormalization", 0) == folded
    assert sum(before.values()) - sum(after.values()) == folded
    assert list(optimized.graph.input) == list(model.graph.input)
    assert list(optimized.graph.output) == list(model.graph.output)
    again, _ = optimize(optimized)
    assert again is optimized
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 4, SIDE, SIDE)).astype(np.float32)}
    for expected, found in zip(run(model, feeds), run(optimized, feeds), strict=True):
        scale = max(float(np.abs(expected).max()), 1.0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)

"""Small graphs for the tests of quantization: in ONNX text, with seeded weights and ranges found by running."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cnnport.graphs.protos import read, write
from cnnport.graphs.quantize import Report, quantize, wanted
from cnnport.graphs.quantize.ranges import ValueRange

Array = NDArray[np.float32]
Constants = Mapping[str, tuple[int, ...] | NDArray[np.generic]]


NETWORK = """g (float[N, 8, 12, 12] x) => (float[N, 10] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, aw, ab)  r = Relu (a)
    d = Conv <group = 16, pads = [1, 1, 1, 1], strides = [2, 2]> (r, dw, db)  e = Clip (d, zero, six)
    b = Conv <group = 2> (e, bw)  c = Conv <strides = [2, 2]> (r, cw)  s = Add (b, c)  t = Relu (s)
    left, right = Split <axis = 1, num_outputs = 2> (t)
    f = Conv (left, fw)  j = Concat <axis = 1> (f, right)  k = Relu (j)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (k)
    n = AveragePool <kernel_shape = [2, 2]> (m)
    u = Conv (n, uw, ub)  v = HardSwish (u)  w = Sigmoid (u)  z = Mul (v, w)  q = Conv (z, qw)  l = LeakyRelu (q)
    p = GlobalAveragePool (l)  o = Flatten (p)
    h = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (o, hw, hb)  i = Relu (h)  y = MatMul (i, yw)
}"""
CONSTANTS: Constants = {
    "aw": (16, 8, 3, 3),
    "ab": (16,),
    "dw": (16, 1, 3, 3),
    "db": (16,),
    "bw": (16, 8, 1, 1),
    "cw": (16, 16, 1, 1),
    "fw": (8, 8, 1, 1),
    "uw": (16, 16, 1, 1),
    "ub": (16,),
    "qw": (16, 16, 1, 1),
    "hw": (12, 16),
    "hb": (12,),
    "yw": (12, 10),
    "zero": np.float32(0),
    "six": np.float32(6),
}
"""Every rule once, and the constants of it."""


def model_of(text: str, constants: Constants, *, opset: int = 20, seed: int = 0) -> onnx.ModelProto:
    """A graph in text, with random float32 weights of the given shapes, or with the arrays themselves."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> {text}')
    rng = np.random.default_rng(seed)
    for name, given in constants.items():
        array = rng.normal(size=given).astype(np.float32) if isinstance(given, tuple) else given
        if isinstance(given, tuple):
            array *= 2 / np.sqrt(np.prod(given[1:])) if len(given) > 1 else 0.1
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.checker.check_model(model, full_check=True)
    return model


def session(model: onnx.ModelProto, *, optimize: bool = True, save: str = "") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = save
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def images(model: onnx.ModelProto, count: int = 2, *, seed: int = 1) -> dict[str, Array]:
    """Seeded normal numbers for every input, around a mean for each image and channel; open sizes are ``count``."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        sizes = [dim.dim_value or count for dim in value.type.tensor_type.shape.dim]
        means = 2 * rng.normal(size=[*sizes[:2], *[1] * len(sizes[2:])])
        feeds[value.name] = (rng.normal(size=sizes) + means).astype(np.float32)
    return feeds


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], *, optimize: bool = True) -> Array:
    result: Array = session(model, optimize=optimize).run(None, dict(feeds))[0]
    return result


def ranges_of(model: onnx.ModelProto, names: Collection[str]) -> dict[str, ValueRange]:
    """Least and greatest numbers on one batch."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    given_out = {value.name for value in tapped.graph.output}
    feeds: dict[str, Array] = images(model, 8, seed=7)
    computed = [name for name in sorted(names) if name not in feeds]
    tapped.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in computed if name not in given_out
    )
    found = dict(zip(computed, session(tapped).run(computed, feeds), strict=True)) if computed else {}
    return {
        name: ValueRange(min(0.0, float(array.min())), max(0.0, float(array.max())))
        for name, array in (feeds | found).items()
        if name in names
    }


def quantized(
    model: onnx.ModelProto, target: str, *, keep: Sequence[str] = (), reduce_range: bool = False
) -> tuple[onnx.ModelProto, Report]:
    """The int8 file, with ranges from a batch of normal numbers."""
    ranges = ranges_of(model, wanted(read(model), target, keep))
    draft = read(model)
    report = quantize(draft, ranges, target, keep=keep, reduce_range=reduce_range)
    made = write(draft)
    onnx.checker.check_model(made, full_check=True)
    return made, report


def pairs(model: onnx.ModelProto) -> set[str]:
    """The values that have a quantizer."""
    return {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def parameters(model: onnx.ModelProto, value: str) -> tuple[float, int]:
    """Scale and zero point of a quantized value."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (node,) = (
        each for each in model.graph.node if each.op_type == "QuantizeLinear" and each.input[0] == value
    )
    return float(arrays[node.input[1]]), int(arrays[node.input[2]])


def fused(model: onnx.ModelProto, path: str) -> Counter[str]:
    """The operators that ONNX Runtime makes of it."""
    session(model, save=path)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def decibels(expected: Array, found: Array) -> float:
    """Signal over noise; what all images have in common, such as biases, is no signal."""
    noise = max(float(np.square(expected - found, dtype=np.float64).sum()), 1e-30)
    signal = np.square(expected - expected.mean(axis=0, keepdims=True), dtype=np.float64).sum()
    return 10 * float(np.log10(signal / noise))


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


CHAIN = """g (float[N, 4, 8, 8] x) => (float[N, 6] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, aw, ab)  r = Relu (a)
    b = Conv <pads = [1, 1, 1, 1]> (r, bw, bb)  s = Relu (b)
    c = Conv (s, cw)  t = Relu (c)
    p = GlobalAveragePool (t)  o = Flatten (p)  y = Gemm <transB = 1> (o, hw, hb)
}"""
CHAIN_CONSTANTS: Constants = {
    "aw": (12, 4, 3, 3),
    "ab": (12,),
    "bw": (12, 12, 3, 3),
    "bb": (12,),
    "cw": (16, 12, 1, 1),
    "hw": (6, 16),
    "hb": (6,),
}


def uneven(tmp_path: Path) -> tuple[Path, str]:
    """A chain that computes what an ordinary one does, with channels that differ by up to 3,000 times."""
    model = model_of(CHAIN, CHAIN_CONSTANTS)
    factors = {"aw": np.geomspace(1, 3000, 12), "bw": np.geomspace(1000, 1, 12)}
    weights = {each.name: numpy_helper.to_array(each).astype(np.float64) for each in model.graph.initializer}
    for own, bias, following in (("aw", "ab", "bw"), ("bw", "bb", "cw")):
        scale = factors[own]
        weights[own] = weights[own] * scale[:, None, None, None]
        weights[bias] = weights[bias] * scale
        weights[following] = weights[following] / scale[None, :, None, None]
    for each in model.graph.initializer:
        each.CopyFrom(numpy_helper.from_array(weights[each.name].astype(np.float32), each.name))
    samples = np.random.default_rng(5).normal(size=(160, 4, 8, 8)).astype(np.float32)
    samples += np.random.default_rng(6).normal(size=(160, 4, 1, 1)).astype(np.float32)
    np.save(tmp_path / "chain.npy", samples)
    # Scores around their means, so that every class is somebody's.
    scores = session(model).run(None, {"x": samples})[0]
    bias = next(each for each in model.graph.initializer if each.name == "hb")
    bias.CopyFrom(numpy_helper.from_array((weights["hb"] - scores.mean(0)).astype(np.float32), "hb"))
    return saved(model, tmp_path / "uneven.onnx"), f"{tmp_path / 'chain.npy'}:64"

"""fold_batchnorm before and after, on graphs in ONNX text. The numbers are those of the pass's docstring."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.affine import CannotFoldError, round_to
from cnnport.graphs.clean.fold_constants import fold_constants
from cnnport.graphs.clean.remove_noops import remove_noops
from cnnport.graphs.fold import affine_walk
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm

PARAMETERS = ("scale", "bias", "mean", "var")


def build(text, weights, bns, *, opset=17, ir_version=8, seed=0, dtype=np.float32, extra=()):
    """A model of a graph in ONNX text; in it ``BN.n (x)`` is a BatchNormalization with n_scale and so on."""
    arguments = ", ".join(rf"\1_{parameter}" for parameter in PARAMETERS)
    text = re.sub(r"BN\.(\w+) \((\w+)\)", rf"BatchNormalization <epsilon=0.01> (\2, {arguments})", text)
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> {text}')
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape) for name, shape in weights.items()}
    for name, channels in bns.items():
        values = (
            rng.uniform(-2, 2, channels),
            rng.normal(size=channels),
            rng.normal(size=channels),
            rng.uniform(0.2, 3, channels),
        )
        arrays |= {f"{name}_{parameter}": value for parameter, value in zip(PARAMETERS, values, strict=True)}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype), name))
    model.graph.initializer.extend(extra)
    onnx.checker.check_model(model)
    return model


def feeds_of(model, seed=1, batch=2):
    rng = np.random.default_rng(seed)
    given = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: rng.normal(
            size=[size.dim_value or batch for size in value.type.tensor_type.shape.dim]
        ).astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
        if value.name not in given
    }


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def assert_agree(before, after, tolerance=2e-5):
    feeds = feeds_of(before)
    for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1))


@dataclass(frozen=True)
class Case:
    id: str
    text: str
    weights: Mapping[str, tuple[int, ...]]
    bns: Mapping[str, int]
    opset: int
    expected: str

    def build(self, **options):
        return build(self.text, self.weights, self.bns, opset=self.opset, **options)


def graph(body, io="float[N,4,6,6] x => float[A,B,C,D] y"):
    inputs, outputs = io.split(" => ")
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


def cases(table):
    """Read a table of cases.

    The first line of each has its id, the shapes of the weights and the widths of the BNs; a line with ``=>``
    the inputs and outputs, where they are not four-dimensional x and y; the last what is expected.
    """
    found = []
    for block in table.strip().split("\n\n"):
        head, *lines = (line.strip() for line in block.splitlines())
        id_, constants = head.split(": ")
        constants, _, opset = constants.partition("; opset ")
        entries = dict(entry.split(" ", 1) for entry in constants.split(", "))
        weights = {
            name: () if shape == "scalar" else tuple(map(int, shape.split("x")))
            for name, shape in entries.items()
            if not shape.startswith("BN")
        }
        bns = {name: int(width.removeprefix("BN ")) for name, width in entries.items() if "BN" in width}
        io = [lines.pop(0)] if " => " in lines[0] else []
        expected = lines.pop().removeprefix("-> ").removeprefix("stays: ")
        found.append(Case(id_, graph(" ".join(lines), *io), weights, bns, int(opset or 17), expected))
    return found


FIRES = cases("""
1-bias: w 8x4x3x3, b 8, n BN 8
    c = Conv (x, w, b)  y = BN.n (c)
    -> Conv

1-no-bias: w 8x4x3x3, n BN 8
    c = Conv <pads=[1,1,1,1]> (x, w)  y = BN.n (c)
    -> Conv

1-empty-bias: w 8x4x3x3, n BN 8
    c = Conv (x, w, "")  y = BN.n (c)
    -> Conv

1-grouped: w 6x2x3x3, b 6, n BN 6
    c = Conv <group=2> (x, w, b)  y = BN.n (c)
    -> Conv

1-depthwise: w 8x1x3x3, n BN 8
    c = Conv <group=4, strides=[2,2]> (x, w)  y = BN.n (c)
    -> Conv

1-one-dimension: w 8x4x3, n BN 8
    float[N,4,9] x => float[N,8,L] y
    c = Conv (x, w)  y = BN.n (c)
    -> Conv

1-opset-9: w 8x4x3x3, n BN 8; opset 9
    c = Conv (x, w)  y = BN.n (c)
    -> Conv

1-opset-7: w 8x4x3x3, n BN 8; opset 7
    c = Conv (x, w)  y = BN.n (c)
    -> Conv

1-opset-20: w 8x4x3x3, n BN 8; opset 20
    c = Conv (x, w)  y = BN.n (c)
    -> Conv

2-plain: w 4x3x2x2, n BN 3
    c = ConvTranspose (x, w)  y = BN.n (c)
    -> ConvTranspose

2-grouped: w 4x3x2x2, b 6, n BN 6
    c = ConvTranspose <group=2, strides=[2,2]> (x, w, b)  y = BN.n (c)
    -> ConvTranspose

2-depthwise: w 4x1x3x3, n BN 4
    c = ConvTranspose <group=4> (x, w)  y = BN.n (c)
    -> ConvTranspose

4-becomes-gemm: w 5x7, n BN 7
    float[N,5] x => float[N,C] y
    c = MatMul (x, w)  y = BN.n (c)
    -> Gemm

5-matmul-add: w 5x7, b 7, n BN 7
    float[N,5] x => float[N,C] y
    c = MatMul (x, w)  a = Add (c, b)  y = BN.n (a)
    -> Add, MatMul

5-add-matmul: w 5x7, b 1, n BN 7
    float[N,5] x => float[N,C] y
    c = MatMul (x, w)  a = Add (b, c)  y = BN.n (a)
    -> Add, MatMul

5-scalar: w 5x7, b scalar, n BN 7
    float[N,5] x => float[N,C] y
    c = MatMul (x, w)  a = Add (c, b)  y = BN.n (a)
    -> Add, MatMul

5-conv-add: w 8x4x3x3, b 8x1x1, n BN 8
    c = Conv (x, w)  a = Add (c, b)  y = BN.n (a)
    -> Add, Conv

5-conv-add-map: w 8x4x3x3, b 1x1x4x4, n BN 8
    c = Conv (x, w)  a = Add (c, b)  y = BN.n (a)
    -> Add, Conv

6-two: n BN 4, m BN 4
    r = Relu (x)  a = BN.n (r)  y = BN.m (a)
    -> BatchNormalization, Relu

6-three-after-conv: w 4x4x1x1, n BN 4, m BN 4, o BN 4
    c = Conv (x, w)  a = BN.n (c)  b = BN.m (a)  y = BN.o (b)
    -> Conv

6-then-down: w 4x4x2x2, n BN 4, m BN 4
    r = Relu (x)  a = BN.n (r)  b = BN.m (a)  y = Conv (b, w)
    -> Conv, Relu

7-convs: w 3x4x3x3, v 5x4x3x3, b 5, n BN 8
    c = Conv (x, w)  d = Conv (x, v, b)  k = Concat <axis=1> (c, d)  y = BN.n (k)
    -> Concat, 2 Conv

7-negative-axis: w 3x4x3x3, v 5x4x3x3, n BN 8
    c = Conv (x, w)  d = Conv (x, v)  k = Concat <axis=-3> (c, d)  y = BN.n (k)
    -> Concat, 2 Conv

7-one-weight: w 3x4x3x3, n BN 6
    float[N,4,6,6] x, float[N,4,6,6] z => float[A,B,C,D] y
    c = Conv (x, w)  d = Conv (z, w)  k = Concat <axis=1> (c, d)  y = BN.n (k)
    -> Concat, 2 Conv

7-nested: w 3x4x1x1, v 5x4x1x1, u 2x4x1x1, n BN 10
    c = Conv (x, w)  d = Conv (x, v)  k = Concat <axis=1> (c, d)
    p = AveragePool <kernel_shape=[1,1]> (k)  e = Conv (x, u)  l = Concat <axis=1> (e, p)  y = BN.n (l)
    -> AveragePool, 2 Concat, 3 Conv

7-bn-branch: w 3x4x1x1, n BN 4, m BN 7
    r = Relu (x)  a = BN.n (r)  c = Conv (x, w)  k = Concat <axis=1> (a, c)  y = BN.m (k)
    -> BatchNormalization, Concat, Conv, Relu

8-identity-dropout: w 8x4x3x3, n BN 8
    c = Conv (x, w)  i = Identity (c)  d = Dropout (i)  y = BN.n (d)
    -> Conv, Dropout, Identity

8-dropout-inference: w 8x4x3x3, n BN 8
    c = Conv (x, w)  t = Constant <value = bool {0}> ()  d = Dropout (c, , t)  y = BN.n (d)
    -> Constant, Conv, Dropout

8-global-pool: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = GlobalAveragePool (c)  y = BN.n (p)
    -> Conv, GlobalAveragePool

8-flatten: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[N,C] y
    c = Conv (x, w)  p = GlobalAveragePool (c)  f = Flatten (p)  y = BN.n (f)
    -> Conv, Flatten, GlobalAveragePool

8-reshape: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[N,C] y
    c = Conv (x, w)  p = GlobalAveragePool (c)  t = Constant <value_ints=[-1,8]> ()  f = Reshape (p, t)
    y = BN.n (f)
    -> Constant, Conv, GlobalAveragePool, Reshape

8-reshape-space: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[N,C,L] y
    c = Conv (x, w)  t = Constant <value_ints=[0,8,-1]> ()  f = Reshape (c, t)  y = BN.n (f)
    -> Constant, Conv, Reshape

8-linear-to-maps: w 5x8, n BN 8
    float[N,5] x => float[A,B,C,D] y
    c = Gemm (x, w)  t = Constant <value_ints=[-1,8,1,1]> ()  f = Reshape (c, t)  y = BN.n (f)
    -> Constant, Gemm, Reshape

8-unsqueeze: w 5x8, n BN 8
    float[N,5] x => float[N,C,L] y
    c = Gemm (x, w)  t = Constant <value_ints=[2]> ()  f = Unsqueeze (c, t)  y = BN.n (f)
    -> Constant, Gemm, Unsqueeze

8-squeeze: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[N,C] y
    c = Conv (x, w)  p = GlobalAveragePool (c)  t = Constant <value_ints=[2,3]> ()  f = Squeeze (p, t)
    y = BN.n (f)
    -> Constant, Conv, GlobalAveragePool, Squeeze

8-reduce-mean: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[N,C] y
    c = Conv (x, w)  p = ReduceMean <axes=[-1,-2], keepdims=0> (c)  y = BN.n (p)
    -> Conv, ReduceMean

8-reduce-mean-18: w 8x4x3x3, n BN 8; opset 18
    c = Conv (x, w)  a = Constant <value_ints=[2,3]> ()  p = ReduceMean (c, a)  y = BN.n (p)
    -> Constant, Conv, ReduceMean

8-average-pool: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (c)  y = BN.n (p)
    -> AveragePool, Conv

8-average-pool-same: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[3,3], auto_pad="SAME_UPPER"> (c)  y = BN.n (p)
    -> AveragePool, Conv

8-average-pool-counting: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[2,2], strides=[2,2], count_include_pad=1> (c)
    y = BN.n (p)
    -> AveragePool, Conv

8-down: w 8x4x3x3, n BN 4
    a = BN.n (x)  p = AveragePool <kernel_shape=[2,2]> (a)  i = Identity (p)  y = Conv (i, w)
    -> AveragePool, Conv, Identity

9-plain: w 8x4x3x3, n BN 4
    r = Relu (x)  a = BN.n (r)  y = Conv (a, w)
    -> Conv, Relu

9-input: w 8x4x3x3, b 8, n BN 4
    a = BN.n (x)  y = Conv <pads=[0,0,0,0], strides=[2,2]> (a, w, b)
    -> Conv

9-grouped: w 6x2x3x3, b 6, n BN 4
    a = BN.n (x)  y = Conv <group=2, auto_pad="VALID"> (a, w, b)
    -> Conv

9-depthwise: w 8x1x3x3, n BN 4
    a = BN.n (x)  y = Conv <group=4> (a, w)
    -> Conv

9-all-readers: w 8x4x3x3, v 2x4x3x3, n BN 4
    a = BN.n (x)  c = Conv (a, w)  d = Conv (a, v)  y = Concat <axis=1> (c, d)
    -> Concat, 2 Conv

10-gemm: w 5x7, b 7, n BN 5
    float[N,5] x => float[N,C] y
    a = BN.n (x)  y = Gemm (a, w, b)
    -> Gemm

10-gemm-all: w 7x5, b 1, n BN 5
    float[N,5] x => float[N,C] y
    a = BN.n (x)  y = Gemm <transB=1, alpha=0.5, beta=2.0> (a, w, b)
    -> Gemm

10-gemm-no-bias: w 5x7, n BN 5
    float[N,5] x => float[N,C] y
    a = BN.n (x)  y = Gemm <beta=0.0> (a, w)
    -> Gemm

10-matmul: w 5x7, n BN 5
    float[N,5] x => float[N,C] y
    a = BN.n (x)  y = MatMul (a, w)
    -> Gemm

10-flatten: w 24x7, b 7, n BN 4
    float[N,4,2,3] x => float[N,C] y
    a = BN.n (x)  f = Flatten (a)  y = Gemm (f, w, b)
    -> Flatten, Gemm

10-reshape: w 24x7, b 7, n BN 4
    float[N,4,2,3] x => float[N,C] y
    a = BN.n (x)  t = Constant <value_ints=[-1,24]> ()  f = Reshape (a, t)  y = Gemm (f, w, b)
    -> Constant, Gemm, Reshape

11-weight: w 8x4x3x3, n BN 8
    float[N,4,6,6] x, float[N,4,6,6] z => float[A,B,C,D] y
    c = Conv (x, w)  a = BN.n (c)  d = Conv (z, w)  y = Add (a, d)
    -> Add, 2 Conv

11-bias: w 8x4x3x3, v 8x4x3x3, b 8, n BN 8
    c = Conv (x, w, b)  a = BN.n (c)  d = Conv (x, v, b)  y = Add (a, d)
    -> Add, 2 Conv

11-bn: w 8x4x3x3, v 8x4x3x3, n BN 8
    c = Conv (x, w)  a = BN.n (c)  d = Conv (x, v)  r = Relu (d)  e = BN.n (r)  y = Add (a, e)
    -> Add, BatchNormalization, 2 Conv, Relu

11-bn-is-bias: w 8x4x3x3, v 8x4x3x3, n BN 8
    c = Conv (x, w, n_bias)  a = BN.n (c)  d = Conv (x, v, n_bias)  y = Add (a, d)
    -> Add, 2 Conv

11-gemm-square: w 5x5, n BN 5
    float[N,5] x => float[N,C] y
    c = Gemm (x, w)  a = BN.n (c)  y = Gemm (a, w)
    -> 2 Gemm

12-bn: n BN 4, m BN 4
    r = Relu (x)  a = BN.n (r)  p = AveragePool <kernel_shape=[2,2]> (a)  b = BN.m (p)  y = Relu (b)
    -> AveragePool, BatchNormalization, 2 Relu

12-split: w 3x1x3x3, v 2x3x3x3, n BN 4
    r = Relu (x)  a = BN.n (r)  s = Constant <value_ints=[1,3]> ()  p, q = Split <axis=1> (a, s)
    c = Conv (p, w)  d = Conv (q, v)  y = Concat <axis=1> (c, d)
    -> Concat, Constant, 2 Conv, Relu, Split

12-split-11: w 3x2x3x3, v 2x2x3x3, n BN 4; opset 11
    r = Relu (x)  a = BN.n (r)  p, q = Split <axis=-3, split=[2,2]> (a)
    c = Conv (p, w)  d = Conv (q, v)  y = Concat <axis=1> (c, d)
    -> Concat, 2 Conv, Relu, Split

12-split-part-unread: w 3x2x3x3, n BN 4; opset 11
    r = Relu (x)  a = BN.n (r)  p, q = Split <axis=1> (a)  y = Conv (q, w)
    -> Conv, Relu, Split

12-concat: w 5x8x3x3, v 3x8x2x2, n BN 4
    r = Relu (x)  a = BN.n (r)  t = Tanh (x)  k = Concat <axis=1> (t, a)
    c = Conv (k, w)  i = Identity (k)  d = Conv (i, v)
    f = GlobalAveragePool (c)  e = GlobalAveragePool (d)  y = Concat <axis=1> (f, e)
    -> 2 Concat, 2 Conv, 2 GlobalAveragePool, Identity, Relu, Tanh

12-concat-two: w 5x8x3x3, n BN 4, m BN 4
    r = Relu (x)  a = BN.n (r)  t = Tanh (x)  b = BN.m (t)  k = Concat <axis=-3> (a, b)  y = Conv (k, w)
    -> Concat, Conv, Relu, Tanh

12-concat-bn: n BN 4, m BN 8
    r = Relu (x)  a = BN.n (r)  t = Tanh (x)  k = Concat <axis=1> (t, a)  b = BN.m (k)  y = Relu (b)
    -> BatchNormalization, Concat, 2 Relu, Tanh

15-channels-last: w 4x8, n BN 8
    l = Transpose <perm=[0,2,3,1]> (x)  c = MatMul (l, w)  z = Constant <value_float=0.5> ()  b = Add (c, z)
    t = Transpose <perm=[0,3,1,2]> (b)  y = BN.n (t)
    -> Add, MatMul, 2 Transpose

15-rows: w 8x4x3x3, n BN 8
    c = Conv (x, w)  t = Transpose <perm=[0,1,3,2]> (c)  y = BN.n (t)
    -> Conv, Transpose
""")

GEMMS = [
    # 3. Gemm: every combination of the attributes, C missing or of each shape that broadcasts to 3 x 7
    Case(
        f"3-A{trans_a}-B{trans_b}-C{'x'.join(map(str, shape)) if shape is not None else '-none'}",
        graph(
            f"c = Gemm <transA={trans_a}, transB={trans_b}, alpha=0.5, beta=-1.5> "
            f"(x, w{'' if shape is None else ', b'}) y = BN.n (c)",
            f"float[{'5,3' if trans_a else '3,5'}] x => float[3,7] y",
        ),
        {"w": (7, 5) if trans_b else (5, 7)} | ({} if shape is None else {"b": shape}),
        {"n": 7},
        17,
        "Gemm",
    )
    for trans_a, trans_b, shape in itertools.product(
        (0, 1), (0, 1), (None, (), (1,), (7,), (1, 7), (3, 1), (3, 7))
    )
]

# 13 and 14 need numbers of their own: scales that are positive, maps without shift.
POSITIVE = cases("""
13-max-pool: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (c)  y = BN.n (p)
    -> Conv, MaxPool

13-max-pool-ceil: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (c)  y = BN.n (p)
    -> Conv, MaxPool

13-down: w 8x4x3x3, n BN 4
    r = Relu (x)  a = BN.n (r)  p = MaxPool <kernel_shape=[2,2]> (a)  y = Conv (p, w)
    -> Conv, MaxPool, Relu

13-global: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = GlobalMaxPool (c)  y = BN.n (p)
    -> Conv, GlobalMaxPool
""")
SHIFTLESS = cases("""
14-padded: w 8x4x3x3, n BN 4
    r = Tanh (x)  a = BN.n (r)  y = Conv <pads=[1,1,1,1], strides=[2,2]> (a, w)
    -> Conv, Tanh

14-same: w 8x1x3x3, n BN 4
    r = Tanh (x)  a = BN.n (r)  y = Conv <auto_pad="SAME_UPPER", group=4> (a, w)
    -> Conv, Tanh

14-transposed: w 4x3x2x2, n BN 4
    r = Tanh (x)  a = BN.n (r)  y = ConvTranspose <group=2, strides=[2,2]> (a, w)
    -> ConvTranspose, Tanh

14-mul: w 8x4x3x3, b 8x1x1, n BN 8
    c = Conv (x, w)  a = Mul (b, c)  y = BN.n (a)
    -> Conv, Mul

14-div: w 8x4x3x3, b 1x1x4x4, n BN 8
    c = Conv (x, w)  a = Div (c, b)  y = BN.n (a)
    -> Conv, Mul

14-average-counting: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (c)
    y = BN.n (p)
    -> AveragePool, Conv

14-average-ceil: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (c)  y = BN.n (p)
    -> AveragePool, Conv

14-rectifiers: w 8x4x3x3, s 8x1x1, n BN 8
    c = Conv (x, w)  p = PRelu (c, s)  l = LeakyRelu (p)  r = Relu (l)  y = BN.n (r)
    -> Conv, LeakyRelu, PRelu, Relu
""")

BY_ID = {case.id: case for case in FIRES + GEMMS}


def summary(model):
    """Operators as the tables write them."""
    return ", ".join(op if count == 1 else f"{count} {op}" for op, count in count_ops(model).items())


@pytest.mark.parametrize("case", BY_ID.values(), ids=lambda case: case.id)
def test_fires(case):
    """1 to 15: the BN goes, the numbers stay, and the shared weights are what they were."""
    before = case.build()
    pristine = before.SerializeToString(deterministic=True)
    after, reports = optimize(before, [fold_batchnorm])
    assert before.SerializeToString(deterministic=True) == pristine
    assert [report.refused for report in reports] == [None] * len(reports)
    assert summary(after) == case.expected
    left = count_ops(after).get("BatchNormalization", 0)
    assert sum(report.rewrites for report in reports) == count_ops(before)["BatchNormalization"] - left > 0
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    onnx.checker.check_model(after, full_check=True)
    assert_agree(before, after)
    old = {tensor.name: tensor for tensor in before.graph.initializer}
    used = {name for node in after.graph.node for name in node.input}
    for tensor in after.graph.initializer:
        assert tensor.name in used
        assert tensor.name not in old or tensor == old[tensor.name]


def positive(case):
    """A case's model with positive scales."""
    before = case.build()
    for tensor in before.graph.initializer:
        if tensor.name.endswith("_scale"):
            tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)), tensor.name))
    return before


def shiftless(case):
    """A case's model with positive scales and no shifts."""
    before = positive(case)
    for name in case.bns:
        for parameter in ("bias", "mean"):
            set_constant(before, f"{name}_{parameter}", np.zeros(case.bns[name]))
    return before


@pytest.mark.parametrize(
    ("make", "case"),
    [(positive, case) for case in POSITIVE] + [(shiftless, case) for case in SHIFTLESS],
    ids=lambda each: getattr(each, "id", None),
)
def test_fires_for_some_maps(make, case):
    """13, 14: what commutes with some maps only. With one scale negative, or with a shift, the BN stays."""
    before = make(case)
    after, (report, *_) = optimize(before, [fold_batchnorm])
    assert report.refused is None
    assert summary(after) == case.expected
    assert_agree(before, after)
    (name,) = case.bns
    wrong = {"scale": -np.ones(case.bns[name])} if make is positive else {"bias": np.ones(case.bns[name])}
    for parameter, values in wrong.items():
        set_constant(before, f"{name}_{parameter}", values)
    same, _ = optimize(before, [fold_batchnorm])
    assert same is before


def test_a_planted_fault_shows(monkeypatch):
    """13: without the condition on the scale the numbers are others, and the comparison notices."""
    (case,) = (case for case in POSITIVE if case.id == "13-max-pool")
    before = case.build()
    monkeypatch.setattr(
        affine_walk, "above", lambda node, affine, opset: affine if node.op_type == "MaxPool" else None
    )
    after, _ = optimize(before, [fold_batchnorm])
    assert summary(after) == case.expected
    with pytest.raises(AssertionError):
        assert_agree(before, after)


@pytest.mark.parametrize("case", BY_ID.values(), ids=lambda case: case.id)
def test_idempotent_and_deterministic(case):
    """A second run finds nothing; the same run twice gives the same bytes."""
    before = case.build()
    after, _ = optimize(before, [fold_batchnorm])
    again, (report,) = optimize(after, [fold_batchnorm])
    assert again is after
    assert report.rewrites == 0
    twice, _ = optimize(case.build(), [fold_batchnorm])
    assert twice.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)


def constants_as_nodes(model):
    """The same model with Constant nodes in place of initializers."""
    nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in model.graph.initializer]
    nodes += list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize(
    "id_", ["1-bias", "2-grouped", "3-A0-B1-C7", "5-matmul-add", "6-two", "9-grouped", "11-weight"]
)
def test_fires_on_constant_nodes(id_):
    """1 to 15 with Constant nodes; those that are no longer used go."""
    before = constants_as_nodes(BY_ID[id_].build())
    after, _ = optimize(before, [fold_batchnorm])
    ops = count_ops(after)
    assert ops.pop("Constant", 0) < count_ops(before)["Constant"]
    assert ops == count_ops(optimize(BY_ID[id_].build(), [fold_batchnorm])[0])
    assert_agree(before, after)


@pytest.mark.parametrize(
    "id_", ["1-bias", "3-A0-B1-C7", "4-becomes-gemm", "5-matmul-add", "9-grouped", "10-flatten"]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float64], ids=["float16", "float64"])
def test_fires_in_other_types(id_, dtype):
    """1 to 15 in float16 and float64; the reference evaluator runs both."""
    case, name = BY_ID[id_], {np.float16: "float16", np.float64: "double"}[dtype]
    before = build(case.text.replace("float[", f"{name}["), case.weights, case.bns, dtype=dtype)
    after, _ = optimize(before, [fold_batchnorm])
    assert summary(after) == case.expected
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert {tensor.data_type for tensor in after.graph.initializer} == {element}
    feeds = feeds_of(before)
    (expected,), (found,) = (ReferenceEvaluator(model).run(None, feeds) for model in (before, after))
    tolerance = {np.float16: 1e-2, np.float64: 1e-13}[dtype] * max(np.abs(expected).max(), 1)
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=0, atol=tolerance)


CONV = graph("c = Conv (x, w) y = BN.n (c)")
WEIGHT = {"w": (8, 4, 3, 3)}


@pytest.mark.parametrize(
    ("dtype", "name", "bits"),
    [(np.float32, "float", 24), (np.float16, "float16", 11), (ml_dtypes.bfloat16, "bfloat16", 8)],
)
def test_weights_are_rounded_once(dtype, name, bits):
    """A folded weight is the number of its type that is nearest to the float64 product."""
    text = CONV.replace("float[", f"{name}[")
    before = build(text, {"w": (64, 4, 3, 3)}, {"n": 64}, dtype=dtype, opset=22, ir_version=10)
    after, _ = optimize(before, [fold_batchnorm])
    old = {each.name: numpy_helper.to_array(each).astype(np.float64) for each in before.graph.initializer}
    new = {each.name: numpy_helper.to_array(each).astype(np.float64) for each in after.graph.initializer}
    epsilon = float(np.float32(0.01))
    exact = old["w"] * (old["n_scale"] / np.sqrt(old["n_var"] + epsilon))[:, None, None, None]
    half_unit = np.exp2(np.floor(np.log2(np.abs(exact))) - bits)
    # float16 has a smallest step, which is as large as a unit of its smallest normal number.
    half_unit = np.maximum(half_unit, float(ml_dtypes.finfo(dtype).smallest_subnormal) / 2)
    assert (np.abs(new["w_bn"] - exact) <= half_unit * (1 + 1e-9)).all()


def test_bfloat16_ties():
    """A hair above a tie rounds up, though float32 would already have made it a tie; overflow is refused."""
    tie, hair = 2.0**-8, 2.0**-40
    exact = np.array([1 + tie, 1 + tie + hair, 1 + tie - hair, -1 - tie - hair, 1 + 3 * tie - hair, 0, 1e-50])
    expected = [1, 1 + 2 * tie, 1, -1 - 2 * tie, 1 + 2 * tie, 0, 0]
    assert round_to(exact, ir.DataType.BFLOAT16).astype(np.float64).tolist() == expected
    with pytest.raises(CannotFoldError, match="overflow"):
        round_to(np.array([1e39]), ir.DataType.BFLOAT16)


def set_constant(model, name, values):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, dtype), name))
    return model


@pytest.mark.parametrize("body", ["c = MatMul (x, w) y = BN.n (c)", "a = BN.n (x) y = MatMul (a, w)"])
def test_without_shift_matmul_stays(body):
    """4, 10: with a mean and bias of zero there is nothing that would need a Gemm."""
    before = build(graph(body, "float[N,5] x => float[N,C] y"), {"w": (5, 5)}, {"n": 5})
    for name in ("n_bias", "n_mean"):
        set_constant(before, name, np.zeros(5))
    after, _ = optimize(before, [fold_batchnorm])
    assert summary(after) == "MatMul"
    assert_agree(before, after)


def test_dead_channels():
    """1: a scale of zero (zero-initialised residual branches) is a scale like any other."""
    before = set_constant(build(CONV, WEIGHT, {"n": 8}), "n_scale", np.zeros(8))
    after, _ = optimize(before, [fold_batchnorm])
    assert summary(after) == "Conv"
    assert_agree(before, after)


def test_names():
    """11: no rewritten constant or changed value has a name that meant something else before."""
    body = "c = Conv (x, w) p = AveragePool <kernel_shape=[2,2]> (c) y = BN.n (p)"
    body += " w_bn = Relu (x) c_bn = Relu (w_bn)"
    io = "float[N,4,6,6] x => float[A,B,C,D] y, float[A,B,C,D] c_bn"
    before = build(graph(body, io), WEIGHT, {"n": 8})
    before.graph.node[0].name = "first"
    before.graph.node[0].metadata_props.add(key="namespace", value="features.0")
    before.graph.node[0].doc_string = "the stem"
    after, _ = optimize(before, [fold_batchnorm])
    conv, pool = after.graph.node[:2]
    assert list(conv.input) == ["x", "w_bn_2", "first_bias"]
    assert (list(conv.output), list(pool.output)) == (["c_bn_2"], ["y"])
    assert (conv.name, conv.doc_string) == ("first", "the stem")
    assert [(entry.key, entry.value) for entry in conv.metadata_props] == [("namespace", "features.0")]
    assert_agree(before, after)


def test_what_is_known_of_the_output_stays():
    """The folded output is the BN's output to the rest of the graph: its name, shape and metadata."""
    before = build(graph("c = Conv (x, w) b = BN.n (c) y = Relu (b)"), WEIGHT, {"n": 8})
    info = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 8, 4, 4], doc_string="normalised")
    info.metadata_props.add(key="note", value="kept")
    before.graph.value_info.append(info)
    after, _ = optimize(before, [fold_batchnorm])
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu"]
    assert after.graph.node[0].output[0] == "b"
    assert info in after.graph.value_info


def set_attribute(model, op_type, **attributes):
    node = next(node for node in model.graph.node if node.op_type == op_type)
    for name, value in attributes.items():
        node.attribute.append(helper.make_attribute(name, value))
    return model


def as_input(model, name, *, overridable=False):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    if not overridable:
        model.graph.initializer.remove(tensor)
    return model


def training(opset):
    model = build(CONV, WEIGHT, {"n": 8}, opset=opset)
    node = model.graph.node[-1]
    if opset >= 14:
        node.attribute.append(helper.make_attribute("training_mode", 1))
    node.output.extend(["running_mean", "running_var"])
    return model


def with_if(model, branch_nodes, branch_output, *, initializers=()):
    """Add an If on a constant that reads the outer graph; its result becomes the output ``z``."""
    output = helper.make_tensor_value_info(branch_output, TensorProto.FLOAT, None)
    branches = {
        name: helper.make_graph(branch_nodes, name, [], [output], initializer=list(initializers))
        for name in ("then_branch", "else_branch")
    }
    yes = helper.make_node(
        "Constant", [], ["yes"], value=helper.make_tensor("", TensorProto.BOOL, [], [True])
    )
    model.graph.node.extend([yes, helper.make_node("If", ["yes"], ["z"], **branches)])
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    return model


def quantised():
    body = "u = DequantizeLinear (w, step) c = Conv (x, u) y = BN.n (c)"
    weight = numpy_helper.from_array(np.full((8, 4, 3, 3), 5, np.int8), "w")
    return build(graph(body), {"step": ()}, {"n": 8}, extra=[weight])


def mixed():
    model = build(CONV.replace("float[", "float16["), WEIGHT, {"n": 8}, dtype=np.float16)
    for name in ("n_mean", "n_var"):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
    return model


def half(scale):
    model = build(CONV.replace("float[", "float16["), WEIGHT, {"n": 8}, dtype=np.float16)
    set_constant(model, "n_var", np.full(8, 1e-6 if scale > 1 else 6e4))
    return set_constant(model, "n_scale", np.full(8, scale))


def custom(model, op_type):
    next(node for node in model.graph.node if node.op_type == op_type).domain = "acme"
    model.opset_import.add(domain="acme", version=1)
    return model


def in_function():
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    g (float[N,4,6,6] x) => (float[A,B,C,D] y) { y = local.block (x, w, s, s, s, s) }
    <domain: "local", opset_import: ["" : 17]>
    block (a, w, p, q, r, t) => (b) { c = Conv (a, w) b = BatchNormalization (c, p, q, r, t) }"""
    model = onnx.parser.parse_model(text)
    for name, shape in {"w": (8, 4, 3, 3), "s": (8,)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return model


BN_NODE = helper.make_node("BatchNormalization", ["d", "n_scale", "n_bias", "n_mean", "n_var"], ["t"])

STAYS = cases("""
21-bias-computed: w 8x4x3x3, v 8, n BN 8
    b = Relu (v)  c = Conv (x, w, b)  y = BN.n (c)
    stays: input 2 .* not constant

21-weight-computed: w 8x4x3x3, n BN 8
    u = Relu (w)  c = Conv (x, u)  y = BN.n (c)
    stays: input 1 .* not constant

22-used-twice: w 8x4x3x3, n BN 8
    c = Conv (x, w)  a = BN.n (c)  r = Relu (c)  y = Add (a, r)
    stays: c is used elsewhere

22-graph-output: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[A,B,C,D] y, float[A,B,C,D] c
    c = Conv (x, w)  y = BN.n (c)
    stays: c is used elsewhere

22-down-graph-output: w 8x4x3x3, n BN 4
    float[N,4,6,6] x => float[A,B,C,D] y, float[A,B,C,D] z
    y = BN.n (x)  z = Conv (y, w)
    stays: y is given out

22-down-other-reader: w 8x4x3x3, n BN 4
    a = BN.n (x)  c = Conv (a, w)  r = Relu (a)  s = ReduceSum (r)  y = Add (c, s)
    stays: Relu .*not linear

22-as-weight: v 8x4x3x3, n BN 4
    a = BN.n (v)  y = Conv (x, a)
    stays: a is not what Conv

22-down-dead: n BN 4
    a = BN.n (x)  y = Relu (x)
    stays: a is given out

22-dropout-mask: w 8x4x3x3, n BN 8
    float[N,4,6,6] x => float[A,B,C,D] y, bool[A,B,C,D] m
    c = Conv (x, w)  d,  m = Dropout (c)  y = BN.n (d)
    stays: Dropout .*not linear

25-padded: w 8x4x3x3, n BN 4
    a = BN.n (x)  y = Conv <pads=[1,1,1,1]> (a, w)
    stays: pads with zeros

25-one-side: w 8x4x3x3, n BN 4
    a = BN.n (x)  y = Conv <pads=[0,0,0,1]> (a, w)
    stays: pads with zeros

25-same: w 8x4x3x3, n BN 4
    a = BN.n (x)  y = Conv <auto_pad="SAME_UPPER"> (a, w)
    stays: pads with zeros

25-one-of-two: w 8x4x3x3, n BN 4
    a = BN.n (x)  c = Conv (a, w)  d = Conv <pads=[1,1,1,1], strides=[2,2]> (a, w)  s = ReduceSum (d)
    y = Add (c, s)
    stays: pads with zeros

25-transposed: w 4x3x2x2, n BN 4
    a = BN.n (x)  y = ConvTranspose (a, w)
    stays: ConvTranspose .*not linear

26-relu: w 8x4x3x3, n BN 8
    c = Conv (x, w)  r = Relu (c)  y = BN.n (r)
    stays: Relu .*not linear

26-max-pool: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = MaxPool <kernel_shape=[2,2]> (c)  y = BN.n (p)
    stays: MaxPool .*not linear

26-average-counting: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (c)
    y = BN.n (p)
    stays: AveragePool .*not linear

26-average-same: w 8x4x3x3, n BN 8
    c = Conv (x, w)
    p = AveragePool <kernel_shape=[3,3], auto_pad="SAME_LOWER", count_include_pad=1> (c)  y = BN.n (p)
    stays: AveragePool .*not linear

26-average-ceil: w 8x4x3x3, n BN 8
    c = Conv (x, w)  p = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (c)  y = BN.n (p)
    stays: AveragePool .*not linear

26-mean-of-channels: w 8x4x3x3, n BN 1
    c = Conv (x, w)  p = ReduceMean <axes=[1]> (c)  y = BN.n (p)
    stays: ReduceMean .*not linear

26-mean-of-all: w 8x4x3x3, n BN 1
    c = Conv (x, w)  p = ReduceMean (c)  y = BN.n (p)
    stays: ReduceMean .*not linear

26-dropout-training: w 8x4x3x3, n BN 8
    c = Conv (x, w)  t = Constant <value = bool {1}> ()  d = Dropout (c, , t)  y = BN.n (d)
    stays: Dropout .*not linear

26-transpose: w 8x4x3x3, n BN 4
    c = Conv (x, w)  t = Transpose <perm=[0,2,1,3]> (c)  y = BN.n (t)
    stays: channels on another axis

27-reshape-mixes: w 8x4x3x3, n BN 4
    c = Conv (x, w)  t = Constant <value_ints=[0,4,8,4]> ()  r = Reshape (c, t)  y = BN.n (r)
    stays: Reshape .*not linear

27-reshape-batch: w 8x4x3x3, n BN 8
    c = Conv (x, w)  t = Constant <value_ints=[4,8,2,4]> ()  r = Reshape (c, t)  y = BN.n (r)
    stays: Reshape .*not linear

27-flatten-up: w 8x4x3x3, n BN 128
    float[N,4,6,6] x => float[N,C] y
    c = Conv (x, w)  r = Flatten (c)  y = BN.n (r)
    stays: has 8 channels|not linear

27-flatten-axis: w 8x4x3x3, n BN 16
    float[N,4,6,6] x => float[N,C] y
    c = Conv (x, w)  r = Flatten <axis=2> (c)  y = BN.n (r)
    stays: Flatten .*not linear

27-no-shape: w 24x7, n BN 4
    float[N,4,H,3] x => float[N,C] y
    a = BN.n (x)  f = Flatten (a)  y = Gemm (f, w)
    stays: Flatten .*not linear

28-axis: w 8x4x3x3, n BN 8
    c = Conv (x, w)  d = Conv (x, w)  k = Concat <axis=2> (c, d)  y = BN.n (k)
    stays: does not join channels

28-branch: w 8x4x3x3, n BN 16
    c = Conv (x, w)  d = Conv (x, w)  r = Relu (d)  k = Concat <axis=1> (c, r)  y = BN.n (k)
    stays: Relu .*not linear

28-branch-used: w 8x4x3x3, n BN 16
    c = Conv (x, w)  k = Concat <axis=1> (c, c)  y = BN.n (k)
    stays: c is used elsewhere

28-input-branch: w 8x4x3x3, n BN 12
    c = Conv <pads=[1,1,1,1]> (x, w)  k = Concat <axis=1> (c, x)  y = BN.n (k)
    stays: x is not computed

28-split-above: w 8x4x3x3, n BN 4; opset 11
    c = Conv (x, w)  p, q = Split <axis=1> (c)  r = Relu (q)  a = BN.n (p)  y = Add (a, r)
    stays: makes other parts

28-split-above-other: w 8x4x3x3, n BN 4; opset 11
    c = Conv (x, w)  p, q = Split <axis=1> (c)  r = Relu (p)  a = BN.n (q)  y = Add (a, r)
    stays: one of several parts

28-split-part-given-out: w 8x2x3x3, n BN 4; opset 11
    float[N,4,6,6] x => float[A,B,C,D] y, float[N,2,6,6] p
    r = Relu (x)  a = BN.n (r)  p, q = Split <axis=1> (a)  y = Conv (q, w)
    stays: p is given out

28-split-space: w 8x4x3x3, n BN 4; opset 11
    r = Relu (x)  a = BN.n (r)  p, q = Split <axis=2> (a)  c = Conv (p, w)  d = Conv (q, w)
    y = Add (c, d)
    stays: does not part channels

28-concat-space: w 8x4x3x3, n BN 4
    r = Relu (x)  a = BN.n (r)  t = Tanh (x)  k = Concat <axis=2> (a, t)  y = Conv (k, w)
    stays: does not join channels

28-two-ways: w 5x8x3x3, n BN 4
    r = Relu (x)  a = BN.n (r)  i = Identity (a)  d = Dropout (a)  k = Concat <axis=1> (i, d)
    y = Conv (k, w)
    stays: reached on two ways

28-twice: w 5x8x3x3, n BN 4
    r = Relu (x)  a = BN.n (r)  k = Concat <axis=1> (a, a)  y = Conv (k, w)
    stays: is not what Concat

29-matmul-stack: w 5x7, n BN 7
    float[N,7,5] x => float[N,C,L] y
    c = MatMul (x, w)  y = BN.n (c)
    stays: two matrices

29-matmul-down: w 5x5, n BN 5
    float[N,5,5] x => float[N,C,L] y
    a = BN.n (x)  y = MatMul (a, w)
    stays: two matrices

29-add-widens: w 5x7, b 2x1x7, n BN 7
    float[7,5] x => float[A,B,C] y
    c = MatMul (x, w)  a = Add (c, b)  y = BN.n (a)
    stays: which axis

29-gemm-transposed: w 5x7, n BN 5
    float[5,5] x => float[N,C] y
    a = BN.n (x)  y = Gemm <transA=1> (a, w)
    stays: transposes its input

29-add-of-two: w 8x4x3x3, n BN 8
    c = Conv (x, w)  d = Conv (x, w)  a = Add (c, d)  y = BN.n (a)
    stays: does not add a constant
""")


def plain(body="c = Conv (x, w) y = BN.n (c)", n=8, **options):
    return build(graph(body), WEIGHT, {"n": n}, **options)


def relu_of(name):
    return [helper.make_node("Relu", [name], ["t"])]


def old_ir():
    model = constants_as_nodes(plain())
    model.ir_version = 3
    return model


def subgraph():
    bn = helper.make_node("BatchNormalization", ["d", "n_scale", "n_bias", "n_mean", "n_var"], ["t"])
    outer = build(graph("y = Relu (x)"), WEIGHT, {"n": 8})
    return with_if(outer, [helper.make_node("Conv", ["x", "w"], ["d"]), bn], "t")


MADE = {
    "20-training": (lambda: training(17), "inference"),
    "20-training-one-output": (
        lambda: set_attribute(plain(opset=15), "BatchNormalization", training_mode=1),
        "inference",
    ),
    "20-outputs-opset-9": (lambda: training(9), "inference"),
    "20-spatial": (lambda: set_attribute(plain(opset=7), "BatchNormalization", spatial=0), "inference"),
    "20-is-test": (lambda: set_attribute(plain(opset=8), "BatchNormalization", is_test=1), "another opset"),
    "20-opset-6": (lambda: set_attribute(plain(opset=6), "BatchNormalization", is_test=1), None),
    "21-bn-input": (lambda: as_input(plain(), "n_var"), "input 4 .* not constant"),
    "21-bn-scale-input": (lambda: as_input(plain(), "n_scale"), "scale is not a constant"),
    "21-weight-input": (lambda: as_input(plain(), "w"), "input 1 .* not constant"),
    "21-weight-overridable": (lambda: as_input(plain(), "w", overridable=True), "input 1 .* not constant"),
    "21-bn-overridable": (lambda: as_input(plain(), "n_mean", overridable=True), "input 3 .* not constant"),
    "21-old-ir": (old_ir, None),
    "22-captured": (lambda: with_if(plain(), relu_of("c"), "t"), "c is used elsewhere"),
    "22-down-captured": (
        lambda: with_if(plain("a = BN.n (x) y = Conv (a, w)", n=4), relu_of("a"), "t"),
        "a is not what Relu",
    ),
    "23-negative": (lambda: set_constant(plain(), "n_var", np.full(8, -1)), "no finite"),
    "23-minus-epsilon": (lambda: set_constant(plain(), "n_var", np.full(8, -np.float32(0.01))), "no finite"),
    "23-nan": (lambda: set_constant(plain(), "n_mean", np.full(8, np.nan)), "no finite"),
    "23-infinite": (lambda: set_constant(plain(), "n_var", np.full(8, np.inf)), "no finite"),
    "23-overflow": (lambda: half(6e4), "overflow"),
    "23-underflow": (lambda: half(1e-6), "underflow"),
    "24-mixed": (mixed, "FLOAT, not FLOAT16"),
    "30-quantised": (quantised, "input 1 .* not constant"),
    "31-subgraph": (subgraph, None),
    "31-function": (in_function, None),
    "31-custom-conv": (lambda: custom(plain(), "Conv"), "Conv .*not linear"),
    "31-custom-bn": (lambda: custom(plain(), "BatchNormalization"), None),
}

MADE |= {case.id: (case.build, case.expected) for case in STAYS}


@pytest.mark.parametrize("id_", MADE)
def test_stays(id_):
    """20 to 31: nothing is touched, and for the reason that the case is about."""
    make, reason = MADE[id_]
    before = make()
    after, (report,) = optimize(before, [fold_batchnorm])
    assert after is before
    assert (report.rewrites, report.refused) == (0, None)
    if reason is None:
        assert not report.left
    else:
        (refusal,) = report.left
        assert refusal.candidate.startswith("BatchNormalization")
        assert re.search(reason, refusal.reason), refusal.reason


@pytest.mark.parametrize(
    ("body", "n"), [("c = Conv (x, w) y = BN.n (c)", 8), ("c = BN.n (x) y = Conv (c, w)", 4)]
)
def test_subgraph_hands_on_an_outer_value(body, n):
    """22: a subgraph's output may be an outer value, which is a use that onnx-ir does not see."""
    before = with_if(plain(body, n=n), [], "c")
    assert fold_batchnorm(ir.from_proto(before)) == 0
    after, (report,) = optimize(before, [fold_batchnorm])
    assert after is before
    assert "outer value" in report.refused


def test_subgraph_reads_the_normalised_value():
    """22: a subgraph that reads the BN's output reads the folded convolution's instead."""
    before = with_if(plain(), relu_of("y"), "t")
    after, _ = optimize(before, [fold_batchnorm])
    assert summary(after) == "Constant, Conv, If, 2 Relu"
    assert_agree(before, after)


@pytest.mark.parametrize("id_", ["5-matmul-add", "7-convs", "8-reshape", "10-reshape"])
def test_missing_shapes(id_):
    """27 to 29: the pass alone does not guess shapes; optimize infers them, and does not write them."""
    before = BY_ID[id_].build()
    assert fold_batchnorm(ir.from_proto(before)) == 0
    after, _ = optimize(before, [fold_batchnorm])
    assert summary(after) == BY_ID[id_].expected
    computed = {name for node in after.graph.node for name in node.output}
    assert not computed & {info.name for info in after.graph.value_info}


def test_bias_that_the_exporter_computes():
    """21: torch's exporter, not told to optimise, writes no bias as zeros that it computes from the weight's shape.

    They are constant once the passes for that have run; then the BN goes too.
    """
    body = "n0 = Shape <start=0, end=1> (w) one = Constant <value_ints=[1]> () size = Expand (n0, one) "
    body += "zero = Constant <value = float {0}> () like = CastLike (zero, x) b = Expand (like, size) "
    before = build(graph(f"{body} c = Conv (x, w, b) y = BN.n (c)"), WEIGHT, {"n": 8}, opset=20)
    alone, (report,) = optimize(before, [fold_batchnorm])
    assert alone is before
    assert "input 2" in report.left[0].reason
    after, _ = optimize(before, [fold_constants, remove_noops, fold_batchnorm])
    assert summary(after) == "Conv"
    assert_agree(before, after)

"""Small graphs on which passes were wrong once, as random networks and the onnx package's cases showed them.

Each says in its comment what went wrong. What must hold of them is what must hold of every graph, as
``fuzz.properties`` has it.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cnnport import graphs
from cnnport.graphs.passes import name_of
from fuzz.properties import hold
from fuzz.run import subject_of

PASSES = {name_of(each): each for each in graphs.PASSES}


@dataclass(frozen=True)
class Case:
    """A graph in text, the shapes of its random weights, and the passes that run on it together."""

    id: str
    passes: tuple[str, ...]
    text: str
    weights: dict[str, tuple[int, ...]]


CASES = (
    # Each part was decided alone, as if the other could take the selection that it needs in the sum.
    Case(
        "parts-of-one-block-in-one-sum",
        ("align_channels",),
        """
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 4, 5, 5] x) => (float[N, 3, 5, 5] y) <int64[2] sizes = {1, 1}> {
            a = Conv (x, aw, ab)
            left, right = Split <axis = 1> (a, sizes)
            r = Relu (left)
            s = Add (r, right)
            y = Conv (s, yw)
        }
        """,
        {"aw": (2, 4, 1, 1), "ab": (2,), "yw": (3, 1, 1, 1)},
    ),
    # Shape inference that does not raise gave up on the whole graph at the GroupNormalization, until a rewrite had
    # been checked by one that does: a second run knew more.
    Case(
        "shapes-behind-what-inference-passes-over",
        ("fold_shapes",),
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[N, 8, 6, 6] x) => (float[A, B, C, D] y)
        <int64[3] column = {-1, 1, 1}, int64[5] parts = {-1, 2, 4, 6, 6}, int64[4] whole = {-1, 8, 6, 6}> {
            scale = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]> ()
            n = GroupNormalization <num_groups = 2> (x, scale, scale)
            c = Reshape (b, column)
            a = Add (n, c)
            p = Reshape (a, parts)
            t = Transpose <perm = [0, 2, 1, 3, 4]> (p)
            y = Reshape (t, whole)
        }
        """,
        {"b": (8,)},
    ),
    # The first Pad could go only once the second one had gone.
    Case(
        "pads-in-a-row",
        ("fold_pad",),
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N, 2, 5, 5] x) => (float[N, 3, A, B] y, float[N, 3, C, D] z)
        <int64[8] one = {0, 0, 1, 1, 0, 0, 0, 0}, int64[8] two = {0, 0, 0, 1, 0, 0, 1, 1}> {
            p = Pad (x, one)
            y = Conv (p, w)
            q = Pad (p, two)
            z = Conv (q, w)
        }
        """,
        {"w": (3, 2, 3, 3)},
    ),
    # The channels that are shuffled are not those of the grouped convolution, which has more groups than there are.
    Case(
        "reshaped-between-convolution-and-shuffle",
        ("align_groups",),
        """
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 8, 4, 2] x) => (float[N, 4, 2, 8] y)
        <int64[4] target = {0, 4, 2, 8}, int64[4] order = {0, 2, 1, 3}> {
            a = Conv <group = 8> (x, w)
            r = Reshape (a, target)
            y = Gather <axis = 1> (r, order)
        }
        """,
        {"w": (8, 1, 1, 1)},
    ),
    # A part that the graph gives out has no readers to change.
    Case(
        "part-given-out",
        ("align_channels",),
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N, 4, 5, 5] x) => (float[N, 16, 5, 5] right) {
            a = Conv (x, aw)
            left, right = Split <axis = 1> (a)
        }
        """,
        {"aw": (32, 4, 1, 1)},
    ),
    # Before IR version 4 every initializer must be an input, and a pass may add neither.
    Case(
        "shuffle-in-a-file-of-ir-3",
        ("eliminate_channel_shuffle",),
        """
        <ir_version: 3, opset_import: ["" : 13]>
        g (float[N, 4, 3, 3] x) => (float[N, 4, 3, 3] y) {
            five = Constant <value_ints = [0, 2, 2, 3, 3]> ()
            four = Constant <value_ints = [0, 4, 3, 3]> ()
            a = Reshape (x, five)
            t = Transpose <perm = [0, 2, 1, 3, 4]> (a)
            b = Reshape (t, four)
            y = Relu (b)
        }
        """,
        {},
    ),
    # The Split was removed twice: once by itself, and once as a constant of the Concat that nobody read any more.
    Case(
        "halves-joined-the-other-way-around",
        ("eliminate_channel_shuffle",),
        """
        <ir_version: 8, opset_import: ["" : 20]>
        g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
        <int64[4] three = {0, 2, 2, 64}, int64[4] four = {0, 4, 8, 8}> {
            left, right = Split <axis = 1, num_outputs = 2> (x)
            j = Concat <axis = -3> (right, left)
            a = Reshape (j, three)
            t = Transpose <perm = [0, 2, 1, 3]> (a)
            b = Reshape (t, four)
            y = Conv (b, yw)
        }
        """,
        {"yw": (4, 4, 1, 1)},
    ),
    # LRN divides by the whole window, an average that does not count its padding by what there is.
    Case(
        "average-of-fewer-at-the-edge",
        ("fuse_norms",),
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[N, 3, 6, 6] x) => (float[N, 3, 6, 6] y) <float beta = {0.75}> {
            a = Mul (x, x)
            b = Unsqueeze <axes = [1]> (a)
            c = AveragePool <kernel_shape = [5, 1, 1], pads = [2, 0, 0, 2, 0, 0], strides = [1, 1, 1]> (b)
            d = Squeeze <axes = [1]> (c)
            e = Pow (d, beta)
            y = Div (x, e)
        }
        """,
        {},
    ),
    # As for the shuffle: a new weight could only be an input.
    Case(
        "poolings-in-a-file-of-ir-3",
        ("average_by_convolution",),
        """
        <ir_version: 3, opset_import: ["" : 13]>
        g (float[N, 3, 6, 6] x) => (float[N, 3, 5, 5] y) { y = AveragePool <kernel_shape = [2, 2]> (x) }
        """,
        {},
    ),
    Case(
        "branches-in-a-file-of-ir-3",
        (
            "merge_linear_branches",
            "merge_parallel_convs",
            "merge_concatenated_branches",
            "merge_linear_chain",
        ),
        """
        <ir_version: 3, opset_import: ["" : 13]>
        g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {
            w = Constant <value = float[2, 2, 1, 1] {0.4, -0.7, 0.2, 1.0}> ()
            v = Constant <value = float[2, 2, 1, 1] {-0.3, 0.9, 0.1, 0.5}> ()
            a = Conv (x, w)
            b = Conv (x, v)
            c = Add (a, b)
            d = Conv (c, w)
            e = Relu (d)
            f = Conv (e, w)
            g = Conv (e, v)
            y = Sub (f, g)
        }
        """,
        {},
    ),
    # Constant made numbers of floating point alone before opset 9.
    Case(
        "a-constant-truth",
        ("fold_constants",),
        """
        <ir_version: 4, opset_import: ["" : 7]>
        g (float[N] x) => (bool[2] y, float[N] z) <bool[2] a = {1, 0}, bool[2] b = {1, 1}> {
            y = And (a, b)
            z = Relu (x)
        }
        """,
        {},
    ),
    # What only a branch of a dead If reads stayed for the next run.
    Case(
        "read-by-a-dead-branch",
        ("remove_dead_code",),
        """
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 4] x) => (float[N, 4] y) <bool yes = {1}> {
            a = Sigmoid (x)
            b = If (yes) <then_branch = t () => (float[N, 4] c) { c = Relu (a) },
                          else_branch = e () => (float[N, 4] d) { d = Neg (a) }>
            y = Relu (x)
        }
        """,
        {},
    ),
    # A size was known only after another Reshape had been given its sizes.
    Case(
        "sizes-of-sizes",
        ("fold_shapes",),
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y)
        <int64 zero = {0}, int64[1] axis = {0}, int64[3] rest = {8, 6, 6}> {
            a = Shape (x)
            b = Reshape (x, a)
            c = Shape (b)
            d = Gather <axis = 0> (c, zero)
            e = Unsqueeze (d, axis)
            f = Concat <axis = 0> (e, rest)
            y = Reshape (b, f)
        }
        """,
        {},
    ),
)


def model_of(case: Case) -> onnx.ModelProto:
    model = onnx.parser.parse_model(case.text)
    rng = np.random.default_rng(0)
    for name, shape in case.weights.items():
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_holds(case: Case) -> None:
    subject = subject_of(model_of(case))
    assert subject.outputs is not None
    hold(subject, [PASSES[name] for name in case.passes])

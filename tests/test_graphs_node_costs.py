"""What runtimes have to read and write at each node, counted by hand, and the zoo's golden multiply-adds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.errors import ArtifactError
from cnnport.exporting import export
from cnnport.graphs.cost import Cost, NodeCosts, costs
from cnnport.onnxfile import load_model

FLOAT = 4


def model_of(body: str, *, inputs: str = "float[n,8,h,w] x", output: str = "float[n,a,b,c] y", **weights):
    """A graph in ONNX text; weights are shapes, or arrays."""
    made = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "acme" : 1]> g ({inputs}) => ({output}) {{{body}}}'
    )
    for name, given in weights.items():
        array = np.ones(given, np.float32) if isinstance(given, tuple) else given
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return made


def costs_of(body: str, shape: tuple[int, ...] = (2, 8, 6, 6), **rest) -> NodeCosts:
    return costs(ir.from_proto(model_of(body, **rest)), shape[0], shapes={"x": shape})


def test_weights_are_read_and_views_move_nothing():
    found = costs_of(
        "a = Conv (x, k) b = Relu (a) c = Reshape (b, s) y = Gemm (c, m)",
        output="float[n,o] y",
        k=(4, 8, 1, 1),
        s=np.array([0, -1]),
        m=(144, 5),
    )
    pixels = 2 * 36
    assert found["a"] == Cost(
        2 * pixels * 32, FLOAT * (8 * pixels + 32), FLOAT * 4 * pixels, FLOAT * 32, pixels * 32
    )
    assert found["b"] == Cost(4 * pixels, FLOAT * 4 * pixels, FLOAT * 4 * pixels, 0)
    assert found["c"] == Cost(0, 0, 0, 0)
    assert found["y"].weights_bytes == FLOAT * 144 * 5
    assert found["y"].macs == 2 * 144 * 5


def test_one_kernel_neither_writes_nor_reads_what_it_keeps():
    found = costs_of(
        "a = Conv (x, k) b = Relu (a) c = Conv (x, l) y = Add (b, c)", k=(4, 8, 1, 1), l=(4, 8, 1, 1)
    )
    whole = found.together(["a", "b", "c", "y"])
    assert whole.flops == sum(each.flops for each in found.values())
    assert whole.reads_bytes == FLOAT * (8 * 72 + 2 * 32)
    assert whole.writes_bytes == FLOAT * 4 * 72
    # What somebody outside wants as well has to be written after all.
    part = found.together(["a", "b"])
    assert (part.reads_bytes, part.writes_bytes) == (FLOAT * (8 * 72 + 32), FLOAT * 4 * 72)
    assert found.together(["a"]) == found["a"]


def test_the_standards_selections_and_constants():
    """A slice reads what it gives, sizes read nothing, and what depends on weights alone is done beforehand."""
    found = costs_of(
        "h = Shape (x) d = Add (k, k) a = Slice (x, f, t, i) y = Conv (a, d)",
        k=(4, 2, 1, 1),
        f=np.array([0]),
        t=np.array([2]),
        i=np.array([1]),
    )
    assert found["h"].reads_bytes == 0
    assert found["d"] == Cost(0, 0, 0, 0)
    assert found["a"].writes_bytes == FLOAT * 2 * 72
    assert found["a"].reads_bytes - found["a"].weights_bytes == FLOAT * 2 * 72
    assert found["y"].weights_bytes == FLOAT * 8


QUANTIZED = """
    xq = QuantizeLinear (x, s, z)  xf = DequantizeLinear (xq, s, z)
    kf = DequantizeLinear (k, s, o)
    a = Conv (xf, kf)  {activation}
    bq = QuantizeLinear (b, s, z)  bf = DequantizeLinear (bq, s, z)
    c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (bf)
    cq = QuantizeLinear (c, s, z)  cf = DequantizeLinear (cq, s, z)
    {tail}
"""
LEVELS = {
    "s": np.float32(0.1),
    "z": np.uint8(128),
    "o": np.int8(0),
    "k": np.ones((4, 8, 1, 1), np.int8),
}


@pytest.mark.parametrize("activation", ["b = Identity (a)", "b = Relu (a)", "r = Sigmoid (a) b = Relu (r)"])
def test_bytes_between_quantizers(activation: str):
    """Between integer kernels everything is one byte; where floats come in and go out, it is four."""
    if "Identity" in activation:
        body = (
            QUANTIZED.replace("{activation}", "")
            .replace("(b, s, z)", "(a, s, z)")
            .replace("{tail}", "y = Relu (cf)")
        )
    else:
        body = QUANTIZED.replace("{activation}", activation).replace("{tail}", "y = Relu (cf)")
    found = costs_of(body, **LEVELS)
    small = 5  # a scale and a zero point
    assert found["xq"] == Cost(2 * 8 * 36, FLOAT * 8 * 72 + small, 8 * 72, small)
    assert found["xf"] == found["bq"] == found["bf"] == found["cq"] == Cost(0, 0, 0, 0)
    assert found["a"] == Cost(2 * 72 * 32, 8 * 72 + 32, 4 * 72, 32, 72 * 32)
    assert found["c"] == Cost(4 * 72, 4 * 72, 72, 0)
    for name in ("b", "r"):
        assert name not in found or found[name].moved_bytes == 0
    # At the end a float operator reads floats, so that bytes are really dequantized.
    assert found["cf"] == Cost(72, 72 + small, FLOAT * 72, small)
    assert found["y"].reads_bytes == FLOAT * 72
    # As the runtime has it, with the activation in the same kernel.
    kernel = [name for name in ("a", "r", "b") if name in found]
    assert found.together(kernel).moved_bytes == found["a"].moved_bytes


def test_a_layer_that_stayed_in_float_moves_floats():
    """A convolution with float weights between quantizers reads dequantized values, and its result is quantized."""
    body = (
        QUANTIZED.replace("{activation}", "")
        .replace("(b, s, z)", "(a, s, z)")
        .replace("{tail}", "y = Conv (cf, w)")
    )
    found = costs_of(body, **LEVELS, w=(3, 4, 1, 1))
    assert found["cf"].writes_bytes == FLOAT * 72
    assert (found["y"].reads_bytes, found["y"].weights_bytes) == (FLOAT * (72 + 12), FLOAT * 12)
    # The same with weights in 8 bits is an integer kernel that gives floats.
    quantized = body.replace("Conv (cf, w)", "Conv (cf, wf)").replace(
        "a = Conv", "wf = DequantizeLinear (w, s, o) a = Conv"
    )
    found = costs_of(quantized, **LEVELS, w=np.ones((3, 4, 1, 1), np.int8))
    assert found["cf"].moved_bytes == 0
    assert (found["y"].reads_bytes, found["y"].writes_bytes) == (72 + 12, FLOAT * 3 * 18)


def test_names():
    """A node goes by its name; without one, or with a second one of the same name, by its first output."""
    proto = model_of("a = Relu (x) b = Relu (a) y = Relu (b)")
    proto.graph.node[0].name = proto.graph.node[1].name = "act"
    found = costs(ir.from_proto(proto), 1, shapes={"x": (1, 8, 2, 2)})
    assert list(found) == ["act", "b", "y"]


def test_native_sizes_of_the_file_are_used():
    proto = model_of("y = Relu (x)")
    proto.metadata_props.append(
        onnx.StringStringEntryProto(key="cnnport.native_sizes", value='{"h":3,"w":5}')
    )
    assert costs(ir.from_proto(proto), 2)["y"].flops == 2 * 8 * 15


def test_what_cannot_be_known_is_an_error():
    open_size = ir.from_proto(model_of("y = Relu (x)"))
    with pytest.raises(ArtifactError, match="'x' leaves its size open on axis 2"):
        costs(open_size, 1)
    fixed = ir.from_proto(model_of("y = Relu (x)", inputs="float[4,8,2,2] x"))
    with pytest.raises(ArtifactError, match="batch is fixed at 4, not 1"):
        costs(fixed, 1)
    assert costs(fixed, 4)["y"].flops == 4 * 32
    counted = ir.from_proto(model_of("a = NonZero (x) y = Cast <to = 1> (a)", output="float[r,c] y"))
    with pytest.raises(ArtifactError, match="'a', at NonZero a, cannot be known"):
        costs(counted, 1, shapes={"x": (1, 8, 2, 2)})


def test_foreign_operators_are_left_out_with_what_follows():
    found = costs_of("a = Relu (x) b = acme.Roll (a) c = Relu (b) d = Relu (a) y = Add (c, d)")
    assert list(found) == ["a", "d"]
    with pytest.raises(KeyError):
        found.together(["b"])


@pytest.mark.parametrize("name", ["lenet5", "shufflenet_v2_x0_5"])
def test_the_zoos_golden_multiply_adds(name: str, tmp_path: Path):
    """What the file computes is what PyTorch counted, where no pass has filled channels or joined layers."""
    path = export(name, tmp_path / "raw.onnx", weights="random", passes=()).artifact.path
    model = ir.from_proto(load_model(path))
    found = costs(model, 3)
    assert sum(each.macs for each in found.values()) == 3 * registry.get(name).macs
    held = sum(tensor.const_value.nbytes for tensor in model.graph.initializers.values())
    assert sum(each.weights_bytes for each in found.values()) == pytest.approx(held, rel=0.01)
    # Planted: without one of its layers it is another number.
    layer = next(node for node in reversed(model.graph) if node.op_type in {"Conv", "Gemm"})
    less = sum(each.macs for name, each in found.items() if name != layer.name)
    assert less < 3 * registry.get(name).macs


def test_passes_may_add_multiply_adds(exported: Callable[[str], Artifact]):
    """Channels that are filled up to a block are multiplied too, and counted: 120 become 128 in lenet5."""
    found = costs(ir.from_proto(load_model(exported("lenet5").path)), 1)
    assert sum(each.macs for each in found.values()) == registry.get("lenet5").macs + 8 * (400 + 84)

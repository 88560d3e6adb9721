"""FLOPs and bytes of graphs, against counts made by hand."""

import onnx
import onnx_ir as ir
import pytest

from cnnport.graphs.cost import GraphCost, cost_of, node_costs

FLOAT = 4


def parsed(body: str, *, inputs: str = "float[n,3,h,w] x", output: str = "float[n,c,oh,ow] y") -> ir.Model:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18, "acme" : 1]> g ({inputs}) => ({output}) {body}'
    )
    return ir.from_proto(model)


@pytest.mark.parametrize(
    ("body", "shapes", "flops", "read", "written"),
    [
        # A convolution: every output pixel and channel takes 3 x 3 x 3 products.
        (
            "<float[8,3,3,3] k> { y = Conv <pads=[1,1,1,1]> (x, k) }",
            {"x": (2, 3, 5, 7)},
            2 * (2 * 8 * 5 * 7) * 27,
            2 * 3 * 35 + 8 * 27,
            2 * 8 * 35,
        ),
        # In groups each output sees its own channels; strides leave fewer outputs.
        (
            "<float[6,1,3,3] k, float[6] b> { y = Conv <group=3, strides=[2,2]> (x, k, b) }",
            {"x": (1, 3, 7, 9)},
            2 * (6 * 3 * 4) * 9,
            3 * 63 + 54 + 6,
            6 * 12,
        ),
        # A transposed one: every input pixel and channel is spread by 4 x 2 x 2 products.
        (
            "<float[3,4,2,2] k> { y = ConvTranspose <strides=[2,2]> (x, k) }",
            {"x": (1, 3, 5, 6)},
            2 * (3 * 30) * 16,
            90 + 48,
            4 * 10 * 12,
        ),
        # Elementwise by elements; a broadcast operand counts as what it is.
        ("<float[3,1,1] k> { y = Mul (x, k) }", {"x": (2, 3, 4, 4)}, 96, 96 + 3, 96),
        # A mean reads more than it writes; what only moves computes nothing.
        ("{ y = GlobalAveragePool (x) }", {"x": (1, 3, 4, 4)}, 48, 48, 3),
        ("{ y = Transpose <perm=[0,2,3,1]> (x) }", {"x": (1, 3, 4, 4)}, 0, 48, 48),
    ],
)
def test_counted_by_hand(body: str, shapes: dict[str, tuple[int, ...]], flops: int, read: int, written: int):
    weights = body[body.index("<") + 1 : body.index("> {")].split(", ") if body.startswith("<") else []
    inputs = ", ".join(["float[n,3,h,w] x", *weights])
    model = parsed(body[body.index("{") :], inputs=inputs)
    assert cost_of(model, shapes) == GraphCost(flops, FLOAT * (read + written))


def test_matrix_products():
    """Gemm, transposed or not, and MatMul with more dimensions; half precision takes half the bytes."""
    gemm = parsed(
        "{ y = Gemm <transA=1> (x, m) }", inputs="float[7,n] x, float[7,5] m", output="float[n,5] y"
    )
    assert cost_of(gemm, {"x": (7, 2)}).flops == 2 * 2 * 5 * 7
    matmul = parsed(
        "{ y = MatMul (x, m) }", inputs="float16[n,4,6] x, float16[6,5] m", output="float16[n,4,5] y"
    )
    assert cost_of(matmul, {"x": (3, 4, 6)}) == GraphCost(2 * 3 * 4 * 5 * 6, 2 * (72 + 30 + 60))


def test_what_is_not_known_is_said():
    """An operator of another domain, what follows from it, and a branch: named, not counted, and not guessed."""
    model = parsed("{ a = Relu (x)  b = acme.Roll (a)  y = Relu (b) }", output="float[n,3,h,w] y")
    cost = cost_of(model, {"x": (1, 3, 2, 2)})
    assert cost.flops == 12
    assert cost.unknown == ("1 Roll b", "2 Relu y")
    # Without sizes there is nothing to count at all.
    assert cost_of(model, {}).unknown == ("0 Relu a", "1 Roll b", "2 Relu y")
    assert dict(node_costs(model, {"x": (1, 3, 2, 2)}))["0 Relu a"] == (12, 2 * 12 * FLOAT)


SIZES_FROM_SIZES = """<int64 one = {1}, int64 three = {3}, int64[1] axis = {2}, int64[2] zeros = {0,0}> {
    sizes = Shape (x)
    height = Gather <axis=0> (sizes, axis)
    rest = Mod (height, three)
    pads = Concat <axis=0> (zeros, zeros, zeros, rest, rest)
    ends = Slice (pads, from, to)
    padded = Pad (x, ends)
    y = Relu (padded)
}"""


def test_sizes_that_are_computed_from_sizes():
    """Shape inference does not follow Mod; with the input's size settled its value is a number."""
    body = SIZES_FROM_SIZES.replace(
        "int64[2] zeros", "int64[1] from = {0}, int64[1] to = {8}, int64[2] zeros"
    )
    model = parsed(body)
    plain = onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True)
    assert (
        next(v for v in plain.graph.value_info if v.name == "padded").type.tensor_type.shape.dim[2].dim_param
    )
    cost = cost_of(model, {"x": (1, 3, 8, 8)})
    assert cost.unknown == ()
    # 8 mod 3 is 2, at the end of the height and of the width.
    assert dict(node_costs(model, {"x": (1, 3, 8, 8)}))["6 Relu y"] == (300, 2 * 300 * FLOAT)


def test_the_models_shapes_are_left_alone():
    model = parsed("{ y = Relu (x) }", output="float[n,3,h,w] y")
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    cost_of(model, {"x": (1, 3, 2, 2)})
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before

"""From kernels to nodes, names before the passes, and modules: by hand, and over networks of the zoo."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from cnnport.graphs.cost import costs
from cnnport.graphs.protos import read
from cnnport.measuring.case import make_cases
from cnnport.measuring.profiling.asking import PROFILED, glance
from cnnport.measuring.profiling.kernels import Kernel
from cnnport.measuring.profiling.layers import Layer, alone, layers_of
from cnnport.measuring.profiling.names import ROOT, enclosing, original_of, origins
from cnnport.measuring.profiling.nodes import Nodes
from cnnport.measuring.profiling.probes import PROBES
from cnnport.onnxfile import read_artifact
from quantize_graphs import model_of

TEXT = """g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
    a = Conv (x, aw)  b = Relu (a)  c = Conv (b, cw)  d = Add (c, b)  e = Transpose <perm = [0, 1, 3, 2]> (d)
    y = Conv (e, yw)
}"""
WEIGHTS = {"aw": (4, 4, 1, 1), "cw": (4, 4, 1, 1), "yw": (4, 4, 1, 1)}
NAMES = ("s.0.conv/Conv", "s.0.act/Relu", "s.1.conv/Conv_part_2", "s/Add", "Transpose", "head/Conv")


def graph() -> onnx.ModelProto:
    model = model_of(TEXT, WEIGHTS)
    for node, name in zip(model.graph.node, NAMES, strict=True):
        node.name = name
    return model


def kernels() -> list[Kernel]:
    """As ONNX Runtime runs it, in blocks."""
    return [
        Kernel(("ReorderInput",), "ReorderInput", 0.1, label="ReorderInput behind the input"),
        Kernel(("b_nchwc",), "Conv", 1.0, sources=(0,)),
        Kernel(("c_nchwc",), "Conv", 2.0, sources=(1,)),
        Kernel(("ReorderOutput",), "ReorderOutput", 0.5, sources=(2,), writes=("e",)),
        Kernel(("y_nchwc",), "Conv", 4.0, sources=(3,)),
        Kernel(("ReorderOutput",), "ReorderOutput", 0.25, sources=(4,), writes=("y",)),
    ]


def put_together(given: Sequence[Kernel], *, exported: bool = True) -> tuple[Layer, ...]:
    model = graph()
    return layers_of(given, Nodes(model.graph), costs(read(model), 1), exported=exported)


def test_every_kernel_has_its_nodes_their_names_before_and_modules() -> None:
    found = put_together(kernels())
    assert [layer.nodes for layer in found] == [
        (),
        ("s.0.conv/Conv", "s.0.act/Relu"),
        # The sum is computed by the kernel that runs last of those that it reads.
        ("s.1.conv/Conv_part_2", "s/Add"),
        # What puts elements in another order has taken the Transpose over.
        ("Transpose",),
        ("head/Conv",),
        (),
    ]
    assert found[2].original == ("s.1.conv/Conv", "s/Add")
    assert [layer.modules for layer in found] == [
        # Feeds the first convolution, and follows nothing.
        ("s.0.conv", "s.0.act"),
        ("s.0.conv", "s.0.act"),
        ("s.1.conv", "s"),
        # Between s and head, and in no module: of the network itself.
        (ROOT,),
        ("head",),
        ("head",),
    ]


def test_a_fused_kernel_moves_what_crosses_its_border() -> None:
    found = put_together(kernels())
    value, weights = 4 * 8 * 8 * 4, 4 * 4 * 4
    first, second = (found[place].cost for place in (1, 2))
    assert first is not None
    assert second is not None
    assert first.moved_bytes == value + weights + value
    # Its input is also the other term of the sum, and read once.
    assert second.moved_bytes == value + weights + value
    assert first.flops == 2 * 4 * 4 * 64 + 4 * 64


def test_a_wrong_mapping_shows() -> None:
    wrong = kernels()
    wrong[1] = Kernel(("y_nchwc",), "Conv", 1.0, sources=(0,))
    found = put_together(wrong)
    assert found[1].modules == ("head",)
    # Whose kernel is missing is held by a neighbour, and the kernel that runs twice by one of the two.
    assert found != put_together(kernels())
    assert found[4].nodes == ()


def test_files_of_others_have_nodes_and_no_modules() -> None:
    found = put_together(kernels(), exported=False)
    assert found[2].nodes == found[2].original == ("s.1.conv/Conv_part_2", "s/Add")
    assert not any(layer.modules for layer in found)


def test_modules_are_the_layers_of_pytorch() -> None:
    found = put_together(
        [
            Kernel(("",), "Net", 0.1, module=""),
            Kernel(("s.0.conv",), "Conv2d", 1.0, module="s.0.conv"),
            Kernel(("s.0.norm",), "BatchNorm2d", 0.5, module="s.0.norm"),
        ]
    )
    assert [layer.modules for layer in found] == [(ROOT,), ("s.0.conv",), ("s.0.norm",)]
    assert [layer.nodes for layer in found] == [("Transpose",), ("s.0.conv/Conv",), ()]


def test_an_engine_has_the_nodes_that_its_runtime_tells() -> None:
    (found,) = alone([Kernel(("conv1", "relu1"), "correlation", 1.0, label="conv1_myl0_2")])
    assert found.nodes == ("conv1", "relu1")


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("layer1.0.conv1/Conv", "layer1.0.conv1/Conv"),
        ("layer1.0.relu/Relu_2", "layer1.0.relu/Relu_2"),
        ("stage2.0.branch1.2/Conv_part_3", "stage2.0.branch1.2/Conv"),
        ("stage2.0.branch1.4/Relu:0_ch_split", "stage2.0.branch1.4/Relu"),
        ("Split_1_join", "Split_1"),
        ("Gemm_4_product_conv", "Gemm_4"),
        ("features.0/Relu:0_quantized", "features.0/Relu"),
        ("features.0.weight_dequantized", ""),
        ("input_fp16_cast", ""),
    ],
)
def test_names_begin_with_those_before_the_passes(name: str, original: str) -> None:
    assert original_of(name) == original


def test_modules_of_what_bears_no_name() -> None:
    model = graph()
    model.graph.node[4].name = "w.2.weight_dequantized"
    found = origins(Nodes(model.graph), exported=True)
    assert found[4].module == "w.2"
    model.graph.node[4].name = "Transpose"
    # It reads the weights of a module.
    model.graph.node[4].input[0] = "tail.3.weight_rows"
    assert origins(Nodes(model.graph), exported=True)[4].module == "tail.3"
    assert enclosing(["a.b.c", "a.b.d"]) == "a.b"
    assert enclosing(["a.bc", "a.bd"]) == "a"
    assert enclosing(["a", "b"]) == ""


def test_numbers_that_a_runtime_gives_are_no_names_of_the_file() -> None:
    nodes = Nodes(graph().graph)
    labelled = Kernel(("Transpose_10060",), "Reduce", 1.0, label="Transpose_10060")
    assert nodes.found(labelled) == []
    # Without one, it is a part of what was one.
    assert nodes.found(Kernel(("head/Conv_2",), "Conv", 1.0)) == [5]


# Networks of the zoo: channel shuffles taken apart, squeeze and excitation.

NETWORKS = ("digits_shufflenet_v2", "digits_se_resnet")


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, set[str]]]:
    """Files with the passes for ONNX Runtime, and the names of the nodes before them."""
    from cnnport.graphs.optimize import optimize
    from cnnport.graphs.passes import select_passes
    from cnnport.prepared import captured, prepare, reference_of
    from cnnport.source import find_source

    folder, found = tmp_path_factory.mktemp("rewritten"), {}
    for name in NETWORKS:
        prepared = prepare(find_source(name), "random", 0, None, None, None, dense=False, on_download=None)
        model = captured(prepared, reference_of(prepared, (2,)), 20, batch=None)
        before = {node.name for node in model.graph.node}
        made, _ = optimize(model, select_passes(None, "ort"))
        onnx.save(made, folder / f"{name}.onnx")
        found[name] = folder / f"{name}.onnx", before
    return found


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_names_its_module(
    rewritten: dict[str, tuple[Path, set[str]]], name: str, runtime: str
) -> None:
    package = {"ort-cpu": "onnxruntime"}.get(runtime, runtime)
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    path, before = rewritten[name]
    (case,) = make_cases([read_artifact(path)], [runtime], [1], [1], settings={"openvino": {"batch": "1"}})
    model = onnx.load(path)
    counted = costs(read(model), 1)
    found = layers_of(glance(case), Nodes(model.graph), counted, exported=True)
    assert all(layer.modules for layer in found)
    assert {module for layer in found for module in layer.modules} - {ROOT}
    # Every node is in one kernel, so that nothing is lost or counted twice.
    held = [node for layer in found for node in layer.nodes]
    assert sorted(held) == sorted(node.name for node in model.graph.node if node.op_type != "Constant")
    assert sum(layer.cost.flops for layer in found if layer.cost) == sum(
        each.flops for each in counted.values()
    )
    # And nothing is called what was not there before the passes.
    assert {name for layer in found for name in layer.original} <= before


def test_the_table_of_probes_has_all_who_can_be_profiled() -> None:
    assert set(PROBES) == set(PROFILED)

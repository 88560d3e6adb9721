"""Networks for images of any size: their files are open in height and width, and right at sizes beside the native."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.capture import capture
from cnnport.classify import classify
from cnnport.compare import compare
from cnnport.errors import ArtifactError, FeedError, ModelError
from cnnport.exporting import export
from cnnport.golden import seeded_input
from cnnport.graphs import count_ops
from cnnport.measuring.case import make_cases
from cnnport.metadata import at_native_size
from cnnport.onnxfile import load_model, write_model
from cnnport.reference import Case, Reference
from cnnport.runtimes import Options, get_runtime
from cnnport.verifying import verify

Exported = Callable[[str], Artifact]

ANY_SIZE = {
    *(
        "alexnet_dense",
        "vgg16_dense",
        "spp_zf5",
        "fcn32s_vgg16",
        "fcn16s_vgg16",
        "fcn8s_vgg16",
        "fcn_resnet50",
    ),
    *("fcn_resnet101", "hdc_demo", "resnet101_hdc", "recurrent_conv_demo"),
}


def test_those_that_say_so_run_on_other_sizes() -> None:
    assert {spec.name for spec in registry.specs() if spec.any_size} == ANY_SIZE
    for name in sorted(ANY_SIZE):
        spec = registry.get(name)
        channels, height, width = spec.input_shape
        with torch.device("meta"), torch.no_grad():
            output = spec.build().eval()(torch.empty(1, channels, height + 37, width + 69))
        assert (output.shape == (1, *spec.output_shape)) == (name == "spp_zf5")


def test_height_and_width_are_open(exported: Exported) -> None:
    artifact = exported("hdc_demo")
    assert [str(spec) for spec in artifact.inputs] == ["input:float32[batch,3,height,width]"]
    assert [str(spec) for spec in artifact.outputs] == ["logits:float32[batch,21,height,width]"]
    assert count_ops(load_model(artifact.path)) == {"Conv": 7, "Relu": 6}
    assert at_native_size(artifact).inputs[0].shape == ("batch", 3, 64, 64)
    assert all(check.ok for check in verify(artifact.path))
    assert [case.misfit() for case in make_cases([artifact], ["ort-cpu"])] == [None]
    # Without what the file states of its native size nobody could make an input for it.
    with pytest.raises(FeedError, match="dimension 2"):
        seeded_input(artifact.inputs, 1, 0)
    feeds = seeded_input(artifact.with_sizes({"height": 31, "width": 50}).inputs, 2, 0)
    with (
        get_runtime("torch-cpu").open(artifact, Options()) as torch_session,
        get_runtime("ort-cpu").open(artifact, Options()) as session,
    ):
        assert compare(torch_session.run(feeds)["logits"], session.run(feeds)["logits"]).within()


def test_a_size_that_is_asked_for_is_the_only_one(tmp_path: Path) -> None:
    done = export("hdc_demo", tmp_path / "m.onnx", weights="random", image_size=(40, 48), batch=1)
    assert done.artifact.inputs[0].shape == (1, 3, 40, 48)
    assert done.artifact.outputs[0].shape == (1, 21, 40, 48)
    assert "cnnport.native_sizes" not in done.artifact.metadata
    assert all(check.ok for check in verify(done.artifact.path))


def test_a_map_is_no_classification(exported: Exported, digit_scans: list[Path]) -> None:
    with pytest.raises(ArtifactError, match="a map of scores"):
        list(classify(exported("hdc_demo"), digit_scans))


@pytest.mark.parametrize("sizes", ['{"height":"64"}', '{"height":0}', "[64]", "{"])
def test_damaged_sizes(tmp_path: Path, exported: Exported, sizes: str) -> None:
    source = exported("hdc_demo")
    path = tmp_path / "x.onnx"
    write_model(load_model(source.path), path, {**source.metadata, "cnnport.native_sizes": sizes})
    assert {check.name for check in verify(path) if not check.ok} == {"metadata"}


class Turned(nn.Module):
    """For squares only."""

    def forward(self, images: Tensor) -> Tensor:
        return images + images.transpose(2, 3)


@pytest.mark.parametrize(
    ("module", "width", "message"),
    [
        (Turned(), 20, "width is not dynamic"),
        (nn.AdaptiveAvgPool2d(5), 24, "height of the network's 'y' does not follow"),
    ],
)
def test_a_size_that_is_fixed_on_the_way_is_refused(module: nn.Module, width: int, message: str) -> None:
    examples = {"x": torch.randn(2, 3, 20, width)}
    with pytest.raises(ModelError, match=message):
        capture(module.eval(), examples, output_names=["y"], opset=20, dynamic_batch=True, any_size=True)


def test_a_network_that_runs_on_one_size_only_is_refused() -> None:
    """The exporter says nothing of it: it states sizes that are open and a graph that fails for all but one."""
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, 5)).eval()
    with pytest.raises(ModelError, match="cannot run on 3x57x89"):
        Reference(fixed, (3, 20, 20), output_name="y", batches=(1,), seeds=(0,), any_size=True)


class Pooled(nn.Module):
    """As many values at any size, from 8 x 8 pixels on."""

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[2:]) < 20:
            raise ValueError("too small")
        return images.mean((2, 3), keepdim=True)


def averaging(**attributes: object) -> onnx.ModelProto:
    """A graph that pools, over all of the image if no kernel is given."""
    op = "AveragePool" if attributes else "GlobalAveragePool"
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", ["batch", 3, "height", "width"]), ("y", ["batch", 3, None, None]))
    ]
    graph = helper.make_graph(
        [helper.make_node(op, ["input"], ["y"], **attributes)], "g", values[:1], values[1:]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_graph_is_held_against_other_sizes_too() -> None:
    reference = Reference(
        Pooled().eval(), (3, 24, 24), output_name="y", batches=(1, 3), seeds=(0, 1), any_size=True
    )
    native, larger, smaller, second = reference.cases[: reference.quick]
    assert (native, second) == (Case(1, 0, (24, 24)), Case(3, 0, (24, 24)))
    # Of the smaller sizes the first that the network takes: 15 x 19 is too small for it.
    assert (larger.size, smaller.size) == ((61, 93), (23, 23))
    assert np.shape(reference.example()["input"]) == (3, 3, 61, 93)
    assert reference.check(averaging(), optimize=False).ok
    # Right at the native size only.
    verdict = reference.check(averaging(kernel_shape=[24, 24], strides=[100, 100]), optimize=False)
    assert not verdict.ok
    assert verdict.where.endswith("61x93")

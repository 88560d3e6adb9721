"""Export: the file is right, describes itself, is the same each time, and is not written when it is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from cnnport import registry
from cnnport.artifact import Artifact
from cnnport.compare import compare
from cnnport.errors import CheckFailedError, CnnportError, ModelError, OutputError
from cnnport.exporting import export
from cnnport.golden import seeded_input
from cnnport.graphs import DEFAULT_PASSES
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm
from cnnport.metadata import labels_of, origin_of, preprocess_of
from cnnport.onnxfile import load_model
from cnnport.rebuild import module_of
from cnnport.runtimes import Options, get_runtime
from cnnport.verifying import verify

Exported = Callable[[str], Artifact]

NETS = """
import torch
from torch import nn

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(8)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
    def forward(self, x):
        return self.norm(torch.cat((self.left(x), self.right(x)), 1)).relu().mean((2, 3))

class Two(nn.Module):
    def __init__(self, outputs="tuple"):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.outputs = outputs
    def forward(self, x):
        y = self.conv(x)
        mean, most = y.mean((2, 3)), y.amax((2, 3))
        return (mean, most) if self.outputs == "tuple" else {"mean": mean, "max": most}

def two_named():
    return Two("dict")

class FixedBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x).reshape(2, -1)[:, :5]

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3)) + torch.rand_like(x[:, :1, 0, 0])

class Nan(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return torch.log(-self.conv(x).abs()).mean((2, 3))

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x) if x.sum().item() > 0 else self.conv(-x)
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "exported_nets.py"
    path.write_text(NETS)
    return path


def files(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.suffix != ".py" and path.name != "__pycache__"
    )


def test_says_everything_of_itself(exported: Exported) -> None:
    artifact = exported("lenet5")
    assert (artifact.model, artifact.opset, artifact.precision, artifact.target) == (
        "lenet5",
        20,
        "fp32",
        "portable",
    )
    assert [str(spec) for spec in artifact.inputs] == ["input:float32[batch,1,32,32]"]
    assert [str(spec) for spec in artifact.outputs] == ["logits:float32[batch,10]"]
    assert preprocess_of(artifact) == registry.get("lenet5").preprocess
    assert labels_of(artifact) == tuple("0123456789")
    origin = origin_of(artifact)
    assert origin is not None
    assert (origin.model, origin.weights) == ("lenet5", "default")
    assert set(json.loads(artifact.metadata["cnnport.versions"])) >= {"torch", "onnx", "onnxsim"}


def test_holds_no_path_and_no_notes_of_the_exporter(exported: Exported) -> None:
    data = exported("lenet5").path.read_bytes()
    for trace in (
        b"site-packages",
        b"torchlib",
        b"pkg.torch",
        b'File "',
        str(Path.home()).encode(),
        b"onnxsim.",
    ):
        assert trace not in data


def test_nodes_are_named_after_modules(exported: Exported) -> None:
    names = [node.name for node in load_model(exported("shufflenet_v2_x0_5").path).graph.node]
    assert len(set(names)) == len(names)
    assert {"conv1.0/Conv", "stage2.0.branch2.3/Conv", "stage4.3.branch2.5/Conv", "fc/Gemm"} <= set(names)


def test_one_file_without_leftovers(tmp_path: Path) -> None:
    export("lenet5", tmp_path / "a.onnx", weights="random")
    assert files(tmp_path) == ["a.onnx"]


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export("lenet5", tmp_path / f"{name}.onnx", weights="random", seed=3)
    export("lenet5", tmp_path / "c.onnx", weights="random", seed=4)
    a, b, c = ((tmp_path / f"{name}.onnx").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_computes_what_pytorch_computes_at_any_batch(exported: Exported) -> None:
    artifact = exported("shufflenet_v2_x0_5")
    module = module_of(artifact)
    with get_runtime("ort-cpu").open(artifact, Options()) as session:
        for batch in (1, 2, 5):
            feeds = seeded_input(artifact.inputs, batch, 11)
            with torch.inference_mode():
                expected = module(torch.from_numpy(feeds["input"])).numpy()
            assert compare(expected, session.run(feeds)["logits"]).within()


def test_verifies_itself(exported: Exported) -> None:
    for name in ("lenet5", "shufflenet_v2_x0_5"):
        checks = verify(exported(name).path)
        assert [check.name for check in checks] == [
            "checksum",
            "weights",
            "ONNX checker",
            "metadata",
            "golden logits",
        ]
        assert all(check.ok for check in checks), checks


def test_fixed_batch_and_size(tmp_path: Path) -> None:
    done = export("mobilenet_v1_x0_25", tmp_path / "m.onnx", weights="random", batch=2, image_size=(64, 96))
    assert done.artifact.inputs[0].shape == (2, 3, 64, 96)
    assert done.artifact.outputs[0].shape == (2, 1000)
    preprocess = preprocess_of(done.artifact)
    assert preprocess is not None
    assert preprocess.size == (64, 96)
    assert all(check.ok for check in verify(tmp_path / "m.onnx"))


def test_classes_and_channels(tmp_path: Path) -> None:
    done = export("lenet5", tmp_path / "m.onnx", weights="random", num_classes=3, in_channels=2)
    assert done.artifact.inputs[0].shape == ("batch", 2, 32, 32)
    assert done.artifact.outputs[0].shape == ("batch", 3)
    # The digits' normalisation has one channel and their labels are ten: neither is claimed.
    assert preprocess_of(done.artifact) is None
    assert labels_of(done.artifact) is None
    with get_runtime("torch-cpu").open(done.artifact, Options()) as session:
        assert session.run(seeded_input(session.inputs, 2, 0))["logits"].shape == (2, 3)


@pytest.mark.parametrize("opset", [12, 17, 22, 24])
def test_other_opsets(tmp_path: Path, opset: int) -> None:
    done = export("lenet5", tmp_path / "m.onnx", opset=opset)
    assert done.artifact.opset == opset
    assert done.verdict.ok
    assert all(check.ok for check in verify(tmp_path / "m.onnx"))


def test_steps_and_passes_are_told(nets: Path, tmp_path: Path) -> None:
    told: list[str] = []
    done = export(
        f"{nets}:Normed",
        tmp_path / "m.onnx",
        image_size=(16, 16),
        passes=(fold_batchnorm,),
        on_step=told.append,
    )
    assert told == ["weights", "reference", "torch.onnx", "onnxsim", "passes", "verify", "write"]
    assert [step.name for step in done.steps] == ["torch.onnx", "onnxsim", "passes"]
    # The exporter leaves a norm behind a concatenation; the pass does not.
    assert done.steps[1].ops.get("BatchNormalization") == 1
    assert "BatchNormalization" not in done.steps[2].ops
    assert sum(report.rewrites for report in done.passes) == 1
    assert {(report.name, report.refused) for report in done.passes} == {("fold_batchnorm", None)}
    assert done.artifact.metadata["cnnport.passes"] == "fold_batchnorm"


def test_without_passes(nets: Path, tmp_path: Path) -> None:
    done = export(f"{nets}:Normed", tmp_path / "m.onnx", image_size=(16, 16), passes=())
    assert "BatchNormalization" in {node.op_type for node in load_model(done.artifact.path).graph.node}
    assert done.artifact.metadata["cnnport.passes"] == ""


def test_several_outputs(nets: Path, tmp_path: Path) -> None:
    done = export(f"{nets}:Two", tmp_path / "a.onnx", image_size=(16, 16))
    assert [spec.name for spec in done.artifact.outputs] == ["output_0", "output_1"]
    done = export(f"{nets}:two_named", tmp_path / "b.onnx", image_size=(16, 16))
    assert [spec.name for spec in done.artifact.outputs] == ["mean", "max"]
    assert len([check for check in verify(tmp_path / "b.onnx") if check.name.startswith("golden")]) == 2


@pytest.mark.parametrize(
    ("name", "inputs", "output"),
    [
        ("siamese_lenet", ("left", "right"), "distance"),
        ("triplet_mnist", ("anchor", "positive", "negative"), "distances"),
    ],
)
def test_several_inputs(exported: Exported, name: str, inputs: tuple[str, ...], output: str) -> None:
    artifact = exported(name)
    shape = ("batch", *registry.get(name).input_shape)
    assert [(spec.name, spec.shape) for spec in artifact.inputs] == [(each, shape) for each in inputs]
    assert [(spec.name, spec.shape[0]) for spec in artifact.outputs] == [(output, "batch")]
    # However many pictures pass the tower, its weights are in the file once.
    weights = [item for item in load_model(artifact.path).graph.initializer if len(item.dims) > 1]
    assert len(weights) == sum(value.dim() > 1 for value in module_of(artifact).parameters())
    assert all(check.ok for check in verify(artifact.path))
    feeds = seeded_input(artifact.inputs, 5, 11)
    with (
        get_runtime("torch-cpu").open(artifact, Options()) as torch_session,
        get_runtime("ort-cpu").open(artifact, Options()) as session,
    ):
        expected = torch_session.run(feeds)[output]
        assert compare(expected, session.run(feeds)[output]).within()
        # The inputs are told apart: in another order they are another question.
        turned = dict(zip(inputs, [*list(feeds.values())[1:], feeds[inputs[0]]], strict=True))
        assert compare(torch_session.run(turned)[output], session.run(turned)[output]).within()
        assert len(inputs) == 2 or not compare(expected, session.run(turned)[output]).within()


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("FixedBatch", "size"),
        ("Nan", "NaN or infinity"),
        ("Branching", "torch.onnx cannot export"),
        ("Noisy", "gives another 'output' each time"),
    ],
)
def test_what_cannot_be_exported(nets: Path, tmp_path: Path, net: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        export(f"{nets}:{net}", tmp_path / "m.onnx", image_size=(16, 16))
    assert str(caught.value).count("\n") <= 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("fault", ["scale", "permute", "nan"])
def test_a_fault_of_the_exporter_is_found_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from cnnport import capture as module

    real = module.capture

    def faulty(*args: object, **kwargs: object) -> onnx.ModelProto:
        model = real(*args, **kwargs)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "3.weight")
        weight = numpy_helper.to_array(tensor).copy()
        if fault == "scale":
            weight *= 1.001
        elif fault == "permute":
            weight[[0, 1]] = weight[[1, 0]]
        else:
            weight[0, 0, 0, 0] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        return model

    monkeypatch.setattr(module, "capture", faulty)
    (tmp_path / "old.onnx").write_bytes(b"old")
    with pytest.raises(CheckFailedError, match="nothing was written"):
        export("lenet5", tmp_path / "old.onnx", overwrite=True)
    assert (tmp_path / "old.onnx").read_bytes() == b"old"
    assert files(tmp_path) == ["old.onnx"]


def test_a_faulty_pass_is_rolled_back_and_named(tmp_path: Path) -> None:
    def shift_a_bias(model: ir.Model) -> int:
        """Planted fault."""
        for value in list(model.graph.initializers.values()):
            if value.name and value.name.endswith("6.bias") and value.const_value is not None:
                value.const_value = ir.tensor(value.const_value.numpy() + 0.5, name=value.name)
                return 1
        return 0

    done = export("lenet5", tmp_path / "m.onnx", passes=(shift_a_bias, *DEFAULT_PASSES))
    (report,) = [report for report in done.passes if report.refused]
    assert report.name == "shift_a_bias"
    assert "shift_a_bias" not in done.artifact.metadata["cnnport.passes"]
    assert done.verdict.ok


@pytest.mark.parametrize("opset", [0, 10, 27])
def test_opset_out_of_range(tmp_path: Path, opset: int) -> None:
    with pytest.raises(CnnportError, match=f"opset {opset} is not supported"):
        export("lenet5", tmp_path / "m.onnx", opset=opset)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"old")
    with pytest.raises(OutputError, match="--overwrite"):
        export("lenet5", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == b"old"


def test_an_image_too_small_for_the_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot run on 1x8x8"):
        export("lenet5", tmp_path / "m.onnx", weights="random", image_size=(8, 8))


def test_float32_that_is_worse_than_the_tolerance_is_held_against_float64() -> None:
    from cnnport.reference import Reference

    class Cancelling(torch.nn.Module):
        """Differences of large numbers: float32 cannot agree with itself."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 1, bias=False)
            torch.nn.init.constant_(self.conv.weight, 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ((self.conv(x) + 3000.1) - 3000).flatten(1)

    reference = Reference(Cancelling().eval(), (1, 4, 4), output_name="y", batches=(1,), seeds=(0,))
    answer = {"y": reference.outputs[0]["y"] + np.float32(1.5e-4)}
    verdict = reference._judge([answer])
    assert "against float64" in verdict.note
    assert verdict.ok
    worse = {"y": reference.outputs[0]["y"] + np.float32(2.5e-3)}
    assert not reference._judge([worse]).ok


def test_verify_finds_faults(tmp_path: Path, exported: Exported) -> None:
    """Each statement of a file, made false, is found by the check that is meant to find it."""
    from cnnport.onnxfile import write_model

    source = exported("lenet5")

    def failing(change: Callable[[onnx.ModelProto, dict[str, str]], None]) -> set[str]:
        model = load_model(source.path)
        metadata = dict(source.metadata)
        change(model, metadata)
        write_model(model, tmp_path / "x.onnx", metadata)
        return {check.name for check in verify(tmp_path / "x.onnx") if not check.ok}

    def wrong_weight(model: onnx.ModelProto, _: dict[str, str]) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.1, tensor.name))

    def wrong_shape(model: onnx.ModelProto, _: dict[str, str]) -> None:
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11

    def stated(key: str, value: str) -> Callable[[onnx.ModelProto, dict[str, str]], None]:
        return lambda _, metadata: metadata.update({key: value})

    golden = json.loads(source.metadata["cnnport.golden"])
    golden["seed"] += 1
    assert failing(lambda _model, _metadata: None) == set()
    assert failing(wrong_weight) == {"golden logits"}
    assert failing(stated("cnnport.golden", json.dumps(golden))) == {"golden logits"}
    assert failing(stated("cnnport.golden", "{}")) == {"golden output"}
    assert "ONNX checker" in failing(wrong_shape)
    for key, value in {
        "cnnport.opset": "19",
        "cnnport.format": "2",
        "cnnport.labels": '["a"]',
        "cnnport.preprocess": "[]",
        "cnnport.build": "x",
    }.items():
        assert failing(stated(key, value)) == {"metadata"}, key


def test_verify_finds_a_flipped_bit_anywhere(tmp_path: Path, exported: Exported) -> None:
    data = exported("lenet5").path.read_bytes()
    rng = np.random.default_rng(2)
    path = tmp_path / "x.onnx"
    for position in rng.integers(0, len(data), 40):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(flipped))
        try:
            checks = verify(path)
        except CnnportError:
            continue
        assert not all(check.ok for check in checks), position


def test_an_exported_file_survives_a_copy(tmp_path: Path, exported: Exported) -> None:
    copied = tmp_path / "renamed.onnx"
    copied.write_bytes(exported("lenet5").path.read_bytes())
    assert all(check.ok for check in verify(copied))
    assert replace(exported("lenet5"), path=copied).sha256 == exported("lenet5").sha256

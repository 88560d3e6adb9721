"""Looking into a network: planted faults are found at their node and module, and where there is none, none is."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from deep_graphs import (
    SIZE,
    Deep,
    change,
    mixing_the_batch,
    node_of,
    numbers,
    saved,
    with_attribute,
)
from onnx import numpy_helper

from cnnport.agreement.layers import Localisation, Side, localise
from cnnport.agreement.layers.distance import distance
from cnnport.agreement.layers.manner import manner_of
from cnnport.artifact import Artifact
from cnnport.errors import CnnportError, FeedError
from cnnport.graphs.half import FP16, convert
from cnnport.graphs.protos import read, write
from quantize_graphs import images, quantized

FEEDS = {"input": np.random.default_rng(3).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)}


@pytest.fixture(scope="module")
def right() -> onnx.ModelProto:
    model = Deep().model()
    assert len(model.graph.node) >= 100
    return model


@pytest.fixture(scope="module")
def reference(right: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return saved(right, tmp_path_factory.mktemp("right") / "right.onnx")


@pytest.fixture(scope="module")
def in_8_bits(right: onnx.ModelProto) -> onnx.ModelProto:
    return quantized(right, "ort")[0]


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def found(reference: Artifact, candidate: onnx.ModelProto, folder: Path, **changes: object) -> Localisation:
    side = replace(Side(saved(candidate, folder / "candidate.onnx")), **changes)
    return localise(Side(reference), side, FEEDS, write=folder / "piece")


def channels_exchanged(model: onnx.ModelProto) -> None:
    weights = numbers(model, "layer3.2.conv1.weight")
    weights[[4, 9]] = weights[[9, 4]]
    change(model, "layer3.2.conv1.weight", weights)


def transposed(model: onnx.ModelProto) -> None:
    change(model, "layer2.1.conv1.weight", numbers(model, "layer2.1.conv1.weight").swapaxes(0, 1))


@pytest.mark.parametrize(
    ("plant", "node", "module", "said"),
    [
        (
            channels_exchanged,
            "layer3.2.conv1/Conv",
            "layer3.2.conv1",
            "channels are in another order: 4 is the reference's 9, 9 is the reference's 4",
        ),
        (
            lambda model: with_attribute(model, "layer3.1.bn2/BatchNormalization", "epsilon", 1e-3),
            "layer3.1.bn2/BatchNormalization",
            "layer3.1.bn2",
            "epsilon is 0.001 instead of 1e-05",
        ),
        (
            lambda model: with_attribute(model, "layer4.2.conv2/Conv", "pads", [2, 2, 0, 0]),
            "layer4.2.conv2/Conv",
            "layer4.2.conv2",
            "pads is [2, 2, 0, 0] instead of [1, 1, 1, 1]",
        ),
        (transposed, "layer2.1.conv1/Conv", "layer2.1.conv1", "has its first two axes exchanged"),
    ],
    ids=["permuted channel", "epsilon", "pad", "transposed weight"],
)
def test_a_planted_fault_is_found_at_its_node(
    plant: Callable[[onnx.ModelProto], None],
    node: str,
    module: str,
    said: str,
    right: onnx.ModelProto,
    reference: Artifact,
    tmp_path: Path,
) -> None:
    wrong = copy(right)
    plant(wrong)
    result = found(reference, wrong, tmp_path)
    assert result.culprit is not None
    assert (result.culprit.layer.nodes[-1], result.culprit.layer.module) == (node, module)
    assert result.culprit.cause == "file"
    assert said in str(result)
    assert result.fusions.kept
    assert all(layer.distance and layer.distance.score("fp32") <= 1 for layer in result.culprit.before)
    assert result.effort.runs < 12
    json.dumps(result.to_json(), allow_nan=False)


def test_a_wrong_pad_by_one_shows_at_the_borders() -> None:
    expected = np.random.default_rng(0).normal(size=(2, 4, 8, 8))
    wrong = expected.copy()
    wrong[:, :, 0] += 1
    assert "only at the borders (top)" in manner_of(expected, wrong)


def test_the_manner_of_a_departure_is_told() -> None:
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(2, 6, 12, 12))
    biases = rng.normal(size=(6, 1, 1))
    said = {
        "channels are in another order: 0 is the reference's 3, 3 is the reference's 0": expected[
            :, [3, 1, 2, 0, 4, 5]
        ],
        "but for their biases": expected[:, [3, 1, 2, 0, 4, 5]] + biases,
        "channel 4 of 6: the reference times 2": expected * np.array([1, 1, 1, 1, 2, 1])[:, None, None],
        "only samples 1 of 2": np.stack([expected[0], rng.normal(size=(6, 12, 12))]),
        "moved by 1 rows and -1 columns": np.roll(expected, (1, -1), axis=(2, 3)),
        "everywhere in all 6 channels": rng.normal(size=expected.shape),
    }
    for words, wrong in said.items():
        assert words in manner_of(expected, wrong)


def test_the_smallest_piece_reproduces_it_with_onnxruntime_alone(
    right: onnx.ModelProto, reference: Artifact, tmp_path: Path
) -> None:
    wrong = copy(right)
    channels_exchanged(wrong)
    result = found(reference, wrong, tmp_path)
    assert result.written == tmp_path / "piece"
    piece = onnx.load(result.written / "piece.onnx")
    assert [node.name for node in piece.graph.node] == ["layer3.2.conv1/Conv"]
    said = subprocess.run(
        [sys.executable, "reproduce.py"], cwd=result.written, capture_output=True, text=True, check=True
    ).stdout
    assert "largest difference" in said
    assert float(said.split()[2].rstrip(",")) > 0.1
    # The same part of the reference gives what is expected.
    import onnxruntime as ort

    session = ort.InferenceSession(result.written / "reference.onnx", providers=["CPUExecutionProvider"])
    given = session.run(None, dict(np.load(result.written / "inputs.npz")))[0]
    np.testing.assert_allclose(given, np.load(result.written / "expected.npy"), atol=1e-4)
    assert "layer3.2.conv1" in (result.written / "README.md").read_text()


def test_one_scale_of_weights_that_is_off_by_2(
    in_8_bits: onnx.ModelProto, reference: Artifact, tmp_path: Path
) -> None:
    wrong = copy(in_8_bits)
    name = next(
        each.name for each in wrong.graph.initializer if each.name.startswith("layer3.1.conv2.weight_scale")
    )
    scales = numbers(wrong, name)
    scales[5] *= 2
    change(wrong, name, scales)
    result = found(reference, wrong, tmp_path)
    assert result.culprit is not None
    assert (result.culprit.layer.module, result.culprit.precision) == ("layer3.1.conv2", "int8")
    assert "channel 5 of 32: the reference times 2" in result.culprit.manner
    assert result.fusions.kept
    assert result.fusions.kernels


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_one_scale_of_values_that_is_off_by_2(
    factor: float, in_8_bits: onnx.ModelProto, reference: Artifact, tmp_path: Path
) -> None:
    wrong = copy(in_8_bits)
    value = "layer2.2.relu1/Relu:0"
    change(wrong, f"{value}_scale", numbers(wrong, f"{value}_scale") * factor)
    # It shows on inputs that are like those of the calibration, and little of it at the output.
    feeds = dict(images(in_8_bits, 8, seed=7))
    assert localise(Side(reference), Side(saved(in_8_bits, tmp_path / "right.onnx")), feeds).culprit is None
    result = localise(Side(reference), Side(saved(wrong, tmp_path / "wrong.onnx")), feeds)
    assert result.culprit is not None
    assert (result.culprit.layer.module, result.culprit.layer.value) == ("layer2.2.relu1", value)
    assert result.culprit.cause == "scale"
    assert ("half of it" if factor > 1 else "double of it") in result.culprit.manner


def test_a_pool_that_overflows_in_halves(tmp_path: Path) -> None:
    right = Deep(gain=3e3).model()
    graph = read(right)
    convert(graph, FP16)
    side = Side(saved(right, tmp_path / "right.onnx"))
    result = localise(
        side,
        Side(saved(write(graph), tmp_path / "half.onnx"), emulated=True),
        FEEDS,
        write=tmp_path / "piece",
    )
    assert result.culprit is not None
    assert (result.culprit.layer.nodes[-1], result.culprit.precision) == ("pool/GlobalAveragePool", "fp16")
    assert "NaN" in result.culprit.manner
    subprocess.run([sys.executable, "reproduce.py"], cwd=tmp_path / "piece", check=True, capture_output=True)


def test_what_mixes_a_batch_is_found_by_running_samples_one_by_one(
    right: onnx.ModelProto, tmp_path: Path
) -> None:
    wrong = copy(right)
    mixing_the_batch(wrong, "layer3.3.conv2/Conv")
    artifact = saved(wrong, tmp_path / "mixing.onnx")
    result = localise(Side(artifact, alone=True), Side(artifact), FEEDS, write=tmp_path / "piece")
    assert result.culprit is not None
    assert result.culprit.layer.nodes[-1] == "layer3.3.conv2/Conv_mean"
    assert result.culprit.layer.module.startswith("layer3.3.conv2")
    assert result.culprit.cause != "file"


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino"])
def test_without_a_fault_nothing_is_found(
    precision: str,
    runtime: str,
    right: onnx.ModelProto,
    in_8_bits: onnx.ModelProto,
    reference: Artifact,
    tmp_path: Path,
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
        if precision == "fp16":
            pytest.skip("computes it in float32")
    graph = read(right)
    if precision == "fp16":
        convert(graph, FP16)
    if precision == "int8" and runtime == "openvino":
        in_8_bits, _ = quantized(right, "openvino")
    candidate = {"fp32": right, "int8": in_8_bits, "fp16": write(graph)}[precision]
    result = found(reference, candidate, tmp_path, runtime=runtime, emulated=precision == "fp16")
    assert result.culprit is None, str(result)
    assert result.written is None
    assert not (tmp_path / "piece").exists()
    assert result.effort.sites > 30
    # OpenVINO adds in place, which it cannot do with what is read: sums are read in runs of their own.
    assert result.fusions.kept or (runtime == "openvino" and 0 < result.fusions.apart < result.effort.sites)


def test_memory_is_divided_and_finds_the_same(
    right: onnx.ModelProto, reference: Artifact, tmp_path: Path
) -> None:
    wrong = copy(right)
    channels_exchanged(wrong)
    artifact = saved(wrong, tmp_path / "candidate.onnx")
    small = localise(Side(reference), Side(artifact), FEEDS, memory_bytes=2**20)
    large = localise(Side(reference), Side(artifact), FEEDS)
    assert small.effort.batches > 3 * large.effort.batches
    assert small.culprit is not None
    assert large.culprit is not None
    assert small.culprit.layer == large.culprit.layer


def test_the_original_in_pytorch_is_a_reference(exported: Callable[[str], Artifact], tmp_path: Path) -> None:
    artifact = exported("lenet5")
    shape = artifact.inputs[0].fixed(2)
    x = {artifact.inputs[0].name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    model = onnx.load(artifact.path)
    node = [each for each in model.graph.node if each.op_type == "Conv"][1]
    weights = numbers(model, node.input[1])
    weights[[0, 1]] = weights[[1, 0]]
    change(model, node.input[1], weights)
    original = Side(artifact, "torch-cpu")
    assert localise(original, Side(artifact), x).culprit is None
    result = localise(original, Side(saved(model, tmp_path / "wrong.onnx")), x)
    assert result.culprit is not None
    assert result.culprit.layer.module == node.name.rpartition("/")[0]
    assert "0 is the reference's 1" in result.culprit.manner


def test_the_command_names_the_layer_and_writes_what_shows_it(
    right: onnx.ModelProto, reference: Artifact, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    wrong = copy(right)
    channels_exchanged(wrong)
    wrong_path = saved(wrong, tmp_path / "wrong.onnx").path
    quick = ("--runtime", "ort-cpu", "--samples", 2, "--no-extremes", "--no-checks", "--atol", 1e-3, "--json")
    code, out, _ = cli(
        "parity", reference.path, wrong_path, *quick, "--layers", "--write", tmp_path / "found"
    )
    assert code == 1
    (layers,) = json.loads(out)["layers"]
    assert (layers["culprit"]["nodes"], layers["culprit"]["module"]) == (
        ["layer3.2.conv1/Conv"],
        "layer3.2.conv1",
    )
    # What its README says shows it again.
    folder = Path(layers["written"])
    line = next(line for line in (folder / "README.md").read_text().splitlines() if "cnnport parity" in line)
    words = [folder / word if (folder / word).is_file() else word for word in line.split()[2:]]
    code, out, _ = cli("parity", *words, "--no-extremes", "--no-checks", "--atol", 1e-3, "--json")
    assert code == 1
    assert not json.loads(out)["pass"]


def test_what_cannot_be_done_is_said(reference: Artifact) -> None:
    with pytest.raises(CnnportError, match="no graph"):
        localise(Side(reference), Side(reference, "torch-cpu"), FEEDS)
    with pytest.raises(FeedError, match="input"):
        localise(Side(reference), Side(reference), {})


def test_a_distance_tells_a_channel_from_the_whole() -> None:
    expected = np.random.default_rng(0).normal(size=(2, 64, 5, 5)).astype(np.float32)
    wrong = expected.copy()
    wrong[:, 7] *= 2
    found = distance(expected, wrong)
    assert (found.channel, round(found.channel_rms, 1)) == (7, 1.0)
    assert found.rms < 0.2
    wrong[0, 0, 0, 0] = np.nan
    assert distance(expected, wrong).score("int8") == np.inf
    assert distance(expected, expected).score("fp32") == 0


def test_nothing_written_mentions_where_it_was_made(
    right: onnx.ModelProto, reference: Artifact, tmp_path: Path
) -> None:
    wrong = copy(right)
    transposed(wrong)
    result = found(reference, wrong, tmp_path)
    assert result.written is not None
    assert str(tmp_path) not in (result.written / "README.md").read_text()
    assert (
        len(numpy_helper.to_array(onnx.load(result.written / "piece.onnx").graph.initializer[0]).shape) == 4
    )
    assert node_of(onnx.load(result.written / "piece.onnx"), "layer2.1.conv1/Conv").op_type == "Conv"

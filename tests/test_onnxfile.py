"""Reading and writing ONNX files: identity, checksum, external data, errors."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport import onnxfile
from cnnport.errors import ArtifactError, OutputError
from cnnport.onnxfile import CHECKSUM_KEY, checksum_of, load_model, read_artifact, write_model


def model_of(size: int = 64, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    weight = np.arange(size * size, dtype=np.float32).reshape(size, size)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size])],
        [numpy_helper.from_array(weight.astype(helper.tensor_dtype_to_np_dtype(dtype)), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def write(path: Path, **metadata: str) -> None:
    write_model(model_of(), path, {"cnnport.model": "m", **metadata})


def claimed(path: Path) -> tuple[str, str]:
    stated = read_artifact(path).metadata[CHECKSUM_KEY]
    return stated, checksum_of(path.read_bytes(), stated)


def test_identity(tmp_path: Path) -> None:
    write(tmp_path / "m.onnx")
    artifact = read_artifact(tmp_path / "m.onnx")
    assert artifact.model == "m"
    assert artifact.opset == 20
    assert artifact.precision == "fp32"
    assert [str(spec) for spec in artifact.inputs] == ["x:float32[batch,64]"]
    assert [str(spec) for spec in artifact.outputs] == ["y:float32[batch,64]"]


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    model = model_of(dtype=TensorProto.FLOAT16)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT16, [64, 64]))
    onnx.save(model, tmp_path / "theirs.onnx")
    artifact = read_artifact(tmp_path / "theirs.onnx")
    assert (artifact.model, artifact.precision, artifact.target) == ("theirs", "fp16", "portable")
    assert [spec.name for spec in artifact.inputs] == ["x"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.onnx", b="2", a="1")
    write(tmp_path / "b.onnx", a="1", b="2")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_any_flipped_bit_changes_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    stated, actual = claimed(path)
    assert stated == actual
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 200):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        assert checksum_of(bytes(flipped), stated) != stated


def test_a_checksum_of_zeros_does_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write(path)
    stated, _ = claimed(path)
    path.write_bytes(path.read_bytes().replace(stated.encode(), b"0" * 64))
    stated, actual = claimed(path)
    assert stated != actual


def test_large_weights_go_into_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxfile, "INLINE_LIMIT_BYTES", 1000)
    path = tmp_path / "m.onnx"
    write(path)
    (first,) = tmp_path.glob("*.data")
    model = load_model(path)
    np.testing.assert_array_equal(
        numpy_helper.to_array(model.graph.initializer[0]).ravel(), np.arange(64 * 64)
    )
    assert onnxfile.initializers_sha256(model) == read_artifact(path).metadata[onnxfile.INITIALIZERS_KEY]

    other = model_of()
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
    write_model(other, path, {})
    (second,) = tmp_path.glob("*.data")
    assert first.name != second.name
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", second.name]
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="external data"):
        load_model(path)
    second.unlink()
    with pytest.raises(ArtifactError, match="external data"):
        load_model(path)


def test_writing_into_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "no" / "m.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not an ONNX model"),
        (b"<!DOCTYPE html><html>", "not an ONNX model"),
        (b"\x00" * 1000, "not an ONNX model"),
        (model_of().SerializeToString()[:500], "not an ONNX model"),
    ],
)
def test_what_is_not_onnx(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_artifact(path)
    with pytest.raises(ArtifactError, match="folder"):
        read_artifact(tmp_path)


def test_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    data = bytearray(model_of(8).SerializeToString())
    path = tmp_path / "x.onnx"
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        damaged = data[: rng.integers(1, len(data))] if rng.random() < 0.3 else bytearray(data)
        damaged[rng.integers(len(damaged))] = int(rng.integers(256))
        path.write_bytes(bytes(damaged))
        try:
            load_model(path)
            read_artifact(path)
        except ArtifactError:
            refused += 1
    assert refused > 50

"""A model as bytes piece by piece, and its weights in a file of their own: the same bytes as ever."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cnnport.offload import bring_back, compact, set_aside, weights_bytes
from cnnport.serialize import encoded_size, pieces


def model_with_everything() -> onnx.ModelProto:
    """Fields before, between and after the pieces, at every level; tensors with raw data and without."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 18, "local" : 1], producer_name: "p", doc_string: "text",
            metadata_props: ["key" : "value"]>
        g (float[n,40] x) => (float[n,40] y) <float[n,40] t> { t = MatMul (x, w)  u = Add (t, b)  y = Mul (u, s) }
        <domain: "local", opset_import: ["" : 18]> twice (a) => (b) { b = Add (a, a) }"""
    )
    weight = numpy_helper.from_array(rng.normal(size=(40, 40)).astype(np.float32), "w")
    weight.doc_string = "weights"
    weight.metadata_props.add(key="scheme", value="none")
    numbers = helper.make_tensor("b", TensorProto.FLOAT, [400, 40][1:], rng.normal(size=40).tolist())
    many = helper.make_tensor("s", TensorProto.FLOAT, [10, 40], rng.normal(size=400).tolist())
    model.graph.initializer.extend([weight, numbers, many])
    model.graph.doc_string = "graph"
    model.graph.metadata_props.add(key="inner", value="1")
    return model


def test_the_pieces_are_what_protobuf_writes(tmp_path: Path) -> None:
    model = model_with_everything()
    want = model.SerializeToString(deterministic=True)
    assert b"".join(pieces(model)) == want
    assert encoded_size(model) == len(want)


def test_weights_set_aside_are_in_the_file_again(tmp_path: Path) -> None:
    model = model_with_everything()
    # Numbers that are not raw become so when they are set aside: that much is another way to write the same.
    model.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[2]), "s")
    )
    want = model.SerializeToString(deterministic=True)
    total = weights_bytes(model)
    set_aside(model, tmp_path, "w.data")
    small = compact(model)
    assert small.ByteSize() < len(want) / 2
    assert abs(weights_bytes(small) - total) < 400
    assert b"".join(pieces(small, tmp_path)) == want
    assert encoded_size(small, tmp_path) == len(want)
    bring_back(small, tmp_path)
    assert small.SerializeToString(deterministic=True) == want


def test_numbers_that_are_not_raw_keep_their_values(tmp_path: Path) -> None:
    model = model_with_everything()
    set_aside(model, tmp_path, "w.data")
    bring_back(model, tmp_path)
    for left, right in zip(model.graph.initializer, model_with_everything().graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(left), numpy_helper.to_array(right))


def test_a_data_file_that_was_cut_is_noticed(tmp_path: Path) -> None:
    model = model_with_everything()
    set_aside(model, tmp_path, "w.data")
    data = (tmp_path / "w.data").read_bytes()
    (tmp_path / "w.data").write_bytes(data[:-1])
    with pytest.raises(OSError, match="shorter"):
        b"".join(pieces(model, tmp_path))

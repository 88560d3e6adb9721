"""Picture files of a network that takes no time to make, for tests of what is packaged around one."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from cnnport.graphs.picture import Layout, Mode, preprocess_model, scores_model
from cnnport.metadata import to_json
from cnnport.onnxfile import write_model
from cnnport.preprocess import Preprocess

GREY = Preprocess((32, 32), None, "bilinear", (0.3,), (0.4,), background=0)
COLOUR = Preprocess((32, 48), 40, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
OPSET = 20


def write_picture_file(
    path: Path,
    preprocess: Preprocess = COLOUR,
    *,
    mode: Mode = "full",
    layout: Layout = "nhwc",
    batch: int | None = None,
    classes: int = 7,
    labels: bool = True,
) -> Path:
    """A picture file with seeded weights, which looks at every part of the picture."""
    before = preprocess_model(preprocess, mode=mode, layout=layout, opset=OPSET, batch=batch)
    after = scores_model(classes, 5, OPSET, batch=batch)
    network = _network(preprocess, batch, classes)
    network.ir_version = before.ir_version
    model = compose.merge_models(before, network, [("input", "x")])
    model = compose.merge_models(model, after, [("y", "logits")])
    metadata = {
        "cnnport.model": "tiny",
        "cnnport.precision": "fp32",
        "cnnport.preprocess": to_json(preprocess.to_json()),
        "cnnport.picture": to_json({"layout": layout, "preprocess": mode, "top": min(5, classes)}),
        **({"cnnport.labels": to_json([f"class {each}" for each in range(classes)])} if labels else {}),
    }
    write_model(model, path, metadata)
    return path


def _network(preprocess: Preprocess, batch: int | None, classes: int) -> onnx.ModelProto:
    random = np.random.default_rng(5)
    height, width = preprocess.size
    cells = 4 * (height // 8) * (width // 8)
    weights = {
        "w1": random.normal(size=(4, preprocess.channels, 8, 8)) / 8,
        "w2": random.normal(size=(classes, cells)) * 3 / np.sqrt(cells),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["cells"], strides=[8, 8]),
        helper.make_node("Relu", ["cells"], ["lit"]),
        helper.make_node("Flatten", ["lit"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["y"], transB=1),
    ]
    first = "batch" if batch is None else batch
    shape = [first, preprocess.channels, height, width]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, classes])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset])

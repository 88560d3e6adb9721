"""Preprocessing and scores as ONNX: held to Pillow, torchvision's rules and NumPy, with faults that must show."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import PIL
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cnnport.errors import ArtifactError, CnnportError
from cnnport.graphs.picture import joined, preprocess_model, scores_model
from cnnport.graphs.picture.preparing import Layout
from cnnport.images import normalise, preprocess_image
from cnnport.picture_check import LEVELS
from cnnport.preprocess import Preprocess, imagenet

GREY = ((0.3054,), (0.3238,))
RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGENET = imagenet(56, 64)
CUBIC = Preprocess((40, 56), 48, "bicubic", *RGB)
STRETCHED = Preprocess((32, 24), None, "bilinear", *GREY)
STRETCHED_CUBIC = Preprocess((24, 32), None, "bicubic", *RGB)
PADDED = Preprocess((50, 37), 32, "bilinear", *GREY)
KINDS = [IMAGENET, CUBIC, STRETCHED, STRETCHED_CUBIC, PADDED]

# Height and width: as they are to be, larger, smaller, odd, one pixel, very wide, so high that height comes first.
SIZES = [(64, 64), (97, 211), (300, 200), (31, 17), (1, 1), (2, 1), (5, 190), (641, 90), (400, 129), (33, 48)]

newest_pillow = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="before Pillow 13, width always came first"
)


def pictures(size: tuple[int, int], channels: int, count: int = 2, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng([seed, *size])
    found = random.integers(0, 256, (count, *size, channels), dtype=np.uint8)
    found[1::2] = (found[1::2] > 127) * np.uint8(255)
    return found


def image_of(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run_on(
    session: onnxruntime.InferenceSession, pixels: NDArray[np.uint8], layout: Layout
) -> NDArray[np.float32]:
    image = pixels if layout == "nhwc" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    found: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return found


def levels_off(
    found: NDArray[np.float32], right: NDArray[np.float32], preprocess: Preprocess
) -> NDArray[np.int64]:
    std = np.array(preprocess.std).reshape(-1, 1, 1)
    return np.rint(np.abs(found.astype(np.float64) - right) * std * 255).astype(np.int64)


def worst_level(
    preprocess: Preprocess, change: Callable[[onnx.ModelProto], object] = lambda _: None
) -> tuple[int, float]:
    """Over all sizes: the largest difference from Pillow in grey levels, and the share of pixels that differ."""
    model = preprocess_model(preprocess, mode="full", layout="nhwc", opset=20)
    change(model)
    session = session_of(model)
    worst, off, total = 0, 0, 0
    for size in SIZES:
        pixels = pictures(size, preprocess.channels)
        for found, one in zip(run_on(session, pixels, "nhwc"), pixels, strict=True):
            levels = levels_off(found, preprocess_image(image_of(one), preprocess), preprocess)
            worst, off, total = (
                max(worst, int(levels.max())),
                off + np.count_nonzero(levels),
                total + levels.size,
            )
    return worst, off / total


@newest_pillow
@pytest.mark.parametrize("preprocess", KINDS)
def test_full_is_within_its_bound_of_pillow(preprocess: Preprocess) -> None:
    worst, share = worst_level(preprocess)
    assert worst <= LEVELS
    assert share < 0.03


def attributes(model: onnx.ModelProto, name: str, number: float) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == name:
                attribute.CopyFrom(helper.make_attribute(name, number))


def never_height_first(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.endswith("of_height"):
            tensor.CopyFrom(numpy_helper.from_array(np.array([False, False]), tensor.name))


@newest_pillow
@pytest.mark.parametrize(
    ("preprocess", "fault"),
    [
        # ONNX Runtime has no cubic one of bytes without.
        (IMAGENET, lambda model: [attributes(model, name, 0) for name in ("antialias", "exclude_outside")]),
        (CUBIC, lambda model: attributes(model, "exclude_outside", 0)),
        (CUBIC, lambda model: attributes(model, "cubic_coeff_a", -0.75)),
        (CUBIC, never_height_first),
    ],
    ids=["no antialias", "weights beyond the edge", "the standard's cubic", "never the height first"],
)
def test_a_wrong_resize_shows(preprocess: Preprocess, fault: Callable[[onnx.ModelProto], object]) -> None:
    assert worst_level(preprocess, fault)[0] > LEVELS


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_crop_and_padding_are_exact_where_nothing_is_scaled(layout: Layout) -> None:
    """All remainders of the centre: Python's round takes halves to the even number; padding is longer at the end."""
    for height, width in ((28, 24), (27, 23), (40, 36), (41, 31)):
        preprocess = Preprocess((height, width), 32, "bilinear", *GREY)
        session = session_of(preprocess_model(preprocess, mode="full", layout=layout, opset=18))
        for longer in range(32, 41):
            for size in ((32, longer), (longer, 32)):
                pixels = pictures(size, 1, count=1)
                right = preprocess_image(image_of(pixels[0]), preprocess)
                np.testing.assert_array_equal(run_on(session, pixels, layout)[0], right)


def test_both_layouts_and_every_batch_are_the_same() -> None:
    pixels = pictures((90, 71), 3, count=3)
    answers = [
        run_on(session_of(preprocess_model(IMAGENET, mode="full", layout=layout, opset=18)), pixels, layout)
        for layout in ("nhwc", "nchw")
    ]
    np.testing.assert_array_equal(*answers)
    fixed = session_of(preprocess_model(IMAGENET, mode="full", layout="nhwc", opset=21, batch=3))
    np.testing.assert_array_equal(run_on(fixed, pixels, "nhwc"), answers[0])
    assert fixed.get_inputs()[0].shape == [3, "height", "width", 3]
    session = session_of(preprocess_model(IMAGENET, mode="full", layout="nhwc", opset=18))
    for place in range(3):
        np.testing.assert_array_equal(
            run_on(session, pixels[place : place + 1], "nhwc")[0], answers[0][place]
        )


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("opset", [11, 18, 23])
def test_normalising_is_the_same_to_the_bit(layout: Layout, opset: int) -> None:
    preprocess = Preprocess((16, 48), 64, "bicubic", *RGB)
    session = session_of(preprocess_model(preprocess, mode="normalize", layout=layout, opset=opset))
    # Every level in every channel.
    pixels = np.stack([np.arange(768) % 256] * 3, axis=-1).reshape(1, 16, 48, 3).astype(np.uint8)
    np.testing.assert_array_equal(
        run_on(session, pixels, layout)[0], normalise(image_of(pixels[0]), preprocess)
    )
    wanted = [1, 16, 48, 3] if layout == "nhwc" else [1, 3, 16, 48]
    assert session.get_inputs()[0].shape[1:] == wanted[1:]
    assert session.get_outputs()[0].shape == ["batch", 3, 16, 48]


def test_an_opset_without_antialias_is_refused() -> None:
    with pytest.raises(CnnportError, match=r"needs opset 18 or above.*this is 17"):
        preprocess_model(IMAGENET, mode="full", layout="nhwc", opset=17)


def scores(model: onnx.ModelProto, logits: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    return list(session_of(model).run(None, {"logits": logits}))


@pytest.mark.parametrize("opset", [11, 13, 24])
def test_scores_are_softmax_and_the_best(opset: int) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32) * 4
    probabilities, top, indices = scores(scores_model(7, 5, opset), logits)
    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, exact, atol=1e-6)
    np.testing.assert_array_equal(indices, np.argsort(-exact, axis=1)[:, :5])
    np.testing.assert_array_equal(top, np.take_along_axis(probabilities, indices, axis=1))
    assert [each.dtype.name for each in (probabilities, top, indices)] == ["float32", "float32", "int64"]


def test_scores_of_other_kinds() -> None:
    even = np.zeros((2, 3), np.float32)
    assert scores(scores_model(3, 5, 18), even)[2].tolist() == [[0, 1, 2]] * 2
    given = np.array([[0.1, 0.9, 0.4]], np.float32)
    kept, _, indices = scores(scores_model(3, 2, 18, is_probability=True), given)
    np.testing.assert_array_equal(kept, given)
    assert indices.tolist() == [[1, 2]]
    half = scores_model(3, 1, 18, kind=TensorProto.FLOAT16, trailing=2, batch=1)
    found, _, indices = scores(half, given.astype(np.float16).reshape(1, 3, 1, 1))
    assert (found.dtype, found.shape, indices.tolist()) == (np.float32, (1, 3), [[1]])


def network(opset: int, kind: int = TensorProto.FLOAT, output: str = "logits") -> onnx.ModelProto:
    """Names that the picture file wants for itself, and a subgraph that takes one of them from outside."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["probabilities", "two"], ["picture/planes"])],
        "then",
        [],
        [helper.make_tensor_value_info("picture/planes", kind, ["n", 3])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["probabilities"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", kind, ["n", 3])],
    )
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"], name="picture/levels"),
        helper.make_node("Flatten", ["pooled"], ["probabilities"], axis=1),
        helper.make_node("If", ["yes"], [output], then_branch=then, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", kind, ["n", 3, *IMAGENET.size])],
        [helper.make_tensor_value_info(output, kind, ["n", 3])],
        initializer=[
            numpy_helper.from_array(np.array(2, dtype), "two"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    return model


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_joining_makes_room_for_its_names(kind: int) -> None:
    front = preprocess_model(IMAGENET, mode="full", layout="nhwc", opset=18)
    back = scores_model(3, 2, 18, kind=kind)
    made = joined(network(18, kind), front, back, input_name="image", scores="logits")
    session = session_of(made)
    assert [each.name for each in session.get_outputs()] == [
        "logits",
        "probabilities",
        "top_probabilities",
        "top_indices",
    ]
    assert session.get_inputs()[0].shape == ["n", "height", "width", 3]
    pixels = pictures((80, 66), 3)
    logits, probabilities, _, indices = session.run(None, {"image": pixels})
    wanted = 2 * np.stack([preprocess_image(image_of(each), IMAGENET).mean(axis=(1, 2)) for each in pixels])
    np.testing.assert_allclose(logits, wanted, atol=1e-2)
    np.testing.assert_array_equal(indices, np.argsort(-probabilities, axis=1)[:, :2])


def test_joining_refuses_what_cannot_be() -> None:
    front = preprocess_model(IMAGENET, mode="normalize", layout="nhwc", opset=18)
    with pytest.raises(ArtifactError, match="an output called 'top_indices'"):
        joined(
            network(18, output="top_indices"),
            front,
            scores_model(3, 2, 18),
            input_name="image",
            scores="top_indices",
        )
    with pytest.raises(ArtifactError, match="different opsets"):
        joined(network(18), front, scores_model(3, 2, 17), input_name="image", scores="logits")

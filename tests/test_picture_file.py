"""Picture files: made, verified, run and evaluated like the network inside them; with faults that must show."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from PIL import Image
from torch import nn

from cnnport.api import export
from cnnport.artifact import Artifact, TensorSpec
from cnnport.classify import classify
from cnnport.cli.main import main
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError
from cnnport.evaluation import Plan, Protocol, Request, evaluate
from cnnport.half_file import half_file
from cnnport.images import preprocess_image
from cnnport.measuring.tuning.building import check_source
from cnnport.metadata import Picture, picture_of, preprocess_of
from cnnport.onnxfile import load_model
from cnnport.picture_check import FULL_PROBABILITY, FULL_TOLERANCE, LEVELS
from cnnport.picture_file import picture_file, with_picture_input
from cnnport.picture_input import pixels_of, ranking_fault
from cnnport.picture_source import check_network
from cnnport.preprocess import Preprocess
from cnnport.quantization import quantize_file
from cnnport.runtimes import Options, require_runtime
from cnnport.runtimes.engine_file import misfit
from cnnport.verifying import verify

PREPROCESS = Preprocess((24, 20), 28, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES = [(60, 40), (31, 90), (17, 12), (28, 28), (200, 61)]


class Small(nn.Module):
    """Convolution, average, classes: with or without padding, or with something else before the convolution."""

    def __init__(
        self, padding: int = 1, first: nn.Module | None = None, last: nn.Module | None = None
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        parts = [] if first is None else [first]
        parts += [nn.Conv2d(3, 8, 3, padding=padding), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        parts += [nn.Linear(32, 6)] + ([] if last is None else [last])
        self.parts = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.parts(x)
        return found


def make(path: Path, module: nn.Module, **options: object) -> Artifact:
    done = export(module, path, pictures=PREPROCESS, image_size=PREPROCESS.size, **options)  # type: ignore[arg-type]
    return done.artifact


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The network's own file, whose first convolution pads."""
    return make(tmp_path_factory.mktemp("own") / "small.onnx", Small())


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("lenet") / "lenet5.onnx"
    return export("lenet5", path, weights="default").artifact


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures of many sizes, in folders of two classes."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for place, (height, width) in enumerate(SIZES):
        coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        (root / str(place % 2)).mkdir(exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(root / str(place % 2) / f"{place}.png")
    return root


def failed(path: Path) -> list[str]:
    return [check.name for check in verify(path) if not check.ok]


def top_of(artifact: Artifact, images: list[Path]) -> list[tuple[int, float]]:
    return [(each.top[0].index, each.top[0].probability) for each in classify(artifact, images)]


@pytest.mark.parametrize(("mode", "layout"), [("normalize", "nchw"), ("full", "nhwc")])
def test_a_picture_file_says_what_the_network_says(
    own: Artifact, folder: Path, tmp_path: Path, mode: str, layout: str
) -> None:
    path = tmp_path / "picture.onnx"
    made = picture_file(own.path, path, mode=mode, layout=layout, top=3, module=Small().eval())  # type: ignore[arg-type]
    assert made.verdict.reference == "PyTorch"
    assert made.verdict.levels <= (LEVELS if mode == "full" else 0)
    assert made.folded == "scale"
    assert failed(path) == []

    artifact = made.artifact
    sides = PREPROCESS.size if mode == "normalize" else ("height", "width")
    shape = ("batch", 3, *sides) if layout == "nchw" else ("batch", *sides, 3)
    assert artifact.inputs == (TensorSpec("image", "uint8", shape),)
    assert [(each.name, each.dtype, each.shape[1:]) for each in artifact.outputs[1:]] == [
        ("probabilities", "float32", (6,)),
        ("top_probabilities", "float32", (3,)),
        ("top_indices", "int64", (3,)),
    ]
    assert artifact.outputs[0].name == own.outputs[0].name
    assert picture_of(artifact) == Picture(mode, layout, 3)  # type: ignore[arg-type]
    assert json.loads(artifact.metadata["cnnport.picture"]) == {
        "layout": layout,
        "preprocess": mode,
        "top": 3,
    }
    assert preprocess_of(artifact) == PREPROCESS

    images = sorted(folder.rglob("*.png"))
    for (index, probability), (wanted, right) in zip(
        top_of(artifact, images), top_of(own, images), strict=True
    ):
        assert index == wanted
        assert probability == pytest.approx(right, abs=1e-6 if mode == "normalize" else 1e-3)
    again = with_picture_input(own.path, tmp_path / "again.onnx", mode=mode, layout=layout, top=3)  # type: ignore[arg-type]
    assert again.outputs == artifact.outputs


def test_the_same_bytes_each_time(own: Artifact, tmp_path: Path) -> None:
    first, second = (
        with_picture_input(own.path, tmp_path / name, mode="full") for name in ("a.onnx", "b.onnx")
    )
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    ("module", "folded", "left"),
    [
        (Small(padding=0), "all", []),
        (Small(padding=1), "scale", ["Add"]),
        (Small(first=nn.ZeroPad2d(1), padding=0), "scale", ["Add"]),
        (Small(first=nn.Sigmoid()), "nothing", ["Div", "Sub", "Div"]),
    ],
    ids=["no padding", "padding", "a padding of its own", "something else first"],
)
def test_what_is_exact_goes_into_the_first_convolution(
    tmp_path: Path, module: nn.Module, folded: str, left: list[str]
) -> None:
    done = export(
        module, tmp_path / "x.onnx", pictures=PREPROCESS, image_size=PREPROCESS.size, preprocess="normalize"
    )
    assert done.picture is not None
    assert (done.picture.folded, done.picture.verdict.reference) == (folded, "PyTorch")
    ops = [node.op_type for node in load_model(done.artifact.path).graph.node]
    assert [op for op in ops if op in {"Sub", "Add", "Mul", "Div"}][: len(left) + 1] == left


def test_a_network_that_gives_probabilities_keeps_them(tmp_path: Path) -> None:
    source = make(tmp_path / "own.onnx", Small(last=nn.Softmax(dim=1)))
    made = with_picture_input(source.path, tmp_path / "picture.onnx", mode="normalize", top=9)
    assert made.outputs[-1].shape == ("batch", 6)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *PREPROCESS.size, 3), dtype=np.uint8)
    with require_runtime("ort-cpu").open(made, Options()) as session:
        answer = session.run({"image": pixels})
    np.testing.assert_array_equal(answer["probabilities"], answer[source.outputs[0].name])
    assert ranking_fault(answer) is None


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_in_one_command(tmp_path: Path, precision: str) -> None:
    done = make(
        tmp_path / "x.onnx",
        Small(),
        precision=precision,
        preprocess="full",
        **({"calibration": "random:8"} if precision == "int8" else {}),
    )
    assert (done.precision, failed(done.path)) == (precision, [])
    ops = [node.op_type for node in load_model(done.path).graph.node]
    assert "QuantizeLinear" in ops or precision == "fp16"
    # The network is what it was: nothing of the normalisation went into it.
    assert [op for op in ops if op in {"Sub", "Div"}][-3:] == ["Div", "Sub", "Div"]


def test_a_wrong_network_is_not_written(own: Artifact, tmp_path: Path) -> None:
    wrong = Small().eval()
    with torch.no_grad():
        wrong.parts[-1].weight += 0.05  # type: ignore[union-attr, operator]
    for mode in ("normalize", "full"):
        with pytest.raises(
            CheckFailedError, match=r"does not compute what PyTorch computes(.|\n)*nothing was written"
        ):
            picture_file(own.path, tmp_path / "x.onnx", mode=mode, module=wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "x.onnx").exists()


def test_another_resize_is_found(own: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnport.graphs.picture.geometry._CUBIC_COEFFICIENT", -0.75)
    with pytest.raises(CheckFailedError, match="off Pillow's by"):
        picture_file(own.path, tmp_path / "x.onnx", mode="full")


def test_verify_finds_what_was_changed(own: Artifact, tmp_path: Path) -> None:
    made = with_picture_input(own.path, tmp_path / "x.onnx", mode="normalize")
    model = onnx.load(made.path)
    (best,) = (node for node in model.graph.node if node.op_type == "TopK")
    next(each for each in best.attribute if each.name == "largest").CopyFrom(
        helper.make_attribute("largest", 0)
    )
    onnx.save(model, made.path)
    assert failed(made.path) == ["checksum"]
    answer: dict[str, NDArray[np.generic]] = {
        "probabilities": np.array([[0.1, 0.6, 0.3]]),
        "top_probabilities": np.array([[0.6, 0.3]]),
        "top_indices": np.array([[1, 2]]),
    }
    assert ranking_fault(answer) is None
    assert "top classes" in str(ranking_fault({**answer, "top_indices": np.array([[2, 1]])}))
    assert "largest" in str(ranking_fault({**answer, "top_probabilities": np.array([[0.3, 0.1]])}))
    assert "no output top_indices" in str(ranking_fault({key: answer[key] for key in list(answer)[:2]}))


def test_pixels_are_upright_opaque_and_as_large_as_they_are_taken(tmp_path: Path) -> None:
    image = Image.new("RGBA", (30, 50), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.png", exif=exif)
    found = pixels_of(tmp_path / "x.png", PREPROCESS, Picture("full", "nhwc", 5))
    assert (found.shape, found.min()) == ((30, 50, 3), 255)
    found = pixels_of(tmp_path / "x.png", PREPROCESS, Picture("normalize", "nchw", 5))
    assert found.shape == (3, *PREPROCESS.size)
    with pytest.raises(CnnportError, match="too long and narrow"):
        pixels_of(Image.new("RGB", (4_000_000, 1)), PREPROCESS, Picture("full", "nhwc", 5))


def test_evaluation_counts_the_same(own: Artifact, folder: Path, tmp_path: Path) -> None:
    files = [own] + [
        with_picture_input(own.path, tmp_path / f"{mode}.onnx", mode=mode) for mode in ("normalize", "full")
    ]  # type: ignore[arg-type, misc]
    found = evaluate(
        [Request(each, "ort-cpu", Options(threads=1)) for each in files], Plan(str(folder), fresh=True)
    )
    assert [each.problem for each in found] == [None] * 3
    assert len({str(each.metrics.confusion) for each in found if each.metrics}) == 1
    with pytest.raises(CnnportError, match="prepares pictures itself, one centre crop"):
        evaluate([Request(files[2], "ort-cpu", Options())], Plan(str(folder), protocol=Protocol(crops=10)))


def test_what_needs_the_networks_own_file_says_so(own: Artifact, tmp_path: Path) -> None:
    made = with_picture_input(own.path, tmp_path / "x.onnx", mode="full")
    with pytest.raises(ArtifactError, match="takes pictures already"):
        with_picture_input(made.path, tmp_path / "y.onnx", mode="full")
    with pytest.raises(ArtifactError, match="network's own file is quantized"):
        quantize_file(made.path, tmp_path / "y.onnx", "random:2")
    with pytest.raises(ArtifactError, match="network's own file is tuned"):
        check_source(made)
    with pytest.raises(ArtifactError, match="network's own file is made half"):
        half_file(made.path, tmp_path / "y.onnx", "fp16")
    assert "PyTorch runs the network alone" in str(misfit(made, "torch-cpu"))
    assert "antialias" in str(misfit(made, "openvino"))
    assert "antialias" in str(misfit(made, "trt"))
    assert misfit(made, "ort-cpu") is None
    normalized = replace(
        made, metadata={"cnnport.picture": made.metadata["cnnport.picture"].replace("full", "normalize")}
    )
    assert misfit(normalized, "trt") is None
    assert misfit(own, "torch-cpu") is None


def test_openvino_refuses_an_antialias_that_it_would_leave_out(own: Artifact, tmp_path: Path) -> None:
    openvino = require_runtime("ort-cpu") and pytest.importorskip("openvino")
    assert openvino
    runtime = require_runtime("openvino")
    made = with_picture_input(own.path, tmp_path / "full.onnx", mode="full")
    foreign = replace(made, metadata={})
    with pytest.raises(
        ArtifactError, match=r"picture/resized_height: openvino would leave out its antialias"
    ):
        runtime.open(foreign, Options())
    plain = with_picture_input(own.path, tmp_path / "normalize.onnx", mode="normalize")
    pixels = np.random.default_rng(0).integers(0, 256, (2, *PREPROCESS.size, 3), dtype=np.uint8)
    answers = []
    for name in ("openvino", "ort-cpu"):
        with require_runtime(name).open(plain, Options()) as session:
            answers.append(session.run({"image": pixels})["probabilities"])
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_networks_without_such_an_input_are_refused(own: Artifact) -> None:
    def refused(**changes: object) -> str:
        with pytest.raises(ArtifactError) as error:
            check_network(replace(own, **changes))  # type: ignore[arg-type]
        return str(error.value)

    (image,) = own.inputs
    assert "was not exported by cnnport" in refused(metadata={})
    stated = {key: text for key, text in own.metadata.items() if key != "cnnport.preprocess"}
    assert "does not state how pictures are prepared" in refused(metadata=stated)
    assert "takes images of any size" in refused(
        inputs=(replace(image, shape=("batch", 3, "height", "width")),)
    )
    assert "one batch of images" in refused(inputs=(image, image))
    assert "one batch of images" in refused(inputs=(replace(image, shape=("batch", 3)),))
    assert "a map of scores" in refused(outputs=(TensorSpec("map", "float32", ("batch", 6, 4, 4)),))
    assert "one score for each class" in refused(outputs=(TensorSpec("x", "float32", ("batch", "classes")),))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["lenet5", "--preprocess", "half"], "it is none, normalize or full"),
        (["lenet5", "--preprocess", "full", "--layout", "hwc"], "it is nhwc or nchw"),
        (["lenet5", "--layout", "nchw"], "--layout nchw is for --preprocess"),
        (["lenet5", "--preprocess", "full", "--opset", "17"], "needs opset 18"),
        (["alexnet", "--dense", "--preprocess", "full"], "give it with --image-size"),
        (["siamese_koch", "--preprocess", "normalize"], "takes 2 inputs"),
    ],
)
def test_the_command_says_what_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], text: str
) -> None:
    assert main(["export", *arguments, "-o", str(tmp_path / "x.onnx")]) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_the_whole_chain_on_scans(lenet: Artifact, tmp_path: Path) -> None:
    """A trained network, its pictures, and Pillow: what is claimed of probabilities."""
    sklearn = pytest.importorskip("sklearn")
    assert sklearn
    from cnnport.digits import load_digits

    images = load_digits().test_images[:20]
    preprocess = preprocess_of(lenet)
    assert preprocess is not None
    made = {
        mode: with_picture_input(lenet.path, tmp_path / f"{mode}.onnx", mode=mode)
        for mode in ("normalize", "full")
    }  # type: ignore[arg-type, misc]
    with require_runtime("ort-cpu").open(lenet, Options()) as session:
        logits = session.run(
            {"input": np.stack([preprocess_image(Image.fromarray(each), preprocess) for each in images])}
        )
    exact = np.exp(np.asarray(logits["logits"], np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    for mode, artifact in made.items():
        picture = picture_of(artifact)
        assert picture is not None
        pixels = np.stack([pixels_of(Image.fromarray(each), preprocess, picture) for each in images])
        with require_runtime("ort-cpu").open(artifact, Options()) as session:
            answer = session.run({"image": pixels})
        np.testing.assert_array_equal(answer["top_indices"][:, 0], exact.argmax(axis=1))
        assert np.abs(answer["probabilities"] - exact).max() < (1e-6 if mode == "normalize" else 1e-3)


def test_the_page_states_the_bounds() -> None:
    page = (Path(__file__).parents[1] / "docs/picture_files.md").read_text()
    assert f"**{LEVELS} grey levels**" in page
    assert f"more than {FULL_TOLERANCE} standard deviations" in page
    assert f"**{FULL_PROBABILITY}**" in page
    assert all(
        f"| `{name}` |" in page for name in ("image", "probabilities", "top_probabilities", "top_indices")
    )

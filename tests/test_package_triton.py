"""The package for Triton: configurations read with Triton's own definitions, the ensemble run, its client asked."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from cnnport.artifact import Artifact, TensorSpec
from cnnport.cli import main
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError
from cnnport.exporting import export
from cnnport.images import normalise, preprocess_image
from cnnport.metadata import Picture, preprocess_of
from cnnport.onnxfile import read_artifact
from cnnport.packaging import Example, Subject, package
from cnnport.packaging.example import cropped
from cnnport.packaging.templates import filled, template_files
from cnnport.packaging.triton_check import Interface, find_problems
from cnnport.packaging.triton_config import (
    Batching,
    Ensemble,
    ServedModel,
    Step,
    Warmup,
    config_text,
    tensor,
)
from cnnport.packaging.triton_repository import files
from cnnport.preprocess import Preprocess
from cnnport.rebuild import module_of

pytest.importorskip("tritonclient.grpc", reason="pip install 'tritonclient[grpc,http]'")

from cnnport.measuring.studies.triton_ensemble import Repository, probabilities, read_config
from triton_server import serving

Package = Callable[..., Path]

# Of a probability, where resizing rounds some pixels to the next grey level: what docs/picture_files.md states.
FULL_BOUND = 0.02


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package of lenet5, made once for each choice."""
    folder = tmp_path_factory.mktemp("packages")

    def make(preprocess: str | None = "full", backend: str = "onnxruntime", model: str = "lenet5") -> Path:
        target = folder / f"{preprocess}_{backend}_{Path(model).stem}"
        if not target.exists():
            package(model, "triton", target, preprocess=preprocess, backend=backend)  # type: ignore[arg-type]
        return target

    return make


@pytest.fixture(scope="module")
def fixed_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lenet5 for three pictures at a time."""
    path = tmp_path_factory.mktemp("networks") / "fixed.onnx"
    export("lenet5", path, batch=3)
    return path


def pictures(count: int) -> list[np.ndarray]:
    """Seeded pictures of sizes that differ, height x width x channels."""
    rng = np.random.default_rng(7)
    sizes = [(8, 8), (32, 32), (47, 30), (20, 61), (224, 150)]
    return [rng.integers(0, 256, (*sizes[place % len(sizes)], 1), dtype=np.uint8) for place in range(count)]


def config_problems(folder: Path) -> Iterator[str]:
    """Where configurations, read by Triton's definitions, depart from ONNX files, read by onnx alone."""
    from tritonclient.grpc.model_config_pb2 import DataType

    for path in sorted(folder.glob("*/config.pbtxt")):
        config = read_config(path)
        if config.name != path.parent.name:
            yield f"{config.name} lies in {path.parent.name}"
        if config.platform == "ensemble":
            continue
        graph = onnx.load(path.parent / "1" / config.default_model_filename).graph
        for kind, stated, there in (
            ("input", config.input, graph.input),
            ("output", config.output, graph.output),
        ):
            real = {each.name: each.type.tensor_type for each in there}
            if kind == "input" and set(real) != {each.name for each in stated}:
                yield f"{config.name}: other inputs"
            for each in stated:
                if each.name not in real:
                    yield f"{config.name}: no {each.name}"
                    continue
                dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(real[each.name].elem_type)).name
                if DataType.Name(each.data_type) != TRITON_TYPES[dtype]:
                    yield f"{config.name}: type of {each.name}"
                sizes = [dim.dim_value or -1 for dim in real[each.name].shape.dim]
                full = [-1] * (config.max_batch_size > 0) + list(each.dims)
                if len(full) != len(sizes) or any(b not in (-1, a) for a, b in zip(full, sizes, strict=True)):
                    yield f"{config.name}: sizes of {each.name}"


TRITON_TYPES = {"uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "float16": "TYPE_FP16", "float32": "TYPE_FP32"}


@pytest.mark.parametrize("preprocess", ["full", "normalize"])
def test_configurations_are_tritons_and_fit_the_files(packaged: Package, preprocess: str) -> None:
    folder = packaged(preprocess) / "model_repository"
    assert not list(config_problems(folder))
    configs = {path.parent.name: read_config(path) for path in folder.glob("*/config.pbtxt")}
    assert set(configs) == {"lenet5", "lenet5_preprocess", "lenet5_scores", "lenet5_pipeline"}
    network, before = configs["lenet5"], configs["lenet5_preprocess"]
    assert network.max_batch_size == configs["lenet5_pipeline"].max_batch_size == 8
    assert network.dynamic_batching.max_queue_delay_microseconds == 500
    assert before.HasField("dynamic_batching")
    assert not before.dynamic_batching.max_queue_delay_microseconds
    assert list(before.input[0].dims) == ([-1, -1, 1] if preprocess == "full" else [32, 32, 1])
    assert [group.count for group in before.instance_group] == [2]
    assert [each.batch_size for each in network.model_warmup] == [1, 8]
    assert all(-1 not in each.inputs["input"].dims for each in network.model_warmup)
    assert network.version_policy.latest.num_versions == 1
    assert before.parameters["intra_op_thread_count"].string_value == "1"
    for name in ("lenet5_scores", "lenet5_pipeline"):
        labels = next(each.label_filename for each in configs[name].output if each.name == "probabilities")
        assert (folder / name / labels).read_text().split() == [str(digit) for digit in range(10)]
    # A model without a folder of its version is not served.
    assert all((folder / name / "1").is_dir() and any((folder / name / "1").iterdir()) for name in configs)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("TYPE_UINT8", "TYPE_INT8"),
        ('name: "image"', 'name: "images"'),
        ("dims: [ 1, 32, 32 ]", "dims: [ 3, 32, 32 ]"),
        ("max_batch_size: 8", "max_batch_size: 0"),
        ('name: "probabilities"', 'name: "probability"'),
    ],
)
def test_the_comparison_finds_planted_faults(packaged: Package, tmp_path: Path, old: str, new: str) -> None:
    shutil.copytree(packaged() / "model_repository", tmp_path / "copy")
    for path in (tmp_path / "copy").glob("*/config.pbtxt"):
        path.write_text(path.read_text().replace(old, new))
    assert list(config_problems(tmp_path / "copy"))


def test_text_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "x"\nmax_batch: 8\n')
    with pytest.raises(CnnportError, match="max_batch"):
        read_config(path)


# Of two models in a row, by hand.
BEFORE = Interface(
    (TensorSpec("image", "uint8", ("batch", "height", "width", 3)),),
    (TensorSpec("input", "float32", ("batch", 3, 32, 32)),),
)
NETWORK = Interface(
    (TensorSpec("pixels", "float32", ("n", 3, 32, 32)),), (TensorSpec("logits", "float32", ("n", 10)),)
)
INTERFACES = {"before": BEFORE, "network": NETWORK}


def model_config(name: str, **changes: Any) -> ServedModel:
    own = INTERFACES[name]
    inputs = tuple(tensor(spec, batched=True) for spec in own.inputs)
    warm = tuple(
        replace(each, dims=tuple(9 if size == -1 else size for size in each.dims)) for each in inputs
    )
    config = ServedModel(
        name=name,
        platform="onnxruntime_onnx",
        file="model.onnx",
        max_batch=4,
        inputs=inputs,
        outputs=tuple(tensor(spec, batched=True) for spec in own.outputs),
        instances=1,
        device="KIND_CPU",
        batching=Batching((2, 4), 100),
        warmups=(Warmup("batch_4", 4, warm),),
    )
    return replace(config, **changes)


def ensemble(**changes: Any) -> Ensemble:
    config = Ensemble(
        name="both",
        max_batch=4,
        inputs=model_config("before").inputs,
        outputs=(tensor(NETWORK.outputs[0], batched=True),),
        steps=(
            Step("before", {"image": "image"}, {"input": "prepared"}),
            Step("network", {"pixels": "prepared"}, {"logits": "logits"}),
        ),
    )
    return replace(config, **changes)


def renamed(place: int, **changes: Any) -> tuple[Step, ...]:
    steps = list(ensemble().steps)
    steps[place] = replace(steps[place], **changes)
    return tuple(steps)


PIXELS = model_config("network").inputs[0]
BEFORE_OPEN = model_config("before").inputs


def test_the_check_is_content_with_what_fits() -> None:
    fitting = [model_config("before"), model_config("network"), ensemble()]
    assert not list(find_problems(fitting, INTERFACES))
    # Of a model an ensemble may use less, and may batch less.
    assert not list(find_problems([*fitting[:2], ensemble(max_batch=1)], INTERFACES))
    # A configuration may be narrower than the file.
    narrow = replace(model_config("before").inputs[0], dims=(9, 9, 3))
    assert not list(find_problems([model_config("before", inputs=(narrow,))], INTERFACES))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (model_config("network", inputs=(replace(PIXELS, name="input"),)), "pixels is not configured"),
        (model_config("network", inputs=(replace(PIXELS, data_type="TYPE_FP16"),)), "is TYPE_FP32, not"),
        (model_config("network", inputs=(replace(PIXELS, dims=(1, 32, 32)),)), "not [1, 32, 32]"),
        (model_config("network", outputs=(replace(PIXELS, name="scores"),)), "no output scores"),
        (model_config("network", max_batch=0), "sizes"),
        (model_config("network", max_batch=2), "too many for network"),
        (model_config("network", batching=Batching((8,))), "preferred batch size 8"),
        (model_config("network", warmups=(Warmup("big", 5, (PIXELS,)),)), "of at most 4"),
        (model_config("network", warmups=(Warmup("none", 1, ()),)), "does not feed every input"),
        (model_config("before", warmups=(Warmup("open", 1, BEFORE_OPEN),)), "leaves a size open"),
        (ensemble(steps=renamed(0, model="after")), "there is no model after"),
        (ensemble(steps=renamed(0, inputs={"picture": "image"})), "is to be given"),
        (ensemble(steps=renamed(1, inputs={"pixels": "image"})), "TYPE_UINT8 and should be TYPE_FP32"),
        (ensemble(steps=renamed(1, inputs={"pixels": "elsewhere"})), "nothing before it gives"),
        (ensemble(steps=renamed(1, outputs={"scores": "logits"})), "no output scores"),
        (ensemble(steps=renamed(1, outputs={"logits": "prepared"})), "comes about twice"),
        (ensemble(steps=ensemble().steps[:1]), "no step gives logits"),
        (ensemble(outputs=(replace(PIXELS, name="logits"),)), "output logits"),
        (ensemble(max_batch=8), "batches of 8 are too many"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_check_finds(changed: ServedModel | Ensemble, said: str) -> None:
    configs = {each.name: each for each in (model_config("before"), model_config("network"), ensemble())}
    configs[changed.name] = changed
    problems = list(find_problems(list(configs.values()), INTERFACES))
    assert any(said in problem for problem in problems), problems


def test_the_check_knows_the_batch_of_the_file() -> None:
    fixed = Interface((TensorSpec("pixels", "float32", (4, 3, 32, 32)),), NETWORK.outputs)
    problems = list(find_problems([model_config("network")], {"network": fixed}))
    assert problems == [
        "network: the server is to make batches, but the file fixes that of pixels:float32[4,3,32,32]"
    ]
    assert list(find_problems([model_config("network")], {})) == ["network: there is no file for it"]


def test_nothing_is_written_if_the_check_finds_something(
    packaged: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnport.packaging import triton_repository

    monkeypatch.setattr(triton_repository, "_MAX_BATCH", 4)
    real = triton_repository.tensor
    monkeypatch.setattr(
        triton_repository,
        "tensor",
        lambda spec, **how: (
            replace(real(spec, **how), data_type="TYPE_FP16") if spec.name == "logits" else real(spec, **how)
        ),
    )
    with pytest.raises(CheckFailedError, match="is TYPE_FP32, not TYPE_FP16"):
        package("lenet5", "triton", tmp_path / "app")
    assert not list(tmp_path.iterdir())


def test_text_survives_tritons_parser() -> None:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    odd = model_config(
        "network", parameters={'a "quoted" key': "back\\slash\nand a new line é"}, why=("a comment", "", "b")
    )
    parsed = text_format.Parse(config_text(odd), ModelConfig())
    assert parsed.parameters['a "quoted" key'].string_value == "back\\slash\nand a new line é"
    assert list(parsed.dynamic_batching.preferred_batch_size) == [2, 4]
    assert config_text(odd).startswith("# a comment\n#\n# b\nname: ")


@pytest.mark.parametrize(("preprocess", "bound"), [("full", FULL_BOUND), ("normalize", 1e-4)])
def test_the_ensemble_gives_what_pytorch_gives(packaged: Package, preprocess: str, bound: float) -> None:
    import torch

    folder = packaged(preprocess)
    network = read_artifact(folder / "model_repository/lenet5/1/model.onnx")
    chain = preprocess_of(network)
    assert chain is not None
    shown = pictures(5)
    if preprocess == "normalize":
        images = [cropped(Image.fromarray(each[:, :, 0]), chain) for each in shown]
        shown = [np.asarray(each)[:, :, None] for each in images]
        inputs = [normalise(each, chain) for each in images]
    else:
        inputs = [preprocess_image(Image.fromarray(each[:, :, 0]), chain) for each in shown]
    with torch.no_grad():
        logits = module_of(network)(torch.from_numpy(np.stack(inputs)))
    expected = torch.softmax(logits.double(), dim=1).numpy()
    got = probabilities(folder, shown)
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert abs(got - expected).max() < bound


def test_the_best_classes_are_those_of_the_probabilities(packaged: Package) -> None:
    with Repository(packaged() / "model_repository") as repository:
        answer = repository.run("lenet5_pipeline", {"image": pictures(1)[0][None].repeat(2, axis=0)})
    assert {name: array.shape for name, array in answer.items()} == {
        "probabilities": (2, 10),
        "top_probabilities": (2, 5),
        "top_indices": (2, 5),
    }
    order = np.argsort(-answer["probabilities"], axis=1, kind="stable")[:, :5]
    assert (answer["top_indices"] == order).all()
    assert (np.take_along_axis(answer["probabilities"], order, axis=1) == answer["top_probabilities"]).all()


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ({"image": np.zeros((1, 8, 8, 1), np.float32)}, "float32, not uint8"),
        ({"picture": np.zeros((1, 8, 8, 1), np.uint8)}, "not \\['image'\\]"),
        ({"image": np.zeros((1, 8, 8, 3), np.uint8)}, "does not fit"),
        ({"image": np.zeros((9, 8, 8, 1), np.uint8)}, "does not fit"),
    ],
)
def test_the_walk_refuses_what_a_server_refuses(
    packaged: Package, feed: dict[str, np.ndarray], said: str
) -> None:
    with (
        Repository(packaged() / "model_repository") as repository,
        pytest.raises(CheckFailedError, match=said),
    ):
        repository.run("lenet5_pipeline", feed)


def test_files_of_a_fixed_batch_are_asked_for_all_of_it(packaged: Package, fixed_batch: Path) -> None:
    folder = packaged(model=str(fixed_batch)) / "model_repository"
    assert not list(config_problems(folder))
    configs = [read_config(path) for path in folder.glob("*/config.pbtxt")]
    assert len(configs) == 4
    for config in configs:
        assert config.max_batch_size == 0
        assert not config.HasField("dynamic_batching")
        assert all(each.dims[0] == 3 for each in (*config.input, *config.output))
    with Repository(folder) as repository:
        shown = pictures(1)[0][None]
        answer = repository.run("lenet5_pipeline", {"image": shown.repeat(3, axis=0)})
        assert answer["probabilities"].shape == (3, 10)
        with pytest.raises(CheckFailedError, match="does not fit"):
            repository.run("lenet5_pipeline", {"image": shown})


def halves(path: Path, output: str = "Identity") -> Artifact:
    """A network of float16 at both ends by hand: the sums of channels, tenfold, as the scores of three classes."""
    half, value = onnx.TensorProto.FLOAT16, onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("ReduceSum", ["pixels", "axes"], ["sums"], keepdims=0),
        onnx.helper.make_node("Mul", ["sums", "ten"], ["scaled"]),
        onnx.helper.make_node(output, ["scaled"], ["scores"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "halves",
        [value("pixels", half, ["n", 3, 4, 4])],
        [value("scores", half, ["n", 3])],
        [
            onnx.numpy_helper.from_array(np.array([2, 3]), "axes"),
            onnx.numpy_helper.from_array(np.array(10, np.float16), "ten"),
        ],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), path
    )
    return read_artifact(path)


def by_hand(network: Artifact, top: tuple[tuple[int, float], ...]) -> Subject:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 1] = 3
    return Subject(
        artifact=network,
        network=network,
        name="halves",
        labels=("red", "green and\ngreener", "blue"),
        preprocess=Preprocess((4, 4), 4, "bilinear", (0.0,) * 3, (1.0,) * 3),
        picture=Picture("full", "nhwc", 5),
        licence="none",
        example=Example(b"", pixels, top, 1e-3),
    )


# Green is 16 times 3 / 255, times ten.
GREEN = float(np.exp(480 / 255) / (np.exp(480 / 255) + 2))


def test_halves_at_both_ends_are_kept(tmp_path: Path) -> None:
    subject = by_hand(halves(tmp_path / "halves.onnx"), ((1, GREEN), (0, (1 - GREEN) / 2)))
    written = {
        name: content.read_bytes() if isinstance(content, Path) else content
        for name, content in files(subject).items()
    }
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    folder = tmp_path / "model_repository"
    assert not list(config_problems(folder))
    assert "TYPE_FP16" in (folder / "halves_preprocess/config.pbtxt").read_text()
    assert (folder / "halves_scores/labels.txt").read_text() == "red\ngreen and greener\nblue\n"
    assert abs(probabilities(tmp_path, [subject.example.pixels])[0, 1] - GREEN) < 1e-3


def test_the_example_is_tried_before_anything_is_written(tmp_path: Path) -> None:
    network = halves(tmp_path / "halves.onnx")
    for wrong in (((1, GREEN - 0.01),), ((0, (1 - GREEN) / 2),)):
        with pytest.raises(CheckFailedError, match="for Triton give the example"):
            files(by_hand(network, wrong))
    # Probabilities are taken as they are: a softmax of them would be another answer.
    files(by_hand(halves(tmp_path / "softmax.onnx", "Softmax"), ((1, GREEN),)))


def test_an_engine_is_configured_and_told_how_to_make(packaged: Package) -> None:
    from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

    package = packaged("normalize", "tensorrt")
    folder = package / "model_repository"
    config = read_config(folder / "lenet5/config.pbtxt")
    assert (config.platform, config.backend, config.default_model_filename) == (
        "tensorrt_plan",
        "tensorrt",
        "model.plan",
    )
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert not (folder / "lenet5/1/model.onnx").exists()
    # The engine's source is the network itself, and the configuration fits it.
    source = read_artifact(package / "tensorrt/lenet5.onnx")
    assert [each.name for each in config.input] == [each.name for each in source.inputs]
    readme = (package / "README.md").read_text()
    command = next(line for line in readme.splitlines() if line.startswith("cnnport build"))
    words = shlex.split(command)
    assert (package / words[2]).is_file()
    assert (package / words[words.index("-o") + 1]).parent == folder / "lenet5/1"
    note = (folder / "lenet5/1/README.md").read_text()
    assert command in note
    assert "--maxShapes=input:8x1x32x32" in note
    limits = next(yaml.safe_load_all((package / "kubernetes/deployment.yaml").read_text()))
    assert limits["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_build_command_is_one_that_cnnport_takes(
    packaged: Package, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    readme = (packaged("normalize", "tensorrt") / "README.md").read_text()
    command = next(line for line in readme.splitlines() if line.startswith("cnnport build"))
    monkeypatch.chdir(packaged("normalize", "tensorrt"))
    # Without TensorRT the runtime is missing; a wrong option or path would be another code.
    assert main(shlex.split(command)[1:]) == 3
    assert "trt" in capfd.readouterr().err


def test_a_picture_file_is_the_pipeline_by_itself(packaged: Package, tmp_path: Path) -> None:
    from cnnport.picture_file import with_picture_input

    network = packaged() / "model_repository/lenet5/1/model.onnx"
    with_picture_input(network, tmp_path / "lenet5.onnx", mode="full", layout="nchw")
    package_of = packaged(None, model=str(tmp_path / "lenet5.onnx"))
    folder = package_of / "model_repository"
    assert [path.name for path in folder.iterdir()] == ["lenet5_pipeline"]
    assert not list(config_problems(folder))
    shown = pictures(5)
    with Repository(folder) as repository:
        rows = [
            repository.run("lenet5_pipeline", {"image": each.transpose(2, 0, 1)[None]})["probabilities"]
            for each in shown
        ]
    assert abs(np.concatenate(rows) - probabilities(packaged(), shown)).max() < 1e-6
    with pytest.raises(ArtifactError, match="which TensorRT cannot"):
        packaged(None, "tensorrt", str(tmp_path / "lenet5.onnx"))


def test_manifests_of_kubernetes_are_whole(packaged: Package) -> None:
    package = packaged()
    deployment, service, scaled = yaml.safe_load_all((package / "kubernetes/deployment.yaml").read_text())
    assert [each["kind"] for each in (deployment, service, scaled)] == [
        "Deployment",
        "Service",
        "ScaledObject",
    ]
    pod = deployment["spec"]["template"]
    assert (
        pod["metadata"]["labels"]
        == deployment["spec"]["selector"]["matchLabels"]
        == service["spec"]["selector"]
    )
    container = pod["spec"]["containers"][0]
    ports = {each["name"] for each in container["ports"]}
    assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    assert {
        container[f"{each}Probe"]["httpGet"]["port"] for each in ("startup", "readiness", "liveness")
    } <= ports
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (kserve,) = yaml.safe_load_all((package / "kubernetes/inference_service.yaml").read_text())
    assert kserve["apiVersion"] == "serving.kserve.io/v1beta1"
    assert kserve["spec"]["predictor"]["model"]["modelFormat"]["name"] == "triton"
    for each in (deployment, service, scaled, kserve):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", each["metadata"]["name"])


def test_names_fit_kubernetes_and_nothing_is_left_to_fill_in(packaged: Package) -> None:
    package = packaged()
    text = "".join(
        path.read_text() for path in package.rglob("*") if path.suffix in {".md", ".yaml", ".pbtxt"}
    )
    assert "$name" not in text
    assert "${" not in text
    assert "lenet5_pipeline" in text


def test_packages_are_the_same_when_made_again(packaged: Package, tmp_path: Path) -> None:
    package("lenet5", "triton", tmp_path / "again")
    first = {
        path.relative_to(packaged()): path.read_bytes() for path in packaged().rglob("*") if path.is_file()
    }
    again = tmp_path / "again"
    assert first == {
        path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()
    }


def ask(package: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a package's client."""
    return subprocess.run(
        [sys.executable, "client.py", *map(str, arguments)],
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("preprocess", ["full", "normalize"])
def test_tritons_client_gets_the_expected_answers(
    packaged: Package, preprocess: str, tmp_path: Path, digit_scans: list[Path]
) -> None:
    pytest.importorskip("tritonclient.http")
    package = packaged(preprocess)
    odd = tmp_path / "odd.png"
    Image.fromarray(np.full((70, 31, 4), 200, np.uint8)).save(odd)
    with serving(package / "model_repository") as (url, shapes):
        example = ask(package, "--url", url, "--example", "--wait", 30)
        assert example.returncode == 0, example.stderr
        assert "as expected" in example.stdout
        shapes.clear()
        done = ask(package, "--url", url, "--top", 1, *digit_scans, odd)
        assert done.returncode == 0, done.stderr
        # Every picture is a request; the server would make batches of them.
        assert len(shapes) == len(digit_scans) + 1
        assert all(shape[0] == 1 for shape in shapes)
        if preprocess == "full":
            assert (1, 70, 31, 1) in shapes
        else:
            assert set(shapes) == {(1, 32, 32, 1)}
    answers = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    right = sum(row[1] == path.name[0] for row, path in zip(answers, digit_scans, strict=False))
    assert right >= 9, done.stdout


def test_the_client_tells_a_wrong_answer_from_no_server(packaged: Package, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.http")
    copy = tmp_path / "copy"
    shutil.copytree(packaged(), copy)
    manifest = json.loads((copy / "cnnport.json").read_text())
    manifest["example"]["top"][0]["probability"] -= 10 * manifest["example"]["tolerance"]
    (copy / "cnnport.json").write_text(json.dumps(manifest))
    (copy / "broken.png").write_text("no picture")
    with serving(copy / "model_repository") as (url, _):
        wrong = ask(copy, "--url", url, "--example")
        broken = ask(copy, "--url", url, "broken.png")
        strange = ask(copy, "--url", url, "--model", "nobody", "example.png")
    assert wrong.returncode == 1
    assert "NOT as expected" in wrong.stdout
    gone = ask(copy, "--url", url, "--example")
    for done, said in ((broken, "broken.png"), (strange, "nobody is not ready"), (gone, "is not ready")):
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_page_shows_the_manifests_as_they_are() -> None:
    text = (Path(__file__).parents[1] / "docs/triton.md").read_text()
    values = {
        "name": "shufflenet_v2_x1_0",
        "host": "shufflenet-v2-x1-0",
        "gpu": '# nvidia.com/gpu: "1"',
    }
    templates = template_files("triton")
    for name in ("kubernetes/deployment.yaml", "kubernetes/inference_service.yaml"):
        assert filled(templates[name], values).decode() in text

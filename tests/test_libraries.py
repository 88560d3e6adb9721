"""``timm:NAME`` and ``torchvision:NAME``, against small packages with the surface of the real ones.

The last tests hold those stand-ins to the real packages, where they are installed.
"""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cnnport.cli import main
from cnnport.errors import ModelError, UnknownNameError, WeightsError
from cnnport.exporting import default_path
from cnnport.libraries import LibrarySpec
from cnnport.preprocess import Preprocess
from cnnport.source import Source, find_source
from cnnport.weights import LoadedWeights, cache_folder, load_weights, state_sha256

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_chans=3, aux=False):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3)
        self.fc = nn.Linear(4, num_classes)
        self.aux = nn.Linear(4, 2) if aux else None

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
"""

TIMM = (
    NET
    + """
from dataclasses import dataclass, replace

@dataclass
class Config:
    url: object = None
    file: object = None
    hf_hub_id: object = None
    hf_hub_filename: object = None
    tag: object = None
    custom_load: object = False
    input_size: tuple = (3, 24, 24)
    interpolation: str = "bicubic"
    crop_pct: float = 0.9
    crop_mode: str = "center"
    mean: tuple = (0.5, 0.5, 0.5)
    std: tuple = (0.25, 0.25, 0.25)
    num_classes: int = 5
    label_names: object = None

    @property
    def has_weights(self):
        return self.url or self.file or self.hf_hub_id

HUB = Config(hf_hub_id="timm/small_net.v1", tag="v1", label_names=("a", "b", "c", "d", "e"))
CONFIGS = {
    "small_net": HUB,
    "small_net.v1": HUB,
    "squashed": replace(HUB, crop_mode="squash", crop_pct=1.0, url="https://weights.invalid/s-0123abcd.pth",
                        hf_hub_id=None, label_names=None, num_classes=1000),
    "bordered": Config(crop_mode="border"),
    "foreign": Config(url="https://weights.invalid/net.npz", custom_load=True),
}

def list_models(filter="", module="", pretrained=False, exclude_filters="", name_matches_cfg=False,
                include_tags=None):
    return [name for name in CONFIGS if ("." in name) == pretrained]

def get_pretrained_cfg(model_name, allow_unregistered=True):
    return CONFIGS[model_name]

def create_model(model_name, pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None,
                 checkpoint_path=None, cache_dir=None, scriptable=None, exportable=None, no_jit=None, **kwargs):
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    net = Net(**{"num_classes": CONFIGS[model_name].num_classes, **kwargs})
    if pretrained:
        state = pretrained_cfg_overlay["state_dict"]
        net.load_state_dict({name.replace("stem.", "conv."): value for name, value in state.items()})
    return net
"""
)
TIMM_DATA = """
def infer_imagenet_subset(model_or_cfg):
    return "imagenet-1k" if model_or_cfg["num_classes"] == 1000 else None

class ImageNetInfo:
    def __init__(self, subset="imagenet-1k"):
        pass
    def label_descriptions(self, detailed=False, as_dict=False):
        return [f"class {index}" for index in range(1000)]
"""
HUB = """
from . import constants
FOUND = None
def try_to_load_from_cache(repo_id, filename, cache_dir=None, revision=None, repo_type=None):
    assert (repo_id, filename, revision) == ("timm/small_net.v1", "model.safetensors", None)
    return FOUND
"""
TORCHVISION_MODELS = (
    NET
    + """
from enum import Enum
from types import SimpleNamespace

class ImageClassification:
    crop_size, resize_size = [20], [24]
    mean, std = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
    interpolation = SimpleNamespace(value="bilinear")

class Weights:
    url = "https://weights.invalid/small_net-HASH.pth"
    meta = {"categories": ["a", "b", "c"], "_metrics": {"ImageNet-1K": {"acc@1": 70.5}}}
    transforms = ImageClassification

def small_net(*, weights=None, progress=True, **kwargs):
    return Net(**{"num_classes": 3, **kwargs})

def segmenter(*, weights=None, progress=True, num_classes=None, aux_loss=None, weights_backbone="fetched", **kwargs):
    assert weights_backbone is None
    return Net(num_classes or 3, aux=bool(aux_loss))

def bare(*, weights=None, progress=True, num_classes=10, **kwargs):
    return Net(num_classes)

BUILDERS = {"small_net": small_net, "segmenter": segmenter, "bare": bare}

def list_models(module=None, include=None, exclude=None):
    return sorted(BUILDERS)

def get_model_builder(name):
    return BUILDERS[name]

def get_model_weights(name):
    if name == "bare":
        raise ValueError("The WeightsEnum class for the specific method couldn't be retrieved.")
    return SimpleNamespace(DEFAULT=Weights)

def get_model(name, **config):
    return BUILDERS[name](**config)
"""
)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of stand-ins that comes first on the path."""
    folder = tmp_path / "packages"
    files = {
        "timm/__init__.py": TIMM,
        "timm/data.py": TIMM_DATA,
        "torchvision/__init__.py": "from . import models",
        "torchvision/models.py": TORCHVISION_MODELS,
        "huggingface_hub/__init__.py": HUB,
        "huggingface_hub/constants.py": 'ENDPOINT = "https://hub.invalid"',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    names = ("timm", "torchvision", "huggingface_hub")
    real = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}
    for name in real:
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    sys.modules.update(real)


def spec_of(source: Source) -> LibrarySpec:
    assert isinstance(source.spec, LibrarySpec)
    return source.spec


def loaded(source: Source, kind: str) -> tuple[torch.nn.Module, LoadedWeights]:
    module = source.build(None, None)
    return module, load_weights(module, source.spec, kind, input_shape=source.input_shape)


@pytest.mark.usefixtures("packages")
def test_timm_states_its_input_its_preprocessing_and_its_labels() -> None:
    source = find_source("timm:small_net")
    assert (source.name, source.input_shape) == ("timm:small_net", (3, 24, 24))
    assert source.preprocess == Preprocess((24, 24), 26, "bicubic", (0.5,) * 3, (0.25,) * 3)
    assert source.labels == ("a", "b", "c", "d", "e")
    assert source.build(7, 1)(torch.zeros(1, 1, 24, 24)).shape == (1, 7)
    weights = spec_of(source).weights
    assert weights is not None
    assert weights.location == "https://hub.invalid/timm/small_net.v1/resolve/main/model.safetensors"
    squashed = find_source("timm:squashed")
    assert squashed.preprocess is not None
    assert squashed.preprocess.resize is None
    assert squashed.labels is not None
    assert squashed.labels[999] == "class 999"
    assert spec_of(squashed).weights.sha256 == "0123abcd"  # type: ignore[union-attr]
    # What cannot be said exactly is not said.
    assert find_source("timm:bordered").preprocess is None
    assert find_source("timm:foreign").spec.weights is None  # type: ignore[union-attr]


@pytest.mark.usefixtures("packages")
def test_torchvision_states_its_input_its_preprocessing_and_its_labels() -> None:
    source = find_source("torchvision:small_net")
    assert (source.name, source.input_shape) == ("torchvision:small_net", (3, 20, 20))
    assert source.preprocess == Preprocess((20, 20), 24, "bilinear", (0.5,) * 3, (0.25,) * 3)
    assert source.labels == ("a", "b", "c")
    assert source.build(7, 3)(torch.zeros(1, 3, 20, 20)).shape == (1, 7)
    # As it is with its weights, and without fetching those of a part.
    assert "aux.weight" in find_source("torchvision:segmenter").build(None, None).state_dict()
    bare = find_source("torchvision:bare")
    assert (bare.preprocess, bare.labels, bare.input_shape) == (None, None, (3, 224, 224))


def test_timms_own_weights_go_through_timm(packages: Path) -> None:
    """They have older names there, which only timm knows."""
    source = find_source("timm:small_net")
    trained = source.build(None, None)
    file = packages / "model.pth"
    older = {name.replace("conv.", "stem."): value for name, value in trained.state_dict().items()}
    torch.save(older, file)
    sys.modules["huggingface_hub"].FOUND = str(file)  # type: ignore[attr-defined]
    source = find_source("timm:small_net")
    weights = spec_of(source).weights
    assert weights is not None
    expected = LoadedWeights("default", weights.location, state_sha256(trained))
    assert loaded(source, "auto")[1] == loaded(source, "default")[1] == expected
    # As a file of the user's they are what they are: of other names.
    with pytest.raises(WeightsError, match="does not fit the network"):
        loaded(source, str(file))
    torch.save({"stem.weight": older["stem.weight"]}, file)
    with pytest.raises(WeightsError, match=r"timm:small_net does not load its own weights: Error\(s\) in"):
        loaded(source, "auto")
    changed = source.build(2, None)
    with pytest.raises(WeightsError, match=r"do not fit it as changed: see fc\.weight"):
        load_weights(changed, source.spec, "default", input_shape=(3, 24, 24))


def test_torchvisions_weights_are_found_in_torchs_cache(packages: Path) -> None:
    trained = find_source("torchvision:small_net").build(None, None)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(trained.state_dict(), packages / "state.pth")
    digits = hashlib.sha256((packages / "state.pth").read_bytes()).hexdigest()[:8]
    (packages / "state.pth").rename(folder / f"small_net-{digits}.pth")
    models = sys.modules["torchvision.models"]
    models.Weights.url = f"https://weights.invalid/small_net-{digits}.pth"  # type: ignore[attr-defined]
    source = find_source("torchvision:small_net")
    assert loaded(source, "auto")[1] == LoadedWeights(
        "default",
        models.Weights.url,
        state_sha256(trained),  # type: ignore[attr-defined]
    )


@pytest.mark.usefixtures("packages")
def test_without_a_way_to_the_weights_auto_takes_random_ones_and_default_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(url: str, target: Path, **_: object) -> Path:
        raise WeightsError(f"cannot fetch {url}: offline")

    monkeypatch.setattr("cnnport.weights.fetch", offline)
    source = find_source("timm:small_net")
    module, got = loaded(source, "auto")
    assert got.kind == "random"
    assert got.warning is not None
    assert "cannot fetch https://hub.invalid" in got.warning
    assert state_sha256(module) == loaded(source, "random")[1].sha256
    # Files of many networks have that name: in the cache it is made unique.
    with pytest.raises(
        WeightsError, match=f"{re.escape(str(cache_folder()))}/[0-9a-f]{{16}}-model.safetensors"
    ):
        loaded(source, "default")
    for model in ("timm:foreign", "torchvision:bare"):
        with pytest.raises(WeightsError, match=f"{model} has no official weights that are tensors in a file"):
            loaded(find_source(model), "default")


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("timm:small_net", (0, None), "at least 1"),
        ("torchvision:small_net", (0, None), "at least 1"),
        ("torchvision:small_net", (None, 1), "for 3 channels only, not 1"),
        ("torchvision:bare", (None, 0), "at least 1"),
    ],
)
def test_numbers_that_a_library_does_not_take(model: str, arguments: tuple, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_source(model).build(*arguments)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm:small_nt", "timm has no network 'small_nt': did you mean small_net"),
        ("timm:small_net.v9", "did you mean small_net.v1"),
        ("torchvision:segmentr", "did you mean segmenter"),
        ("timm:hf-hub:timm/small_net", "timm has no network"),
    ],
)
def test_names_that_a_library_does_not_have(model: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        find_source(model)


def test_a_library_that_is_missing_or_does_not_import(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (packages / "timm/__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    importlib.invalidate_caches()
    with pytest.raises(
        ModelError, match="does not import: operator nms does not exist\nit may not match torch"
    ):
        find_source("timm:small_net")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "timm" else find_spec(name, *rest)
    )
    assert main(["export", "timm:small_net"]) == 2
    assert capfd.readouterr().err == "error: timm is not installed: pip install timm\n"
    assert list(tmp_path.iterdir()) == [packages]


@pytest.mark.usefixtures("packages")
def test_from_the_command_line_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from cnnport.metadata import labels_of, preprocess_of
    from cnnport.onnxfile import read_artifact

    monkeypatch.chdir(tmp_path)
    assert default_path("timm:small_net.v1") == Path("small_net.v1.onnx")
    assert main(["export", "timm:small_net", "--weights", "random"]) == 0, capfd.readouterr().err
    artifact = read_artifact(tmp_path / "small_net.onnx")
    assert artifact.model == "timm:small_net"
    assert labels_of(artifact) == ("a", "b", "c", "d", "e")
    assert preprocess_of(artifact) == find_source("timm:small_net").preprocess
    assert main(["info", "torchvision:small_net", "--json"]) == 0
    assert '"labels": "3 class names"' in capfd.readouterr().out
    # A file does not make cnnport import the package that it names.
    from cnnport.errors import ArtifactError
    from cnnport.rebuild import module_of

    with pytest.raises(ArtifactError, match="timm:small_net is not a network of the zoo"):
        module_of(artifact)


# The stand-ins against the real packages.


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def fake(text: str) -> dict[str, object]:
    # Dataclasses look their module up by its name.
    names: dict[str, object] = {"__name__": __name__}
    exec(compile(text, "fake", "exec"), names)
    return names


def test_the_real_timm() -> None:
    timm = pytest.importorskip("timm")
    ours = fake(TIMM)
    for name in ("list_models", "get_pretrained_cfg", "create_model"):
        assert parameters(ours[name]) == parameters(getattr(timm, name)), name
    source = find_source("timm:resnet18.a1_in1k")
    assert source.preprocess == Preprocess(
        (224, 224), 235, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    assert source.labels is not None
    assert source.labels[0].startswith("tench")
    module = source.build(None, 1)
    assert module(torch.zeros(1, 1, 64, 64)).shape == (1, 1000)
    translate = spec_of(source).translate
    assert translate is not None
    state = source.build(None, None).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in translate(dict(state)).items())


def test_the_real_torchvision() -> None:
    models = pytest.importorskip("torchvision").models
    ours = fake(TORCHVISION_MODELS)
    for name in ("list_models", "get_model_builder", "get_model_weights", "get_model"):
        assert parameters(ours[name]) == parameters(getattr(models, name)), name
    source = find_source("torchvision:resnet18")
    assert source.preprocess == Preprocess(
        (224, 224), 256, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    weights = spec_of(source).weights
    assert weights is not None
    assert (weights.sha256, weights.top1) == ("f37072fd", 69.758)
    assert "aux_classifier.4.weight" in find_source("torchvision:fcn_resnet50").build(None, None).state_dict()

"""Networks of timm, by the names of ``timm.list_models()``, with or without the tag of their weights."""

import importlib
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnport.download import hash_in_name
from cnnport.libraries.library import (
    LibrarySpec,
    State,
    check_known,
    import_library,
    strings,
)
from cnnport.preprocess import Preprocess
from cnnport.registry import OfficialWeights

if TYPE_CHECKING:
    from torch import nn

_HUB = "https://huggingface.co"
_HUB_FILE = "model.safetensors"


def find(name: str) -> LibrarySpec:
    """Describe a network of timm, with the weights of its tag, or of its default tag.

    Raises:
        ModelError: If timm is not installed, or does not import.
        UnknownNameError: With the nearest names.
    """
    timm = import_library("timm")
    known = timm.list_models(pretrained=True) if "." in name else timm.list_models()
    check_known("timm", name, known, "timm.list_models()")
    config = timm.get_pretrained_cfg(name)
    weights = _published(config)

    def construct(num_classes: int | None, in_channels: int | None) -> Any:
        return timm.create_model(
            name, pretrained=False, exportable=True, num_classes=num_classes, in_chans=in_channels
        )

    def translate(state: State) -> State:
        # timm renames, converts and cuts older checkpoints while it loads them, in ways of each family's own.
        made: nn.Module = timm.create_model(
            name, pretrained=True, exportable=True, pretrained_cfg_overlay={"state_dict": state}
        )
        return made.state_dict()

    return LibrarySpec(
        name=f"timm:{name}",
        input_shape=tuple(config.input_size) if config else (3, 224, 224),
        preprocess=_preprocess(config) if config else None,
        labels=_labels(timm, config) if config and config.has_weights else None,
        weights=weights,
        construct=construct,
        local=_in_hub_cache(config) if weights else None,
        translate=translate,
    )


def _published(config: Any) -> OfficialWeights | None:
    """Where the weights are, in the order of timm's preference; None for formats that only timm can read."""
    if config is None or config.custom_load or config.file:
        return None
    if config.hf_hub_id:
        repository, revision, filename = _hub_file(config)
        location = f"{_hub()}/{repository}/resolve/{revision or 'main'}/{filename}"
    elif config.url:
        location = config.url if isinstance(config.url, str) else config.url[0]
    else:
        return None
    return OfficialWeights(location, hash_in_name(location.rsplit("/", 1)[-1]), math.nan, config.tag or "")


def _hub_file(config: Any) -> tuple[str, str | None, str]:
    """Repository, revision and name of a file on the hub."""
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or None, config.hf_hub_filename or _HUB_FILE


def _hub() -> str:
    # A mirror, where the user has set one.
    with suppress(ImportError):
        return str(importlib.import_module("huggingface_hub.constants").ENDPOINT)
    return _HUB


def _in_hub_cache(config: Any) -> Path | None:
    if not config.hf_hub_id:
        return None
    repository, revision, filename = _hub_file(config)
    with suppress(Exception):  # another version of an optional package is no reason to fail
        hub = importlib.import_module("huggingface_hub")
        found = hub.try_to_load_from_cache(repository, filename, revision=revision)
        return Path(found) if isinstance(found, str) else None
    return None


def _preprocess(config: Any) -> Preprocess | None:
    """The evaluation transform of timm, where it is one of those that ``Preprocess`` can say."""
    channels, height, width = config.input_size
    if (
        config.interpolation not in {"bilinear", "bicubic"}
        or height != width
        or not len(config.mean) == len(config.std) == channels
        or channels not in {1, 3}
    ):
        return None
    scaled = math.floor(height / config.crop_pct)
    if config.crop_mode == "center":
        resize = scaled
    elif config.crop_mode == "squash" and scaled == height:
        resize = None
    else:
        return None
    return Preprocess((height, width), resize, config.interpolation, tuple(config.mean), tuple(config.std))


def _labels(timm: Any, config: Any) -> tuple[str, ...] | None:
    """The configuration's own names, else those of the subset of ImageNet that timm takes it for."""
    if config.label_names:
        return strings(config.label_names)
    data = import_library(f"{timm.__name__}.data")
    subset = data.infer_imagenet_subset({"num_classes": config.num_classes})
    if subset is None:
        return None
    return strings(data.ImageNetInfo(subset).label_descriptions())

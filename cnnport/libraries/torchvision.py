"""Networks of torchvision, by the names of ``torchvision.models.list_models()``."""

import inspect
import math
from collections.abc import Callable
from typing import Any

from cnnport.download import hash_in_name
from cnnport.errors import ModelError
from cnnport.libraries.library import LibrarySpec, check_known, import_library, strings
from cnnport.preprocess import Preprocess
from cnnport.registry import OfficialWeights

_CHANNELS = 3
_DEFAULT_PX = 224


def find(name: str) -> LibrarySpec:
    """Describe a network of torchvision, with its default weights.

    Raises:
        ModelError: If torchvision is not installed, or does not import.
        UnknownNameError: With the nearest names.
    """
    models = import_library("torchvision").models
    check_known("torchvision", name, models.list_models(), "torchvision.models.list_models()")
    builder = models.get_model_builder(name)
    weights = _default_weights(models, name)
    transforms = None if weights is None else weights.transforms()
    preprocess = _preprocess(transforms)
    side = preprocess.size[0] if preprocess else _DEFAULT_PX
    arguments = _structure(builder, weights)

    def construct(num_classes: int | None, in_channels: int | None) -> Any:
        if in_channels not in {None, _CHANNELS}:
            raise ModelError(
                f"torchvision builds its networks for {_CHANNELS} channels only, not {in_channels}"
            )
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return models.get_model(name, weights=None, **arguments, **classes)

    return LibrarySpec(
        name=f"torchvision:{name}",
        input_shape=(_CHANNELS, side, side),
        preprocess=preprocess,
        labels=None if weights is None else strings(weights.meta.get("categories")),
        weights=None if weights is None else _published(weights),
        construct=construct,
    )


def _default_weights(models: Any, name: str) -> Any:
    try:
        return getattr(models.get_model_weights(name), "DEFAULT", None)
    except ValueError:  # torchvision's word for a network without any
        return None


def _published(weights: Any) -> OfficialWeights:
    filename = weights.url.rsplit("/", 1)[-1]
    metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
    return OfficialWeights(
        weights.url, hash_in_name(filename), float(metrics.get("acc@1", math.nan)), str(weights)
    )


def _structure(builder: "Callable[..., Any]", weights: Any) -> dict[str, Any]:
    """The arguments that torchvision itself sets for its weights: without them the network would be another one."""
    known = inspect.signature(builder).parameters
    # Detectors would fetch a backbone of their own.
    arguments: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in known else {}
    if weights is None:
        return arguments
    if "aux_loss" in known:
        arguments["aux_loss"] = True
    if builder.__name__ in {"googlenet", "inception_v3"}:
        arguments |= {"transform_input": True, "aux_logits": True, "init_weights": False}
    if builder.__module__.endswith("vision_transformer"):
        arguments["image_size"] = weights.meta["min_size"][0]
    return arguments


def _preprocess(transforms: Any) -> Preprocess | None:
    """What ``ImageClassification`` does; other tasks' transforms do not end in an input of one size."""
    if type(transforms).__name__ != "ImageClassification":
        return None
    interpolation = transforms.interpolation.value
    if interpolation not in {"bilinear", "bicubic"}:
        return None
    (crop,), (resize,) = transforms.crop_size, transforms.resize_size
    return Preprocess((crop, crop), resize, interpolation, tuple(transforms.mean), tuple(transforms.std))

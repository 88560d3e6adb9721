"""What a network of the zoo is, and how to find one by name. Imports no torch."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from typing import TYPE_CHECKING

from cnnport.errors import ModelError, UnknownNameError
from cnnport.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Paper:
    """Where a network was published."""

    title: str
    year: int | None
    arxiv: str | None = None

    def __str__(self) -> str:
        """Title, year and arXiv number."""
        place = ", ".join(str(part) for part in (self.year, self.arxiv and f"arXiv:{self.arxiv}") if part)
        return f"{self.title} ({place})" if place else self.title


@dataclass(frozen=True)
class OfficialWeights:
    """A published checkpoint.

    Attributes:
        location: An https URL, or the name of a file that ships in ``cnnport/data/weights``.
        sha256: The whole hash, or the prefix that the publisher puts into the file's name.
        top1: Accuracy in percent as published, on the data set that ``note`` names.
        note: Data set and protocol of ``top1``.
    """

    location: str
    sha256: str
    top1: float
    note: str

    @property
    def is_packaged(self) -> bool:
        """Whether the file ships with cnnport."""
        return "://" not in self.location

    @property
    def filename(self) -> str:
        """The last part of the location."""
        return self.location.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class ModelSpec:
    """A network: its builder and the facts that its definition is held to.

    Attributes:
        name: The name used everywhere; torchvision's where it has the network.
        family: The module of ``cnnport.models`` whose function of the same name builds it.
        input_shape: Channels, height, width of each input.
        classes: Number of classes, or of distances where the network compares pictures.
        params: Exact number of parameters.
        macs: Exact number of multiply-adds of convolutions and matrix products for one of each input.
        paper: The publication.
        preprocess: From a picture to the input, where the network takes one picture.
        weights: The official checkpoint, if there is one.
        labels: The set of class names, a file of ``cnnport/data`` without ``_labels.txt``.
        aliases: Other names that find it.
        output_shape: Of one output, without the batch; ``(classes,)`` if it is not given.
        params_with_aux: Parameters of the network with its auxiliary heads, where it has them.
        input_names: One for each input.
        output_name: What the output is.
        any_size: Whether it takes images of other sizes as well, and its export leaves height and width open.
        builder: Overrides the family's function; for networks registered from outside.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    classes: int
    params: int
    macs: int
    paper: Paper
    preprocess: Preprocess | None
    weights: OfficialWeights | None = None
    labels: str | None = None
    aliases: tuple[str, ...] = ()
    output_shape: tuple[int, ...] = ()
    params_with_aux: int | None = None
    input_names: tuple[str, ...] = ("input",)
    output_name: str = "logits"
    any_size: bool = False
    builder: "Callable[..., nn.Module] | None" = None

    def build(self, *, num_classes: int | None = None, in_channels: int | None = None) -> "nn.Module":
        """Instantiate the network with fresh parameters, in training mode.

        Raises:
            ModelError: If the numbers make no network.
        """
        classes = self.classes if num_classes is None else num_classes
        channels = self.input_shape[0] if in_channels is None else in_channels
        if classes < 1 or channels < 1:
            raise ModelError(f"{self.name}: the number of classes and of input channels is at least 1")
        builder = self.builder or getattr(import_module(f"cnnport.models.{self.family}"), self.name)
        module: nn.Module = builder(num_classes=classes, in_channels=channels)
        return module


_registered: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> None:
    """Add a network from outside the zoo under its name and aliases.

    Raises:
        ModelError: If one of the names is taken.
    """
    taken = _by_name()
    for name in (spec.name, *spec.aliases):
        if name in taken:
            raise ModelError(f"a network is already registered as {name!r}")
    for name in (spec.name, *spec.aliases):
        _registered[name] = spec


def specs() -> tuple[ModelSpec, ...]:
    """Every network, the zoo's in the order of its catalogue first."""
    return tuple(dict.fromkeys(_by_name().values()))


def names() -> tuple[str, ...]:
    """The name of every network, without aliases."""
    return tuple(spec.name for spec in specs())


def get(name: str) -> ModelSpec:
    """Find a network by name or alias.

    Raises:
        UnknownNameError: With the nearest names.
    """
    known = _by_name()
    if name not in known:
        raise UnknownNameError(f"no network is called {name!r}: {nearest(name, known, 'cnnport list')}")
    return known[name]


def nearest(name: str, known: Iterable[str], listing: str) -> str:
    """Advice for a mistyped name: the nearest known names, or where to find all."""
    options = list(known)
    lowered = name.lower().replace("-", "_")
    close = difflib.get_close_matches(lowered, options, n=3, cutoff=0.6)
    close += [option for option in options if lowered and option.startswith(lowered)][:3]
    if not close:
        return f"see {listing}"
    return "did you mean " + " or ".join(dict.fromkeys(close[:3])) + "?"


@cache
def labels(name: str) -> tuple[str, ...]:
    """Class names by index, from the set ``name``, such as ``imagenet``."""
    text = resources.files("cnnport.data").joinpath(f"{name}_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def _catalogue() -> dict[str, ModelSpec]:
    # Imported late: the catalogue is made of ModelSpecs and so imports this module.
    from cnnport.models import CATALOGUE

    found: dict[str, ModelSpec] = {}
    for spec in CATALOGUE:
        for name in (spec.name, *spec.aliases):
            if name in found:
                raise ModelError(f"the catalogue names {name!r} twice")
            found[name] = spec
    return found


def _by_name() -> dict[str, ModelSpec]:
    return {**_catalogue(), **_registered}

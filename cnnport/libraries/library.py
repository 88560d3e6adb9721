"""What is known of a network that another library defines, and how such a library is imported and called."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cnnport.errors import ModelError, UnknownNameError, first_line
from cnnport.preprocess import Preprocess
from cnnport.registry import OfficialWeights, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

State: TypeAlias = "dict[str, Tensor]"
Translate: TypeAlias = Callable[[State], State]


@dataclass(frozen=True)
class LibrarySpec:
    """A network of another library, as far as the library states it.

    Attributes:
        name: With the library's name before it, as in ``timm:resnet18``.
        input_shape: Channels, height, width of its input.
        preprocess: From a picture to the input.
        labels: Class names by index.
        weights: The library's pretrained weights, where they are a file that can be read safely. The accuracy is
            NaN where the library does not state it.
        local: The file of those weights, where the library's own cache has it.
        translate: From the names and shapes of that file to the network's.
        construct: Calls the library; takes ``num_classes`` and ``in_channels``, each a number or None.
    """

    name: str
    input_shape: tuple[int, int, int]
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None
    weights: OfficialWeights | None
    construct: "Callable[[int | None, int | None], Any]"
    local: Path | None = None
    translate: Translate | None = None
    input_names: tuple[str, ...] = ("input",)

    def build(self, *, num_classes: int | None = None, in_channels: int | None = None) -> "nn.Module":
        """Instantiate the network as the library does, without its weights.

        Raises:
            ModelError: If the library refuses, or the numbers make no network.
        """
        from torch import nn

        if any(number is not None and number < 1 for number in (num_classes, in_channels)):
            raise ModelError(f"{self.name}: the number of classes and of input channels is at least 1")
        try:
            built = self.construct(num_classes, in_channels)
        except ModelError:
            raise
        except Exception as error:  # whatever the library raises is told as its refusal
            wanted = {"num_classes": num_classes, "in_channels": in_channels}
            given = ", ".join(f"{key}={value}" for key, value in wanted.items() if value is not None)
            asked = f" with {given}" if given else ""
            raise ModelError(f"{self.name} cannot be built{asked}: {first_line(error)}") from error
        if not isinstance(built, nn.Module):
            raise ModelError(f"{self.name} is a {type(built).__name__}, not a torch.nn.Module")
        return built


def import_library(name: str) -> Any:
    """Import an optional package.

    Raises:
        ModelError: If it is not installed, or does not work here; compiled parts must match torch's version.
    """
    if importlib.util.find_spec(name) is None:
        raise ModelError(f"{name} is not installed: pip install {name}")
    try:
        return importlib.import_module(name)
    except Exception as error:  # a library that does not match torch raises nearly anything
        raise ModelError(
            f"{name} {_version(name)} does not import: {first_line(error)}\n"
            f"it may not match torch {_version('torch')}: install versions that belong together"
        ) from error


def check_known(library: str, name: str, known: list[str], listing: str) -> None:
    """See that the library has such a network.

    Raises:
        UnknownNameError: With the nearest names, or ``listing``, how to see all.
    """
    if name not in known:
        raise UnknownNameError(f"{library} has no network {name!r}: {nearest(name, known, listing)}")


def strings(values: Any) -> tuple[str, ...] | None:
    """A library's class names, if that is what it gives."""
    if not values or isinstance(values, Mapping | str):
        return None
    found = tuple(values)
    return found if all(isinstance(value, str) for value in found) else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of an unknown version"

"""Networks of other libraries: ``timm:NAME`` and ``torchvision:NAME``, where the user has those packages."""

from collections.abc import Callable

from cnnport.libraries.library import LibrarySpec, State, Translate

__all__ = ["LIBRARIES", "LibrarySpec", "State", "Translate", "find", "split"]


def _torchvision(name: str) -> LibrarySpec:
    from cnnport.libraries import torchvision

    return torchvision.find(name)


def _timm(name: str) -> LibrarySpec:
    from cnnport.libraries import timm

    return timm.find(name)


LIBRARIES: dict[str, Callable[[str], LibrarySpec]] = {"timm": _timm, "torchvision": _torchvision}


def split(model: str) -> tuple[str, str] | None:
    """The library and the name in ``timm:NAME``; None if ``model`` begins with no library's name."""
    library, colon, name = model.partition(":")
    return (library, name) if colon and library in LIBRARIES else None


def find(library: str, name: str) -> LibrarySpec:
    """Look up a network of a library, which is imported.

    Raises:
        ModelError: If the library is not installed or does not import.
        UnknownNameError: With the nearest names of the library.
    """
    return LIBRARIES[library](name)

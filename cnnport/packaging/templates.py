"""The files that packages share whatever the model is: they lie in ``templates/`` as they are."""

from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template

# What tools leave behind where templates are tried in place.
_LEFTOVERS = {"__pycache__", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def template_files(kind: str) -> dict[str, bytes]:
    """The contents of every file of ``templates/KIND`` by its name in that folder, with ``/`` between folders."""
    root = resources.files("cnnport.packaging").joinpath("templates", kind)
    return {name: file.read_bytes() for name, file in sorted(_walk(root, ""))}


def filled(text: bytes, values: Mapping[str, str]) -> bytes:
    """A template with ``$name`` and ``${name}`` replaced; ``$$`` is a dollar sign.

    Raises:
        KeyError: If the template names what there is no value for.
    """
    return Template(text.decode()).substitute(values).encode()


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.name in _LEFTOVERS:
            continue
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry

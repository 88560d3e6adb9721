"""What packages can be made for: the table. Their modules are imported when they are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from cnnport.errors import UnknownNameError

if TYPE_CHECKING:
    from cnnport.packaging.subject import Subject

Content: TypeAlias = bytes | Path
"""What a file of a package holds, or the file that it is copied from."""


@dataclass(frozen=True)
class Kind:
    """Something that packages are made for.

    Attributes:
        name: As ``--for`` takes it.
        module: Its ``files`` gives the package's files.
        summary: What comes out, in a few words.
    """

    name: str
    module: str
    summary: str

    def files(self, subject: "Subject") -> Mapping[str, Content]:
        """The files of a package by their names in it, with ``/`` between folders.

        Raises:
            CnnportError: If the subject cannot be packaged so.
        """
        made: Mapping[str, Content] = import_module(self.module).files(subject)
        return made


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("python", "cnnport.packaging.python_app", "a module that needs numpy and onnxruntime"),
            Kind(
                "node", "cnnport.packaging.node_app", "an ES module with types, a command and an HTTP server"
            ),
            Kind("web", "cnnport.packaging.web_app", "a static page that runs the model in the browser"),
            Kind("triton", "cnnport.packaging.triton_repository", "a model repository for Triton"),
        )
    }
)
"""Every kind by its name."""


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises ``UnknownNameError``."""
    if name not in KINDS:
        raise UnknownNameError(f"--for takes {', '.join(KINDS)}, not {name!r}")
    return KINDS[name]

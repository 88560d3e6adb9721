"""Names that the command line promises and for which this version has no adapter yet: they say so."""

from typing import NoReturn

from cnnport._version import __version__
from cnnport.artifact import Artifact
from cnnport.errors import RuntimeMissingError
from cnnport.runtimes.protocol import Options, Session
from cnnport.runtimes.settings import Setting


class AwaitedRuntime:
    """A runtime that is never available."""

    settings: tuple[Setting, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def missing(self) -> str:
        """That there is no adapter."""
        return f"cnnport {__version__} has no adapter for it yet"

    def version(self) -> str:
        """Raises ``RuntimeMissingError``."""
        self._refuse()

    def device(self) -> str:
        """Raises ``RuntimeMissingError``."""
        self._refuse()

    def open(self, artifact: Artifact, options: Options) -> Session:  # noqa: ARG002
        """Raises ``RuntimeMissingError``."""
        self._refuse()

    def placement(self, artifact: Artifact) -> dict[str, dict[str, int]]:  # noqa: ARG002
        """Raises ``RuntimeMissingError``."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeMissingError(f"runtime {self.name} is not available: {self.missing()}")

"""What all probes have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cnnport.measuring.profiling.kernels import Timed

if TYPE_CHECKING:
    from cnnport.runtimes import Options
    from cnnport.runtimes.protocol import Array


@dataclass(frozen=True)
class Wish:
    """How a file is to be run.

    Attributes:
        runtime: Its name.
        batch: Images a run.
        threads: Inside one run.
        settings: What is chosen of what the runtime offers.
        device: Which of several devices.
        deterministic: As of ``Options``.
    """

    runtime: str
    batch: int
    threads: int
    settings: Mapping[str, str] = field(default_factory=dict)
    device: int = 0
    deterministic: bool = False

    @property
    def options(self) -> "Options":
        """As the runtime takes them."""
        from cnnport.runtimes import Options

        return Options(
            threads=self.threads,
            settings=self.settings,
            device=self.device,
            deterministic=self.deterministic,
        )


class Probe(Protocol):
    """A launch that the runtime takes notes of."""

    def __call__(self) -> None:
        """Start a run."""

    def wait(self) -> None:
        """Return when it has finished."""

    def outputs(self) -> "dict[str, Array]":
        """As of a launch."""

    def begin(self) -> None:
        """The runs from here on are a turn."""

    def end(self) -> None:
        """The turn is over."""

    def kernels(self) -> tuple[Timed, ...]:
        """What ran, in its order, with the time in each turn; nothing runs any more.

        Raises:
            CheckFailedError: If the runtime's notes are not complete.
        """

    def close(self) -> None:
        """Free everything."""


class Turns:
    """Counts runs, and which of them are of a turn."""

    def __init__(self) -> None:
        self.runs = 0
        self._begun = 0
        self.turns: list[range] = []

    def begin(self) -> None:
        """The runs from here on are a turn."""
        self._begun = self.runs

    def end(self) -> None:
        """The turn is over."""
        self.turns.append(range(self._begun, self.runs))

"""What is tried: a form of the network on a runtime."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""The most accurate first."""


@dataclass(frozen=True)
class Variant:
    """A form of the network, which is one file.

    Attributes:
        target: Whose passes it has; one of ``graphs.passes.TARGETS``.
        precision: Of the file; one of ``PRECISIONS``.
    """

    target: str
    precision: str

    @property
    def name(self) -> str:
        """As files and records have it."""
        return f"{self.target}.{self.precision}"


@dataclass(frozen=True)
class Candidate:
    """A form of the network on a runtime.

    Attributes:
        variant: Which file.
        runtime: On what.
        threads: Inside one run.
        computes: Precision of the arithmetic: the file's, or another that the runtime is told.
        settings: What is chosen of what the runtime offers.
    """

    variant: Variant
    runtime: str
    threads: int
    computes: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def run(self) -> str:
        """File, runtime and settings: what decides about the answers, and no number of threads does."""
        told = " ".join(f"{name}={value}" for name, value in sorted(self.settings.items()))
        return f"{self.variant.name} on {self.runtime}{f' {told}' if told else ''}"

    @property
    def name(self) -> str:
        """All of it, for people and records."""
        return f"{self.run}, {self.threads} thread{'s' * (self.threads > 1)}"

    @property
    def rank(self) -> int:
        """Place of its arithmetic among the precisions; 0 is the most accurate."""
        return PRECISIONS.index(self.computes)

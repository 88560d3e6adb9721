"""What a rule of quantization says about operators."""

from dataclasses import dataclass
from enum import Enum, auto


class Role(Enum):
    """What an operator is to quantization."""

    PRODUCT = auto()
    """A sum of products of its input with constant weights: where 8 bits save time."""
    SUM = auto()
    """A residual sum."""
    SCALING = auto()
    """A product of two computed values: a gate and what it scales."""
    MEAN = auto()
    """An average of pixels."""
    JOIN = auto()
    """Values side by side."""
    MOVE = auto()
    """Every number of the result is one of the input: the same scale holds on both sides."""
    CURVE = auto()
    """A function of each number that an integer kernel looks up in a table."""
    BOUND = auto()
    """A lower and an upper bound, which quantizing behind it can enforce as well."""
    FLOAT = auto()
    """Anything else."""


class Reads(Enum):
    """Which inputs are to come from 8-bit numbers."""

    ALL = auto()
    FIRST = auto()
    SKIP = auto()
    """The branch of a residual sum that skips layers; see ``plan``."""
    NONE = auto()


class Writes(Enum):
    """Whether the result is to go to 8-bit numbers, beyond what those ask for that read it."""

    ALWAYS = auto()
    IF_READ = auto()
    """Only where an integer operator reads it; a float result costs nothing."""
    NEVER = auto()


@dataclass(frozen=True)
class Rule:
    """What happens to some operators.

    Attributes:
        operators: Of the standard's default domain.
        role: What they are to quantization.
        reads: Which inputs have to be quantized.
        writes: Whether the result has to be.
        reason: Why, in a sentence without its full stop.
    """

    operators: tuple[str, ...]
    role: Role
    reads: Reads
    writes: Writes
    reason: str

"""Where random decisions come from: hypothesis, which shrinks what fails, or a seed and a number, which is fast."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    """A source of decisions."""

    def pick(self, *options: T) -> T:
        """One of the options; the first is the simplest."""
        ...


class Seeded:
    """The decisions of one case of a run; the same on every machine."""

    def __init__(self, seed: int, case: int) -> None:
        self._random = random.Random(f"{seed}:{case}")

    def pick(self, *options: T) -> T:
        return options[self._random.randrange(len(options))]


class Drawn:
    """Decisions that hypothesis makes, and makes simpler when a test fails."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def pick(self, *options: T) -> T:
        return options[self._draw(_below(len(options)))] if len(options) > 1 else options[0]


@cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)

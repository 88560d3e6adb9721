"""Work in portions that fit a budget of memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def divided(items: Iterable[Item], size_of: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Portions in order, of which none is larger than ``most``, but for a single item that is.

    Args:
        items: In any number.
        size_of: Of an item, in bytes.
        most: Of a portion, in bytes.
    """
    portion: list[Item] = []
    held = 0
    for item in items:
        size = size_of(item)
        if portion and held + size > most:
            yield portion
            portion, held = [], 0
        portion.append(item)
        held += size
    if portion:
        yield portion

"""Where runtimes say that they compile, for whoever measures: they take no times themselves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[bool], None]] = []


@contextmanager
def compiling() -> Iterator[None]:
    """Around what a runtime compiles ahead of the first run: an engine, a network, a module."""
    for listener in _listeners:
        listener(True)
    try:
        yield
    finally:
        for listener in _listeners:
            listener(False)


@contextmanager
def listening(listener: Callable[[bool], None]) -> Iterator[None]:
    """Tell a listener while the block lasts: True when something begins to compile, False when it has ended."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

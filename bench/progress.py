"""How far a run of hours has come, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Tell: TypeAlias = Callable[[str, int, int], None]
"""Is told before every step: what is done with which, steps done, steps in all."""


@contextmanager
def progress() -> Iterator[Tell]:
    """A bar on standard error, or a line for each step where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("")

        def tell(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)
            if not console.is_terminal:
                console.print(f"[{done + 1}/{total}] {text}", markup=False)

        yield tell

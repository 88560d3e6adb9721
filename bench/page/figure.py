"""What a page is made of: sections of figures, each with its sentence, its drawing, its numbers and its command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Spec: TypeAlias = dict[str, Any]
"""A Vega-Lite specification whose data lies in it."""

Drawing: TypeAlias = Callable[[bool], Spec]
"""Gives the specification of a chart, for a narrow screen or a wide one."""


@dataclass(frozen=True)
class Table:
    """Numbers under a figure.

    Attributes:
        caption: What the rows are, with units.
        columns: Heads.
        rows: Cells, as many as heads; the first of each row names it.
        text: Columns that hold text, by position; the others are figures and set flush right.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Key:
    """What a colour and a shape mean.

    Attributes:
        text: The meaning.
        color: As the style sheet names it.
        shape: One of ``theme.SHAPES``.
        is_open: Whether only its outline is drawn.
    """

    text: str
    color: str
    shape: str = "square"
    is_open: bool = False


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: What it shows.
        says: What is to be seen in it, in sentences: whoever does not see the drawing reads this.
        tables: Its numbers, all of them.
        drawing: None where there is nothing to draw.
        keys: What colours and shapes mean.
        reading: How to read the drawing, beside that.
        command: Lines that make the figure again; empty where the inputs do not tell.
        command_note: What to know before it is run.
        is_open: Whether the tables are shown at once.
        is_folded: Whether all of it is behind its title: one of many of its kind.
    """

    title: str
    says: str
    tables: tuple[Table, ...] = ()
    drawing: Drawing | None = None
    keys: tuple[Key, ...] = ()
    reading: str = ""
    command: tuple[str, ...] = ()
    command_note: str = ""
    is_open: bool = False
    is_folded: bool = False


@dataclass(frozen=True)
class Section:
    """Figures that belong together.

    Attributes:
        title: Heading.
        lead: What the section is about, in a sentence.
        figures: At least one.
    """

    title: str
    lead: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Headline:
    """One figure in large type.

    Attributes:
        value: The number.
        unit: Of the number.
        label: What it is.
        detail: Of what.
    """

    value: str
    unit: str
    label: str
    detail: str


@dataclass(frozen=True)
class Remark:
    """A reason to doubt figures.

    Attributes:
        source: The file that it is about.
        text: The reason, and what would help.
        cases: What it holds for; empty where it is about all of the file.
    """

    source: str
    text: str
    cases: tuple[str, ...] = ()

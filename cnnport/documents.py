"""What the documents that the zoo was made from state of its networks, and where they err."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Correction:
    """A statement of a document that is wrong.

    Attributes:
        document: Title of the document.
        where: The part of it.
        says: What it states.
        correct: What holds instead.
        checked: How that is known: instantiated, by arithmetic, read, or recalled from the paper.
    """

    document: str
    where: str
    says: str
    correct: str
    checked: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.document}, {self.where}: says {self.says}; correct: {self.correct} ({self.checked})"


@dataclass(frozen=True)
class Documented:
    """What is known of a network from its sources.

    Attributes:
        documents: Titles of the documents that name it.
        statement: What they state, in short.
        notes: What its definition here depends on.
        published_params: Number of parameters as published, where that is another way of counting.
        published_accuracy: As published.
        corrections: Statements about it that are wrong.
    """

    documents: tuple[str, ...]
    statement: str
    notes: str
    published_params: str
    published_accuracy: str
    corrections: tuple[Correction, ...]


def documented(name: str) -> Documented | None:
    """What the documents say of a network of the zoo; None of one from outside."""
    data = _data()
    entry = data["networks"].get(name)
    if entry is None:
        return None
    titles = data["titles"]
    fields = ("where", "says", "correct", "checked")
    return Documented(
        documents=tuple(titles[number] for number in entry["documents"]),
        statement=entry["statement"],
        notes=entry.get("notes", ""),
        published_params=entry.get("published_params", ""),
        published_accuracy=entry.get("published_accuracy", ""),
        corrections=tuple(
            Correction(titles[row["document"]], *(row[field] for field in fields))
            for row in data["corrections"]
            if name in row["networks"]
        ),
    )


@cache
def _data() -> dict[str, Any]:
    text = resources.files("cnnport.data").joinpath("documents.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found

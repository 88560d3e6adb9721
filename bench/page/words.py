"""Text of a page: foreign names made harmless, numbers with about four digits, commands that may be pasted."""

import math
import re
import shlex
from collections.abc import Iterable, Sequence

NAME_LENGTH = 400
"""Characters of a name that are shown; what is longer is no name."""

_SAFE_WORD = re.compile(r"[\w@%+=:,./~-]+", re.ASCII)


def clean(text: object, length: int = NAME_LENGTH) -> str:
    """Foreign text in one line; what is not printable, such as marks that turn the direction, is shown as �."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def cut(text: str, length: int) -> str:
    """Text without its middle where it is longer: names of layers differ at their ends."""
    if len(text) <= length:
        return text
    head = (length - 1) // 3
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def number(value: float | None) -> str:
    """About four digits; empty for what is not known."""
    if value is None or not math.isfinite(value):
        return ""
    size = abs(value)
    if size and not 1e-4 <= size < 1e7:
        return f"{value:.2e}"
    places = 0 if size >= 1000 or value == int(value) else 1 if size >= 100 else 2 if size >= 10 else 3
    if size and size < 0.1:
        places = 2 - math.floor(math.log10(size))
    return f"{value:,.{places}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def milliseconds(value_ms: float | None) -> str:
    """With the unit."""
    return "" if value_ms is None else f"{number(value_ms)} ms"


def percent(share: float | None, places: int = 1) -> str:
    """A share of 1 in per cent."""
    return "" if share is None or not math.isfinite(share) else f"{share * 100:.{places}f} %"


def signed_percent(share: float, places: int = 0) -> str:
    """A change of a share of 1 in per cent, with its sign."""
    return f"{share * 100:+.{places}f} %".replace("-", "\N{MINUS SIGN}")


def megabytes(count: float | None) -> str:
    """Millions of bytes."""
    return "" if count is None else f"{number(count / 1e6)} MB"


def times(ratio: float) -> str:
    """How many times."""
    return f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def plural(count: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(items: Iterable[str], limit: int = 4) -> str:
    """``a, b and c``; of many, the first and how many others there are."""
    names = list(items)
    if len(names) > limit:
        names = [*names[: limit - 1], f"{len(names) - limit + 1} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def command(words: Sequence[str]) -> str:
    """A command line for a POSIX shell in which no foreign name is more than an argument."""
    quoted = (clean(word) for word in words)
    return " ".join(word if _SAFE_WORD.fullmatch(word) else shlex.quote(word) for word in quoted)


def own_command(text: str) -> str | None:
    """A command that a record states, quoted anew; None unless it is one of cnnport's."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    return command(words) if words[:1] == ["cnnport"] else None


def file_word(name: str) -> str:
    """The name of a file as an argument that is not taken for an option."""
    return f"./{name}" if name.startswith("-") else name


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def slug(text: str) -> str:
    """An identifier for an address within the page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "figure"

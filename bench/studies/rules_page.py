"""The tables of docs/quantization.md, made from the rules: ``python -m cnnport.measuring.studies.rules_page docs``.

A table stands between two comments that name it, ``<!-- ort -->`` and ``<!-- end of ort -->``. What is written
around them is left alone.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx_ir as ir

from cnnport.errors import CnnportError
from cnnport.files import write_atomically
from cnnport.graphs.quantize.preparation import PREPARATION
from cnnport.graphs.quantize.rule import Reads, Role, Rule, Writes
from cnnport.graphs.quantize.rules import PRINCIPLES, RULES, rule_of

PAGE = "quantization.md"

_MARK = re.compile(r"<!-- (end of )?(\w+) -->")

_READS = {
    Reads.ALL: "all inputs",
    Reads.FIRST: "input",
    Reads.SKIP: "the branch that skips",
    Reads.NONE: "as it comes",
}
_WRITES = {
    Writes.ALWAYS: "always",
    Writes.IF_READ: "if read in 8 bits",
    Writes.NEVER: "as readers ask",
}


def main(arguments: list[str] | None = None) -> int:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnport.measuring.studies.rules_page", description=__doc__
    )
    parser.add_argument("folder", type=Path, help=f"where {PAGE} is")
    path = parser.parse_args(arguments).folder / PAGE
    try:
        write_atomically(path, filled(path.read_text(encoding="utf-8")).encode())
    except (CnnportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def tables() -> dict[str, str]:
    """All tables as Markdown, by the names of their places."""
    return {
        **{target: _of_target(target) for target in RULES},
        "preparation": _table(("target", "pass", "what it does"), _passes()),
        "principles": _table(("subject", "what holds"), PRINCIPLES.items()),
    }


def filled(page: str) -> str:
    """The page with its tables as the rules have them now.

    Raises:
        CnnportError: If a table has not exactly one place on it, or a place no table.
    """
    made = tables()
    marks = [(match[1] is not None, match[2]) for match in _MARK.finditer(page)]
    expected = [
        (is_end, name) for name in dict.fromkeys(name for _, name in marks) for is_end in (False, True)
    ]
    if marks != expected or {name for _, name in marks} != set(made):
        raise CnnportError(
            f"the page must have <!-- NAME --> and <!-- end of NAME --> once for each of {', '.join(made)}"
        )
    for name, text in made.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}\n{text}{end}{rest.partition(end)[2]}"
    return page


def _of_target(target: str) -> str:
    # What no rule names: an operator of a domain of its own is such a one for certain.
    others = rule_of(ir.node("Any", [], domain="others"), target)
    rows = [(", ".join(rule.operators), *_done(rule), rule.reason) for rule in RULES[target]]
    return _table(
        ("operators", "reads 8 bits", "writes 8 bits", "why"),
        [*rows, ("all others", *_done(others), others.reason)],
    )


def _done(rule: Rule) -> tuple[str, str]:
    match rule.role:
        case Role.FLOAT:
            return "float", "float"
        case Role.PRODUCT:
            return f"{_READS[rule.reads]}, weights", _WRITES[rule.writes]
        case Role.BOUND | Role.MOVE if rule.reads is Reads.NONE:
            return _READS[rule.reads], "as it comes"
        case _:
            return _READS[rule.reads], _WRITES[rule.writes]


def _passes() -> Iterator[tuple[str, str, str]]:
    for target, passes in PREPARATION.items():
        for each in passes:
            first = (each.__doc__ or "").partition("\n")[0]
            yield target, f"`{each.__name__}`", first.rstrip(".")
        if not passes:
            yield target, "none", ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

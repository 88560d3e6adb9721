"""The table of the study of packages, in a page that is otherwise written by hand."""

from collections.abc import Iterator

from cnnport.agreement.page import markdown_table
from cnnport.errors import ArtifactError
from cnnport.measuring.record import Json

BEGIN = "<!-- Made by python -m cnnport.measuring.studies.embedding -->"
END = "<!-- End of what is made -->"

_COLUMNS = ("network", "preprocessing", "package", "same class", "off PyTorch", "allowed", "off ort-cpu", "")
_TEXTS = ("network", "preprocessing", "package", "")


def with_table(page: str, document: Json) -> str:
    """A page with the table of a record between its two marks.

    Raises:
        ArtifactError: If the page has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ArtifactError(f"the page has no place for the table: it lies between {BEGIN} and {END}")
    return "\n".join((f"{before}{BEGIN}", "", *_table(document), "", f"{END}{after}"))


def _table(document: Json) -> Iterator[str]:
    count = document["count"]
    cells = [
        (
            f"{row['network']} ({'random' if document['networks'][row['network']] == 'random' else 'trained'})",
            row["preprocess"],
            row["way"],
            f"{row['top1_agreement']} of {count}",
            _figure(row["max_abs"]),
            _figure(row["allowed"]),
            _figure(row["max_abs_ort_cpu"]),
            "" if row["pass"] else "DEPARTS",
        )
        for row in document["rows"]
    ]
    yield from markdown_table(_COLUMNS, cells, _TEXTS)
    if document["skipped"]:
        yield ""
    for each in document["skipped"]:
        yield f"- not run: {each['network']}, {each['preprocess']}, {each['way']}: {each['reason']}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}" if value else "0"

"""The page: everything in one HTML file that asks nothing of anybody and runs no script.

Jinja escapes whatever goes in; only drawings, which ``draw`` made, and the style sheet go in as they are. A content
security policy in the page itself forbids all else.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cnnport._version import __version__
from cnnport.files import write_atomically
from cnnport.measuring.page.accuracy import accuracy_section
from cnnport.measuring.page.charts.theme import SHAPE_PATHS
from cnnport.measuring.page.contents import Contents, contents_of
from cnnport.measuring.page.documents import GRAPH, KINDS, Document, read_documents
from cnnport.measuring.page.draw import draw, require_extra
from cnnport.measuring.page.figure import Figure, Section
from cnnport.measuring.page.gate import gate_section
from cnnport.measuring.page.graphs import graphs_section
from cnnport.measuring.page.latency import latency_section, throughput_section
from cnnport.measuring.page.layers import layers_section
from cnnport.measuring.page.machine import environments, machine_section
from cnnport.measuring.page.measured import rows_of
from cnnport.measuring.page.parity import parity_section
from cnnport.measuring.page.quantized import quantized_section
from cnnport.measuring.page.summary import best_table, headlines, remarks, sentences
from cnnport.measuring.page.tuned import tuned_section
from cnnport.measuring.page.words import clean, command, file_word, listed, plural, slug


@dataclass(frozen=True)
class Drawn:
    """A figure with its drawings, for a wide screen and a narrow one; without any, both are empty."""

    figure: Figure
    name: str
    wide: str
    narrow: str


def write_page(paths: Sequence[Path], target: Path, *, title: str | None = None) -> None:
    """Make a page of results and write it, whole or not at all.

    Args:
        paths: Of files of any kind that ``documents`` reads.
        target: An existing file is replaced.
        title: Its heading; by default the networks that it is about.

    Raises:
        DocumentError: If a file is damaged, or of no kind that is known.
        ReportExtraMissingError: If what draws charts is not installed.
        OutputError: If the file system refuses.
    """
    write_atomically(target, make_page(paths, title=title, output=target.name).encode())


def make_page(paths: Sequence[Path], *, title: str | None = None, output: str = "report.html") -> str:
    """The page as text: the same for the same files.

    Args:
        paths: As of ``write_page``.
        title: Likewise.
        output: Name of the file, for the command that makes it again.

    Raises:
        DocumentError: As of ``write_page``.
        ReportExtraMissingError: Likewise.
    """
    require_extra()
    import jinja2
    import markupsafe

    contents = contents_of(read_documents(paths))
    templates = files(__package__) / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((templates / "page.html").read_text(encoding="utf-8"))
    names: set[str] = set()
    sections = [
        (section, _free(slug(section.title), names), [_drawn(figure, names) for figure in section.figures])
        for section in sections_of(contents)
    ]
    words = ["cnnport", "report", *(file_word(each.name) for each in paths), "-o", file_word(output)]
    return template.render(
        title=clean(title) if title else default_title(contents),
        style=markupsafe.Markup((templates / "page.css").read_text(encoding="utf-8")),  # noqa: S704
        made_of=made_of(contents),
        dates=dates(contents),
        headlines=headlines(contents),
        sentences=sentences(contents),
        best=best_table(contents),
        remarks=remarks(contents),
        sections=sections,
        shapes=SHAPE_PATHS,
        inputs=[(each.label, _noun(each.kind), sha256[:16]) for each, sha256 in _hashed(contents.documents)],
        command=command([*words, "--title", clean(title)] if title else words),
        version=__version__,
    )


def sections_of(contents: Contents) -> tuple[Section, ...]:
    """In the order in which somebody who is to deploy a network asks."""
    found = (
        gate_section(contents.benchmarks),
        latency_section(contents.benchmarks),
        throughput_section(contents.benchmarks),
        accuracy_section(contents.evaluations, contents.benchmarks),
        tuned_section(contents.tunings),
        quantized_section(contents.quantizations),
        parity_section(contents.parities),
        layers_section(contents.profiles),
        graphs_section(contents.graphs),
        machine_section(environments(contents.benchmarks, contents.profiles)),
    )
    return tuple(section for section in found if section is not None)


def default_title(contents: Contents) -> str:
    """The networks that a page is about."""
    rows = rows_of(contents.benchmarks)
    models = dict.fromkeys(
        [
            *(row.model for row in rows),
            *(each.record.model for each in contents.profiles),
            *(each.model for each in contents.evaluations),
            *(each.model for each in contents.tunings),
        ]
    )
    graphs = [each.name for each in contents.graphs]
    names = list(models) or graphs or [each.name for each in contents.quantizations]
    return listed(names, 3) or "Parity"


def made_of(contents: Contents) -> str:
    """How many documents of which kind, in words."""
    counts: dict[str, int] = {}
    for each in contents.documents:
        counts[each.kind] = counts.get(each.kind, 0) + 1
    said = listed([plural(count, _noun(kind)) for kind, count in counts.items()], 8)
    rows = rows_of(contents.benchmarks)
    if rows:
        models, runtimes = ({getattr(row, name) for row in rows} for name in ("model", "runtime"))
        said += (
            f"; {plural(len(rows), 'measured case')} of {plural(len(models), 'network')} on "
            f"{plural(len(runtimes), 'runtime')}"
        )
    return said


def dates(contents: Contents) -> str:
    """When the measurements began, from the first to the last day."""
    days = sorted(
        {
            each.date_utc[:10]
            for _, each in environments(contents.benchmarks, contents.profiles)
            if each.date_utc
        }
    )
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


def _noun(kind: str) -> str:
    return "ONNX file" if kind == GRAPH else next(each.noun for each in KINDS if each.name == kind)


def _hashed(documents: Sequence[Document]) -> list[tuple[Document, str]]:
    by_path = {each.path: each for each in documents}
    return [(each, hashlib.sha256(each.path.read_bytes()).hexdigest()) for each in by_path.values()]


def _drawn(figure: Figure, names: set[str]) -> Drawn:
    import markupsafe

    name = _free(slug(figure.title), names)
    drawings: list[str] = ["", ""]
    if figure.drawing is not None:
        told = f"{name}-title {name}-says"
        drawings = [
            # draw escapes whatever is foreign in it.
            markupsafe.Markup(  # noqa: S704
                draw(figure.drawing(narrow), name=f"{name}-{kind}", kind=kind, labelled_by=told)
            )
            for narrow, kind in ((False, "wide"), (True, "narrow"))
        ]
    return Drawn(figure, name, *drawings)


def _free(name: str, names: set[str]) -> str:
    """An identifier that is not taken yet, which it then is."""
    free = next(
        each
        for number in range(1, len(names) + 2)
        if (each := name if number == 1 else f"{name}-{number}") not in names
    )
    names.add(free)
    return free

"""Reading what a page is made of: each file is of one kind, and says which by what is in it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cnnport.errors import ArtifactError, CnnportError, first_line
from cnnport.measuring.page.words import clean

if TYPE_CHECKING:
    import onnx

LARGEST_BYTES = 512 * 2**20
"""Above this a JSON file is no record: it would fill the memory."""


class DocumentError(CnnportError):
    """A file is none of what a page is made of, or is damaged."""


@dataclass(frozen=True)
class Kind:
    """One kind of document.

    Attributes:
        name: For code.
        noun: For people.
        made_by: The command that makes it.
        fits: Whether a JSON object is one.
    """

    name: str
    noun: str
    made_by: str
    fits: Callable[[dict[str, Any]], bool]


def _has(**kinds: type | tuple[type, ...]) -> Callable[[dict[str, Any]], bool]:
    return lambda body: all(isinstance(body.get(name), kind) for name, kind in kinds.items())


# From the particular to the general: the first that fits is it.
KINDS = (
    Kind("profile", "profile", "cnnport profile -o", lambda body: "cnnport_profile" in body),
    Kind("bench", "benchmark", "cnnport bench -o", _has(environment=dict, results=list)),
    Kind("quantize", "quantization report", "cnnport quantize --report", _has(judged=dict, pareto=list)),
    Kind("optimize", "optimisation", "cnnport optimize --json", _has(ops=dict, bytes=dict)),
    Kind("export", "export", "cnnport export --json", _has(steps=list, opset=int)),
    Kind("tune", "tuning report", "cnnport tune --report", lambda body: "cnnport_tune" in body),
    Kind("parity", "parity check", "cnnport parity --json", _has(rows=list, **{"pass": bool})),
    Kind("evaluate", "evaluation", "cnnport evaluate --json", _has(runtime=str, top1=(int, float))),
)

GRAPH = "graph"
"""The kind of an ONNX file, which is no JSON; two of them are a comparison."""


@dataclass(frozen=True)
class Document:
    """One file, read.

    Attributes:
        path: Where it lies.
        kind: Name of its kind.
        body: The JSON object; empty for an ONNX file.
        label: Its name, fit to be shown.
    """

    path: Path
    kind: str
    body: dict[str, Any]
    label: str


def read_documents(paths: Sequence[Path]) -> tuple[Document, ...]:
    """Read files, in order; a file that is named twice counts once.

    A JSON list is as many documents as it has items.

    Raises:
        DocumentError: If one cannot be read, is damaged, or of no kind that is known.
    """
    if not paths:
        raise DocumentError(f"a page is made of results: {kinds_in_words()}")
    found: dict[Path, tuple[Document, ...]] = {}
    for path in paths:
        if path.resolve() not in found:
            found[path.resolve()] = _read(path)
    documents = tuple(document for entry in found.values() for document in entry)
    graphs = [document for document in documents if document.kind == GRAPH]
    if len(graphs) % 2:
        raise DocumentError(
            f"{graphs[-1].path} has no other to be compared with: ONNX files come in pairs, before and after"
        )
    return documents


def kinds_in_words() -> str:
    """What can be read, for a message."""
    known = ", ".join(f"{kind.noun} ({kind.made_by})" for kind in KINDS)
    return f"{known}, or two .onnx files, before and after"


def _read(path: Path) -> tuple[Document, ...]:
    label = clean(path.name)
    try:
        if path.suffix.lower() == ".onnx":
            if not path.is_file():
                raise DocumentError(f"{path}: no such file")
            return (Document(path, GRAPH, {}, label),)
        if path.stat().st_size > LARGEST_BYTES:
            raise DocumentError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB: no record is")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is no text. A page is made of {kinds_in_words()}") from error
    try:
        body = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not JSON, or is damaged: {first_line(error)}") from error
    items = body if isinstance(body, list) and body else [body]
    return tuple(Document(path, _kind_of(item, path).name, item, label) for item in items)


def _kind_of(body: object, path: Path) -> Kind:
    if isinstance(body, dict):
        for kind in KINDS:
            if kind.fits(body):
                return kind
    raise DocumentError(f"{path} is of no kind that is known. A page is made of {kinds_in_words()}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class Fields:
    """A JSON object whose fields are taken by type; what is wrong is named with the file."""

    def __init__(self, body: object, path: Path, where: str = "") -> None:
        if not isinstance(body, dict):
            raise DocumentError(f"{path} is damaged: {where or 'it'} is no object")
        self._body, self._path, self._where = body, path, where

    def text(self, name: str, default: str | None = None) -> str:
        """A string, fit to be shown."""
        return clean(self._take(name, str, default))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, fit to be shown; empty where there is none."""
        items = self._take(name, list, [])
        if not all(isinstance(item, str) for item in items):
            self._fail(name, "a list of texts")
        return tuple(map(clean, items))

    def number(self, name: str) -> float:
        """A finite number."""
        found = self.number_or_none(name)
        if found is None:
            self._fail(name, "a number")
        return found

    def number_or_none(self, name: str) -> float | None:
        """A finite number; None for null and for what is not there."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            self._fail(name, "a number")
        return float(value)

    def count(self, name: str) -> int:
        """A whole number of at least 0."""
        value = self._body.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            self._fail(name, "a whole number")
        return value

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """True or false."""
        value = self._body.get(name, default)
        if not isinstance(value, bool):
            self._fail(name, "true or false")
        return value

    def one(self, name: str) -> "Fields":
        """An object."""
        return Fields(self._take(name, dict, None), self._path, name)

    def one_or_none(self, name: str) -> "Fields | None":
        """An object; None for null and for what is not there."""
        return None if self._body.get(name) is None else self.one(name)

    def many(self, name: str) -> tuple["Fields", ...]:
        """A list of objects; empty where there is none."""
        return tuple(Fields(item, self._path, f"an item of {name}") for item in self._take(name, list, []))

    def counts(self, name: str) -> dict[str, int]:
        """Whole numbers by name; empty where there are none."""
        inner = Fields(self._take(name, dict, {}), self._path, name)
        return {clean(key): inner.count(key) for key in inner._body}

    def numbers(self, name: str) -> dict[str, float]:
        """Numbers by name; what is null is left out."""
        inner = Fields(self._take(name, dict, {}), self._path, name)
        found = {clean(key): inner.number_or_none(key) for key in inner._body}
        return {key: value for key, value in found.items() if value is not None}

    def _take(self, name: str, kind: type, default: Any) -> Any:
        value = self._body.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind):
            self._fail(name, "a text" if kind is str else "a list" if kind is list else "an object")
        return value

    def _fail(self, name: str, kind: str) -> NoReturn:
        where = f" of {self._where}" if self._where else ""
        raise DocumentError(f"{self._path} is damaged: {clean(name, 60)!r}{where} is not {kind}")


def check_graph(path: Path) -> "onnx.ModelProto":
    """The parsed ONNX file, without data that lies elsewhere. Raises ``DocumentError``."""
    from cnnport.onnxfile import load_model

    try:
        return load_model(path, external_data=False)
    except ArtifactError as error:
        raise DocumentError(str(error)) from error

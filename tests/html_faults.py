"""What is wrong with a page that is to work from a file, without a network, without a script, and for everybody."""

from html.parser import HTMLParser

VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "source", "wbr"})
ADDRESSES = frozenset({"action", "data", "formaction", "href", "poster", "src", "srcset", "xlink:href"})
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


class Page(HTMLParser):
    """A page that is read.

    Attributes:
        faults: What was found to be wrong with it.
        texts: The text of every element that has one, by its tag.
        marks: For each drawing its class, the title of its figure, and how many marks of data it has.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.marks: list[tuple[str, str, int]] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._ids: list[str] = []
        self._asked: list[str] = []
        self._levels: list[int] = []
        self._title = ""
        self._captioned = True
        self.feed(html)
        self.close()
        self._finish()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self._look(tag, own)
        parent = self._open[-1] if self._open else ("", {})
        if tag in {"path", "rect", "line", "g"} and parent[1].get("class") == "data":
            kind, title, count = self.marks[-1]
            self.marks[-1] = (kind, title, count + 1)
        if tag == "svg" and own.get("role") == "img":
            self.marks.append((own.get("class", ""), self._title, 0))
        if tag not in VOID:
            self._open.append((tag, own))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self.faults.append(f"</{tag}> closes nothing")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        tag = self._open[-1][0] if self._open else ""
        self.texts.setdefault(tag, []).append(data)
        if tag == "h3":
            self._title = data
        if tag == "style" and ("url(" in data or "@import" in data):
            self.faults.append("the style sheet fetches something")

    def _look(self, tag: str, own: dict[str, str]) -> None:
        if tag in {"script", "iframe", "object", "embed", "base", "form"}:
            self.faults.append(f"there is a <{tag}>")
        for name, value in own.items():
            if name.startswith("on"):
                self.faults.append(f"<{tag}> has {name}")
            if name in ADDRESSES and not value.startswith("#") and value != "data:,":
                self.faults.append(f"<{tag}> asks for {value}")
            if "url(" in value and not value.startswith("url(#"):
                self.faults.append(f"<{tag}> fetches {value}")
            if value.startswith("url(#"):
                self._asked.append(value[5:-1])
        if "id" in own:
            self._ids.append(own["id"])
        self._asked += own.get("aria-labelledby", "").split()
        if own.get("href", "").startswith("#"):
            self._asked.append(own["href"][1:])
        if tag in HEADINGS:
            self._levels.append(HEADINGS.index(tag) + 1)
        if tag == "th" and own.get("scope") not in {"row", "col"}:
            self.faults.append("a <th> has no scope")
        if tag == "img" and "alt" not in own:
            self.faults.append("an <img> has no alt")
        if tag == "svg" and own.get("role") == "img" and not own.get("aria-labelledby"):
            self.faults.append("a drawing has no text that says what it shows")
        if not self._captioned and tag != "caption":
            self.faults.append("a table has no caption")
        self._captioned = tag != "table"

    def _finish(self) -> None:
        self.faults += [f"<{tag}> is not closed" for tag, _ in self._open]
        self.faults += [
            f"the identifier {name} is there twice" for name in set(self._ids) if self._ids.count(name) > 1
        ]
        self.faults += [f"nothing is called {name}" for name in set(self._asked) - set(self._ids)]
        if self._levels.count(1) != 1:
            self.faults.append("there is not one <h1>")
        steps = zip(self._levels, self._levels[1:], strict=False)
        self.faults += [f"<h{low}> is followed by <h{high}>" for low, high in steps if high > low + 1]

"""A chart's specification drawn as SVG for a page: no script, no font, no address, no colour of its own.

Vega-Lite draws, by way of vl-convert, which needs neither a browser nor a network. What comes out is then cut down:
identifiers that cannot clash on a page, one description instead of one for each mark, for each mark that stands for
something measured a title that the pointer shows, and two decimal places, so that the last bit of a processor's
arithmetic is not in the page.
"""

import json
import re
from xml.etree import ElementTree as ET

from cnnport.errors import CnnportError
from cnnport.measuring.page.charts.theme import DATA
from cnnport.measuring.page.figure import Spec

VEGA_LITE = "6.1"
"""The version of Vega-Lite that specifications are written for."""

_NAMESPACE = re.compile(r"^\{[^}]*\}")
_LONG_DECIMALS = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?|-?\d+(?:\.\d+)?e-?\d+")
_ADDRESS = re.compile(r"url\(#([^)]*)\)")
_DROPPED = frozenset(
    {
        "font-family",
        "pointer-events",
        "role",
        "aria-roledescription",
        "aria-hidden",
        "aria-label",
        "class",
        "id",
    }
)


class ReportExtraMissingError(CnnportError):
    """What draws charts is not installed. Exit code 3, as for a runtime that is not."""

    exit_code = 3


def require_extra() -> None:
    """Raises ``ReportExtraMissingError``, with the command that installs what is missing."""
    try:
        import jinja2
        import vl_convert
    except ImportError as error:
        raise ReportExtraMissingError(
            f"a page is drawn with {error.name or 'a package'}, which is missing: pip install 'cnnport[report]'"
        ) from error
    del jinja2, vl_convert


def draw(spec: Spec, *, name: str, kind: str, labelled_by: str) -> str:
    """One SVG element.

    Args:
        spec: Vega-Lite, with its data in it.
        name: Begins every identifier in it.
        kind: Class of the element.
        labelled_by: Identifiers of the texts that say what it shows.

    Raises:
        ReportExtraMissingError: If vl-convert is not installed.
    """
    require_extra()
    import vl_convert

    # As text, so that the order of keys is that of the specification.
    text = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE, allowed_base_urls=[])
    # Not foreign XML: vl-convert made it, and names in it are escaped.
    root = ET.fromstring(text)  # noqa: S314
    numbers: dict[str, str] = {}
    _clean(root, name, numbers, is_data=False)
    _drop_nothings(root)
    size = {key: root.get(key, "0") for key in ("width", "height")}
    root.attrib.clear()
    root.attrib.update(
        {
            "class": kind,
            "role": "img",
            "aria-labelledby": labelled_by,
            "viewBox": f"0 0 {size['width']} {size['height']}",
            **size,
        }
    )
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, name: str, numbers: dict[str, str], *, is_data: bool) -> None:
    element.tag = _NAMESPACE.sub("", element.tag)
    classes = (element.get("class") or "").split()
    starts_data = f"{DATA}_marks" in classes
    # Each mark of such a group has a label of its own; the group itself has none worth reading.
    told = element.get("aria-label") if is_data and not starts_data else None
    own = element.get("id")
    for key in list(element.attrib):
        value = element.attrib[key]
        if key in _DROPPED or _NAMESPACE.match(key) or (key, value) == ("opacity", "1"):
            del element.attrib[key]
        else:
            element.attrib[key] = _ADDRESS.sub(
                lambda found: f"url(#{_number(found[1], name, numbers)})", _LONG_DECIMALS.sub(_rounded, value)
            )
    if own is not None:
        element.set("id", _number(own, name, numbers))
    if starts_data:
        element.set("class", DATA)
    for child in element:
        _clean(child, name, numbers, is_data=is_data or starts_data)
    if told:
        title = ET.Element("title")
        title.text = told
        element.insert(0, title)


def _number(identifier: str, name: str, numbers: dict[str, str]) -> str:
    return numbers.setdefault(identifier, f"{name}-{len(numbers)}")


def _rounded(found: re.Match[str]) -> str:
    return f"{round(float(found[0]), 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def _drop_nothings(element: ET.Element) -> None:
    """Take out paths that draw nothing and groups that hold nothing, except those that data is counted in."""
    for child in list(element):
        _drop_nothings(child)
        invisible = child.tag == "path" and not (child.get("fill") or child.get("stroke"))
        empty = child.tag == "g" and not len(child) and child.get("class") != DATA
        if (invisible or empty or child.get("display") == "none") and element.tag != "clipPath":
            element.remove(child)

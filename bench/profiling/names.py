"""From a node's name to where it comes from.

Exported files name a node after its module and operator (``layer1.0.conv1/Conv``, and ``_1`` behind it for the second
of that kind), and passes name what they make after what they replace, with words in lower case behind it
(``Conv_part_2``, ``Relu:0_ch_split``). So the name before the passes is the beginning of every name. What bears the
name of no module is of the one whose weights it reads. What reads none, such as an operator of the network itself, is
of the innermost module that holds all of its neighbours.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cnnport.measuring.profiling.nodes import Nodes

ROOT = "(root)"
"""In the place of a path: the network itself."""

# Operators begin in upper case, and what passes append is a place among outputs, or a word in lower case.
_NAME = re.compile(r"((?:[^/:]*/)?[A-Z][A-Za-z0-9]*(?:_\d+)?)(?:[:_].*)?")
_PARAMETER = re.compile(r"([^/:]+)\.(?:weight|bias|running_mean|running_var)(?:_.*)?")


@dataclass(frozen=True)
class Origin:
    """Where a node comes from.

    Attributes:
        original: Name of the node before the passes; empty where it was none.
        module: Path of the PyTorch module; empty in files that no module was exported to.
    """

    original: str
    module: str


def original_of(name: str) -> str:
    """The name before the passes; empty where a pass made the node of something that was none."""
    found = _NAME.fullmatch(name)
    return found[1] if found else ""


def origins(nodes: Nodes, *, exported: bool) -> tuple[Origin, ...]:
    """Where every node comes from.

    Args:
        nodes: Of the file.
        exported: Whether names are those of our export; if not, a node's own name is all that there is.
    """
    names = [nodes.name(place) for place in range(len(nodes.nodes))]
    if not exported:
        return tuple(Origin(name, "") for name in names)
    stated = [_stated(name) or _owner(place, nodes) for place, name in enumerate(names)]
    return tuple(
        Origin(original_of(name), stated[place] or _within(place, nodes, stated) or ROOT)
        for place, name in enumerate(names)
    )


def enclosing(paths: Iterable[str]) -> str:
    """The innermost module that holds all of these; empty for the network itself."""
    parts = [path.split(".") for path in paths]
    common = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)


def _stated(name: str) -> str:
    """The module that a name has, or whose parameter it is of; empty where it has none."""
    found = _PARAMETER.fullmatch(name)
    return found[1] if found else name.rpartition("/")[0]


def _owner(place: int, nodes: Nodes) -> str:
    """The module whose weights a node reads; empty where it reads none."""
    found = (_PARAMETER.fullmatch(name) for name in nodes.nodes[place].input if name not in nodes.maker)
    return next((each[1] for each in found if each), "")


def _within(start: int, nodes: Nodes, stated: list[str]) -> str:
    return enclosing({*_nearest(start, nodes.before, stated), *_nearest(start, nodes.behind, stated)})


def _nearest(start: int, step: Callable[[int], Iterator[int]], stated: list[str]) -> Iterator[str]:
    """The modules of the first nodes on every way that have one."""
    seen, waiting = {start}, [start]
    while waiting:
        for place in step(waiting.pop()):
            if place in seen:
                continue
            seen.add(place)
            if stated[place]:
                yield stated[place]
            else:
                waiting.append(place)

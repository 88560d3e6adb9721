"""From nodes to PyTorch modules: exported files name a node after its module and operator."""

import re

from cnnport.agreement.layers.graph import Graph

_PARAMETER = re.compile(r"([^/:]+)\.(?:weight|bias|running_mean|running_var)(?:_.*)?")


def module_of(graph: Graph, place: int) -> str:
    """Path of a node's module: as its name has it, or whose weights it reads, or of what it reads; may be empty."""
    seen = {place}
    waiting = [place]
    while waiting:
        at = waiting.pop(0)
        if found := _stated(graph, at):
            return found
        for name in graph.nodes[at].input:
            before = graph.maker.get(name)
            if before is not None and before not in seen and name in graph.moving:
                seen.add(before)
                waiting.append(before)
    return ""


def _stated(graph: Graph, place: int) -> str:
    node = graph.nodes[place]
    path, slash, _ = node.name.rpartition("/")
    if slash:
        return str(path)
    found = (_PARAMETER.fullmatch(name) for name in node.input)
    return next((str(each[1]) for each in found if each), "")

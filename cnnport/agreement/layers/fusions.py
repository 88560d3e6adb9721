"""What a runtime makes of a graph, and whether it still does when values inside are read.

ONNX Runtime writes the graph that it runs; the others are asked for their layers. Changes of layout and copies that
reading brings along do not count: the kernels that compute are those under test, and have to be the same ones.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnport.agreement.layers.graph import Graph
from cnnport.agreement.layers.side import Subject
from cnnport.agreement.layers.sites import CONVERSIONS, Site
from cnnport.runtimes import require_runtime

if TYPE_CHECKING:
    from cnnport.artifact import Artifact

# What moves numbers about, or gives them another type, under the names of the several runtimes.
_MOVES = frozenset(
    {
        *(
            "Cast",
            "Constant",
            "DequantizeLinear",
            "Identity",
            "MemcpyFromHost",
            "MemcpyToHost",
            "QuantizeLinear",
        ),
        *("ReorderInput", "ReorderOutput", "Transpose"),
        *("Convert", "Input", "Output", "Reorder", "Result"),
    }
)

# How often a runtime is asked at most. Each question loads the file once more, which takes ONNX Runtime a fraction of
# a second and OpenVINO some; where it builds an engine it takes minutes, and nothing is asked.
_MOST_QUESTIONS = {"openvino": 8, "ort-cpu": 40, "ort-cuda": 40}


@dataclass(frozen=True)
class Fusions:
    """What is known of the kernels while values are read.

    Attributes:
        kept: Whether the same kernels run whatever is read; None where the runtime cannot be asked.
        kernels: That compute something, without taps; None likewise.
        apart: Sites that cannot be read without changing kernels, and were read in runs of their own.
        changed: By kind of kernel, how many more there are in those runs.
    """

    kept: bool | None
    kernels: int | None = None
    apart: int = 0
    changed: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        """For people."""
        if self.kept is None:
            return "whether taps changed what is fused was not checked: it would mean to build it again and again"
        if self.kept:
            return f"{self.kernels} kernels, the same with and without taps"
        changes = ", ".join(f"{count:+d} {kind}" for kind, count in self.changed)
        return (
            f"{self.kernels} kernels, the same while values are read, but for {self.apart} values that were read in "
            f"runs of their own, where the runtime fuses otherwise ({changes} kernels)"
        )


def harmless(subject: Subject, sites: Sequence[Site]) -> tuple[list[Site], list[Site], Fusions]:
    """The sites that can be read, all of them together, while the same kernels run, and the others.

    Raises:
        CnnportError: If the runtime cannot load the file.
    """
    base = kernels_of(subject, [])
    if base is None:
        return list(sites), [], Fusions(None)
    asked, most = 1, _MOST_QUESTIONS.get(subject.side.runtime, 0)

    def breaks(chosen: Sequence[Site]) -> bool:
        nonlocal asked
        asked += 1
        return kernels_of(subject, chosen) != base

    kept = list(sites)
    if breaks(kept):
        summands = [site for site in kept if _is_summand(subject.graph, site)]
        kept = [site for site in kept if site not in summands]
        if breaks(kept):
            kept = _without_breaking(kept, breaks, lambda: asked < most)
    others = [site for site in sites if site not in kept]
    changed: Counter[str] = Counter()
    if others:
        found = kernels_of(subject, others) or Counter()
        changed.update({kind: found[kind] - base[kind] for kind in base | found if found[kind] != base[kind]})
    return kept, others, Fusions(not changed, base.total(), len(others), tuple(sorted(changed.items())))


def kernels_of(subject: Subject, sites: Sequence[Site]) -> Counter[str] | None:
    """The kernels that compute, by kind, with these sites read; None where the runtime does not tell.

    Raises:
        CnnportError: If the runtime cannot load the file.
    """
    if subject.side.emulated:
        # Nothing is fused where what is written is computed.
        return Counter()
    if subject.side.runtime not in _MOST_QUESTIONS:
        return None
    graph = subject.graph
    names = list(dict.fromkeys([*graph.outputs, *(site.tap for site in sites)]))
    artifact = subject.write(graph.with_outputs(names))
    if subject.side.runtime.startswith("ort-"):
        found = _optimized(subject, artifact)
    else:
        found = Counter()
        told = require_runtime(subject.side.runtime).placement(artifact, subject.options)
        for counts in told.values():
            # Behind the kind may be the type that it computes in.
            found.update({kind.split()[0]: count for kind, count in counts.items()})
    return Counter({kind: count for kind, count in found.items() if kind not in _MOVES})


def _is_summand(graph: Graph, site: Site) -> bool:
    """Whether a value is added to something: some runtimes add in place, which they cannot do with what is read."""
    waiting = [site.value, site.tap]
    while waiting:
        for place in graph.readers.get(waiting.pop(), ()):
            node = graph.nodes[place]
            if node.op_type == "Add":
                return True
            if node.op_type in CONVERSIONS:
                waiting.append(node.output[0])
    return False


def _without_breaking(
    sites: list[Site], breaks: Callable[[Sequence[Site]], bool], may_ask: Callable[[], bool]
) -> list[Site]:
    """As many as can be found with a bounded number of questions."""
    kept: list[Site] = []
    waiting = [sites[: len(sites) // 2], sites[len(sites) // 2 :]]
    while waiting and may_ask():
        piece = waiting.pop(0)
        if not piece:
            continue
        if not breaks(kept + piece):
            kept += piece
        elif len(piece) > 1:
            waiting[:0] = [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
    return kept


def _optimized(subject: Subject, artifact: "Artifact") -> Counter[str]:
    """By the graph that ONNX Runtime writes of what it runs."""
    import onnx

    from cnnport.runtimes.ort import CPU, load, session_options

    settings = session_options(subject.options)
    target = artifact.path.with_suffix(".optimized.onnx")
    settings.optimized_model_filepath = str(target)
    settings.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", f"{target.name}.data"
    )
    providers = [CPU] if subject.side.runtime == "ort-cpu" else ["CUDAExecutionProvider", CPU]
    try:
        load(artifact, settings, providers)
        graph = onnx.load(target, load_external_data=False).graph
    finally:
        for path in (target, target.with_name(f"{target.name}.data")):
            path.unlink(missing_ok=True)
    return Counter(node.op_type for node in graph.node)

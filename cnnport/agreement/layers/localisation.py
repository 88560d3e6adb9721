"""What came of looking into a network: the layer that departs, and how."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnport.agreement.layers.distance import Distance
from cnnport.agreement.layers.fusions import Fusions

# More than that are no kernel, but what lies between two values that could be compared.
_MOST_OPERATORS = 6


@dataclass(frozen=True)
class Layer:
    """A site and what ends in it.

    Attributes:
        value: Name of its value in the candidate's file.
        nodes: Names of the nodes that make it of the values before it; the last one gives the value.
        operators: Theirs.
        module: Path of the PyTorch module; empty where the file does not tell.
        distance: In the whole network, where faults of other layers add up; None where it was not compared.
        alone: By itself, on the reference's inputs; None where it was not run so.
    """

    value: str
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    module: str
    distance: Distance | None = None
    alone: Distance | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "value": self.value,
            "nodes": list(self.nodes),
            "operators": list(self.operators),
            "module": self.module,
            "error": self.distance and self.distance.to_json(),
            "alone": self.alone and self.alone.to_json(),
        }

    def __str__(self) -> str:
        """Node, operator and module; where nothing could be compared for long, the first and the last node."""
        where = f", module {self.module}" if self.module else ""
        if len(self.nodes) > _MOST_OPERATORS:
            return f"one of {len(self.nodes)} nodes from {self.nodes[0]} to {self.nodes[-1]}{where}"
        return f"{self.nodes[-1]} ({' + '.join(self.operators)}{where})"


@dataclass(frozen=True)
class Culprit:
    """The first layer that departs.

    Attributes:
        layer: Which.
        precision: What it computes in, which its bound goes by.
        before: The values that it reads.
        after: The next ones, which read it.
        manner: How it departs, in words.
        differences: What the candidate's file has otherwise than the reference's, in words.
        cause: ``file``, ``runtime``, ``scale`` or ``context``; empty where it is not known. ``file``: the graph
            itself says something else; ``runtime``: what runs it computes something else than the graph says;
            ``scale``: the number that 8 bits are scaled with is off; ``context``: the layer is right by itself, and
            only in the whole it is not.
    """

    layer: Layer
    precision: str
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]
    manner: str
    differences: tuple[str, ...] = ()
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.layer.to_json(),
            "precision": self.precision,
            "before": [layer.to_json() for layer in self.before],
            "after": [layer.to_json() for layer in self.after],
            "manner": self.manner,
            "differences": list(self.differences),
            "cause": self.cause,
        }


@dataclass(frozen=True)
class Effort:
    """What the search took.

    Attributes:
        sites: Values that were compared.
        skipped: Values of the candidate that nothing in the reference stands for.
        batches: Into how many parts they were divided for the memory that they may take.
        runs: Sessions that were opened to run something.
        alone: Layers that were run by themselves.
        disk_bytes: Of the reference's values on the disk.
        seconds: Of all.
    """

    sites: int
    skipped: int
    batches: int
    runs: int
    alone: int
    disk_bytes: int
    seconds: float


@dataclass(frozen=True)
class Localisation:
    """The outcome.

    Attributes:
        reference: In words.
        candidate: In words.
        culprit: None where no layer departs by itself.
        outputs: The candidate's outputs, compared.
        growth: Where outputs depart and no layer does: those that add most, the largest first.
        fusions: What taps did to the candidate's kernels.
        effort: What it took.
        written: The folder with the smallest piece that shows it, where one was asked for.
    """

    reference: str
    candidate: str
    culprit: Culprit | None
    outputs: tuple[Layer, ...]
    growth: tuple[Layer, ...]
    fusions: Fusions
    effort: Effort
    written: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        effort = self.effort
        return {
            "reference": self.reference,
            "candidate": self.candidate,
            "found": self.culprit is not None,
            "culprit": self.culprit and self.culprit.to_json(),
            "outputs": [layer.to_json() for layer in self.outputs],
            "growth": [layer.to_json() for layer in self.growth],
            "fusions": {
                "kept": self.fusions.kept,
                "kernels": self.fusions.kernels,
                "read_apart": self.fusions.apart,
                "changed": dict(self.fusions.changed),
            },
            "effort": {
                "sites": effort.sites,
                "skipped": effort.skipped,
                "batches": effort.batches,
                "runs": effort.runs,
                "alone": effort.alone,
                "disk_bytes": effort.disk_bytes,
                "seconds": round(effort.seconds, 2),
            },
            "written": self.written and str(self.written),
        }

    def __str__(self) -> str:
        """Some lines for people."""
        effort = self.effort
        lines = [f"{self.candidate}, held against {self.reference}"]
        lines += self._finding()
        lines += [f"  output {layer.value}: {layer.distance}" for layer in self.outputs]
        skipped = f", {effort.skipped} more have no counterpart" if effort.skipped else ""
        lines.append(
            f"  {effort.sites} values compared{skipped}, {effort.alone} layers run by themselves, "
            f"{effort.runs} runs, {effort.seconds:.1f} s"
        )
        lines.append(f"  {self.fusions}")
        if self.written:
            lines.append(f"  the smallest piece that shows it: {self.written}")
        return "\n".join(lines)

    def _finding(self) -> list[str]:
        found = self.culprit
        if found is None:
            if not self.growth:
                return ["no layer departs"]
            return [
                "no layer departs by itself: errors of many add up, most of all those of",
                *(f"  {layer}: {layer.alone or layer.distance}" for layer in self.growth),
            ]
        layer = found.layer
        before = max(
            (each.distance for each in found.before if each.distance),
            key=lambda each: each.rms if math.isfinite(each.rms) else math.inf,
            default=None,
        )
        lines = [f"the first layer that departs: {layer}"]
        lines.append(f"  before it: {before if before else 'the input'}")
        lines.append(f"  at it: {layer.distance}")
        if layer.alone:
            lines.append(f"  by itself, on the reference's inputs: {layer.alone}")
        lines += [f"  behind it: {each}: {each.distance}" for each in found.after]
        lines.append(f"  {found.manner}")
        lines += [f"  in the file: {each}" for each in found.differences]
        if found.cause in _CAUSES:
            lines.append(f"  {_CAUSES[found.cause]}")
        return lines


_CAUSES = {
    "file": "the graph says something else than the reference does",
    "runtime": "the graph says the same as the reference; what runs it computes something else",
    "context": "by itself the layer is right: it departs only in the whole network",
}

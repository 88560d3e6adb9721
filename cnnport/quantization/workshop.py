"""Candidates: one float graph, in 8 bits by any number of recipes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnport.calibration import Calibration, InputMoments, Samples, calibrate, input_moments
from cnnport.graphs.protos import annotate, read, write
from cnnport.graphs.quantize import (
    Report,
    ValueRange,
    equalize,
    name_of,
    plan,
    quantize,
    unfolded_size,
    wanted,
)
from cnnport.onnxfile import load_model
from cnnport.quantization.recipe import Recipe

if TYPE_CHECKING:
    import onnx_ir as ir

# Sums over the inputs of a layer settle long before ranges do.
_MOMENTS_COUNT = 64


@dataclass(frozen=True)
class Made:
    """A candidate: its file, whose float weights lie beside it, and what was done to the graph."""

    path: Path
    report: Report

    @property
    def products(self) -> tuple[str, ...]:
        """The layers in 8 bits, by the names of their nodes, in the graph's order."""
        return tuple(each.node for each in self.report.choices if each.is_product)


class Workshop:
    """What makes candidates of one graph for one target; what they need is found out once.

    Args:
        floats: File with the float graph; see ``floats``.
        target: A key of ``RULES``.
        samples: What is calibrated with.
        reduce_range: Whether weights get one bit less, for CPUs that saturate.
        on_step: Told the name of each step when it begins.
        on_progress: Told how many samples are done, and how many there are.
    """

    def __init__(
        self,
        floats: Path,
        target: str,
        samples: Samples,
        *,
        reduce_range: bool = False,
        on_step: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._floats = {False: floats}
        self._folder = floats.parent
        self._target = target
        self._samples = samples
        self._reduce_range = reduce_range
        self._on_step, self._on_progress = on_step, on_progress
        self._calibrations: dict[bool, Calibration] = {}
        self._ranges: dict[tuple[bool, str, str, float], ValueRange] = {}
        self._moments: dict[tuple[bool, bool], dict[str, InputMoments]] = {}
        self._made = 0

    def make(self, recipe: Recipe) -> Made:
        """Quantize.

        Raises:
            CnnportError: If the graph cannot be quantized, or the samples do not fit it.
        """
        graph = self._read(recipe.equalized)
        names = wanted(graph, self._target, recipe.keep)
        self.calibration(recipe.equalized, names)
        ranges = {
            name: self.range_of(recipe.equalized, name, recipe.method, recipe.percentile) for name in names
        }
        ranges |= {name: each for name, each in recipe.ranges.items() if name in names}
        moments = {}
        if recipe.corrected or recipe.rounded:
            moments = self._input_moments(recipe.equalized, recipe.rounded)
        report = quantize(
            graph,
            ranges,
            self._target,
            keep=recipe.keep,
            reduce_range=self._reduce_range,
            moments=moments,
        )
        self._made += 1
        path = self._folder / f"candidate{self._made}.onnx"
        path.write_bytes(write(graph).SerializeToString())
        return Made(path, report)

    def calibration(self, equalized: bool, names: Collection[str]) -> Calibration:
        """What was seen of values of the graph, or of its equalised form: of these at least."""
        found = self._calibrations.get(equalized)
        if found is None or not found.statistics.keys() >= set(names):
            self._on_step("calibrate")
            # What a layer in float leaves to others may be other values than before.
            every = {*names, *(found.statistics if found else ())}
            found = calibrate(self._path(equalized), self._samples, every, on_progress=self._on_progress)
            self._calibrations[equalized] = found
        return found

    def range_of(self, equalized: bool, value: str, method: str, percentile: float) -> ValueRange:
        """The range of one value by some method; found once, since candidates are many."""
        key = equalized, value, method, percentile
        if key not in self._ranges:
            found = self.calibration(equalized, [value])
            self._ranges[key] = found.range_of(
                value, method, percentile=percentile, symmetric=self._target == "trt"
            )
        return self._ranges[key]

    def inputs_of(self, recipe: Recipe, layers: Collection[str]) -> tuple[str, ...]:
        """Names of the values whose ranges decide about what some layers read, in the graph's order."""
        graph = self._read(recipe.equalized)
        names = wanted(graph, self._target, recipe.keep)
        found: dict[str, None] = {}
        for node in graph.graph:
            if name_of(node) not in layers:
                continue
            value = node.inputs[0]
            # What only moves numbers, or bounds them, has the quantizer before or behind it.
            while value is not None and value.name not in names and (maker := value.producer()) is not None:
                value = maker.inputs[0] if maker.inputs else None
            if value is not None and value.name in names:
                found[value.name] = None
        return tuple(found)

    def can_equalize(self) -> bool:
        """Whether there is anything to scale."""
        return self._path(equalized=True) != self._floats[False]

    def _input_moments(self, equalized: bool, gram: bool) -> dict[str, InputMoments]:
        key = equalized, gram
        if key not in self._moments:
            self._on_step("inputs of layers")
            graph = self._read(equalized)
            annotate(graph)
            products = {each.node for each in plan(graph, self._target, ()).choices if each.is_product}
            nodes = [
                name_of(node)
                for node in graph.graph
                if name_of(node) in products and unfolded_size(node) is not None
            ]
            self._moments[key] = input_moments(
                self._path(equalized),
                self._samples,
                nodes,
                count=_MOMENTS_COUNT,
                gram=gram,
                on_progress=self._on_progress,
            )
        return self._moments[key]

    def _read(self, equalized: bool) -> "ir.Model":
        return read(load_model(self._path(equalized), external_data=False), self._folder)

    def _path(self, equalized: bool) -> Path:
        """The float graph's file, or its equalised form's; the first where there is nothing to equalise."""
        if equalized not in self._floats:
            graph = self._read(equalized=False)
            path = self._floats[False]
            if equalize(graph):
                path = self._folder / "equalized.onnx"
                path.write_bytes(write(graph).SerializeToString())
            self._floats[True] = path
        return self._floats[equalized]

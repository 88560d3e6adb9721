"""A float32 model in float16 or bfloat16, with what has to stay in float32 found by running it, and held to account.

The steps: run the model in float32 and watch how large its numbers get; keep in float32 what halves would break
(``graphs.half.guards``) and convert the rest; run what came of it as a runtime does that really holds halves
(``graphs.half.emulate``), since ONNX Runtime's CPU does not, and compare. A model that departs has the effect of each
node measured by itself, those with the largest effects go back to float32, and so on until it holds.

The tolerance. Rounding the weights moves the output by an amount that no file in halves can avoid, and which depends
on how much the network magnifies what is small: from some 0.003 to 0.1 standard deviations in float16. It is
measured, by rounding the weights and nothing else. Halves elsewhere add errors of the same size, but independent from
one pixel to the next, so that they average out where pixels are summed: over the zoo they add a tenth or so. Twice
what the weights alone do is allowed, at least ``_LEAST`` and at most ``_MOST`` standard deviations; what departs by
more has lost something other than last bits.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from cnnport.artifact import Artifact
from cnnport.compare import spread_of
from cnnport.difference import Difference, difference
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, FeedError
from cnnport.graphs.half import Conversion, HalfFormat, convert
from cnnport.graphs.half.conversion import able_nodes, check_convertible
from cnnport.graphs.half.emulate import emulate, gated
from cnnport.graphs.half.guards import guards
from cnnport.graphs.half.observe import Observed, watch
from cnnport.graphs.protos import read, write
from cnnport.halved import Halved
from cnnport.offload import compact, set_aside
from cnnport.onnxfile import load_model, read_artifact
from cnnport.runtimes import Options, require_runtime
from cnnport.runtimes.protocol import Session
from cnnport.trial_inputs import Arrays

if TYPE_CHECKING:
    import onnx

_OWN_TIMES = 2.0
_LEAST = {"fp16": 2e-2, "bf16": 1e-1}
_MOST = {"fp16": 0.25, "bf16": 0.5}

_ROUNDS = 5
# What the nodes left in halves may do together, of what is allowed, in the first round; half of it in the next.
_FIRST_SHARE = 0.5


def to_half(
    model: "onnx.ModelProto",
    folder: Path,
    half: HalfFormat,
    feeds: Sequence[Arrays],
    *,
    half_io: bool = False,
    mixed: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> "tuple[onnx.ModelProto, Halved]":
    """Convert, and verify.

    Args:
        model: In float32; its weights may lie in ``folder``. Not changed.
        folder: Where files can be written that last as long as the result's model.
        half: The format.
        feeds: Inputs of the model, at least one: ranges are found on them, and the result is held to account on them.
        half_io: Whether float32 inputs and outputs become halves.
        mixed: Whether parameters of normalizations stay in float32; not for TensorRT.
        on_step: Told the name of each step when it begins.

    Returns:
        The model, whose large weights lie in ``folder``, and how it was found right.

    Raises:
        CnnportError: If the model is in halves or quantized already, or can have none.
        CheckFailedError: If no choice of nodes gives a model that computes the same.
        FeedError: If it does not run on the inputs.
    """
    return _Work(model, folder, half, feeds, half_io, mixed, on_step).run()


class _Work:
    """One model on its way."""

    def __init__(
        self,
        model: "onnx.ModelProto",
        folder: Path,
        half: HalfFormat,
        feeds: Sequence[Arrays],
        half_io: bool,
        mixed: bool,
        on_step: Callable[[str], None],
    ) -> None:
        self._model = model
        self._folder = folder
        self._half = half
        self._feeds = feeds
        self._half_io = half_io
        self._mixed = mixed
        self._on_step = on_step

    def run(self) -> "tuple[onnx.ModelProto, Halved]":
        graph = read(self._model, self._folder)
        check_convertible(graph)
        self._on_step("ranges")
        self._expected = self._answers(self._model, self._feeds)
        if wrong := next(
            (name for answer in self._expected for name, value in answer.items() if _odd(value)), None
        ):
            raise CheckFailedError(
                f"{wrong} holds NaN or infinity in float32: nothing can be verified against that"
            )
        keep = self._guarded(graph)
        effects: dict[str, float] | None = None
        measured = 0
        for turn in range(_ROUNDS + 1):
            self._on_step(self._half.name)
            try:
                made, conversion = self._convert(keep, turn)
            except CnnportError:
                if turn == 0:
                    raise
                # Nothing is left that could be in halves.
                break
            self._on_step("verify")
            found = self._judge(made)
            if found.difference.ok:
                note = self._executed(made, found.tolerance)
                return made, Halved(
                    self._half,
                    self._half_io,
                    conversion,
                    found.difference,
                    found.weights_error,
                    found.tolerance,
                    {name: spread_of(value) for name, value in self._expected[0].items()},
                    len(self._feeds),
                    measured,
                    note,
                )
            if turn < _ROUNDS:
                if effects is None:
                    self._on_step("effects")
                    effects = self._effects(keep, found.place)
                more = _largest(effects, keep, found.tolerance * _FIRST_SHARE / 2**turn)
                measured += len(more)
                keep = {**keep, **more}
        worst = sorted((effects or {}).items(), key=lambda each: -each[1])[:3]
        named = ", ".join(f"{key} ({effect:.1e} of the std by itself)" for key, effect in worst)
        raise CheckFailedError(
            f"in {self._half.name} the model departs from float32, whatever stays in float32: {found.difference}\n"
            f"allowed are {found.tolerance:.1e}; largest effects: {named or 'none was measured'}"
        )

    def _guarded(self, graph: ir.Model) -> dict[str, str]:
        """What stays in float32 for the numbers that it has to do with."""
        if not self._half.is_narrow:
            return {}
        watching = watch(read(self._model, self._folder))
        observed: Observed | None = None
        for answer in self._answers(watching.model, self._feeds):
            found = watching.read(answer)
            observed = found if observed is None else observed | found
        assert observed is not None
        able, _ = able_nodes(graph, self._half, mixed=self._mixed)
        return guards(graph.graph, able.keys(), observed, self._half)

    def _convert(self, keep: Mapping[str, str], turn: int) -> "tuple[onnx.ModelProto, Conversion]":
        graph = read(self._model, self._folder)
        done = convert(graph, self._half, keep=keep, half_io=self._half_io, mixed=self._mixed)
        made = write(graph)
        set_aside(made, self._folder, f"half{turn}.data")
        return compact(made), done

    def _judge(self, made: "onnx.ModelProto") -> "_Found":
        weights_only = self._compare(emulate(read(made, self._folder), weights_only=True), 0.0)
        own = max(each.error for each in weights_only)
        name = self._half.name
        tolerance = min(_MOST[name], max(_LEAST[name], _OWN_TIMES * own))
        found = self._compare(emulate(read(made, self._folder)), tolerance)
        place = max(range(len(found)), key=lambda each: (not found[each].ok, found[each].error))
        return _Found(found[place], place, own, tolerance)

    def _compare(self, emulated: "onnx.ModelProto", tolerance: float) -> list[Difference]:
        answers = self._answers(emulated, [self._as_read(feeds) for feeds in self._feeds])
        return [
            difference(expected, answer, tolerance)
            for expected, answer in zip(self._expected, answers, strict=True)
        ]

    def _effects(self, keep: Mapping[str, str], place: int) -> dict[str, float]:
        """How far the output moves if only this node computes in halves, in standard deviations, by ``key_of``."""
        graph = read(self._model, self._folder)
        able, _ = able_nodes(graph, self._half, mixed=self._mixed)
        model, gates = gated(graph, self._half, able)
        closed = {gate: np.array(False) for gate in gates.values()}
        chosen = [key for key in gates if key not in keep]
        feeds = [{**self._feeds[place], **closed, gates[key]: np.array(True)} for key in chosen]
        expected = self._expected[place]
        return {
            key: difference(expected, answer, 0.0).error
            for key, answer in zip(chosen, self._answers(model, feeds), strict=True)
        }

    def _executed(self, made: "onnx.ModelProto", tolerance: float) -> str:
        """Have the file run as it is, which shows what no emulation does: that a runtime takes it."""
        feeds = [
            {name: self._half.round(value) if self._is_half(value) else value for name, value in each.items()}
            for each in self._feeds
        ]
        try:
            answers = self._answers(made, feeds, optimize=True)
        except (ArtifactError, FeedError) as error:
            if self._half.name == "fp16":
                raise CheckFailedError(f"the model in {self._half.name} does not run: {error}") from error
            return "ONNX Runtime's CPU does not run it: checked in emulation alone"
        for expected, answer in zip(self._expected, answers, strict=True):
            wide = {name: value.astype(expected[name].dtype) for name, value in answer.items()}
            if not (found := difference(expected, wide, tolerance)).ok:
                raise CheckFailedError(
                    f"onnxruntime computes something else from the {self._half.name} file: {found}"
                )
        return ""

    def _as_read(self, feeds: Arrays) -> Arrays:
        """What the model sees of its inputs, in float32."""
        return {
            name: self._half.round(value).astype(np.float32) if self._is_half(value) else value
            for name, value in feeds.items()
        }

    def _is_half(self, value: np.ndarray) -> bool:
        return self._half_io and value.dtype == np.float32

    def _answers(
        self, model: "onnx.ModelProto", feeds: Sequence[Arrays], *, optimize: bool = False
    ) -> list[Arrays]:
        path = self._folder / "half.onnx"
        path.write_bytes(model.SerializeToString())
        options = Options(optimize=optimize, reuse_memory=False)
        with require_runtime("ort-cpu").open(read_artifact(path), options) as session:
            return [session.run(each) for each in feeds]


@dataclass(frozen=True)
class _Found:
    """A comparison: its worst input, and what was allowed."""

    difference: Difference
    place: int
    weights_error: float
    tolerance: float


def _odd(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and not bool(np.isfinite(value).all())


def _largest(effects: Mapping[str, float], keep: Mapping[str, str], allowed: float) -> dict[str, str]:
    """The nodes with the largest effects, so many that what the others do together is within what is allowed.

    Roundings are independent of each other, so that their effects add up in squares.
    """
    rest = {key: effect for key, effect in effects.items() if key not in keep}
    order = sorted(rest, key=lambda key: (-rest[key], key))
    total = sum(effect**2 for effect in rest.values() if math.isfinite(effect))
    chosen: dict[str, str] = {}
    for key in order:
        if math.isfinite(rest[key]):
            if total <= allowed**2:
                break
            total -= rest[key] ** 2
        chosen[key] = f"measured effect: {rest[key]:.1e} of the std by itself"
    return chosen


@contextmanager
def emulated(artifact: Artifact) -> Iterator[Session]:
    """A session that computes what a file in halves says, on a machine where no runtime does.

    Args:
        artifact: Its inputs and outputs are float32.

    Raises:
        ArtifactError: If the file cannot be read or run.
    """
    with tempfile.TemporaryDirectory(prefix="cnnport-", ignore_cleanup_errors=True) as name:
        path = Path(name) / "emulated.onnx"
        path.write_bytes(emulate(read(load_model(artifact.path))).SerializeToString())
        with require_runtime("ort-cpu").open(read_artifact(path), Options(optimize=False)) as session:
            yield session

"""What a file computes, and the check of its rewritten form against it, without PyTorch or any network's source."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnport.artifact import Artifact, TensorSpec
from cnnport.compare import FP32_TOLERANCE, compare
from cnnport.difference import Difference, difference, incomparable
from cnnport.errors import ArtifactError, CheckFailedError, CnnportError, FeedError
from cnnport.float64 import run_in_float64
from cnnport.metadata import Golden, at_native_size, golden_sample
from cnnport.offload import bring_back, weights_bytes
from cnnport.onnxfile import read_artifact
from cnnport.runtimes import Options, require_runtime
from cnnport.runtimes.protocol import Session
from cnnport.trial_inputs import Arrays, Trial, guesses, make_inputs, open_names

if TYPE_CHECKING:
    import onnx

_CANDIDATE = "candidate.onnx"

# One alone, and an odd number: a batch that was fixed or mixed up shows.
_SECOND_BATCH = 3

# Numbers of 11 and 8 bits round so much worse than those of 24.
_FP16_TOLERANCE = 2e-2
_BF16_TOLERANCE = 1e-1

# In float64 only the rounding of rewritten weights shows. Networks that magnify roundings show it beyond any fixed
# tolerance, and then it may be as far as the original itself, in float32, is from its own outputs in float64; but no
# further than this share of the standard deviation.
_FLOAT64_LIMIT = 1e-2

# Float64 takes images one by one. That they do not mix has to show in float32: two executions that round differently
# are at most this far apart, or so many times as far as the original in float32 is from float64.
_FLOAT32_LIMIT = 1e-2
_OWN_TIMES = 4.0

# In float64, with copies, the weights take ten times their size.
_FLOAT64_LIMIT_BYTES = 150 * 10**6

# Other values are tried for initializers that a caller may override, as long as they are no more than this in all.
_OVERRIDDEN_VALUES = 2**24


class CannotVerifyError(CnnportError):
    """Nothing at hand can tell whether a rewritten form of the model computes the same; the text is the reason."""


class InsensitiveError(CannotVerifyError):
    """A model gives the same outputs whatever goes in, and so would many a wrong one."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        ok: Whether every output agrees on every input.
        worst: The output that is furthest off.
        where: The input of the worst.
        count: How many inputs were run.
        note: Set where float32 is further off than the tolerance: what float64 says.
    """

    ok: bool
    worst: Difference
    where: str
    count: int
    note: str = ""

    def __str__(self) -> str:
        """One line for people."""
        text = f"{self.worst}, {self.where}" if self.where else str(self.worst)
        return f"{text}; {self.note}" if self.note else text


class Original:
    """A model's outputs for seeded inputs of several batches and sizes, computed once on ONNX Runtime.

    Attributes:
        trials: The inputs; the first ``quick`` of them show most faults.
        quick: How many these are.
    """

    def __init__(
        self,
        model: "onnx.ModelProto",
        folder: Path,
        golden: Golden | None = None,
        *,
        may_be_insensitive: bool = False,
    ) -> None:
        """Run the model, unoptimised, on everything that it will be held to.

        Args:
            model: Its weights may lie in ``folder``.
            folder: Where files can be written that last as long as this object.
            golden: The input and output that the file states.
            may_be_insensitive: Whether its outputs may be the same whatever goes in.

        Raises:
            CannotVerifyError: If onnxruntime cannot load or run the model.
            InsensitiveError: If its outputs are the same whatever goes in.
            CheckFailedError: If it does not give its own golden output.
            RuntimeMissingError: If onnxruntime is not installed.
        """
        self._folder = folder
        self._golden = golden
        self._may_be_insensitive = may_be_insensitive
        self._tolerance = _tolerance_of(model)
        self._overridable = _overridable(model)
        self._is_small = weights_bytes(model) <= _FLOAT64_LIMIT_BYTES
        self._path = _write(model, folder / "original.onnx")
        self._artifact = read_artifact(self._path)
        self._outputs: list[dict[str, Any]] = []
        self._is_steady: bool | None = None
        self._exact: dict[int, dict[str, Any] | None] = {}
        self.trials: list[Trial] = []
        try:
            with self._session(self._artifact) as session:
                self._run_all(session)
        except ArtifactError as error:
            raise CannotVerifyError(str(error).replace(str(self._path), "it")) from error
        if self._overridable:
            trial = replace(self.trials[0], seed=self.trials[0].seed + 4, overrides=True)
            with self._session(self._artifact, overridden=True) as session:
                self._add(session, trial)
        self.quick = min(2, len(self.trials))

    def feeds(self, trial: Trial) -> Arrays:
        """The inputs of one trial, made anew each time."""
        feeds = make_inputs(self._artifact.inputs, trial)
        if trial.overrides:
            spread = make_inputs(self._overridable, trial)
            # Variances among them have to stay positive.
            feeds |= {name: (0.5 + np.abs(values)).astype(values.dtype) for name, values in spread.items()}
        return feeds

    def check(self, model: "onnx.ModelProto", start: int = 0, stop: int | None = None) -> Verdict:
        """Run a rewritten form over the same inputs, unoptimised, and compare.

        Args:
            model: Its weights may lie in the folder too.
            start: The first input to run.
            stop: The one after the last; None for all.

        Raises:
            CannotVerifyError: If the original itself gives other outputs each time.
        """
        path = _write(model, self._folder / _CANDIDATE)
        artifact = read_artifact(path)
        places = range(len(self.trials))[start:stop]
        found: list[tuple[Difference, int]] = []
        for overridden in (False, True):
            chosen = [place for place in places if self.trials[place].overrides == overridden]
            if not chosen:
                continue
            trial = self.trials[chosen[0]]
            try:
                with self._session(artifact, overridden=overridden) as session:
                    for place in chosen:
                        trial = self.trials[place]
                        answer = session.run(self.feeds(trial))
                        departure = self._from_golden(answer) if place == 0 else None
                        worst = departure or difference(self._outputs[place], answer, self._tolerance)
                        found.append((worst, place))
            except (ArtifactError, FeedError) as error:
                # A graph that the runtime refuses is as wrong as one that gives something else.
                reason = str(error).replace(str(path), "the result")
                return Verdict(
                    False, incomparable("the result", f"cannot be run: {reason}"), str(trial), len(places)
                )
        if not found:
            return Verdict(True, Difference(0.0, 0.0, "", ok=True), "", 0)
        worst, place = max(found, key=lambda each: (not each[0].ok, each[0].error))
        verdict = Verdict(worst.ok, worst, str(self.trials[place]) if worst.error > 0 else "", len(found))
        if worst.ok:
            return verdict
        self._require_steady()
        if worst.reason or self._tolerance != FP32_TOLERANCE:
            return verdict
        return self._in_float64(model, verdict, place)

    def _run_all(self, session: Session) -> None:
        """The first input that the model takes; another batch, another seed, other sizes, as far as it takes them."""
        reason = "it takes no input of any size that was tried"
        for trial in likely_trials(self._artifact, self._golden):
            try:
                self._outputs.append(session.run(self.feeds(trial)))
            except FeedError as error:
                reason = str(error)
                continue
            self.trials.append(trial)
            break
        else:
            raise CannotVerifyError(reason)
        if departure := self._from_golden(self._outputs[0]):
            raise CheckFailedError(f"the file does not compute what it says: {departure}")
        first = self.trials[0]
        self._add(session, replace(first, batch=_SECOND_BATCH, seed=first.seed + 1))
        if self._add(session, replace(first, seed=first.seed + 2)) and self._artifact.inputs:
            alike = difference(self._outputs[0], self._outputs[-1], 0.0)
            if alike.error == 0 and not alike.reason and not self._may_be_insensitive:
                raise InsensitiveError("its outputs are the same for every input that was tried")
        for other in guesses(self._artifact.inputs, seed=first.seed + 3):
            if other.sizes and other.sizes != first.sizes and self._add(session, other):
                break

    def _add(self, session: Session, trial: Trial) -> bool:
        try:
            outputs = session.run(self.feeds(trial))
        except FeedError:
            return False
        self._outputs.append(outputs)
        self.trials.append(trial)
        return True

    def _require_steady(self) -> None:
        """A model that draws random numbers departs from itself."""
        if self._is_steady is None:
            # In one session: two would begin with the same random numbers.
            with self._session(self._artifact) as session:
                once, again = (session.run(self.feeds(self.trials[0])) for _ in range(2))
            self._is_steady = difference(once, again, self._tolerance).ok
        if not self._is_steady:
            raise CannotVerifyError("it gives other outputs each time that it is run on the same input")

    @contextmanager
    def _session(self, artifact: Artifact, *, overridden: bool = False) -> Iterator[Session]:
        inputs = (*self._artifact.inputs, *(self._overridable if overridden else ()))
        runtime = require_runtime("ort-cpu")
        options = Options(optimize=False, reuse_memory=False)
        with runtime.open(replace(artifact, inputs=inputs), options) as session:
            yield session

    def _from_golden(self, answer: Mapping[str, Any]) -> Difference | None:
        """What departs from the output that the file states; None if nothing does."""
        for name, expected in self._golden.outputs.items() if self._golden else ():
            found = golden_sample(answer[name])
            agreement = compare(expected, found) if found.shape == expected.shape else None
            assert self._golden is not None
            if agreement is None or not agreement.finite or agreement.max_abs > self._golden.tolerance[name]:
                return incomparable(name, "is not the golden output that the file states")
        return None

    def _in_float64(self, model: "onnx.ModelProto", doubtful: Verdict, place: int) -> Verdict:
        """Float32 is off: whether by rounding alone tell the two graphs computed in float64."""
        if not self._is_small:
            return doubtful
        # Float64 takes initializers as they are.
        place = 0 if self.trials[place].overrides else place
        feeds = self.feeds(self.trials[place])
        if place not in self._exact:
            self._exact[place] = run_in_float64(self._loaded(_parse(self._path)), feeds)
        exact = self._exact[place]
        wide = run_in_float64(self._loaded(model), feeds) if exact is not None else None
        if exact is None or wide is None:
            return doubtful
        own = self._own_error(place, exact)
        found = difference(exact, wide, self._tolerance)
        note = f"computed in float64: {found.error:.1e} of the std, the original in float32 {own:.1e}"
        allowed = min(_FLOAT64_LIMIT, max(self._tolerance, own))
        ok = difference(exact, wide, allowed).ok and doubtful.worst.error <= max(
            _FLOAT32_LIMIT, _OWN_TIMES * own
        )
        return replace(doubtful, ok=ok, note=note)

    def _own_error(self, place: int, exact: Mapping[str, Any]) -> float:
        """How far the original in float32 is from itself in float64, in standard deviations; 0 if that is unknown."""
        outputs = self._outputs[place]
        narrow = {name: np.asarray(value).astype(outputs[name].dtype) for name, value in exact.items()}
        found = difference(narrow, outputs, 0.0)
        return 0.0 if found.reason else found.error

    def _loaded(self, model: "onnx.ModelProto") -> "onnx.ModelProto":
        import onnx

        loaded = onnx.ModelProto()
        loaded.CopyFrom(model)
        bring_back(loaded, self._folder)
        return loaded


def likely_trials(artifact: Artifact, golden: Golden | None = None) -> Iterator[Trial]:
    """Ways to settle what a file leaves open, the one that it states first."""
    batch, seed = (golden.batch, golden.seed) if golden else (1, 0)
    native, names = _native_sizes(artifact), open_names(artifact.inputs)
    if names and native.keys() >= set(names):
        yield Trial(batch, seed, {name: native[name] for name in names})
    yield from guesses(artifact.inputs, batch=batch, seed=seed)


def worse(left: Verdict, right: Verdict) -> Verdict:
    """One verdict for two sets of inputs."""
    worst = max(left, right, key=lambda each: (not each.ok, each.worst.error))
    return replace(worst, ok=left.ok and right.ok, count=left.count + right.count)


def _write(model: "onnx.ModelProto", path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _parse(path: Path) -> "onnx.ModelProto":
    import onnx

    return onnx.load(path, load_external_data=False)


def _native_sizes(artifact: Artifact) -> dict[str, int]:
    """The sizes that a file made by cnnport states for what it leaves open, by name."""
    pairs = zip(artifact.inputs, at_native_size(artifact).inputs, strict=True)
    return {
        str(name): size
        for left, right in pairs
        for name, size in zip(left.shape, right.shape, strict=True)
        if isinstance(size, int) and name != size
    }


def _overridable(model: "onnx.ModelProto") -> list[TensorSpec]:
    """Floating-point initializers that are also inputs; before IR version 4 runtimes take all as constants."""
    from onnx import TensorProto, helper

    inputs = {value.name for value in model.graph.input}
    kinds = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
    specs = [
        TensorSpec(tensor.name, str(helper.tensor_dtype_to_np_dtype(tensor.data_type)), tuple(tensor.dims))
        for tensor in model.graph.initializer
        if model.ir_version >= 4 and tensor.name in inputs and tensor.data_type in kinds
    ]
    return specs if _count(specs) <= _OVERRIDDEN_VALUES else []


def _count(specs: Sequence[TensorSpec]) -> int:
    return sum(int(np.prod([size for size in spec.shape if isinstance(size, int)])) for spec in specs)


def _tolerance_of(model: "onnx.ModelProto") -> float:
    """By the coarsest type that a model holds numbers in."""
    from onnx import TensorProto

    values = (*model.graph.input, *model.graph.output)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in values}
    if TensorProto.BFLOAT16 in kinds:
        return _BF16_TOLERANCE
    return _FP16_TOLERANCE if TensorProto.FLOAT16 in kinds else FP32_TOLERANCE

"""Profiling one case: in every round a process without the profiler and one with it, which run in turn.

How long a run takes is measured without the profiler, which slows it down; where in it the time goes, with it. Both
are medians over the turns of all rounds. Nothing is scaled to make them agree; what taking note of a kernel adds to
its time is measured by itself (see ``noting``), taken off, and stated.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from cnnport.errors import CnnportError
from cnnport.measuring.case import Case
from cnnport.measuring.environment import read_environment
from cnnport.measuring.fields import Json
from cnnport.measuring.paired import TURNS, WARMUP_S, refusal
from cnnport.measuring.profiling.asking import Profiling, Told, require_profiled
from cnnport.measuring.profiling.kernels import merged
from cnnport.measuring.profiling.layers import Layer, alone, layers_of
from cnnport.measuring.profiling.limits import limits, notes
from cnnport.measuring.profiling.nodes import Nodes
from cnnport.measuring.profiling.record import Profile, ProfiledLayer
from cnnport.measuring.profiling.roof import Roof
from cnnport.measuring.run import question_of
from cnnport.process import Conversation, Failure, command_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnport.artifact import Artifact
    from cnnport.graphs.cost import Cost, NodeCosts
    from cnnport.measuring.profiling.kernels import Kernel

_TIMEOUT_S = 900.0

# Runtimes on whose device the machine's figures are: those of the CPU.
_ON_CPU = frozenset({"ort-cpu", "openvino", "torch-cpu"})

# Of kernels in one trace, which is read whole.
_MOST_EVENTS = 60_000

Tell = Callable[[str, int, int], None]
"""Is told what comes, steps done, and steps in all."""


def profile(
    case: Case,
    *,
    rounds: int = 3,
    duration_s: float = 1.0,
    warmup_s: float = WARMUP_S,
    machine: bool = True,
    command: str = "",
    tell: Tell = lambda _what, _done, _total: None,
) -> Profile:
    """Profile a case.

    Args:
        case: What is to run.
        rounds: Processes with the profiler, and as many without; every second round has them the other way round.
        duration_s: Seconds of counted runs in each process.
        warmup_s: Seconds of runs in each that do not count.
        machine: Whether what the machine can do is measured where that is not known yet, which takes a minute.
        command: That does the same again.
        tell: Is told of every step.

    Raises:
        CnnportError: If a number is out of range, the runtime says nothing of its kernels, or the file does not take
            the batch.
        RuntimeMissingError: If the runtime is not available.
        ArtifactError: If the file is none.
        CheckFailedError: If a process fails, or the runtime's notes are not complete.
    """
    if rounds < 1:
        raise CnnportError(f"rounds must be at least 1, not {rounds}")
    if not (0 <= duration_s < float("inf") and 0 <= warmup_s < float("inf")):
        raise CnnportError(f"times must be at least 0 s: warm-up {warmup_s}, duration {duration_s}")
    require_profiled(case)
    nodes, costs = _graph_of(case)
    most_runs = max(1, _MOST_EVENTS // (TURNS * max(1, len(nodes.nodes) if nodes else 1)))
    found = _Turns(case, duration_s, warmup_s, most_runs)
    for number in range(rounds):
        tell(f"{case.artifact.model} on {case.runtime}, round {number + 1}", number, rounds + 1)
        found.round(backwards=number % 2 == 1)
    tell("what the machine can do", rounds, rounds + 1)
    peak = _machine(case, measure=machine)
    noting_ms = min(each.noting_ms for each in found.told)
    kernels = [
        replace(kernel, ms=max(0.0, kernel.ms - noting_ms))
        for kernel in merged([each.kernels for each in found.told])
    ]
    exported = "cnnport.build" in case.artifact.metadata
    layers = alone(kernels) if nodes is None else layers_of(kernels, nodes, costs, exported=exported)
    return _profile(case, found, layers, peak, rounds, command)


class _Turns:
    """What the processes say."""

    def __init__(self, case: Case, duration_s: float, warmup_s: float, most_runs: int) -> None:
        self._case, self._duration_s, self._warmup_s = case, duration_s, warmup_s
        self._most_runs = most_runs
        self.plain_s: list[float] = []
        self.profiled_s: list[float] = []
        self.told: list[Told] = []

    def round(self, *, backwards: bool) -> None:
        """A process of either kind, and their turns. Raises as ``profile``."""
        with ExitStack() as stack:
            if backwards:
                profiling = stack.enter_context(Profiling(self._case, self._warmup_s))
                plain = self._plain(stack)
            else:
                plain = self._plain(stack)
                profiling = stack.enter_context(Profiling(self._case, self._warmup_s))
            turn_s = self._duration_s / TURNS
            for number in range(TURNS):
                for is_plain in (True, False)[:: -1 if number % 2 else 1]:
                    if is_plain:
                        answer = _answered(self._case, plain.ask({"duration_s": turn_s}))
                        self.plain_s.append(answer["p50_s"])
                    else:
                        self.profiled_s.append(profiling.turn(turn_s, most_runs=self._most_runs))
            self.told.append(profiling.told())

    def _plain(self, stack: ExitStack) -> Conversation:
        command = command_of("cnnport.measuring.turns")
        process = stack.enter_context(Conversation(command, threads=self._case.threads, timeout_s=_TIMEOUT_S))
        _answered(self._case, process.ask(question_of(self._case, self._warmup_s, 0.0, 1)))
        return process


def _profile(
    case: Case, found: _Turns, layers: "Sequence[Layer]", machine: Json | None, rounds: int, command: str
) -> Profile:
    artifact, roof = case.artifact, Roof.of(machine)
    made = Profile(
        environment=read_environment(),
        model=artifact.model,
        runtime=case.runtime,
        precision=artifact.precision,
        batch=case.batch,
        threads=case.threads,
        end_to_end_ms=median(found.plain_s) * 1e3,
        profiled_ms=median(found.profiled_s) * 1e3,
        layers=tuple(_layer(each, roof, artifact.precision) for each in layers),
        runtime_version=found.told[-1].runtime_version,
        device=found.told[-1].device,
        settings=case.stated_settings,
        weights=case.weights,
        sha256=artifact.sha256,
        file=artifact.path.name,
        command=command,
        machine=machine,
        rounds=rounds,
        noting_ms=min(each.noting_ms for each in found.told),
        turns_ms=tuple(each * 1e3 for each in found.plain_s),
    )
    return replace(made, limits=limits(made), notes=notes(made))


def _layer(layer: Layer, roof: Roof | None, precision: str) -> ProfiledLayer:
    kernel, cost = layer.kernel, layer.cost
    flops, moved_bytes = _paper(kernel, cost)
    computed_in = kernel.precision or precision
    bound, of_peak = (None, None) if roof is None else roof.judge(flops, moved_bytes, computed_in, kernel.ms)
    return ProfiledLayer(
        name=kernel.name,
        operator=kernel.operator,
        ms=kernel.ms,
        precision=kernel.precision,
        nodes=layer.nodes,
        original=layer.original,
        modules=layer.modules,
        flops=flops,
        bytes=moved_bytes,
        bound=bound,
        of_peak=of_peak,
    )


def _paper(kernel: "Kernel", cost: "Cost | None") -> tuple[int | None, int | None]:
    """FLOPs and bytes: of the nodes, or of what the runtime put in, which computes nothing, as it says."""
    if cost is not None:
        return cost.flops, cost.moved_bytes
    return (None, None) if kernel.moved_bytes is None else (0, kernel.moved_bytes)


def _graph_of(case: Case) -> "tuple[Nodes | None, NodeCosts | None]":
    """The nodes of the file and what they cost; neither of an engine, no costs where they cannot be known."""
    from cnnport.graphs.cost import costs
    from cnnport.graphs.protos import read
    from cnnport.onnxfile import load_model
    from cnnport.runtimes.engine_file import is_engine

    artifact = case.artifact
    if is_engine(str(artifact.path)):
        return None, None
    model = load_model(artifact.path, external_data=False)
    nodes = Nodes(model.graph)
    try:
        return nodes, costs(
            read(model, artifact.path.parent), case.batch, shapes=_shapes(artifact, case.batch)
        )
    except Exception:  # whatever the reader raises: times are worth something without costs
        return nodes, None


def _shapes(artifact: "Artifact", batch: int) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.fixed(batch) for spec in artifact.inputs}


def _machine(case: Case, *, measure: bool) -> Json | None:
    if case.runtime not in _ON_CPU or case.settings.get("device", "CPU") != "CPU":
        return None
    from cnnport.measuring.machine import read_machine

    try:
        return read_machine(case.threads, measure=measure).to_json()
    except CnnportError:
        # Times are worth something without it.
        return None


def _answered(case: Case, answer: Json | Failure) -> Json:
    if isinstance(answer, Failure):
        raise refusal(case, answer.reason, answer.exit_code)
    return answer

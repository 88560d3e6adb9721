"""Networks on runtimes over pictures whose classes are known: settle, run what is not done yet, and count."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.evaluation import local, ray_engine
from cnnport.evaluation.data import LabelledPictures, open_pictures
from cnnport.evaluation.metrics import Metrics, metrics_of
from cnnport.evaluation.network import Network, is_on_gpu, prepare_network
from cnnport.evaluation.protocol import Protocol
from cnnport.evaluation.state import State, slot_of
from cnnport.evaluation.tally import Tally
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Options

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Request:
    """One file on one runtime."""

    artifact: Artifact
    runtime: str
    options: Options


@dataclass(frozen=True)
class Plan:
    """How pictures are shown to networks.

    Attributes:
        data: ``digits`` or a folder; see ``open_pictures``.
        labels: A list of classes, likewise.
        count: At most so many pictures, likewise.
        protocol: What of a picture is shown.
        preprocess: What is done to pictures, whatever a file says.
        batch: How many views are run at once; None for what suits the runtimes.
        workers: Threads that decode and run; None for what suits the machine.
        engine: One of ``ENGINES``.
        ray_address: Of the cluster; None for the one that this machine belongs to.
        fresh: Whether what an earlier run found is left aside.
    """

    data: str
    labels: Path | None = None
    count: int | None = None
    protocol: Protocol = field(default_factory=Protocol)
    preprocess: Preprocess | None = None
    batch: int | None = None
    workers: int | None = None
    engine: str = "local"
    ray_address: str | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Status:
    """How far an evaluation is.

    Attributes:
        done: Pictures that are done, of the network that is furthest behind.
        total: How many there are.
        per_s: Pictures a second in this run; 0 before the first.
        left_s: Seconds that the rest takes at this pace; None before the first.
        top1: Share of the first network's right answers so far; None before the first.
    """

    done: int
    total: int
    per_s: float
    left_s: float | None
    top1: float | None


@dataclass(frozen=True)
class Evaluated:
    """What came of a request.

    Attributes:
        request: What was asked for.
        problem: Why there is no result; None if there is one.
        network: As it was evaluated; None if it could not even be settled.
        data: What it was shown, in words.
        batch: How many views were run at once.
        tally: The counts.
        metrics: What they say; None without a result.
        resumed: Pictures that were done before.
        seconds: That this run took, for all networks that were shown the same views.
    """

    request: Request
    problem: CnnportError | None
    network: Network | None = None
    data: str = ""
    batch: int = 0
    tally: Tally | None = None
    metrics: Metrics | None = None
    resumed: int = 0
    seconds: float = 0.0


def evaluate(
    requests: Sequence[Request], plan: Plan, *, on_status: Callable[[Status], None] = lambda _: None
) -> list[Evaluated]:
    """Evaluate networks; those that are shown the same views share the decoding.

    What was found is kept in the user's cache every few seconds, by all that it depends on: a run that is killed goes
    on where it was, and one that is done is not done again, unless ``plan.fresh``. The result does not depend on how
    often it was interrupted, nor on the engine.

    Args:
        requests: Files and runtimes.
        plan: What they are shown.
        on_status: Told how far it is, after every batch.

    Returns:
        A result for each request, in their order.

    Raises:
        CnnportError: If the plan is wrong, or no request can be evaluated.
        RuntimeMissingError: If the engine is not available.
    """
    if plan.engine not in ENGINES:
        raise CnnportError(f"--engine is {' or '.join(ENGINES)}, not {plan.engine!r}")
    if plan.engine == "ray":
        ray_engine.require()
    results: dict[int, Evaluated] = {}
    groups: dict[object, list[tuple[int, Network]]] = {}
    for place, request in enumerate(requests):
        options = request.options
        if plan.engine == "ray" and not is_on_gpu(request.runtime):
            # A task takes as many of the cluster's CPUs as it has threads.
            options = replace(options, threads=options.threads or 1)
        try:
            network = prepare_network(
                request.artifact, request.runtime, options, plan.protocol, plan.preprocess
            )
        except CnnportError as error:
            results[place] = Evaluated(request, error)
        else:
            seen = (network.preprocess, network.picture, network.protocol)
            views = (network.classes, *seen, network.batch(plan.batch))
            groups.setdefault(views, []).append((place, network))
    for members in groups.values():
        networks = [network for _, network in members]
        pictures = open_pictures(plan.data, networks[0].classes, labels=plan.labels, count=plan.count)
        found = _Group(networks, pictures, plan, on_status).evaluate()
        for (place, _), each in zip(members, found, strict=True):
            results[place] = replace(each, request=requests[place])
    problems = [each.problem for each in results.values() if each.problem]
    if problems and len(problems) == len(requests):
        raise problems[0]
    return [results[place] for place in range(len(requests))]


class _Group:
    """Networks that are shown the same views."""

    def __init__(
        self,
        networks: Sequence[Network],
        pictures: LabelledPictures,
        plan: Plan,
        on_status: Callable[[Status], None],
    ) -> None:
        self._networks = networks
        self._pictures = pictures
        self._plan = plan
        self._on_status = on_status
        self._rows = networks[0].batch(plan.batch)
        self._per_batch = local.pictures_per_batch(networks[0], self._rows)
        self._batches = -(-len(pictures) // self._per_batch)
        self._states = [
            State(slot_of({**network.to_json(), "data": pictures.key, "batch": self._rows}), self._batches)
            for network in networks
        ]
        self._problems: dict[int, CnnportError] = {}
        self._began = time.monotonic()

    def evaluate(self) -> list[Evaluated]:
        """Run what is not done yet; a result for each network."""
        with ExitStack() as stack:
            # In one order, so that two processes that want the same never wait for each other.
            for path in sorted({state.slot.path for state in self._states}):
                slot = next(state.slot for state in self._states if state.slot.path == path)
                stack.enter_context(slot.held())
            if not self._plan.fresh:
                for state in self._states:
                    state.resume()
            missing = sorted({batch for state in self._states for batch in state.missing()})
            self._began = time.monotonic()
            self._tell()
            try:
                if missing:
                    self._run(missing)
            finally:
                for place, state in enumerate(self._states):
                    if place not in self._problems:
                        state.save()
        seconds = time.monotonic() - self._began
        return [self._result(place, seconds) for place in range(len(self._networks))]

    def _run(self, missing: Sequence[int]) -> None:
        for batches, found in self._answers(missing):
            for place, answer in found.items():
                if isinstance(answer, CnnportError):
                    self._problems.setdefault(place, answer)
                elif place not in self._problems:
                    self._states[place].add(batches, answer)
                    self._states[place].save(at_once=False)
            self._tell()

    def _answers(self, missing: Sequence[int]) -> Iterator[tuple[Sequence[int], local.Found]]:
        if self._plan.engine == "ray":
            yield from ray_engine.answers(
                self._networks,
                self._pictures,
                missing,
                self._wants,
                rows=self._rows,
                address=self._plan.ray_address,
            )
            return
        sessions, failed = local.open_networks(self._networks)
        with ExitStack() as stack:
            for session in sessions.values():
                stack.enter_context(session)
            yield [], failed
            lanes = local.Lanes(
                self._networks, sessions, self._pictures, rows=self._rows, workers=self._plan.workers
            )
            for batch, found in lanes.answers(missing, self._wants):
                yield [batch], found

    def _wants(self, batch: int) -> list[int]:
        """The networks that have not answered a batch, and still can."""
        return [
            place
            for place, state in enumerate(self._states)
            if place not in self._problems and not state.has(batch)
        ]

    def _tell(self) -> None:
        going = [state for place, state in enumerate(self._states) if place not in self._problems]
        if not going:
            return
        total = len(self._pictures)
        done, resumed = (
            min(total, self._per_batch * number)
            for number in (min(each.done for each in going), min(each.resumed for each in going))
        )
        elapsed = time.monotonic() - self._began
        per_s = (done - resumed) / elapsed if done > resumed and elapsed > 0 else 0.0
        tally = going[0].tally
        self._on_status(
            Status(
                done,
                total,
                per_s,
                (total - done) / per_s if per_s else None,
                tally.right / tally.count if tally.count else None,
            )
        )

    def _result(self, place: int, seconds: float) -> Evaluated:
        network, state = self._networks[place], self._states[place]
        problem = self._problems.get(place)
        tally = state.tally
        if problem is None and tally.count == 0:
            name, reason = tally.reasons[min(tally.reasons)]
            problem = CnnportError(
                f"none of the {len(self._pictures)} pictures can be read: {name}: {reason}"
            )
        return Evaluated(
            request=Request(network.artifact, network.runtime, network.options),
            problem=problem,
            network=network,
            data=self._pictures.description,
            batch=self._rows,
            tally=tally,
            metrics=None if problem else metrics_of(tally, network.classes.labels),
            resumed=min(len(self._pictures), state.resumed * self._per_batch),
            seconds=seconds,
        )

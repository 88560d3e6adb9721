"""The same evaluation on an existing Ray cluster: every task is a few batches, and counts what it finds.

A task that dies with its machine is run again elsewhere. Counts are whole numbers, so it does not matter where or in
which order they were found. Every machine has cnnport, and sees the folder of pictures under the same path; the
network's file is sent where it is not.
"""

import logging
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnnport.artifact import Artifact
from cnnport.errors import CheckFailedError, CnnportError, RuntimeMissingError, first_line
from cnnport.evaluation.data import LabelledPictures
from cnnport.evaluation.local import Found, Lanes, open_networks, pictures_per_batch
from cnnport.evaluation.network import Network, is_on_gpu
from cnnport.evaluation.tally import Tally
from cnnport.files import has_sha256, write_atomically
from cnnport.runtimes import Session

# Long enough that starting a task costs nothing beside it, short enough that little is lost with one.
_VIEWS_PER_TASK = 128
_RETRIES = 5
_WAIT_S = 1.0
_KNOCK_S = 5.0

_ERRORS = {kind.exit_code: kind for kind in (CheckFailedError, RuntimeMissingError)}


def require() -> None:
    """Raises ``RuntimeMissingError`` if Ray is not installed."""
    if find_spec("ray") is None:
        raise RuntimeMissingError("ray is not installed: pip install 'cnnport[ray]'")


def answers(
    networks: Sequence[Network],
    pictures: LabelledPictures,
    batches: Sequence[int],
    wants: Callable[[int], Sequence[int]],
    *,
    rows: int,
    address: str | None,
) -> Iterator[tuple[Sequence[int], Found]]:
    """Run batches on a cluster; arguments and what is yielded as of ``Lanes.answers``, for several at once.

    Raises:
        RuntimeMissingError: If Ray or the cluster is not there, or has not what a task needs.
        CnnportError: If a task dies again and again.
    """
    require()
    import ray

    per_batch = pictures_per_batch(networks[0], rows)
    at_once = max(1, _VIEWS_PER_TASK // max(rows, networks[0].protocol.views))
    with _connected(address):
        needs = _needs(networks, ray.cluster_resources())
        task = ray.remote(_serve).options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_retries=_RETRIES,
            scheduling_strategy="SPREAD",
        )
        files = [_sent(network.artifact, ray.put) for network in networks]
        shards = _shards(batches, wants, at_once)
        pending: dict[Any, _Shard] = {}
        try:
            while True:
                while len(pending) < needs.in_flight and (shard := next(shards, None)) is not None:
                    start = shard.batches[0] * per_batch
                    stop = min((shard.batches[-1] + 1) * per_batch, len(pictures))
                    part = pictures.part(range(start, stop))
                    wanted = [_sendable(networks[place]) for place in shard.places]
                    sent = [files[place] for place in shard.places]
                    pending[task.remote(wanted, part, shard.batches, rows, *sent)] = shard
                if not pending:
                    return
                done, _ = ray.wait(list(pending), num_returns=1, timeout=_WAIT_S)
                for reference in done:
                    shard = pending.pop(reference)
                    yield shard.batches, _found(shard, _result(reference))
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)


@dataclass(frozen=True)
class _Shard:
    """What one task does: batches that the same networks want."""

    batches: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class _Needs:
    """What each task asks of the cluster, and how many are handed over at a time."""

    cpus: int
    gpus: int
    in_flight: int


def _needs(networks: Sequence[Network], resources: dict[str, float]) -> _Needs:
    cpus = max(network.options.threads or 1 for network in networks)
    gpus = int(any(is_on_gpu(network.runtime) for network in networks))
    have = {"CPU": int(resources.get("CPU", 0)), "GPU": int(resources.get("GPU", 0))}
    for kind, wanted in (("CPU", cpus), ("GPU", gpus)):
        if have[kind] < wanted:
            raise RuntimeMissingError(
                f"each task needs {wanted} {kind}, and the Ray cluster has {have[kind]}"
            )
    return _Needs(cpus, gpus, 2 * (have["GPU"] if gpus else max(1, have["CPU"] // cpus)))


def _shards(batches: Sequence[int], wants: Callable[[int], Sequence[int]], at_once: int) -> Iterator[_Shard]:
    """Neighbouring batches that the same networks want, so many at most."""
    held: list[int] = []
    places: tuple[int, ...] = ()
    for batch in batches:
        own = tuple(wants(batch))
        if held and (own != places or batch != held[-1] + 1 or len(held) == at_once):
            yield _Shard(tuple(held), places)
            held = []
        if own:
            held, places = [*held, batch], own
    if held:
        yield _Shard(tuple(held), places)


def _result(reference: Any) -> list[dict[str, Any]]:
    import ray

    try:
        result: list[dict[str, Any]] = ray.get(reference)
    except Exception as error:  # a worker may die of anything, and Ray has a class for each
        raise CnnportError(f"a task failed on the Ray cluster: {_last_line(error)}") from error
    return result


def _found(shard: _Shard, result: Sequence[dict[str, Any]]) -> Found:
    found: Found = {}
    for place, each in zip(shard.places, result, strict=True):
        if "problem" in each:
            found[place] = _ERRORS.get(each["exit_code"], CnnportError)(each["problem"])
        else:
            found[place] = Tally.from_json(each)
    return found


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Belong to a cluster for as long as the block lasts. Raises ``RuntimeMissingError``."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address is not None:
            _knock(address)
        ray.init(
            address=address or "auto",
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except Exception as error:  # as above
        where = f"at {address}" if address else "that this machine belongs to"
        raise RuntimeMissingError(
            f"there is no Ray cluster {where}: {first_line(error)}\n"
            "start one with ray start --head, or say with --ray-address where it is"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises ``OSError`` if nobody listens at HOST:PORT, for which Ray itself would wait minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port[:6])), timeout=_KNOCK_S).close()


def _sent(artifact: Artifact, put: Callable[[bytes], Any]) -> Any:
    """The bytes of a file in the cluster's store, once for all tasks. Raises ``CnnportError``."""
    try:
        return put(artifact.path.read_bytes())
    except OSError as error:
        raise CnnportError(f"cannot read {artifact.path}: {error.strerror or error}") from error


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _sendable(network: Network) -> Network:
    # A read-only view of a dictionary is not to be pickled.
    return replace(network, artifact=replace(network.artifact, metadata=dict(network.artifact.metadata)))


def _serve(
    networks: list[Network], part: LabelledPictures, batches: tuple[int, ...], rows: int, *files: bytes
) -> list[dict[str, Any]]:
    """What a task does: for each network its counts, or why there are none. Errors do not travel, plain values do."""
    totals: list[Tally | CnnportError] = [Tally() for _ in networks]
    sessions: dict[int, Session] = {}
    for place, (network, data) in enumerate(zip(networks, files, strict=True)):
        opened = _opened(network, data)
        if isinstance(opened, CnnportError):
            totals[place] = opened
        else:
            sessions[place] = opened
    workers = None if any(is_on_gpu(network.runtime) for network in networks) else 1

    def wants(_batch: int) -> list[int]:
        return [place for place, total in enumerate(totals) if isinstance(total, Tally)]

    for _, found in Lanes(networks, sessions, part, rows=rows, workers=workers).answers(batches, wants):
        for place, answer in found.items():
            held = totals[place]
            if isinstance(answer, CnnportError):
                totals[place] = answer
            elif isinstance(held, Tally):
                held.merge(answer)
    return [
        total.to_json() if isinstance(total, Tally) else {"problem": str(total), "exit_code": total.exit_code}
        for total in totals
    ]


# The last few sessions of this worker, by what they were opened for: the next task very likely wants the same.
_sessions: dict[str, Session] = {}
_MOST_SESSIONS = 4


def _opened(network: Network, data: bytes) -> Session | CnnportError:
    key = repr((network.artifact.sha256, network.runtime, network.options))
    if key not in _sessions:
        while len(_sessions) >= _MOST_SESSIONS:
            _sessions.pop(next(iter(_sessions))).close()
        try:
            placed = replace(network, artifact=_placed(network.artifact, data))
        except CnnportError as error:
            return error
        sessions, failed = open_networks([placed])
        if failed:
            return failed[0] if isinstance(failed[0], CnnportError) else CnnportError("no session")
        _sessions[key] = sessions[0]
    return _sessions[key]


def _placed(artifact: Artifact, data: bytes) -> Artifact:
    """The file where this machine has it: at its path, or written from what was sent."""
    if artifact.path.is_file() and has_sha256(artifact.path, artifact.sha256):
        return artifact
    folder = Path(tempfile.gettempdir()) / "cnnport-ray"
    folder.mkdir(exist_ok=True)
    path = folder / f"{artifact.sha256}{artifact.path.suffix}"
    if not (path.is_file() and has_sha256(path, artifact.sha256)):
        write_atomically(path, data)
    return replace(artifact, path=path)

"""An evaluation on this machine: pictures are decoded beside the runs, a few batches ahead, by several threads.

Threads do: Pillow lets go of the interpreter while it decodes and resizes, NumPy while it normalises, and so do the
runtimes. Each takes a batch, decodes it and runs it; where a runtime has one run at a time, the others decode while
one is in it. Nothing is handed over, and no more batches are in memory than there are threads.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import BoundedSemaphore
from typing import TypeAlias

from cnnport.errors import CnnportError
from cnnport.evaluation.data import LabelledPictures
from cnnport.evaluation.network import Network, cpu_count
from cnnport.evaluation.scoring import Batch
from cnnport.evaluation.tally import Tally
from cnnport.runtimes import Session, require_runtime

Answer: TypeAlias = Tally | CnnportError
"""What a network says of a batch, or why it says nothing."""

Found: TypeAlias = dict[int, Answer]
"""By the network's place among those that are evaluated."""


class Lanes:
    """Threads that show pictures to networks which want the same views."""

    def __init__(
        self,
        networks: Sequence[Network],
        sessions: Mapping[int, Session],
        pictures: LabelledPictures,
        *,
        rows: int,
        workers: int | None = None,
    ) -> None:
        """Nothing is run yet.

        Args:
            networks: With one protocol and one preprocessing.
            sessions: Of those that could be opened, by their place.
            pictures: What they are shown.
            rows: How many views are run at once.
            workers: Threads that decode and run; by default one for each CPU, and one more so that a slow disk
                leaves none without work.
        """
        self._networks = networks
        self._sessions = sessions
        self._pictures = pictures
        self._rows = rows
        self._per_batch = pictures_per_batch(networks[0], rows)
        self._workers = workers or cpu_count() + 1
        self._free = [BoundedSemaphore(network.lanes) for network in networks]

    def answers(
        self, batches: Iterable[int], wants: Callable[[int], Sequence[int]]
    ) -> Iterator[tuple[int, Found]]:
        """Run batches.

        Args:
            batches: Their numbers.
            wants: The places of the networks that a batch is still to be shown to; asked when it is begun.

        Yields:
            A batch and what was found, in the order in which they are done.
        """
        executor = ThreadPoolExecutor(self._workers, thread_name_prefix="evaluate")
        running: set[Future[tuple[int, Found]]] = set()
        following = iter(batches)
        try:
            while True:
                # One waits for each worker, so that none waits for this thread.
                while len(running) < 2 * self._workers and (batch := next(following, None)) is not None:
                    if chosen := [place for place in wants(batch) if place in self._sessions]:
                        running.add(executor.submit(self._answer, batch, chosen))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _answer(self, number: int, chosen: Sequence[int]) -> tuple[int, Found]:
        network = self._networks[0]
        start = number * self._per_batch
        end = self._pictures.first + len(self._pictures)
        places = range(start, min(start + self._per_batch, end))
        batch = Batch(self._pictures, places, network.protocol, network.preprocess, network.picture)
        found: Found = {}
        for place in chosen:
            with self._free[place]:
                try:
                    found[place] = batch.tally(self._sessions[place], self._networks[place], self._rows)
                except CnnportError as error:
                    found[place] = error
        return number, found


def open_networks(networks: Sequence[Network]) -> tuple[dict[int, Session], Found]:
    """The session of each network, and why some have none, by their places; who asks closes them."""
    sessions: dict[int, Session] = {}
    failed: Found = {}
    for place, network in enumerate(networks):
        try:
            sessions[place] = require_runtime(network.runtime).open(network.artifact, network.options)
        except CnnportError as error:
            failed[place] = error
    return sessions, failed


def pictures_per_batch(network: Network, rows: int) -> int:
    """How many pictures make a batch of so many views; at least one."""
    return max(1, rows // network.protocol.views)

"""How much of an evaluation is done: which batches, kept so that a killed run goes on."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cnnport.evaluation.tally import Tally
from cnnport.files import cache_root
from cnnport.runtimes.engine_cache import Slot

_FORMAT = 1

# What is lost at most by a kill; more where saving itself takes long.
_SAVE_S = 3.0
_SAVE_SHARE = 0.05


@dataclass
class State:
    """Of one network on one runtime.

    Attributes:
        slot: Where it is kept.
        batches: How many there are.
        tally: What was found.
        ranges: The batches that are done, as ranges from the first to behind the last, in order and apart.
        resumed: How many were done before this run.
    """

    slot: Slot
    batches: int
    tally: Tally = field(default_factory=Tally)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    resumed: int = 0
    _saved: float = -math.inf
    _every_s: float = _SAVE_S

    @property
    def done(self) -> int:
        """How many batches are done."""
        return sum(stop - start for start, stop in self.ranges)

    @property
    def is_complete(self) -> bool:
        """Whether all are."""
        return self.done == self.batches

    def missing(self) -> Iterator[int]:
        """The batches that are not done, in order."""
        at = 0
        for start, stop in [*self.ranges, (self.batches, self.batches)]:
            yield from range(at, start)
            at = stop

    def has(self, batch: int) -> bool:
        """Whether a batch is done."""
        return any(start <= batch < stop for start, stop in self.ranges)

    def add(self, batches: Iterable[int], tally: Tally) -> None:
        """Count batches as done; those that are already must not come again."""
        self.tally.merge(tally)
        self.ranges = _joined([*self.ranges, *((batch, batch + 1) for batch in batches)])

    def save(self, *, at_once: bool = True) -> None:
        """Keep it; not ``at_once`` only every few seconds. Raises ``OutputError``."""
        began = time.monotonic()
        if not at_once and began - self._saved < self._every_s:
            return
        document = {
            "format": _FORMAT,
            "batches": self.batches,
            "done": self.ranges,
            "tally": self.tally.to_json(),
        }
        self.slot.write(json.dumps(document).encode())
        self._saved = time.monotonic()
        self._every_s = max(_SAVE_S, (self._saved - began) / _SAVE_SHARE)

    def resume(self) -> None:
        """Take up what is kept, if anything whole is."""
        entry = self.slot.read()
        if entry is None:
            return
        try:
            document = json.loads(entry.data)
            ranges = [(int(start), int(stop)) for start, stop in document["done"]]
            tally = Tally.from_json(document["tally"])
            fits = document["format"] == _FORMAT and document["batches"] == self.batches
        except (ValueError, KeyError, TypeError):
            return
        if (
            fits
            and ranges == _joined(ranges)
            and all(0 <= start < stop <= self.batches for start, stop in ranges)
        ):
            self.tally, self.ranges = tally, ranges
            self.resumed = self.done


def slot_of(facts: dict[str, Any]) -> Slot:
    """The place of an evaluation, by everything that its result depends on."""
    texts = {name: json.dumps(value, sort_keys=True) for name, value in facts.items()}
    return Slot(cache_root() / "evaluations", "evaluation", {"format": str(_FORMAT), **texts}, ".state")


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same batches in as few ranges as can be, in order."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found

"""Harness and bare loop over one session: ``python -m cnnport.measuring.studies.same_session``.

Two processes have their memory in different places, and of one program always in the same, which makes one side
some per cent faster than the other in every round. Here the session, its inputs and its outputs are the same, and
only what stands around the runtime's call differs: the launch of the adapter in the harness's loop on one side, what
anyone would write on the other.

The question is a case as ``worker`` takes it, with ``duration_s``, ``turns`` and ``first`` (a side); the answer has
the samples of both sides, ``harness_ns`` and ``bare_ns``, which had turns of equal length.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cnnport.answering import answer_with
from cnnport.errors import CnnportError
from cnnport.measuring.loop import Loop
from cnnport.measuring.record import Json
from cnnport.measuring.worker import open_case

SIDES = ("harness", "bare")


def serve(case: Json) -> Json:
    """Measure. Raises as ``worker.open_case``."""
    opened = open_case(case)
    (launch,) = opened.launches
    loop = Loop(opened.launches)
    loop.warm_up(case["warmup_s"], case["warmup_s"])
    call = bare_call(launch)
    samples: dict[str, list[int]] = {side: [] for side in SIDES}
    slice_s = case["duration_s"] / case["turns"]
    order = SIDES if case["first"] == SIDES[0] else SIDES[::-1]
    for turn in range(case["turns"]):
        for side in order[:: -1 if turn % 2 else 1]:
            samples[side] += (
                loop.take(slice_s, 1).samples_ns if side == SIDES[0] else bare_loop(call, slice_s)
            )
    return {f"{side}_ns": taken for side, taken in samples.items()}


def bare_call(launch: Any) -> Callable[[], object]:
    """What anyone would call of the runtime that a launch adapts.

    Raises:
        CnnportError: If it is none of those whose calls are known.
    """
    match type(launch).__name__:
        case "OrtLaunch":
            return partial(launch._run, launch._binding)
        case "OpenVinoLaunch":
            found: Callable[[], object] = launch._request.infer
            return found
    raise CnnportError(f"what {type(launch).__name__} calls is not known here")


def bare_loop(call: Callable[[], object], duration_s: float) -> list[int]:
    """Nanoseconds of each call for so long."""
    samples_ns: list[int] = []
    stop = time.perf_counter() + duration_s
    while not samples_ns or time.perf_counter() < stop:
        begin = time.perf_counter_ns()
        call()
        samples_ns.append(time.perf_counter_ns() - begin)
    return samples_ns


if __name__ == "__main__":
    answer_with(serve)

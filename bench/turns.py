"""One case, measured a slice at a time, whenever it is asked: ``python -m cnnport.measuring.turns``.

The first line of standard input is a case as ``worker`` takes it; each further one asks for a slice. In between the
process sleeps, so that others get their turns on the same CPUs.
"""

import time
from collections.abc import Callable
from statistics import median

from cnnport.answering import answer_all_with
from cnnport.measuring.loop import Loop
from cnnport.measuring.record import Json
from cnnport.measuring.sensors import read_sensors
from cnnport.measuring.worker import open_case
from cnnport.memory import peak_memory_bytes

# What other processes leave in the caches slows one run down by less than this.
_CACHES_S = 1e-3

# A run of so many times that does not show it.
_SHARE = 50


def begin(case: Json) -> Callable[[Json], Json]:
    """Load the file and warm up. Raises as ``worker.open_case``."""
    opened = open_case(case)
    # The process ends with the conversation, and the device's clock with it.
    loop = Loop(opened.launches, transfers=case.get("transfers", False))
    warmup = loop.warm_up(case["warmup_s"], case.get("warmup_max_s", 0.0))
    grown = opened.grown()
    usual_s = median(loop.take(0.0, 1).samples_ns) / 1e9

    def serve(question: Json) -> Json:
        """A slice of ``duration_s``, at least one run: the median in seconds, and what else is asked for.

        With ``samples`` the samples themselves, with ``facts`` in the place of a slice what is known of the process.
        """
        if "facts" in question:
            facts = {**opened.facts, **grown, "warmup": warmup.to_json()}
            sensors = read_sensors(opened.facts["cpus"], opened.gpu).to_json()
            return {
                **facts,
                "peak_memory_bytes": peak_memory_bytes(),
                "sensors": sensors,
                "cpu_s": time.process_time(),
            }
        # The first run after others had their turn finds the caches cold, which a long one does not feel.
        if usual_s < _CACHES_S * _SHARE:
            loop.take(0.0, 1)
        taken = loop.take(question["duration_s"], question.get("min_iterations", 1))
        answer = {"p50_s": median(taken.samples_ns) / 1e9, "samples": len(taken.samples_ns)}
        return {**answer, **taken.to_json()} if "samples" in question else answer

    return serve


if __name__ == "__main__":
    answer_all_with(begin)

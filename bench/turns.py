"""One case, measured a slice at a time, whenever it is asked: ``python -m cnnport.bench.turns``.

The first line of standard input is a case as ``worker`` takes it; each further one asks for a slice. In between the
process sleeps, so that others get their turns on the same CPUs.
"""

from collections.abc import Callable
from statistics import median

from cnnport.bench.answering import answer_all_with
from cnnport.bench.measure import measure
from cnnport.bench.record import Json
from cnnport.bench.worker import open_case

# What other processes leave in the caches slows one run down by less than this.
_CACHES_S = 1e-3

# A run of so many times that does not show it.
_SHARE = 50


def begin(case: Json) -> Callable[[Json], Json]:
    """Load the file and warm up. Raises as ``worker.open_case``."""
    opened = open_case(case)
    samples_ns = measure(opened.launch, warmup_s=case["warmup_s"], duration_s=0, min_iterations=1)
    usual_s = median(samples_ns) / 1e9

    def serve(question: Json) -> Json:
        """A slice of ``duration_s``, at least one run: the median in seconds."""
        # The first run after others had their turn finds the caches cold, which a long one does not feel.
        warmup_s = 0.0 if usual_s < _CACHES_S * _SHARE else None
        samples = measure(
            opened.launch, warmup_s=warmup_s, duration_s=question["duration_s"], min_iterations=1
        )
        return {"p50_s": median(samples) / 1e9, "samples": len(samples)}

    return serve


if __name__ == "__main__":
    answer_all_with(begin)

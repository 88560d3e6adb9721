"""The regression gate: what is measured now against what was, and whether that is worse than allowed.

``limits`` reads what is allowed, ``baselines`` finds what a case is held against, ``pairs`` measures both in turn,
``judge`` says what follows, ``run`` does it all and measures on where nothing follows yet, ``summary`` tells it in
Markdown.
"""

from cnnport.measuring.gate.baselines import Baseline, find_baselines
from cnnport.measuring.gate.limits import Limit, parse_limit
from cnnport.measuring.gate.run import MAX_ROUNDS, ROUNDS, bench_against
from cnnport.measuring.gate.summary import append_summary, summary_text

__all__ = [
    "MAX_ROUNDS",
    "ROUNDS",
    "Baseline",
    "Limit",
    "append_summary",
    "bench_against",
    "find_baselines",
    "parse_limit",
    "summary_text",
]

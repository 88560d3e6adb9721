"""Whether every runtime, precision and batch says the same as a reference, and where not.

``parity`` directs; ``candidates`` are files on runtimes, of precisions that ``making`` makes; ``inputs`` and
``near_ties`` are what is fed; ``opened`` runs a candidate in a process of its own, whose other end is ``worker``;
``answers`` records the reference and holds others against it with ``meter``, to ``tolerances``; ``exact`` asks
float64 where float32 is in doubt; ``invariance`` holds a candidate against itself; ``matrix`` is what came of it,
``page`` shows it; ``goldens`` are answers that a project keeps.
"""

from cnnport.agreement.matrix import Matrix, Plan, Row
from cnnport.agreement.opened import CandidateError
from cnnport.agreement.parity import Request, parity

__all__ = ["CandidateError", "Matrix", "Plan", "Request", "Row", "parity"]

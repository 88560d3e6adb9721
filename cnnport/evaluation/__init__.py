"""How often a network is right: pictures whose classes are known, shown to it as the papers do, on any runtime.

``data`` finds the pictures and ``labels`` their classes, ``protocol`` says what of a picture is shown and what is
averaged, ``views`` makes that, ``scoring`` runs it, ``tally`` counts in whole numbers, ``metrics`` says what the
counts mean. ``local`` runs on this machine, ``ray_engine`` on a cluster, ``state`` keeps what is done, ``evaluate``
puts it together.
"""

from cnnport.evaluation.evaluate import ENGINES, Evaluated, Plan, Request, Status, evaluate
from cnnport.evaluation.protocol import Protocol, parse_protocol
from cnnport.evaluation.record import document_of

__all__ = [
    "ENGINES",
    "Evaluated",
    "Plan",
    "Protocol",
    "Request",
    "Status",
    "document_of",
    "evaluate",
    "parse_protocol",
]

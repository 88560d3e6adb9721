"""Finding out how a network runs fastest here, within what accuracy may cost: ``cnnport tune``.

``offers`` says what is worth trying on which runtime, ``building`` makes the files, ``racing`` measures candidates in
turn and lets fewer and fewer go on, ``accuracy`` holds them to the float network, ``deciding`` names the winner,
``state`` keeps every finished step, ``search`` directs, ``writing`` and ``report`` say what came of it.
"""

from cnnport.measuring.tuning.candidate import Candidate, Variant
from cnnport.measuring.tuning.report import as_markdown, report_of
from cnnport.measuring.tuning.search import tune
from cnnport.measuring.tuning.tuned import Tuned, Wishes

__all__ = ["Candidate", "Tuned", "Variant", "Wishes", "as_markdown", "report_of", "tune"]

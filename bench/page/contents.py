"""All that the files of a page say, by kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from cnnport.measuring.page.accuracy import Evaluation, read_evaluations
from cnnport.measuring.page.documents import Document
from cnnport.measuring.page.graphs import GraphChange, read_graph_changes
from cnnport.measuring.page.measured import Measured, read_measured
from cnnport.measuring.page.parity import Parity, read_parities
from cnnport.measuring.page.profiled import Profiled, read_profiles
from cnnport.measuring.page.quantized import Quantization, read_quantizations
from cnnport.measuring.page.tuned import Tuning, read_tunings


@dataclass(frozen=True)
class Contents:
    """What was read, each in the order of the files."""

    documents: tuple[Document, ...]
    benchmarks: tuple[Measured, ...]
    evaluations: tuple[Evaluation, ...]
    profiles: tuple[Profiled, ...]
    graphs: tuple[GraphChange, ...]
    parities: tuple[Parity, ...]
    quantizations: tuple[Quantization, ...]
    tunings: tuple[Tuning, ...]


def contents_of(documents: Sequence[Document]) -> Contents:
    """Sort documents and read each by its kind. Raises ``DocumentError``."""
    return Contents(
        documents=tuple(documents),
        benchmarks=read_measured(documents),
        evaluations=read_evaluations(documents),
        profiles=read_profiles(documents),
        graphs=read_graph_changes(documents),
        parities=read_parities(documents),
        quantizations=read_quantizations(documents),
        tunings=read_tunings(documents),
    )

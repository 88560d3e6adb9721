"""Measuring how fast artifacts run: cases, the timing loop, records, tables.

``make_cases`` and ``bench`` measure; ``render``, ``write_results`` and ``read_results`` do what is left to
do. The parts that processes share import nothing but the standard library, so that a worker can be pinned
before anything starts a thread.
"""

from cnnport.measuring.case import Case, make_cases
from cnnport.measuring.cautions import Caution, Code, cautions
from cnnport.measuring.comparison import Comparison, Verdict
from cnnport.measuring.cpus import default_threads
from cnnport.measuring.journal import Journal, journal_path
from cnnport.measuring.measure import measure
from cnnport.measuring.record import (
    Environment,
    Measurement,
    Method,
    RecordError,
    Results,
    Round,
    Skipped,
    json_text,
    read_results,
)
from cnnport.measuring.report import (
    check_format,
    csv_text,
    environment_lines,
    markdown_text,
    render,
    write_results,
)
from cnnport.measuring.run import Progress, bench

__all__ = [
    "Case",
    "Caution",
    "Code",
    "Comparison",
    "Environment",
    "Journal",
    "Measurement",
    "Method",
    "Progress",
    "RecordError",
    "Results",
    "Round",
    "Skipped",
    "Verdict",
    "bench",
    "cautions",
    "check_format",
    "csv_text",
    "default_threads",
    "environment_lines",
    "journal_path",
    "json_text",
    "make_cases",
    "markdown_text",
    "measure",
    "read_results",
    "render",
    "write_results",
]

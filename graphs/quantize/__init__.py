"""Numbers of fewer bits in a graph: where quantizers stand, with which scales."""

from cnnport.graphs.quantize.plan import Choice
from cnnport.graphs.quantize.preparation import PREPARATION
from cnnport.graphs.quantize.quantizing import Report, quantize, wanted
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rules import RULES
from cnnport.graphs.quantize.scales import Quantizer
from cnnport.graphs.quantize.trt_rules import Fault, faults

__all__ = [
    "PREPARATION",
    "RULES",
    "Choice",
    "Fault",
    "Quantizer",
    "Report",
    "ValueRange",
    "faults",
    "quantize",
    "wanted",
]

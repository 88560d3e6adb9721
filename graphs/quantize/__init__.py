"""Numbers of fewer bits in a graph: where quantizers stand, with which scales."""

from cnnport.graphs.quantize.equalize import equalize
from cnnport.graphs.quantize.moments import InputMoments, unfolded_size
from cnnport.graphs.quantize.plan import Choice, name_of, plan
from cnnport.graphs.quantize.preparation import PREPARATION
from cnnport.graphs.quantize.quantizing import Report, quantize, wanted
from cnnport.graphs.quantize.ranges import ValueRange
from cnnport.graphs.quantize.rules import RULES, require_target
from cnnport.graphs.quantize.scales import Quantizer
from cnnport.graphs.quantize.trt_rules import Fault, faults

__all__ = [
    "PREPARATION",
    "RULES",
    "Choice",
    "Fault",
    "InputMoments",
    "Quantizer",
    "Report",
    "ValueRange",
    "equalize",
    "faults",
    "name_of",
    "plan",
    "quantize",
    "require_target",
    "unfolded_size",
    "wanted",
]

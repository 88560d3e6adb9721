"""From a float32 file to one in 8 bits for a target: calibrated, judged, repaired where that is needed.

``floats`` makes the graph ready, ``workshop`` makes candidates by recipes, ``judging`` says how far one is from the
float network, ``repair`` looks for a recipe that is good enough, ``sensitivity`` says which layers lose most,
``quantize_file`` directs, ``metadata`` and ``report`` say what was done.
"""

from cnnport.quantization.judging import Judgement
from cnnport.quantization.quantize_file import Quantized, default_path, quantize_file
from cnnport.quantization.recipe import Recipe
from cnnport.quantization.repair import Attempt, Limits
from cnnport.quantization.report import as_markdown, report_of
from cnnport.quantization.sensitivity import Sensitivity

__all__ = [
    "Attempt",
    "Judgement",
    "Limits",
    "Quantized",
    "Recipe",
    "Sensitivity",
    "as_markdown",
    "default_path",
    "quantize_file",
    "report_of",
]

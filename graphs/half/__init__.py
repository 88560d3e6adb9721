"""Float32 graphs in float16 or bfloat16: what can be half, what had better not, and the fewest Casts between."""

from cnnport.graphs.half.conversion import Conversion, check_opset, convert
from cnnport.graphs.half.formats import BF16, FORMATS, FP16, HalfFormat

__all__ = ["BF16", "FORMATS", "FP16", "Conversion", "HalfFormat", "check_opset", "convert"]

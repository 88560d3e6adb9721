"""ONNX in, ONNX out, no runtime: the graph passes, and the loop that checks and undoes them."""

from cnnport.graphs.operators import count_ops
from cnnport.graphs.optimize import PassReport, optimize
from cnnport.graphs.passes import DEFAULT_PASSES, PASSES, Pass, select_passes

__all__ = ["DEFAULT_PASSES", "PASSES", "Pass", "PassReport", "count_ops", "optimize", "select_passes"]

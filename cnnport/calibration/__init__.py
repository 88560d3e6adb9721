"""What numbers a network's values take on real inputs, and the ranges that quantizers are given for them.

``source.open_samples`` finds the inputs, ``calibrate`` runs the network over them once, ``Calibration.ranges``
answers by any method. Three decisions make the one run cheap (see ``taps`` and ``histogram``): most of what is
asked of a value is computed inside the graph, in the layout that it has there; counts are of an even sample of the
numbers, while the least and the greatest are exact; and the histogram's bins are those of the floating-point
format, so that nothing has to be known, kept or run again to find a range. onnxruntime's own calibrators run
without graph optimisations, copy every value whole, and keep what one method needs, for which reasons they are not
used.
"""

from cnnport.calibration.calibration import Calibration, Skipped
from cnnport.calibration.collect import calibrate
from cnnport.calibration.methods import METHODS, PERCENTILE, Statistics, find_range
from cnnport.calibration.moments import input_moments
from cnnport.calibration.samples import COUNT, Samples
from cnnport.calibration.source import open_samples
from cnnport.graphs.quantize.moments import InputMoments

__all__ = [
    "COUNT",
    "METHODS",
    "PERCENTILE",
    "Calibration",
    "InputMoments",
    "Samples",
    "Skipped",
    "Statistics",
    "calibrate",
    "find_range",
    "input_moments",
    "open_samples",
]

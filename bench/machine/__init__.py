"""What the machine can do at most: arithmetic by precision, and memory bandwidth, measured and kept per machine.

``read_machine`` gives it. The figures are of this machine as networks would use it: matrix products and a convolution
on the runtimes that are here, and STREAM's four kernels; never of a data sheet.
"""

from cnnport.measuring.machine.machine import Machine, Product, Stream
from cnnport.measuring.machine.reading import measure_machine, measure_part, read_machine

__all__ = ["Machine", "Product", "Stream", "measure_machine", "measure_part", "read_machine"]

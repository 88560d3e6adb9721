"""Average pooling of channels that fill no blocks of 16, as a depthwise convolution.

The algebra, and what it asks for, stand in ``average``. ONNX Runtime's CPU kernels run a pooling in blocks of 16
channels only where the channels fill them, and otherwise one channel after the other, which for the 24 channels of
ShuffleNet v1 takes six times as long; a depthwise convolution they run in blocks in any case. Where the channels do
fill the blocks, the pooling stays, and is left to its kernel.

It fires for AveragePool over height and width with a float32 input whose number of channels is known, above 16 and no
multiple of it, if every window divides by its whole size: ``count_include_pad`` = 1, or no padding.

It must not fire with ``ceil_mode`` (the last window may hang over the edge), for padding that is not counted (windows
at the border divide by less), for ``auto_pad`` other than NOTSET and VALID, for other types, or for a global pooling.
"""

import onnx_ir as ir

from cnnport.graphs.average import averages_to_convolutions, is_whole_average
from cnnport.graphs.values import static

_BLOCK = 16


def average_by_convolution(model: ir.Model) -> int:
    """Write average poolings that blocked kernels cannot run as depthwise convolutions.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of AveragePool nodes that became convolutions.
    """
    found = [node for node in model.graph if is_whole_average(node) and _leaves_a_block_open(node)]
    return averages_to_convolutions(model, found)


def _leaves_a_block_open(node: ir.Node) -> bool:
    channels = static(node.inputs[0], 1) or 0
    return channels > _BLOCK and channels % _BLOCK != 0

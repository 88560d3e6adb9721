"""The passes that make a graph of floats ready for quantizing.

They run by themselves, after the passes of the target have come to an end: a BatchNormalization that could still be
folded must not have become a convolution. Ranges are then found on what they leave, whose values have names of their
own. What they write computes the same in float, and there more slowly.

The ordinary passes of the target serve 8 bits as well, those that suit blocked kernels too. ONNX Runtime's integer
convolutions have a fast path of their own on x86: channels by fours going in and coming out, at least 16 coming out;
depthwise, by sixteens. ``align_channels`` makes ShuffleNet v2's 58 and 116 channels 64 and 128: measured with one
thread against the same float file, 2.1 times as fast in 8 bits, 1.7 times without it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from cnnport.graphs.integer.fill_input_channels import fill_input_channels
from cnnport.graphs.integer.hard_by_convolution import hard_by_convolution
from cnnport.graphs.integer.norm_by_convolution import norm_by_convolution
from cnnport.graphs.integer.pool_by_convolution import pool_by_convolution
from cnnport.graphs.passes import Pass

PREPARATION: Mapping[str, tuple[Pass, ...]] = MappingProxyType(
    {
        "ort": (norm_by_convolution, pool_by_convolution, hard_by_convolution, fill_input_channels),
        "trt": (),
        "openvino": (),
    }
)
"""For each target of ``rules.RULES``, in the order in which they run."""

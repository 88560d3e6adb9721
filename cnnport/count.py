"""Counting what a network holds and does, without running it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnport.errors import ModelError, first_line


@dataclass(frozen=True)
class Counts:
    """Parameters, multiply-adds of convolutions and matrix products for one input, and the output's shape."""

    params: int
    macs: int
    output_shape: tuple[int, ...]


def count(module: nn.Module, input_shapes: Sequence[tuple[int, ...]]) -> Counts:
    """Count on the meta device: shapes are computed, values are not.

    Args:
        module: Is moved to the meta device, which empties it.
        input_shapes: Channels, height, width of each input.

    Raises:
        ModelError: If the module cannot run on these shapes.
    """
    module = module.to("meta").eval()
    inputs = [torch.empty(1, *shape, device="meta") for shape in input_shapes]
    # The counter's unit is one multiplication or one addition.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        try:
            output = module(*inputs)
        except Exception as error:
            sizes = ", ".join("x".join(map(str, shape)) for shape in input_shapes)
            raise ModelError(f"the network cannot run on {sizes}: {first_line(error)}") from error
    params = sum(parameter.numel() for parameter in module.parameters())
    return Counts(params, counter.get_total_flops() // 2, tuple(output.shape))

"""Counting what a network holds and does, without running it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnport.errors import ModelError
from cnnport.misfit import explain


@dataclass(frozen=True)
class Counts:
    """What was counted.

    Attributes:
        params: Number of parameters.
        macs: Multiply-adds of convolutions and matrix products for one input.
        output_shapes: Of each output, with the batch.
    """

    params: int
    macs: int
    output_shapes: tuple[tuple[int, ...], ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of the first output, which mostly is the only one."""
        return self.output_shapes[0]


def count(module: nn.Module, input_shapes: Sequence[tuple[int, ...]]) -> Counts:
    """Count on the meta device: shapes are computed, values are not.

    Args:
        module: Is moved to the meta device, which empties it.
        input_shapes: Channels, height, width of each input.

    Raises:
        ModelError: If the module cannot run on these shapes, or returns something else than tensors.
    """
    module = module.to("meta").eval()
    inputs = [torch.empty(1, *shape, device="meta") for shape in input_shapes]
    # The counter's unit is one multiplication or one addition.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        try:
            output = module(*inputs)
        except NotImplementedError as error:  # the meta device's word for it
            raise ModelError(
                "the network's shapes depend on the values in its input: it cannot be counted without running it"
            ) from error
        except Exception as error:
            raise explain(module, input_shapes, error) from error
    params = sum(parameter.numel() for parameter in module.parameters())
    return Counts(params, counter.get_total_flops() // 2, _shapes(output))


def _shapes(output: Any) -> tuple[tuple[int, ...], ...]:
    values = list(output.values()) if isinstance(output, Mapping) else output
    values = [values] if isinstance(values, torch.Tensor) else values
    if (
        not isinstance(values, list | tuple)
        or not values
        or not all(isinstance(value, torch.Tensor) for value in values)
    ):
        raise ModelError(
            "the network returns neither a tensor nor a flat tuple, list or dictionary of tensors"
        )
    return tuple(tuple(value.shape) for value in values)

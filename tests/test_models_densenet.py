"""Training a DenseNet in less memory changes what is kept, not what is computed."""

from contextlib import nullcontext

import pytest
import torch

from cnnport.measuring.studies.densenet_memory import Case, kept_for_backward, measure
from cnnport.models import densenet
from cnnport.models.densenet import DenseNet


def trained(
    *, memory_efficient: bool, bottleneck: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs, gradients and state after one step forward and back."""
    torch.manual_seed(0)
    network = DenseNet(
        4,
        (3, 2),
        num_classes=5,
        in_channels=3,
        cifar=True,
        bottleneck=bottleneck,
        memory_efficient=memory_efficient,
    )
    outputs = network(torch.rand(4, 3, 8, 8))
    outputs.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return outputs.detach(), gradients, network.state_dict()


@pytest.mark.parametrize("bottleneck", [True, False])
def test_memory_efficient_training_computes_the_same(bottleneck: bool) -> None:
    plain, efficient = (trained(memory_efficient=value, bottleneck=bottleneck) for value in (False, True))
    # The state holds the running statistics: the second computation of a batch must not count.
    torch.testing.assert_close(efficient, plain)


def test_a_batch_that_counts_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densenet, "_NotCounted", lambda norm: nullcontext())
    plain, twice = (trained(memory_efficient=value, bottleneck=True) for value in (False, True))
    torch.testing.assert_close(twice[:2], plain[:2])
    with pytest.raises(AssertionError):
        torch.testing.assert_close(twice[2], plain[2])


def saved() -> int:
    """Bytes that the mode does not keep for the backward pass of two images."""
    plain, efficient = (
        kept_for_backward(Case("densenet40_k12_cifar10", 2, value)) for value in (False, True)
    )
    return plain - efficient


def test_memory_efficient_training_keeps_what_a_layer_makes_and_not_what_it_sees() -> None:
    """Concatenation and batch norm, and the norm's two statistics, of each layer against the maps themselves."""
    expected = 0
    for maps, side in ((16, 32), (160, 16), (304, 8)):
        seen = [maps + 12 * layer for layer in range(12)]
        expected += 4 * 2 * side**2 * (2 * sum(seen) - seen[-1]) + 4 * 2 * sum(seen)
    assert saved() == expected


def test_a_mode_that_keeps_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densenet.DenseLayer, "_checkpointed", densenet.DenseLayer._first)
    assert saved() == 0


def test_the_step_that_is_measured_needs_less_memory() -> None:
    plain, efficient = measure(tuple(Case("densenet40_k12_cifar10", 32, value) for value in (False, True)), 1)
    assert plain["start_bytes"] < plain["peak_bytes"] - plain["kept_bytes"] / 2
    assert efficient["peak_bytes"] < plain["peak_bytes"] - (plain["kept_bytes"] - efficient["kept_bytes"]) / 2

"""Training a DenseNet in less memory changes what is kept, not what is computed."""

import pytest
import torch

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


def kept_for_backward(*, memory_efficient: bool) -> int:
    """Elements of the distinct storages that the forward pass leaves for the backward pass."""
    network = DenseNet(4, (12,), num_classes=5, in_channels=3, cifar=True, memory_efficient=memory_efficient)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(2, 3, 8, 8))
    return sum(tensor.numel() for tensor in kept.values())


def test_memory_efficient_training_keeps_less() -> None:
    assert kept_for_backward(memory_efficient=True) < 0.8 * kept_for_backward(memory_efficient=False)

"""Inception: auxiliary heads, checkpoints that hold them, and insertion after modules."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cnnport import registry
from cnnport.layers import SqueezeExcite
from cnnport.models import inception


@pytest.mark.parametrize(
    ("name", "build", "heads"),
    [
        ("inception_v1", inception.inception_v1, 2),
        ("googlenet", inception.googlenet, 2),
        ("inception_v3", inception.inception_v3, 1),
    ],
)
def test_auxiliary_heads_only_while_training(name: str, build: Callable[..., nn.Module], heads: int) -> None:
    spec = registry.get(name)
    with torch.device("meta"):
        images = torch.empty(2, *spec.input_shape)
        network = build(aux=True)
        assert sum(parameter.numel() for parameter in network.parameters()) == spec.params_with_aux
        assert [tuple(logits.shape) for logits in network.train()(images)] == [(2, 1000)] * (1 + heads)
        assert network.eval()(images).shape == (2, 1000)
        bare = build().train()
        assert bare(images).shape == (2, 1000)
        assert list(inception.rename_keys(network.state_dict())) == list(bare.state_dict())


def test_squeeze_and_excitation_can_be_inserted() -> None:
    """The parameters are those of the SENet paper's hosts, which insert exactly so."""

    def excite(channels: int) -> nn.Module:
        return SqueezeExcite(channels, channels // 16)

    with torch.device("meta"):
        for host, name in (
            (inception.inception_v2_paper, "se_inception_v2"),
            (inception.inception_resnet_v2, "se_inception_resnet_v2"),
        ):
            parameters = host(after=excite).parameters()
            assert sum(parameter.numel() for parameter in parameters) == registry.get(name).params


def test_the_last_released_residual_is_linear() -> None:
    """Only with the released networks can a feature be negative behind the last block."""
    torch.manual_seed(0)
    plans = {"released": inception.inception_resnet_v1(), "printed": inception.inception_resnet_v2_paper()}
    negative = {}
    for name, network in plans.items():
        last = next(
            module
            for module in reversed(list(network.modules()))
            if isinstance(module, inception.ResidualModule)
        ).eval()
        features = torch.rand(1, last.up.out_channels, 8, 8) - 1
        negative[name] = bool((last(features) < 0).any())
    assert negative == {"released": True, "printed": False}

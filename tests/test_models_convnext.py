"""Stochastic depth drops whole images' residuals and keeps their expectation."""

import torch

from cnnport.models.convnext import ConvNeXt, StochasticDepth


def test_training_drops_a_residual_or_scales_it_up() -> None:
    torch.manual_seed(0)
    scaled = StochasticDepth(0.2).train()(torch.ones(64, 3, 2, 2)).flatten(1)
    assert torch.equal(scaled.amin(1), scaled.amax(1))
    assert set(scaled[:, 0].tolist()) == {0.0, 1.25}


def test_evaluation_drops_nothing() -> None:
    residual = torch.rand(2, 3, 2, 2)
    assert torch.equal(StochasticDepth(0.9).eval()(residual), residual)


def test_the_rate_grows_linearly_from_none() -> None:
    network = ConvNeXt(4, (1, 1, 2, 1), 0.4, num_classes=2, in_channels=1)
    rates = [module.rate for module in network.modules() if isinstance(module, StochasticDepth)]
    torch.testing.assert_close(rates, [0.0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6, atol=1e-7)

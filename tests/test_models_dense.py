"""Networks that take images of any size: what they compute is what their papers say, at every size."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnport import registry
from cnnport.count import count
from cnnport.layers import dense_classifier, linear_classifier, local_response_norm
from cnnport.models import fcn
from cnnport.models.fcn import bilinear_upsampling
from cnnport.models.hdc import hdc_demo
from cnnport.models.spp import SpatialPyramidPool


def test_the_dense_classifier_is_the_linear_one_in_every_window() -> None:
    linear, dense = (
        linear_classifier(3 * 2 * 2, 4, hidden=5).eval(),
        dense_classifier(3, 2, 4, hidden=5).eval(),
    )
    shapes = {name: value.shape for name, value in dense.state_dict().items()}
    dense.load_state_dict({name: value.reshape(shapes[name]) for name, value in linear.state_dict().items()})
    features = torch.randn(2, 3, 4, 5)
    logits = dense(features)
    assert logits.shape == (2, 4, 3, 4)
    for row in range(3):
        for column in range(4):
            window = features[:, :, row : row + 2, column : column + 2]
            torch.testing.assert_close(logits[:, :, row, column], linear(window.flatten(1)))


@pytest.mark.parametrize("size", [(14, 14), (13, 10), (7, 9), (19, 23)])
def test_the_pyramid_pools_cells_of_every_size(size: tuple[int, int]) -> None:
    features, levels = torch.randn(2, 3, *size), (6, 3, 2, 1)
    expected = [functional.adaptive_max_pool2d(features, cells).flatten(1) for cells in levels]
    assert torch.equal(SpatialPyramidPool(levels)(features), torch.cat(expected, dim=1))


def test_local_response_norm_sums_the_squares() -> None:
    features = 10 * torch.randn(1, 7, 1, 1)
    normalised = local_response_norm()(features).flatten()
    values = features.flatten()
    for channel in range(7):
        neighbours = values[max(0, channel - 2) : channel + 3]
        expected = values[channel] / (2 + 1e-4 * neighbours.square().sum()) ** 0.75
        torch.testing.assert_close(normalised[channel], expected)


@pytest.mark.parametrize("factor", [2, 8])
def test_upsampling_starts_as_bilinear_interpolation(factor: int) -> None:
    features = torch.randn(1, 3, 5, 6)
    margin = factor // 2
    enlarged = bilinear_upsampling(3, factor)(features)[..., margin:-margin, margin:-margin]
    expected = functional.interpolate(features, scale_factor=factor, mode="bilinear")
    # Beyond the centres of the outermost positions the one sees zeros, the other repeats the border.
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    torch.testing.assert_close(enlarged[inner], expected[inner])


@pytest.mark.parametrize("name", ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16", "fcn_resnet50"])
@pytest.mark.parametrize("size", [(33, 64), (225, 255), (256, 231)])
def test_every_pixel_is_classified_at_any_size(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        module = registry.get(name).build()
    assert count(module, [(3, *size)]).output_shape == (1, 21, *size)


def test_fcn_scores_lie_over_the_pixels_they_come_from() -> None:
    # The first convolution's output starts 99 pixels outside the image: 100 of padding less its own border. There
    # the first position after pooling lies in the middle of its step, and the first window of seven 3 steps on.
    border = -99.0
    first = border + (32 - 1) / 2 + 3 * 32
    for refinements, step in enumerate((32, 16, 8)):
        if refinements:
            # Twice as fine, a position is spread over four, whose middle is one and a half behind the first.
            first -= 1.5 * step
            pooled = border + (step - 1) / 2
            assert fcn.FINER_OFFSETS[refinements - 1] == (first - pooled) / step
        # Enlarged, it is spread over 2 * step pixels.
        assert fcn.RESULT_OFFSETS[refinements] == step - 0.5 - first


@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101"])
def test_the_auxiliary_head_is_for_training_only(name: str) -> None:
    spec = registry.get(name)
    with torch.device("meta"):
        network: nn.Module = getattr(fcn, name)(aux=True)
        images = torch.empty(2, 3, 65, 65)
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.params_with_aux
    assert [scores.shape for scores in network.train()(images)] == [(2, 21, 65, 65)] * 2
    assert network.eval()(images).shape == (2, 21, 65, 65)
    with torch.device("meta"):
        plain = spec.build().state_dict()
    assert list(fcn.rename_keys(network.state_dict())) == list(plain)


def test_hybrid_rates_leave_no_holes() -> None:
    """Every position of the field of view takes part in one pixel's logits; with equal rates most would not."""
    network = hdc_demo().eval()
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    images = torch.ones(1, 3, 64, 64, requires_grad=True)
    network(images)[0, 0, 32, 32].backward()
    assert images.grad is not None
    field = 1 + 2 * (1 + 2 + 5 + 1 + 2 + 5)
    assert int((images.grad[0, 0] != 0).sum()) == field**2

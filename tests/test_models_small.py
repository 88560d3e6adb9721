"""What counts cannot see of the small networks: unshared and tiled kernels, routing, ternary weights, distances."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnport import registry
from cnnport.errors import ModelError
from cnnport.models.capsnet import DynamicRouting, squash
from cnnport.models.highway import Highway
from cnnport.models.lenet import PartialConv2d, RadialBasis, SubSampling
from cnnport.models.local_conv import LocalConv2d
from cnnport.models.maxout import Maxout
from cnnport.models.tiled_conv import TiledConv2d
from cnnport.models.twn import TernaryConv2d, ternarize, ternary

FEATURES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_local_convolution_has_its_own_kernel_at_each_position(padding: int) -> None:
    local = LocalConv2d(3, 4, 3, size=8, padding=padding)
    output = local(FEATURES)
    padded = functional.pad(FEATURES, (padding,) * 4)
    weight = local.conv.weight.unflatten(0, (local.side, local.side, 4)).flatten(3).unflatten(3, (3, 3, 3))
    bias = local.conv.bias.unflatten(0, (local.side, local.side, 4))
    for row, column in ((0, 0), (2, 5), (local.side - 1, 1)):
        window = padded[:, :, row : row + 3, column : column + 3]
        expected = functional.conv2d(window, weight[row, column], bias[row, column])
        torch.testing.assert_close(output[:, :, row, column], expected[:, :, 0, 0])


def test_tiled_kernels_repeat_with_the_period() -> None:
    tiled = TiledConv2d(3, 4, 3, period=2)
    output = tiled(FEATURES)
    for index, conv in enumerate(tiled.convs):
        row, column = divmod(index, 2)
        everywhere = functional.conv2d(FEATURES, conv.weight, conv.bias)
        torch.testing.assert_close(output[:, :, row::2, column::2], everywhere[:, :, row::2, column::2])


def test_lenet_c3_is_a_convolution_with_missing_connections() -> None:
    table = (((0, 1), (2, 0)), ((0, 1, 2),))
    partial = PartialConv2d(table)
    weight = torch.zeros(3, 3, 5, 5)
    kernels = [kernel for conv in partial.convs for kernel in conv.weight]
    for output, maps in enumerate(maps for group in table for maps in group):
        weight[output, list(maps)] = kernels[output].detach()
    bias = torch.cat([conv.bias for conv in partial.convs])
    torch.testing.assert_close(partial(FEATURES), functional.conv2d(FEATURES, weight, bias))


def test_lenet_sub_sampling_begins_as_the_average() -> None:
    torch.testing.assert_close(SubSampling(3)(FEATURES), functional.avg_pool2d(FEATURES, 2))


def test_the_class_whose_picture_f6_shows_scores_highest() -> None:
    output = RadialBasis(13)
    assert output(output.targets).argmax(dim=1).tolist() == list(range(13))
    assert output(output.targets).diagonal().abs().max() == 0


def test_highway_gates_begin_by_carrying() -> None:
    layer = Highway(lambda: nn.Conv2d(3, 3, 3, padding=1))
    nn.init.zeros_(layer.gate.weight)
    gate = torch.sigmoid(torch.tensor(-1.0))
    expected = gate * torch.relu(layer.transform(FEATURES)) + (1 - gate) * FEATURES
    torch.testing.assert_close(layer(FEATURES), expected)


def test_maxout_takes_the_largest_of_neighbouring_pieces() -> None:
    layer = Maxout(nn.Linear(6, 6, bias=False), 3)
    nn.init.eye_(layer.layer.weight)
    assert layer(torch.tensor([[1.0, 5.0, 2.0, -1.0, -3.0, -2.0]])).tolist() == [[5.0, -1.0]]


def test_squash_keeps_directions_and_shortens_lengths() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    squashed = squash(vectors, dim=1)
    torch.testing.assert_close(squashed[0], torch.tensor([3.0, 4.0]) * 5 / 26)
    squashed.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


def test_routing_prefers_the_outputs_that_inputs_agree_on() -> None:
    """Two inputs that predict the same first output, and opposite second ones: see procedure 1 of the paper."""
    routing = DynamicRouting(2, 1, 2, 2)
    same, one, opposite = (1.0, 0.0), (0.0, 1.0), (0.0, -1.0)
    with torch.no_grad():
        routing.predict.weight.copy_(torch.tensor([same, one, same, opposite]).reshape(8, 1, 1, 1))
    lengths = routing(torch.ones(1, 2, 1)).norm(dim=2)[0]
    uniform = squash(torch.tensor([1.0, 0.0]), dim=0).norm()
    assert lengths[0] > uniform
    assert lengths[1] == 0


def test_capsnet_reconstructs_in_training_from_the_capsule_of_the_label() -> None:
    module = registry.get("capsnet_mnist").build().train()
    images = torch.rand(2, 1, 28, 28)
    lengths, longest = module(images)
    assert lengths.shape == (2, 10)
    assert longest.shape == images.shape
    torch.testing.assert_close(module(images, lengths.argmax(dim=1))[1], longest)
    other = module(images, lengths.argmin(dim=1))[1]
    assert not torch.equal(other, longest)
    torch.testing.assert_close(module.eval()(images), lengths)


def test_ternary_weights_have_three_values_and_one_scale() -> None:
    weight = torch.tensor([0.9, -1.1, 0.1, -0.2, 1.0, 0.0])
    # Mean magnitude 0.55, threshold 0.385; the mean of those above is 1.
    torch.testing.assert_close(ternary(weight), torch.tensor([1.0, -1.0, 0.0, 0.0, 1.0, 0.0]))
    assert ternary(torch.zeros(3)).tolist() == [0, 0, 0]


def test_ternary_layers_train_their_latent_weights() -> None:
    layer = TernaryConv2d(3, 4, 3)
    training = layer.train()(FEATURES)
    torch.testing.assert_close(training, layer.eval()(FEATURES))
    torch.testing.assert_close(training, functional.conv2d(FEATURES, ternary(layer.weight), layer.bias))
    training.square().sum().backward()
    plain = ternary(layer.weight).detach().requires_grad_()
    functional.conv2d(FEATURES, plain, layer.bias).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.grad)


def test_ternarize_keeps_names_and_geometry() -> None:
    plain = nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=False)), nn.Linear(3, 2))
    shapes = {name: value.shape for name, value in plain.state_dict().items()}
    expected = plain[0](FEATURES.repeat(1, 2, 1, 1)[:, :4]).shape
    result = ternarize(plain)
    assert {name: value.shape for name, value in result.state_dict().items()} == shapes
    assert result[0](FEATURES.repeat(1, 2, 1, 1)[:, :4]).shape == expected


def test_the_same_picture_twice_is_at_distance_zero() -> None:
    left, right, third = torch.rand(3, 2, 1, 28, 28)
    siamese = registry.get("siamese_lenet").build().eval()
    assert siamese(left, left).tolist() == [[0], [0]]
    torch.testing.assert_close(siamese(left, right), siamese(right, left))
    triplet = registry.get("triplet_mnist").build().eval()
    padded = [functional.pad(images, (2, 2, 2, 2)) for images in (left, left, third)]
    distances = triplet(*padded)
    assert distances[:, 0].tolist() == [0, 0]
    assert (distances[:, 1] > 0).all()


@pytest.mark.parametrize("name", ["siamese_lenet", "triplet_cifar10"])
def test_the_number_of_distances_is_that_of_the_pictures(name: str) -> None:
    with pytest.raises(ModelError, match=r"it gives \d distance"):
        registry.get(name).build(num_classes=7)

"""What anti-aliasing is for: features that follow a shifted picture."""

import torch
from torch import Tensor, nn

from cnnport import registry
from cnnport.models.blurpool import BlurPool
from cnnport.random_weights import randomize


def test_the_kernel_is_an_average() -> None:
    blur = BlurPool(3)
    assert torch.equal(blur.filt.sum((1, 2, 3)), torch.ones(3))
    assert torch.equal(blur.filt, blur.filt.transpose(2, 3))
    assert torch.equal(blur(torch.full((2, 3, 7, 10), 5.0)), torch.full((2, 3, 4, 5), 5.0))
    assert not list(blur.parameters())


def test_channels_stay_apart() -> None:
    features = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    blur = BlurPool(1)
    expected = torch.cat([blur(channel) for channel in features.split(1, dim=1)], dim=1)
    assert torch.allclose(BlurPool(4)(features), expected, atol=1e-6)


def drift(layer: nn.Module) -> float:
    """How much the mean feature of a wave changes, in its amplitudes, when the wave moves on by one pixel."""
    wave = torch.cos((torch.arange(66) + 0.5) * torch.pi / 2).expand(1, 1, 16, 66)
    here, there = (layer(wave[..., shift : 64 + shift])[..., 4:-4].mean() for shift in (0, 1))
    return float((here - there).abs())


def test_features_follow_a_shift_by_one_pixel() -> None:
    """The wave of figure 4: its maxima at stride 2 are all high at one shift, high and low at the next."""
    assert drift(nn.MaxPool2d(2)) > 0.5
    assert drift(nn.Sequential(nn.MaxPool2d(2, stride=1), BlurPool(1))) < 1e-6


def test_a_network_wobbles_less_than_the_plain_one() -> None:
    """Of the features of a smooth picture that moves by single pixels, averaged over all positions."""
    position = torch.arange(72.0)
    picture = torch.sin(0.8 * position).outer(torch.cos(1.1 * position)).expand(1, 3, 72, 72)

    def wobble(name: str) -> float:
        network = registry.get(name).build()
        randomize(network, 0, (3, 64, 64))
        network.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        seen: list[Tensor] = []
        with torch.no_grad():
            for shift in range(8):
                network(picture[..., shift : 64 + shift])
        features = torch.cat(seen)
        return float(features.std(dim=0).mean() / features.std(dim=1).mean())

    assert wobble("aa_resnet18") < 0.5 * wobble("resnet18")

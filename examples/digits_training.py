"""How a network is trained on the scans of ``cnnport.digits``: inputs, augmentation, the loop.

The scans become inputs by the very code that later runs on picture files, ``cnnport.images``. Each epoch sees
every scan once, under a new random affine map and elastic distortion.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cnnport.images import preprocess_image
from cnnport.preprocess import Preprocess


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the scans.
        batch_size: Scans a step.
        learning_rate: Peak of AdamW's, between a warm-up of a tenth of the steps and a cosine to nearly zero.
        weight_decay: Of AdamW.
        initialization: ``glorot``, for sigmoids (Glorot and Bengio, 2010), or ``he``, for ReLUs (He et al.,
            arXiv:1502.01852).
        rotation_degrees: Largest turn to either side.
        scale: Largest change of width and of height, as a fraction.
        shear: Largest slant, as a fraction of the height.
        shift: Largest shift along each axis, as a fraction of the side.
        elastic: Largest displacement of the 4 x 4 points that bend the picture, as a fraction of the side.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    initialization: Literal["glorot", "he"] = "he"
    rotation_degrees: float = 15
    scale: float = 0.15
    shear: float = 0.15
    shift: float = 0.08
    elastic: float = 0.05


def make_inputs(scans: NDArray[np.uint8], preprocess: Preprocess) -> Tensor:
    """Preprocess N x height x width grey scans as picture files are: N x 1 x H x W, float32."""
    return torch.from_numpy(np.stack([preprocess_image(Image.fromarray(scan), preprocess) for scan in scans]))


def initialize(model: nn.Module, how: Literal["glorot", "he"]) -> None:
    """Draw convolutions and matrices as ``Recipe.initialization`` says; biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if how == "glorot":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def augment(inputs: Tensor, background: float, recipe: Recipe) -> Tensor:
    """Rotate, scale, slant, shift and bend each input at random.

    Args:
        inputs: N x C x H x W.
        background: What an input holds where there is no ink; it fills what comes in from outside.
        recipe: The limits.

    Returns:
        N x C x H x W.
    """
    count, _, *size = inputs.shape

    def uniform(limit: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape) * 2 - 1) * limit

    # The grid is in units of half a side.
    angle = uniform(math.radians(recipe.rotation_degrees))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    scale = torch.exp(uniform(math.log1p(recipe.scale), 2))
    shift = uniform(2 * recipe.shift, 2)
    across = torch.stack([cosine, uniform(recipe.shear) - sine], 1) * scale[:, :1]
    down = torch.stack([sine, cosine], 1) * scale[:, 1:]
    affine = torch.cat([torch.stack([across, down], 1), shift[:, :, None]], 2)
    grid = F.affine_grid(affine, list(inputs.shape), align_corners=False)
    bend = F.interpolate(uniform(2 * recipe.elastic, 2, 4, 4), size, mode="bicubic", align_corners=False)
    moved = F.grid_sample(inputs - background, grid + bend.permute(0, 2, 3, 1), align_corners=False)
    return moved + background


def train(
    build: Callable[[], nn.Module],
    inputs: Tensor,
    labels: Tensor,
    *,
    background: float,
    recipe: Recipe,
    seed: int,
    report: Callable[[int, float], None] = lambda _epoch, _loss: None,
) -> nn.Module:
    """Train a fresh network from scratch, the same way every time for the same arguments.

    Args:
        build: Makes the network.
        inputs: N x C x H x W, float32.
        labels: N, int64.
        background: What an input holds where there is no ink.
        recipe: How to train.
        seed: Of initialisation, order and augmentation.
        report: Called after each epoch with its number, from 1, and its mean loss.

    Returns:
        The network in evaluation mode.
    """
    with _reproducible(seed):
        model = build()
        initialize(model, recipe.initialization)
        model.train()
        optimizer = torch.optim.AdamW(
            model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        steps = recipe.epochs * math.ceil(len(inputs) / recipe.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
        )
        for epoch in range(1, recipe.epochs + 1):
            seen = augment(inputs, background, recipe)
            total = 0.0
            for batch in torch.randperm(len(inputs)).split(recipe.batch_size):
                loss = F.cross_entropy(model(seen[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            report(epoch, total / len(inputs))
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Percentage of inputs whose largest output is their label's."""
    return 100 * (model(inputs).argmax(1) == labels).double().mean().item()


def black(preprocess: Preprocess) -> float:
    """What a pixel of level 0 is in the input."""
    return -preprocess.mean[0] / preprocess.std[0]


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels and seeded random numbers; everything is as before afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # How a sum is split over threads decides how it is rounded.
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)

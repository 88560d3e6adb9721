"""What the counts of the residual families do not see."""

import pytest
import torch

from cnnport.models import preact
from cnnport.models.resnet import CifarBlock, CifarResNet, padding
from cnnport.models.shallow_deep import shallow_deep_resnet50
from cnnport.models.stochastic_depth import (
    DroppedBlock,
    RescaledBlock,
    decay_linearly,
    drop_branch,
    resnet20_sd_cifar10,
    resnet110_sd_cifar10,
)


def test_option_a_subsamples_and_appends_zeros() -> None:
    features = torch.arange(1.0, 33.0).reshape(1, 2, 4, 4)
    shortcut = padding(2, 3, 2)(features)
    assert torch.equal(shortcut[:, :2], features[:, :, ::2, ::2])
    assert not shortcut[:, 2:].any()
    assert shortcut.shape == (1, 3, 2, 2)
    assert padding(2, 2, 1) is None


def test_survival_decays_linearly_to_a_half() -> None:
    blocks = [block for block in resnet110_sd_cifar10().modules() if isinstance(block, DroppedBlock)]
    assert len(blocks) == 54
    assert (blocks[0].survival, blocks[-1].survival) == (pytest.approx(1 - 0.5 / 54), 0.5)
    # The expected number of blocks in training, (3 L - 1) / 4.
    assert sum(block.survival for block in blocks) == pytest.approx((3 * 54 - 1) / 4)


def test_a_branch_survives_whole_or_not_at_all() -> None:
    torch.manual_seed(0)
    branch = torch.ones(2, 3)
    drawn = [drop_branch(branch, 0.3, training=True) for _ in range(1000)]
    assert all(torch.equal(one, branch) or not one.any() for one in drawn)
    assert 0.25 < sum(one[0, 0].item() for one in drawn) / 1000 < 0.35
    assert torch.equal(drop_branch(branch, 0.3, training=False), torch.full((2, 3), 0.3))


def test_sure_survival_is_the_plain_resnet() -> None:
    torch.manual_seed(0)
    plain = CifarResNet(CifarBlock, 8, num_classes=10, in_channels=3).eval()
    dropped = CifarResNet(DroppedBlock, 8, num_classes=10, in_channels=3).eval()
    dropped.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(dropped(images), plain(images))
    decay_linearly(dropped)
    assert not torch.allclose(dropped(images), plain(images))


def test_rescaling_in_training_leaves_the_eval_mode_alone() -> None:
    network = resnet20_sd_cifar10().eval()
    block = next(block for block in reversed(list(network.modules())) if isinstance(block, RescaledBlock))
    features = torch.rand(2, 64, 8, 8)
    assert torch.equal(block(features), torch.relu(block.residual(features) + features))
    assert block.survival == 0.5


UNITS = (
    preact.ScaledBlock,
    preact.GatedBlock,
    preact.ExclusivelyGatedBlock,
    preact.DropoutBlock,
    preact.ConvShortcutBlock,
    preact.NormAfterAddBlock,
    preact.ReluBeforeAddBlock,
    preact.ReluFirstBlock,
    preact.PreactBlock,
    preact.PaddedPreactBlock,
    preact.PreactBottleneck,
)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_leaves_its_input_alone(unit: type[torch.nn.Module], stride: int) -> None:
    """No ReLU works in place on what the shortcut, or the layer before, still needs."""
    torch.manual_seed(0)
    features = torch.randn(2, 8, 6, 6, requires_grad=True)
    before = features.detach().clone()
    unit(8, 8 * stride, stride)(features).sum().backward()
    assert torch.equal(features, before)
    assert features.grad is not None


def test_gates_start_near_the_identity() -> None:
    """With a bias of -6 a gate drops 0.25 % of the shortcut; the exclusive one lets in as little of the branch."""
    features = torch.rand(1, 16, 4, 4)
    residual = torch.rand(1, 16, 4, 4)
    for unit, added in ((preact.GatedBlock, residual), (preact.ExclusivelyGatedBlock, 0)):
        block = unit(16, 16)
        torch.nn.init.zeros_(block.gate.weight)
        assert torch.allclose(block.merge(residual, features), features + added, atol=0.003)


def test_dropout_on_the_shortcut_is_for_training() -> None:
    block = preact.DropoutBlock(16, 16)
    residual, shortcut = torch.zeros(1, 16, 8, 8), torch.ones(1, 16, 8, 8)
    assert set(block.merge(residual, shortcut).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(block.eval().merge(residual, shortcut), shortcut)


def test_the_shallow_head_speaks_in_training_only() -> None:
    network = shallow_deep_resnet50(num_classes=5)
    images = torch.rand(2, 3, 32, 32)
    assert [part.shape for part in network(images)] == [(2, 5), (2, 5)]
    assert network.eval()(images).shape == (2, 5)

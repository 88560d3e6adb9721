"""merge_linear_branches on blocks of branches as PyTorch exports them: RepVGG, MobileOne, ACNet."""

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.merge.merge_linear_branches import merge_linear_branches


def normed(channels: int, out: int, kernel: int | tuple[int, int], stride: int, groups: int) -> nn.Sequential:
    padding = tuple(size // 2 for size in kernel) if isinstance(kernel, tuple) else kernel // 2
    conv = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class Branches(nn.Module):
    """A sum of convolutions with batch norms, and of the input with its own where that fits."""

    def __init__(self, channels, out, kernels, stride=1, groups=1):
        super().__init__()
        self.convs = nn.ModuleList(normed(channels, out, kernel, stride, groups) for kernel in kernels)
        self.norm = nn.BatchNorm2d(channels) if stride == 1 and channels == out else None

    def forward(self, x):
        y = sum(conv(x) for conv in self.convs[1:]) + self.convs[0](x)
        return torch.relu(y if self.norm is None else y + self.norm(x))


class Scaled(nn.Module):
    """A convolution beside the input, each with a factor, as in DiracNet's training form."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.alpha = nn.Parameter(torch.randn(channels, 1, 1))
        self.beta = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x):
        return torch.relu(self.alpha * x + self.beta * self.conv(x))


def blocks() -> nn.Sequential:
    """Blocks as in the papers, and the input's stride, width and groups varied."""
    return nn.Sequential(
        # RepVGG: stride 2 without an identity, stride 1 with one, groups.
        Branches(3, 8, (3, 1), stride=2),
        Branches(8, 8, (3, 1)),
        Branches(8, 8, (3, 1), groups=4),
        # MobileOne: three depthwise 3 x 3, a 1 x 1 and a BN; then two 1 x 1, and a BN where the width stays.
        Branches(8, 8, (3, 3, 3, 1), groups=8),
        Branches(8, 6, (1, 1)),
        Branches(6, 6, (3, 3, 3, 1), stride=2, groups=6),
        Branches(6, 6, (1, 1)),
        # ACNet: square and asymmetric kernels, the square one first or last.
        Branches(6, 4, (3, (1, 3), (3, 1)), stride=2),
        Branches(4, 4, ((3, 1), (1, 3), 3), groups=2),
        Scaled(4),
    )


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # of torch.export itself
def test_a_convolution_is_left_of_each_block() -> None:
    """Exact to rounding, for any batch, height and width."""
    torch.manual_seed(0)
    module = blocks().eval().double()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, -2, 2)
            nn.init.normal_(each.bias)
            nn.init.normal_(each.running_mean)
            nn.init.uniform_(each.running_var, 0.3, 2)
    shapes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    image = torch.randn(2, 3, 19, 22, dtype=torch.float64)
    program = torch.onnx.export(
        module, (image,), dynamo=True, verbose=False, opset_version=20, dynamic_shapes=(shapes,)
    )
    before = program.model_proto
    after, (report, *_) = optimize(before, [merge_linear_branches])
    assert report.refused is None
    assert report.rewrites == len(module)
    assert count_ops(before)["Conv"] == sum(isinstance(each, nn.Conv2d) for each in module.modules())
    assert count_ops(after) == {"Conv": len(module), "Relu": len(module)}
    for size in ((2, 3, 19, 22), (1, 3, 24, 17)):
        image = torch.randn(size, dtype=torch.float64)
        with torch.inference_mode():
            expected = module(image).numpy()
        assert np.abs(expected).max() > 0.1
        (found,) = ReferenceEvaluator(after).run(None, {after.graph.input[0].name: image.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())

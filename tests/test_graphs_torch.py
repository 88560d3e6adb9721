"""What torch's exporter leaves of BatchNormalization, and what the passes make of it."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from cnnport.graphs import count_ops, optimize
from cnnport.graphs.fold.fold_batchnorm import fold_batchnorm


class Leftovers(nn.Module):
    """The places of a BN that the exporter does not fold, in one small network."""

    def __init__(self):
        super().__init__()
        self.stem = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 8, 3)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 10, 3, padding=1, groups=2)
        self.joined = nn.BatchNorm2d(16)
        self.shared, self.first, self.second = nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.up, self.up_norm = nn.ConvTranspose2d(16, 8, 2, 2, groups=2), nn.BatchNorm2d(8)
        self.pooled = nn.BatchNorm2d(8)
        self.linear, self.norm, self.last = nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Linear(12, 5)

    def forward(self, x):
        x = torch.relu(self.conv(self.stem(x)))
        x = torch.relu(self.joined(torch.cat((self.left(x), self.right(x)), 1)))
        x = torch.relu(self.second(self.shared(torch.relu(self.first(self.shared(x))))))
        x = torch.relu(self.up_norm(self.up(x)))
        x = self.pooled(nn.functional.adaptive_avg_pool2d(x, 1)).flatten(1)
        return self.last(torch.dropout(self.norm(self.linear(x)), 0.5, self.training))


class DenseBlock(nn.Module):
    """A dense layer (BN, ReLU, convolution on all maps before it) and a transition."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(16), nn.Conv2d(16, 4, 3, padding=1)
        self.norm3, self.conv3 = nn.BatchNorm2d(12), nn.Conv2d(12, 6, 1)

    def forward(self, x):
        x = self.stem(x)
        new = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return self.conv3(torch.relu(self.norm3(torch.cat((x, new), 1))))


def exported(module):
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(each.weight, -2, 2)
            nn.init.normal_(each.bias)
            nn.init.normal_(each.running_mean)
            nn.init.uniform_(each.running_var, 0.3, 2)
    image = torch.randn(2, 3, 12, 12)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module.eval(), (image,), dynamo=True, verbose=False, opset_version=20, dynamic_shapes=({0: batch},)
    )
    with torch.inference_mode():
        return program.model_proto, image.numpy(), module(image).numpy()


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # of torch.export itself
@pytest.mark.parametrize(
    ("module", "left"), [(Leftovers, 0), (DenseBlock, 2)], ids=["leftovers", "dense-block"]
)
def test_exported(module, left):
    """Every BN with a linear neighbour goes; BN and ReLU on maps that others read too (DenseNet) stay."""
    before, image, expected = exported(module())
    after, (report, *_) = optimize(before, [fold_batchnorm])
    assert report.refused is None
    assert count_ops(after).get("BatchNormalization", 0) == left
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(after.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    kept = {node.name: list(node.metadata_props) for node in before.graph.node}
    for node in after.graph.node:
        assert list(node.metadata_props) == kept[node.name]

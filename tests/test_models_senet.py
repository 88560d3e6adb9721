"""Squeeze-and-excitation against its hosts."""

import pytest
import torch

from cnnport import registry
from cnnport.layers import SqueezeExcite


@pytest.mark.parametrize(
    ("gated", "host"),
    [
        ("se_resnet18", "resnet18"),
        ("se_resnext50_32x4d", "resnext50_32x4d"),
        ("se_shufflenet_v1_g3", "shufflenet_v1_g3"),
        ("se_inception_v2", "inception_v2_paper"),
    ],
)
def test_with_open_gates_it_is_the_host(gated: str, host: str) -> None:
    torch.manual_seed(0)
    expected = registry.get(host).build().eval()
    module = registry.get(gated).build().eval()
    missing, unexpected = module.load_state_dict(expected.state_dict(), strict=False)
    assert not unexpected
    assert all(".fc1." in name or ".fc2." in name for name in missing)
    for gate in module.modules():
        if isinstance(gate, SqueezeExcite):
            torch.nn.init.zeros_(gate.fc2.weight)
            torch.nn.init.constant_(gate.fc2.bias, 100.0)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(module(images), expected(images))

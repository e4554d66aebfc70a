import math

import pytest
import torch
import torch.nn.functional as F
from retouch_common.layers.gated import GatedConv2d, gate


def test_by_hand():
    """1x1 kernels: features 2x + 1, gates sigmoid(ln 3 x)."""
    layer = GatedConv2d(1, 1, 1, activation=torch.nn.ReLU())
    state = {"conv.weight": [[[[2.0]]]], "conv.bias": [1.0], "gate.weight": [[[[math.log(3)]]]], "gate.bias": [0.0]}
    layer.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    x = torch.tensor([[[[0.0, 1.0], [-1.0, 2.0]]]])
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10; relu takes -1 away
    torch.testing.assert_close(layer(x), torch.tensor([[[[0.5, 2.25], [0.0, 4.5]]]]))


def test_the_skip_passes_where_the_features_do_not():
    logits = torch.log(torch.tensor([3.0, 1.0]))
    found = gate(torch.tensor([4.0, 4.0]), logits, torch.tensor([8.0, 2.0]))
    torch.testing.assert_close(found, torch.tensor([5.0, 3.0]))  # 3/4 * 4 + 1/4 * 8, 1/2 * 4 + 1/2 * 2


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2, "bias": False}])
def test_both_convolutions_share_their_geometry(options):
    layer = GatedConv2d(3, 5, 3, activation=torch.nn.ELU(), **options)
    x = torch.randn(2, 3, 9, 8)
    geometry = {name: value for name, value in options.items() if name != "bias"}
    features = F.conv2d(x, layer.conv.weight, layer.conv.bias, **geometry)
    gates = torch.sigmoid(F.conv2d(x, layer.gate.weight, layer.gate.bias, **geometry))
    assert (layer.conv.bias is None) == (not options.get("bias", True))
    torch.testing.assert_close(layer(x), F.elu(features) * gates)


def test_gates_learn_too():
    layer = GatedConv2d(2, 4, 3)
    layer(torch.randn(1, 2, 6, 6)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())

import pytest
import torch
import torch.nn.functional as F
from retouch_common.layers.gated import GatedConv2d, gate, gated_conv2d


def test_by_hand():
    """1x1 kernels: features 2x + 1, gates sigmoid(ln 3 x)."""
    x = torch.tensor([[[[0.0, 1.0], [-1.0, 2.0]]]])
    weight, gate_weight = torch.tensor([[[[2.0]]]]), torch.log(torch.tensor([[[[3.0]]]]))
    found = gated_conv2d(x, weight, gate_weight, torch.tensor([1.0]), activation=F.relu)
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4, sigmoid(2 ln 3) = 9/10; relu takes -1 away
    torch.testing.assert_close(found, torch.tensor([[[[0.5, 2.25], [0.0, 4.5]]]]))


def test_the_skip_passes_where_the_features_do_not():
    logits = torch.log(torch.tensor([3.0, 1.0]))
    found = gate(torch.tensor([4.0, 4.0]), logits, torch.tensor([8.0, 2.0]))
    torch.testing.assert_close(found, torch.tensor([5.0, 3.0]))  # 3/4 * 4 + 1/4 * 8, 1/2 * 4 + 1/2 * 2


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2, "bias": False}])
def test_the_module_is_the_function_with_its_parameters(options):
    torch.manual_seed(0)
    layer = GatedConv2d(3, 5, 3, activation=torch.nn.ELU(), **options)
    x = torch.randn(2, 3, 9, 8)
    geometry = {name: value for name, value in options.items() if name != "bias"}
    expected = gated_conv2d(
        x, layer.conv.weight, layer.gate.weight, layer.conv.bias, layer.gate.bias, activation=F.elu, **geometry
    )
    torch.testing.assert_close(layer(x), expected)
    features, gates = layer.conv(x), torch.sigmoid(layer.gate(x))
    torch.testing.assert_close(layer(x), F.elu(features) * gates)


def test_gates_learn_too():
    layer = GatedConv2d(2, 4, 3)
    layer(torch.randn(1, 2, 6, 6)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())

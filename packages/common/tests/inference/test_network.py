"""Networks made ready for inference."""

import pytest
import torch
from retouch_common.inference.network import InferenceModel, prepare_for_inference
from torch import nn


class Network(nn.Module):
    config = "configuration"

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, image, *, gain=1.0):
        return gain * self.linear(self.convolution(image).float().mean(dim=(2, 3)))


def test_the_model_itself_is_not_modified():
    model = Network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared = prepare_for_inference(model, torch.device("cpu"), convolutions=torch.bfloat16)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not prepared.training and not any(parameter.requires_grad for parameter in prepared.parameters())
    assert prepared.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert (prepared.convolution.weight.dtype, prepared.linear.weight.dtype) == (torch.bfloat16, torch.float32)
    with torch.no_grad():
        prepared.linear.bias += 1
    assert torch.equal(model.linear.bias, before["linear.bias"])


def test_a_network_that_nobody_else_uses_is_not_copied():
    model = Network().train()
    assert prepare_for_inference(model, torch.device("cpu"), copied=False) is model
    assert InferenceModel(model, "cpu", "fp32", copied=False).model is model and not model.training


@pytest.mark.parametrize("cast", [False, True])
def test_computes_in_the_precision(cast):
    torch.manual_seed(0)
    model, image = Network(), torch.rand(2, 3, 8, 8)
    expected = 2 * model(image).detach()
    exact = InferenceModel(model, "cpu", "fp32", cast_convolutions=cast)
    half = InferenceModel(model, "cpu", "bf16", cast_convolutions=cast)
    assert exact.config == half.config == "configuration"
    torch.testing.assert_close(exact(image.double(), gain=2.0), expected)
    found = half(image, gain=2.0)
    assert not torch.equal(found, expected) and not found.requires_grad
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision 'fp64'"):
        InferenceModel(Network(), "cpu", "fp64")

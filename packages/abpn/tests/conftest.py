"""A tiny network whose random weights change every face visibly."""

import pytest
import torch
from abpn.model import ABPN
from abpn.retouch import Retoucher


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = ABPN.from_preset("tiny")
    for parameter in model.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, 0, 0.05)
    folder = tmp_path_factory.mktemp("weights")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def retoucher(weights):
    return Retoucher(weights, device="cpu", precision="fp32")

"""A tiny network whose random weights change every face visibly."""

import pytest
import torch
from mofrr.config import PRESETS
from mofrr.model import MoFRR
from retouch_common.config import apply_overrides


def make_busy_model(**changes):
    torch.manual_seed(0)
    model = MoFRR(apply_overrides(PRESETS["tiny"], {f"model.{k}": v for k, v in changes.items()}).model).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="session")
def busy_model():
    return make_busy_model


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    make_busy_model().save_pretrained(folder)
    return str(folder)

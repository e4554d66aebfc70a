"""A tiny network whose random weights change every face visibly."""

import pytest
import torch
from bpfre.config import PRESETS
from bpfre.model import BPFRe
from bpfre.retouch import Retoucher
from retouch_common.config import apply_overrides
from retouch_common.testing.parameters import randomize_parameters


def make_busy_model(**changes):
    torch.manual_seed(0)
    config = apply_overrides(PRESETS["tiny"], {f"model.{k}": v for k, v in changes.items()})
    return randomize_parameters(BPFRe(config.model))


@pytest.fixture(scope="session")
def busy_model():
    return make_busy_model


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    make_busy_model().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def retoucher(weights):
    return Retoucher(weights, device="cpu", precision="fp32")

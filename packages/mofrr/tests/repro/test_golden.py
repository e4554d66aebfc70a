"""Schema and forward pass stay on the golden files (`nox -s golden -- --update` writes them)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mofrr.config import PRESETS
from mofrr.hfcam import HFCAM
from mofrr.model import MoFRR
from mofrr.wavefrr import WaveFRR
from retouch_common.testing.golden import check_forward, check_schema

pytestmark = [pytest.mark.repro, pytest.mark.golden]

GOLDEN = Path(__file__).parents[1] / "golden"


def test_schema_of_every_preset():
    with torch.device("meta"):
        models = {name: MoFRR.from_preset(name) for name in PRESETS}
    check_schema(GOLDEN / "schema.json", models)


def make_expert_and_input():
    """An expert smaller than tiny's (a golden file is at most 200 kB), with every parameter moved off its start."""
    torch.manual_seed(0)
    expert = WaveFRR.from_config(replace(PRESETS["tiny"].model, channels=4, attention_width=4)).eval()
    expert.hfcam = torch.nn.ModuleList([HFCAM(patch=2, width=4, heads=2)])
    with torch.no_grad():
        for parameter in expert.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return expert, {"image": 2 * torch.rand(1, 3, 32, 32) - 1, "noise": torch.randn(1, 3, 16, 16)}


def run_expert(expert, inputs):
    X, z, t = inputs["image"], torch.tensor([0.6]), torch.tensor([10])
    passed = expert(X, 0.5 * X, z, t, inputs["noise"])
    return {"answer": passed.output, "residual": passed.residual, "high": passed.high[0], "restored": passed.restored}


def test_forward_pass():
    check_forward(GOLDEN / "forward.safetensors", make_expert_and_input, run_expert)

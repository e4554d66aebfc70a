"""Schema and forward pass stay on the golden files (`nox -s golden -- --update` writes them)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bpfre.config import PRESETS
from bpfre.model import BPFRe
from retouch_common.testing.golden import check_forward, check_schema

pytestmark = [pytest.mark.repro, pytest.mark.golden]

GOLDEN = Path(__file__).parents[1] / "golden"


def test_schema_of_every_preset():
    with torch.device("meta"):
        models = {name: BPFRe.from_preset(name) for name in PRESETS}
    check_schema(GOLDEN / "schema.json", models)


def make_model_and_input():
    """A network smaller than tiny (a golden file is at most 200 kB), with every parameter moved off its start."""
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"].model, size=32, channel_base=64, max_channels=8, style_dim=8)
    model = BPFRe(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model, {"image": torch.rand(1, 3, 32, 32)}


def run_model(model, inputs):
    output = model.eval()(inputs["image"])
    maps = {"attention_coarse": output.attention_coarse[0], "attention_refined": output.attention_refined[0]}
    return {"coarse": output.coarse, "refined": output.refined, **maps}


def test_forward_pass():
    check_forward(GOLDEN / "forward.safetensors", make_model_and_input, run_model)

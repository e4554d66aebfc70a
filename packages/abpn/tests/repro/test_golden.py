"""Schema and forward pass stay on the golden files (`nox -s golden -- --update` writes them)."""

from pathlib import Path

import pytest
import torch
from abpn.config import PRESETS
from abpn.model import ABPN
from retouch_common.testing.golden import check_forward, check_schema

pytestmark = [pytest.mark.repro, pytest.mark.golden]

GOLDEN = Path(__file__).parents[1] / "golden"


def test_schema_of_every_preset():
    with torch.device("meta"):
        models = {name: ABPN.from_preset(name) for name in PRESETS}
    check_schema(GOLDEN / "schema.json", models)


def make_model_and_input():
    """The preset tiny with every parameter moved off its start, where it would return its input."""
    torch.manual_seed(0)
    model = ABPN.from_preset("tiny").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model, {"image": torch.rand(1, 3, 21, 30)}


def run_model(model, inputs):
    output = model.eval()(inputs["image"], num_levels=1)
    return {"result": output.results[0], "blend": output.blends[0], "mask": output.mask}


def test_forward_pass():
    check_forward(GOLDEN / "forward.safetensors", make_model_and_input, run_model)

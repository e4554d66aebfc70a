"""Schema and forward pass stay on the golden files (`nox -s golden -- --update` writes them)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from maskgan.config import PRESETS
from maskgan.model import MaskGAN
from retouch_common.testing.golden import check_forward, check_schema

pytestmark = [pytest.mark.repro, pytest.mark.golden]

GOLDEN = Path(__file__).parents[1] / "golden"


def test_schema_of_every_preset():
    with torch.device("meta"):
        models = {name: MaskGAN.from_preset(name) for name in PRESETS}
    check_schema(GOLDEN / "schema.json", models)


def make_model_and_input():
    """A network as small as it gets (a golden file is at most 200 kB), with every parameter moved off its start."""
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"].model, max_width=4, local_blocks=0, generator_width=4)
    model = MaskGAN(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, 6:30, 12:52], labels[:, 15:58, 16:48] = 10, 1
    labels[:, 28:31, 22:28], labels[:, 28:31, 36:42], labels[:, 43:48, 26:38] = 4, 5, 8
    return model, {"picture": 2 * torch.rand(1, 3, 64, 64) - 1, "labels": labels}


def run_model(model, inputs):
    picture, labels = inputs["picture"], inputs["labels"].long()
    output = model.eval()(picture, labels, picture.flip(3), labels)
    codes = {f"code {name}": value for name, value in output.codes.values.items()}
    return {"image": output.image, "mouth": output.reconstructions["mouth"], **codes}


def test_forward_pass():
    check_forward(GOLDEN / "forward.safetensors", make_model_and_input, run_model)

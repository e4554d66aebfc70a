"""The schema of the face parser stays on its golden file (`nox -s golden -- --update` writes it)."""

from pathlib import Path

import pytest
import torch
from retouch_common.parsing.config import PRESETS
from retouch_common.parsing.model import ParsingUNet
from retouch_common.testing.golden import check_schema

pytestmark = [pytest.mark.repro, pytest.mark.golden]

GOLDEN = Path(__file__).parents[1] / "golden"


def test_schema_of_every_parser_preset():
    with torch.device("meta"):
        models = {name: ParsingUNet.from_preset(name) for name in PRESETS}
    check_schema(GOLDEN / "parser_schema.json", models)

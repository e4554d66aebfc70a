"""MaskGAN keeps the contract of all models: as it is, in the paper's and the official code's form, as setting 1, 2."""

from typing import ClassVar

import pytest
import torch
from maskgan.config import PRESETS, SETTING_1, SETTING_2, ModelConfig
from maskgan.model import MaskGAN
from retouch_common.config import apply_overrides
from retouch_common.testing.contract import ModelContract
from retouch_common.testing.parameters import randomize_parameters

FAITHFUL = {  # the paper's layers, few channels
    "model.whole_windows": "box",
    "model.snap": False,
    "model.code": [8, 8, 8, 8, 8],
    "model.code_grid": 0,
    "model.fold": 1,
    "model.local_blocks": 0,
    "model.picture_decoder": "own",
    "model.mask_skips": False,
    "model.background_residual": False,
    "model.upsampling": "transposed",
    "model.norm": "batch",
}


class MaskGANContract(ModelContract):
    sizes = ((64, 64),)
    changes: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _labels(self, drawn_labels):
        # One face has no left eye, the other neither mouth nor hair: every component is there once.
        self.source = drawn_labels(2, without=((0, 4), (1, 7), (1, 8), (1, 9), (1, 10)))
        self.target = drawn_labels(2, without=((1, 5),))

    def make_model(self):
        return MaskGAN(apply_overrides(PRESETS["tiny"], self.changes).model)

    def seeded_model(self):
        # Less than the usual move: the codes of noise are far from those of faces, and each of many layers adds to it.
        torch.manual_seed(0)
        return randomize_parameters(self.make_model(), amount=0.02)

    def run(self, model, image):
        """The last face of the batch is always the same, whatever is before it."""
        source, target = self.source[-len(image) :], self.target[-len(image) :]
        picture = 2 * image - 1
        output = model(picture, source, picture.flip(3), target, generator=torch.Generator().manual_seed(5))
        codes = {f"code {name}": value for name, value in output.codes.values.items()}
        made = {f"reconstruction {name}": value for name, value in output.reconstructions.items()}
        return {"result": output.image, **codes, **made}

    def expected_shapes(self, batch, height, width):
        return {"result": (batch, 3, height, width)}


class TestTiny(MaskGANContract):
    pass


class TestPaper(MaskGANContract):
    changes = FAITHFUL


class TestOfficial(MaskGANContract):
    changes: ClassVar = FAITHFUL | {
        "model.mask_eyes": False,
        "model.missing": "canonical",
        "model.whole_windows": "picture",
        "model.enlarge": 1.1,
        "model.variational": True,
    }


class TestSetting1(MaskGANContract):
    changes = FAITHFUL | SETTING_1


class TestSetting2(MaskGANContract):
    changes = FAITHFUL | SETTING_2


class TestForegroundPicture(MaskGANContract):
    changes: ClassVar = {
        "model.foreground": "picture",
        "model.fold": 4,
        "model.background_blocks": 1,
        "model.norm": "none",
    }


def test_sizes_that_no_memory_holds_are_refused():
    """Weights from anyone may state them."""
    with pytest.raises(ValueError, match="a power of two from 64 to 4096"):
        ModelConfig(size=8192)

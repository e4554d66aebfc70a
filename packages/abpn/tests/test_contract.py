"""ABPN keeps the contract of all models, with the neutral blend, as printed, and with parts left out."""

import pytest
from abpn.config import PRESETS, ModelConfig
from abpn.model import ABPN
from retouch_common.config import apply_overrides
from retouch_common.testing.contract import ModelContract


class ABPNContract(ModelContract):
    sizes = ((128, 128), (65, 97), (150, 70))
    changes = ()

    def make_model(self):
        return ABPN(apply_overrides(PRESETS["tiny"], dict(self.changes)).model)

    def run(self, model, image):
        output = model(image, num_levels=1)
        outputs = {"result": output.results[0], "blend": output.blends[0]}
        return outputs if output.mask is None else {**outputs, "mask": output.mask}

    def expected_shapes(self, batch, height, width):
        return {"result": (batch, 3, height, width)}


class TestNeutralBlend(ABPNContract):
    pass


class TestPaper(ABPNContract):
    """The equations as printed: adaptive blend, Burt's pyramid, no residual."""

    changes = (("model.blend", "adaptive"), ("model.pyramid", "burt"), ("model.residual", False))


class TestWithoutMaskBranch(ABPNContract):
    changes = (("model.mask_branch", False),)


class TestProbabilisticContextBlocks(ABPNContract):
    changes = (("model.attention", "pcb"),)


def test_the_contract_sees_the_mask():
    contract = ABPNContract()
    assert "mask" in contract.infer(contract.seeded_model(), contract.image())


def test_sizes_that_no_memory_holds_are_refused():
    """Weights from anyone may state them."""
    with pytest.raises(ValueError, match=r"model\.thumbnail must lie between 64 and 4096"):
        ModelConfig(thumbnail=8192)

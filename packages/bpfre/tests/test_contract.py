"""BPFRe keeps the contract of all models: complete, as printed, folded, and with Table 1's parts left out."""

import torch
from bpfre.config import PRESETS
from bpfre.discriminator import Discriminator
from bpfre.model import BPFRe
from retouch_common.config import apply_overrides
from retouch_common.testing.contract import ModelContract
from safetensors.torch import load_file, save_file


class BPFReContract(ModelContract):
    sizes = ((64, 64),)
    changes = ()

    def make_model(self):
        return BPFRe(apply_overrides(PRESETS["tiny"], {f"model.{k}": v for k, v in self.changes}).model)

    def run(self, model, image):
        output = model(image)
        outputs = {"coarse": output.coarse, "refined": output.refined}
        for name in ("attention_coarse", "attention_refined"):
            outputs |= {f"{name} {M.shape[-1]}": M for M in getattr(output, name)}
        return {name: value for name, value in outputs.items() if value is not None}

    def expected_shapes(self, batch, height, width):
        return {"refined": (batch, 3, height, width)}


class TestRecommended(BPFReContract):
    pass


class TestPaper(BPFReContract):
    changes = (("residual", "none"), ("detach_coarse", True))

    def run(self, model, image):
        outputs = super().run(model, image)
        return {**outputs, "refined": outputs["refined"] / 4}  # random weights paint values up to 4, not 1


class TestFolded(BPFReContract):
    changes = (("patch", 2), ("norm", "none"))


class TestRawInput(BPFReContract):
    changes = (("refined_input", "raw"),)


class TestWithoutDecoder(BPFReContract):
    """Table 1: without A^{E2D} and D_deco."""

    changes = (("decoder", False),)


class TestWithoutGenerator(BPFReContract):
    """Table 1: without A^{D2G} and G."""

    changes = (("generator", False),)

    def expected_shapes(self, batch, height, width):
        return {"coarse": (batch, 3, height, width)}


class TestWithoutAttention(BPFReContract):
    """Table 1: without both attention modules."""

    changes = (("attention", False),)


class TestDetached(BPFReContract):
    """Eq. 12 as written: the second stage trains nothing of the first."""

    changes = (("detach_coarse", True),)


class TestDiscriminator(ModelContract):
    sizes = ((64, 64),)

    def make_model(self):
        config = PRESETS["tiny"].model
        return Discriminator(config.discriminator_channels, patch=config.patch)

    def run(self, model, image):
        return {"logits": model(image)}

    def expected_shapes(self, batch, height, width):
        return {"logits": (batch, 1, height, width)}

    def test_treats_the_images_of_a_batch_alone(self):
        """It does not: how alike the images of a batch are is one of its features."""
        model, images = self.seeded_model(), self.image(2)
        assert not torch.allclose(model(images)[1:], model(images[1:]), atol=1e-5)

    def test_survives_saving_and_loading(self, tmp_path):
        """It is never published; run directories keep its state."""
        model = self.seeded_model()
        save_file(model.state_dict(), tmp_path / "d.safetensors")
        other = self.make_model()
        other.load_state_dict(load_file(tmp_path / "d.safetensors"))
        assert torch.equal(other(self.image()), model(self.image()))

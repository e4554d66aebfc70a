"""The contract holds for a sound model, and each of its tests finds the model that breaks it."""

import json

import pytest
import torch
from retouch_common.testing.contract import ModelContract
from torch import nn


class Sound(nn.Module):
    """A network with the usual parts and a layer that starts at zero."""

    def __init__(self, width=4):
        super().__init__()
        self.config = {"width": width}
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, image):
        return image + self.last(self.norm(self.first(image)).relu())

    def save_pretrained(self, folder):
        from safetensors.torch import save_file

        save_file(self.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))

    @classmethod
    def from_pretrained(cls, folder):
        from pathlib import Path

        from safetensors.torch import load_file

        model = cls(**json.loads((Path(folder) / "config.json").read_text()))
        model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        return model.eval()


class SoundContract(ModelContract):
    model = Sound

    def make_model(self):
        return self.model()

    def run(self, model, image):
        return {"result": model(image)}

    def expected_shapes(self, batch, height, width):
        return {"result": (batch, 3, height, width)}


class TestSound(SoundContract):
    pass


class CropsOddSizes(Sound):
    def forward(self, image):
        return super().forward(image)[..., : image.shape[-1] // 2 * 2]


class DividesByTheImage(Sound):
    def forward(self, image):
        return super().forward(image) / image.mean()


class LooksAcrossTheBatch(Sound):
    def forward(self, image):
        return super().forward(image) + image.mean()


class WorksInPlace(Sound):
    def forward(self, image):
        return super().forward(image.clamp_(0, 0.5))


class AddsNoise(Sound):
    def forward(self, image):
        return super().forward(image) + 1e-3 * torch.randn_like(image)


class ForgetsALayer(Sound):
    def forward(self, image):
        return image + self.last(self.first(image).relu())


class DropsTheGradient(Sound):
    def forward(self, image):
        return image + self.last(self.norm(self.first(image)).relu().detach())


class LosesItsWidth(Sound):
    def __init__(self, width=4):
        super().__init__(width)
        self.config = {"width": width, "run": object()}

    def save_pretrained(self, folder):
        self.config.pop("run")
        super().save_pretrained(folder)


class SavesAPickle(Sound):
    def save_pretrained(self, folder):
        super().save_pretrained(folder)
        torch.save(self.state_dict(), folder / "optimizer.pt")


class LoadsForTraining(Sound):
    @classmethod
    def from_pretrained(cls, folder):
        return super().from_pretrained(folder).train()


class SharesItsWeights(Sound):
    def __deepcopy__(self, memo):
        return self


class ReadsMemoryOrder(Sound):
    def forward(self, image):
        offset = 0.0 if image.is_contiguous() else 0.1
        return super().forward(image) + offset


class CountsInHalf(Sound):
    def forward(self, image):
        scale = 0.5 if torch.is_autocast_enabled("cpu") else 1.0
        return super().forward(image) * scale


@pytest.mark.parametrize(
    ("model", "test", "arguments"),
    [
        (CropsOddSizes, "test_accepts_every_size", ()),
        (DividesByTheImage, "test_is_finite_on_flat_images", (0.0,)),
        (LooksAcrossTheBatch, "test_treats_the_images_of_a_batch_alone", ()),
        (WorksInPlace, "test_leaves_input_and_random_state_alone", ()),
        (AddsNoise, "test_leaves_input_and_random_state_alone", ()),
        (ForgetsALayer, "test_every_parameter_gets_a_gradient", ()),
        (DropsTheGradient, "test_every_parameter_gets_a_gradient", ()),
        (LosesItsWidth, "test_survives_saving_and_loading", "folder"),
        (SavesAPickle, "test_survives_saving_and_loading", "folder"),
        (LoadsForTraining, "test_survives_saving_and_loading", "folder"),
        (SharesItsWeights, "test_can_be_copied", ()),
        (ReadsMemoryOrder, "test_memory_format_does_not_matter", ()),
        (CountsInHalf, "test_reduced_precision_stays_close", ()),
    ],
)
def test_a_model_that_breaks_the_contract_is_found(model, test, arguments, tmp_path):
    contract = SoundContract()
    contract.model = model
    with pytest.raises(AssertionError):
        getattr(contract, test)(*((tmp_path,) if arguments == "folder" else arguments))


def test_a_step_that_does_not_repeat_is_found():
    class Drifts(Sound):
        calls = 0

        def forward(self, image):
            Drifts.calls += 1
            return super().forward(image) * (1 + 0.1 * Drifts.calls)

    contract = SoundContract()
    contract.model = Drifts
    with pytest.raises(AssertionError):
        contract.test_training_step_repeats_bit_by_bit()


def test_a_parameter_without_gradient_may_be_named():
    contract = SoundContract()
    contract.model = ForgetsALayer
    contract.without_gradient = frozenset({"norm.weight", "norm.bias"})
    contract.test_every_parameter_gets_a_gradient()


def test_shapes_must_be_promised():
    contract = SoundContract()
    contract.expected_shapes = lambda *size: {}
    with pytest.raises(AssertionError, match="names no output"):
        contract.test_accepts_every_size()

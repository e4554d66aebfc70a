"""The contract of every model of every paper, as a test suite to subclass.

class TestABPN(ModelContract):
    sizes = ((64, 64), (65, 97))

    def make_model(self):
        return ABPN.from_preset("tiny")

    def run(self, model, image):
        output = model(image)
        return {"result": output.results[0], "mask": output.mask}

    def expected_shapes(self, batch, height, width):
        return {"result": (batch, 3, height, width)}
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from retouch_common.testing.parameters import randomize_parameters
from retouch_common.testing.tolerances import assert_close
from retouch_common.weights import state_hash

PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


class ModelContract:
    """Tests that a model must pass; a subclass makes it and names its outputs."""

    sizes: tuple[tuple[int, int], ...] = ((64, 64), (65, 97))
    """Heights and widths that the model must accept; the first one where one is enough."""
    without_gradient: frozenset[str] = frozenset()
    """Names of parameters that get no gradient, each with a reason beside it in the subclass."""

    def make_model(self) -> nn.Module:
        """Return a small model with random weights; the random state is seeded before."""
        raise NotImplementedError

    def run(self, model: nn.Module, image: Tensor) -> Mapping[str, Tensor]:
        """Call the model on (N, 3, H, W) in [0, 1] and name its outputs."""
        raise NotImplementedError

    def expected_shapes(self, batch: int, height: int, width: int) -> Mapping[str, tuple[int, ...]]:
        """Return shapes of the outputs for such an input; outputs left out may have any."""
        raise NotImplementedError

    def seeded_model(self) -> nn.Module:
        """Return the same model on every call, every parameter moved off its initial value."""
        torch.manual_seed(0)
        return randomize_parameters(self.make_model())

    def image(self, batch: int = 1, size: tuple[int, int] | None = None) -> Tensor:
        """Return the same noise on every call, (N, 3, H, W) in [0, 1]."""
        generator = torch.Generator().manual_seed(2)
        return torch.rand(batch, 3, *(size or self.sizes[0]), generator=generator)

    def infer(self, model: nn.Module, image: Tensor) -> dict[str, Tensor]:
        """Outputs without gradients."""
        with torch.no_grad():
            return dict(self.run(model, image))

    def test_accepts_every_size(self) -> None:
        """Outputs have the expected shapes and are finite."""
        model = self.seeded_model()
        for height, width in self.sizes:
            outputs = self.infer(model, self.image(2, (height, width)))
            expected = self.expected_shapes(2, height, width)
            assert expected, "expected_shapes names no output"
            for name, shape in expected.items():
                assert tuple(outputs[name].shape) == tuple(shape), f"{name} at {height}x{width}"
            assert_finite(outputs)

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_is_finite_on_flat_images(self, value: float) -> None:
        """Black, grey and white divide nothing by zero."""
        assert_finite(self.infer(self.seeded_model(), torch.full_like(self.image(), value)))

    def test_treats_the_images_of_a_batch_alone(self) -> None:
        """In evaluation mode the images of a batch do not influence each other."""
        model, images = self.seeded_model(), self.image(2)
        together, alone = self.infer(model, images), self.infer(model, images[1:])
        for name, output in alone.items():
            assert_close(together[name][1:], output, name=name)

    def test_leaves_input_and_random_state_alone(self) -> None:
        """Nothing is modified in place, and evaluation draws no random numbers."""
        model, image = self.seeded_model(), self.image()
        before, random_state = image.clone(), torch.get_rng_state()
        self.infer(model, image)
        assert torch.equal(image, before), "the input was changed"
        assert torch.equal(torch.get_rng_state(), random_state), "evaluation drew random numbers"

    def test_every_parameter_gets_a_gradient(self) -> None:
        """In training a loss over all outputs reaches every parameter."""
        model = self.seeded_model().train()
        outputs = self.run(model, self.image(2))
        generator = torch.Generator().manual_seed(3)
        loss = sum((o.float() * torch.randn(o.shape, generator=generator)).mean() for o in outputs.values())
        assert isinstance(loss, Tensor)
        loss.backward()
        missing, broken = [], []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or name in self.without_gradient:
                continue
            if parameter.grad is None or not parameter.grad.any():
                missing.append(name)
            elif not parameter.grad.isfinite().all():
                broken.append(name)
        assert not missing, f"no gradient for {', '.join(missing)}"
        assert not broken, f"gradient is not finite for {', '.join(broken)}"

    def test_training_step_repeats_bit_by_bit(self) -> None:
        """Two steps from the same seed end in the same bits."""
        assert self._hash_after_a_step() == self._hash_after_a_step()

    def _hash_after_a_step(self) -> str:
        model = self.seeded_model().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        outputs = self.run(model, self.image(2))
        torch.stack([output.float().square().mean() for output in outputs.values()]).sum().backward()
        optimizer.step()
        return state_hash(model.state_dict())

    def test_survives_saving_and_loading(self, tmp_path: Path) -> None:
        """save_pretrained and from_pretrained keep weights, configuration and outputs, and pickle nothing."""
        model, image = self.seeded_model(), self.image()
        model.save_pretrained(tmp_path)  # type: ignore[operator]
        assert not [file.name for file in tmp_path.rglob("*") if file.suffix in PICKLES]
        loaded = type(model).from_pretrained(str(tmp_path))  # type: ignore[attr-defined]
        assert loaded.config == model.config and type(loaded.config) is type(model.config)
        assert not loaded.training, "from_pretrained must return a model for evaluation"
        assert state_hash(loaded.state_dict()) == state_hash(model.state_dict())
        expected = self.infer(model, image)
        for name, output in self.infer(loaded, image).items():
            assert torch.equal(output, expected[name]), name

    def test_can_be_copied(self) -> None:
        """A deep copy, as moving averages need it, shares no memory."""
        model = self.seeded_model()
        copied = copy.deepcopy(model)
        before = state_hash(copied.state_dict())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        assert state_hash(copied.state_dict()) == before

    def test_memory_format_does_not_matter(self) -> None:
        """channels_last gives the same result."""
        model, image = self.seeded_model(), self.image()
        expected = self.infer(model, image)
        model.to(memory_format=torch.channels_last)
        for name, output in self.infer(model, image.to(memory_format=torch.channels_last)).items():
            assert_close(output, expected[name], dtype=torch.float32, name=name)

    def test_reduced_precision_stays_close(self) -> None:
        """Under autocast to bf16 the outputs stay within the format's tolerance of fp32."""
        model, image = self.seeded_model(), self.image()
        expected = self.infer(model, image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = self.infer(model, image)
        for name, output in outputs.items():
            assert_close(output, expected[name], dtype=torch.bfloat16, name=f"{name} in bfloat16")

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_the_gpu_agrees_with_the_cpu(self) -> None:
        """The same numbers on both, without TF32."""
        model, image = self.seeded_model(), self.image()
        expected = self.infer(model, image)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            outputs = self.infer(model.cuda(), image.cuda())
        for name, output in outputs.items():
            assert_close(output, expected[name], name=name)


def assert_finite(outputs: Mapping[str, Tensor]) -> None:
    """Assert that no output holds NaN or infinity."""
    broken = [name for name, output in outputs.items() if not output.isfinite().all()]
    assert not broken, f"not finite: {', '.join(broken)}"

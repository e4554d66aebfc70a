"""The baseline pix2pix: the generator of its paper, and a step of both networks."""

from itertools import pairwise, repeat

import pytest
import torch
from mofrr.config import stage_presets
from mofrr.pix2pix import Pix2Pix
from mofrr.train import stage_task
from retouch_common.config import apply_overrides
from retouch_common.training.runner import Runner


def test_convolutions_are_those_of_the_paper():
    """C64-C128-C256-C512-C512-C512-C512-C512 and back, with skips, down to one pixel of an image of 256."""
    network = Pix2Pix(256).eval()
    down = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)]
    weights = [p for p in network.parameters() if p.ndim == 4]
    assert [tuple(p.shape[:2]) for p in weights[:8]] == [(out, into) for into, out in pairwise(down)]
    assert [tuple(p.shape[:2]) for p in weights[8:]] == up  # transposed: inputs first
    assert len([layer for layer in network.modules() if isinstance(layer, torch.nn.Dropout)]) == 3
    with torch.no_grad():
        output = network(torch.rand(1, 3, 256, 256) * 2 - 1)
    assert output.shape == (1, 3, 256, 256) and output.min() >= -1 and output.max() <= 1


@pytest.mark.parametrize(("size", "depth"), [(64, 6), (512, 8), (96, 5)])
def test_other_sizes(size, depth):
    network = Pix2Pix(size, width=2)
    assert len(network.down) == depth
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 3, size, size)


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="side 40 can be halved only 3 times"):
        Pix2Pix(40)


@pytest.fixture
def batch():
    return {name: torch.rand(1, 3, 64, 64) for name in ("retouched", "original")}


@pytest.fixture
def task(monkeypatch):
    """The baseline's task, ready for a step."""
    config = apply_overrides(stage_presets("baseline-pix2pix")["tiny"], {"train.batch_size": 2})
    task = stage_task("baseline-pix2pix", config, "", None)
    monkeypatch.setattr(task.stage, "open_data", lambda spec: ([{}], [{}]))
    task.setup(Runner(cpu=True))
    return task


def test_a_step_moves_both_networks(task, batch):
    """Adam's first step is as long as its rate, which is that of section 3.3, whatever the preset."""
    before = {name: [p.detach().clone() for p in n.parameters()] for name, n in task.networks.items()}
    task.training_step(1, repeat(batch))
    assert set(before) == {"part", "discriminator"}
    for name, parameters in before.items():
        pairs = zip(task.networks[name].parameters(), parameters, strict=True)
        longest = max(float((new.detach() - old).abs().max()) for new, old in pairs)
        assert longest == pytest.approx(2e-4, rel=0.01), name
    assert [optimizer.param_groups[0]["betas"] for optimizer in task.optimizers.values()] == [(0.5, 0.999)] * 2
    assert {preset.train.lr for preset in stage_presets("baseline-pix2pix").values()} == {2e-4}


def test_a_step_adds_the_gradients_of_both_losses_to_their_networks(task, batch):
    generator, critic = task.networks["part"].eval(), task.networks["discriminator"]  # without dropout
    losses = task.add_gradients(batch, torch.Generator())
    assert losses["loss"].item() == pytest.approx(losses["adversarial"].item() + 100 * losses["l1"].item())
    found = {name: [p.grad.clone() for p in n.parameters()] for name, n in task.networks.items()}

    X, Y = (2 * batch[name] - 1 for name in ("retouched", "original"))
    restored = generator(X)
    rated = {name: critic(torch.cat([X, image], dim=1)) for name, image in (("real", Y), ("fake", restored))}
    assert losses["l1"].item() == pytest.approx((restored - Y).abs().mean().item())
    real, fake = (rated[name].sigmoid() for name in ("real", "fake"))
    loss = -fake.log().mean() + 100 * (restored - Y).abs().mean()
    detached = critic(torch.cat([X, restored.detach()], dim=1)).sigmoid()
    critic_loss = -(real.log().mean() + (1 - detached).log().mean()) / 2
    assert losses["discriminator"].item() == pytest.approx(critic_loss.item(), rel=1e-4)
    expected = {
        "part": torch.autograd.grad(loss, list(generator.parameters())),
        "discriminator": torch.autograd.grad(critic_loss, list(critic.parameters())),
    }
    for name, gradients in expected.items():
        for one, other in zip(gradients, found[name], strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), name

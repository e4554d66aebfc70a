"""DDIM: against diffusers, with a perfect network, warm, in batches, backwards."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from retouch_common.diffusion.ddim import ddim, noise_like, sampling_times
from retouch_common.diffusion.schedule import Schedule, make_schedule

NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


def generators(count, first=0):
    return [torch.Generator().manual_seed(first + number) for number in range(count)]


def answer(x, t):
    """Some smooth function of both; no network of any sense."""
    return torch.tanh(0.5 * x + (t / 1000).view(-1, 1, 1, 1)) * 0.8


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize(("T", "steps"), [(1000, 10), (200, 10), (1000, 4)])
def test_takes_the_steps_of_diffusers(spacing, prediction, T, steps):
    theirs = DDIMScheduler(
        T, 1e-4, 0.02, "linear", clip_sample=False, prediction_type=NAMES[prediction], timestep_spacing=spacing
    )
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == sampling_times(T, steps, spacing)
    x = noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in theirs.timesteps:
        x = theirs.step(answer(x, t.expand(2)), t, x).prev_sample
    ours = ddim(answer, noise, make_schedule(T), steps=steps, spacing=spacing, prediction=prediction)
    assert (ours - x).abs().max() / x.abs().max() <= 1e-5


def test_clipping_is_that_of_diffusers():
    theirs = DDIMScheduler(1000, 1e-4, 0.02, "linear", clip_sample=True, timestep_spacing="trailing")
    theirs.set_timesteps(8)
    x = noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in theirs.timesteps:
        x = theirs.step(answer(x, t.expand(1)), t, x, use_clipped_model_output=True).prev_sample
    ours = ddim(answer, noise, make_schedule(1000), steps=8, clip=1.0)
    assert (ours - x).abs().max() <= 1e-5 and ours.abs().max() <= 1


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_perfect_network_gives_the_picture(prediction, steps):
    """The network knows the picture and so the noise in x_t."""
    schedule = make_schedule(1000)
    picture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1

    def network(x, t):
        abar = schedule.alpha_bar[t].view(-1, 1, 1, 1).float()
        noise = (x - abar.sqrt() * picture) / (1 - abar).sqrt()
        return schedule.target(picture, noise, t, prediction)

    noise = noise_like(picture, generators(2))
    assert (ddim(network, noise, schedule, steps=steps, prediction=prediction) - picture).abs().max() <= 1e-4


def ideal(schedule, mean, deviation):
    """The best noise predictor for pixels distributed as N(mean, deviation^2)."""

    def network(x, t):
        abar = schedule.alpha_bar[t].view(-1, 1, 1, 1).to(x)
        return (1 - abar).sqrt() * (x - abar.sqrt() * mean) / (abar * deviation**2 + 1 - abar)

    return network


def test_a_warm_start_keeps_the_brightness():
    """T = 200 ends with an eighth of the signal: noise alone is biased, a warm start is not."""
    schedule = make_schedule(200)
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    noise = noise - noise.mean()
    network = ideal(schedule, mean=2.0, deviation=0.4)
    cold = ddim(network, noise, schedule, steps=10, spacing="leading")
    warm = ddim(network, noise, schedule, steps=10, spacing="leading", guess=torch.full_like(noise, 2.0))
    assert abs(cold.mean().item() - 2) > 0.2
    assert abs(warm.mean().item() - 2) < 1e-6


def test_a_warm_start_by_hand():
    schedule = Schedule(torch.tensor([0.64], dtype=torch.float64))
    seen = []

    def network(x, t):
        seen.append(x)
        return x

    ddim(network, torch.ones(1, 1, 1, 1), schedule, steps=1, prediction="x0", guess=torch.full((1, 1, 1, 1), 2.0))
    assert seen[0].item() == pytest.approx(0.8 * 2 + 0.6)


def test_one_step_by_hand():
    """abar 0.25 then 0.64, x = 1, the network says that the noise is 0.5."""
    schedule = Schedule(torch.tensor([0.64, 0.25], dtype=torch.float64))
    asked = []

    def network(x, t):
        asked.append((t.item(), x.item()))
        return torch.full_like(x, 0.5)

    result = ddim(network, torch.ones(1, 1, 1, 1), schedule, steps=2)
    x_0 = (1 - math.sqrt(0.75) * 0.5) / 0.5
    between = 0.8 * x_0 + 0.6 * 0.5
    assert asked[0] == (1, 1.0) and asked[1] == (0, pytest.approx(between))
    assert result.item() == pytest.approx((between - 0.6 * 0.5) / 0.8)


def test_a_picture_does_not_depend_on_its_batch():
    schedule, shape = make_schedule(1000), torch.empty(3, 3, 8, 8)
    together = ddim(answer, noise_like(shape, generators(3)), schedule, steps=4)
    alone = ddim(answer, noise_like(shape[:1], generators(1, 2)), schedule, steps=4)
    assert torch.equal(together[2:], alone)


def test_gradients_flow_through_all_steps_also_with_checkpointing():
    schedule = make_schedule(1000)
    gradients = []
    for checkpointing in (False, True):
        scale = torch.tensor(0.3, requires_grad=True)
        x = torch.ones(1, 1, 4, 4)
        ddim(lambda x, t: scale * x, x, schedule, steps=3, checkpointing=checkpointing).sum().backward()  # noqa: B023
        gradients.append(scale.grad.item())
    assert gradients[0] != 0 and gradients[0] == gradients[1]


def test_zero_terminal_snr_needs_another_prediction():
    schedule = make_schedule(100, zero_terminal_snr=True)
    noise = torch.randn(1, 1, 4, 4)
    with pytest.raises(ValueError, match="must predict x0 or v"):
        ddim(answer, noise, schedule)
    assert torch.isfinite(ddim(answer, noise, schedule, prediction="v")).all()


def test_times():
    assert sampling_times(10, 5, "leading") == [8, 6, 4, 2, 0]
    assert sampling_times(10, 5, "trailing") == [9, 7, 5, 3, 1]
    assert sampling_times(10, 3, "trailing") == [9, 6, 2]
    assert sampling_times(4, 4) == [3, 2, 1, 0]
    for steps in (0, 11):
        with pytest.raises(ValueError, match="cannot be sampled"):
            sampling_times(10, steps)
    with pytest.raises(ValueError, match="unknown"):
        sampling_times(10, 2, "linspace")


def test_noise_needs_a_generator_for_each_picture():
    with pytest.raises(ValueError, match="as many generators, not 2"):
        noise_like(torch.zeros(1, 1, 2, 2), generators(2))

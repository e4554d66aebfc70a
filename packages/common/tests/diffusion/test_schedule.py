"""Noise schedules: published values, and the three kinds of prediction against each other."""

import math

import pytest
import torch
from retouch_common.diffusion.schedule import Schedule, make_schedule


def test_linear_is_the_product_of_what_is_kept():
    schedule = make_schedule("linear", 3, beta_start=0.1, beta_end=0.3)
    assert schedule.alpha_bar.tolist() == pytest.approx([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7])


def test_200_times_leave_an_eighth_of_the_variance():
    assert float(make_schedule("linear", 200).alpha_bar[-1]) == pytest.approx(0.132, abs=0.001)
    assert float(make_schedule("linear", 1000).alpha_bar[-1]) == pytest.approx(4.04e-5, rel=0.01)


def test_cosine_follows_its_curve():
    schedule = make_schedule("cosine", 1000)
    f = [math.cos((x + 0.008) / 1.008 * math.pi / 2) ** 2 for x in (0.0, 0.5)]
    assert float(schedule.alpha_bar[499]) == pytest.approx(f[1] / f[0], rel=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_zero_terminal_snr_ends_in_noise_and_starts_as_before(kind):
    plain, moved = make_schedule(kind, 200), make_schedule(kind, 200, zero_terminal_snr=True)
    assert float(moved.alpha_bar[-1]) == 0
    assert float(moved.alpha_bar[0]) == pytest.approx(float(plain.alpha_bar[0]))
    assert (moved.alpha_bar.diff() < 0).all()


def test_noised_by_hand():
    schedule = Schedule(torch.tensor([0.64, 0.36], dtype=torch.float64))
    x_0, noise = torch.full((2, 1, 1, 1), 2.0), torch.full((2, 1, 1, 1), 10.0)
    assert schedule.noised(x_0, noise, torch.tensor([0, 1])).flatten().tolist() == pytest.approx([7.6, 9.2])
    v = schedule.target(x_0, noise, torch.tensor([0, 1]), "v")
    assert v.flatten().tolist() == pytest.approx([0.8 * 10 - 0.6 * 2, 0.6 * 10 - 0.8 * 2])


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_right_answer_gives_the_picture_back(prediction):
    schedule = make_schedule("linear", 100)
    t = torch.tensor([3, 60, 99])
    x_0, noise = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    answer = schedule.target(x_0, noise, t, prediction)
    assert torch.allclose(schedule.x_0(answer, schedule.noised(x_0, noise, t), t, prediction), x_0)


def test_refuses_bad_schedules():
    with pytest.raises(ValueError, match="'quadratic' is unknown"):
        make_schedule("quadratic")
    with pytest.raises(ValueError, match="at least 2"):
        make_schedule("linear", 1)
    with pytest.raises(ValueError, match="betas"):
        make_schedule("linear", 10, beta_start=0.1, beta_end=0.05)

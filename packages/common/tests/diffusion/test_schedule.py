"""Noise schedules: published values, and the three kinds of prediction against each other."""

import pytest
import torch
from retouch_common.diffusion.schedule import Schedule, make_schedule


def test_alpha_bar_is_the_product_of_what_is_kept():
    assert make_schedule(3).alpha_bar.tolist() == pytest.approx([0.9999, 0.9999 * 0.98995, 0.9999 * 0.98995 * 0.98])


def test_200_times_leave_an_eighth_of_the_variance():
    assert float(make_schedule(200).alpha_bar[-1]) == pytest.approx(0.132, abs=0.001)
    assert float(make_schedule(1000).alpha_bar[-1]) == pytest.approx(4.04e-5, rel=0.01)


def test_zero_terminal_snr_ends_in_noise_and_starts_as_before():
    plain, moved = make_schedule(200), make_schedule(200, zero_terminal_snr=True)
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
    schedule = make_schedule(100)
    t = torch.tensor([3, 60, 99])
    x_0, noise = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    answer = schedule.target(x_0, noise, t, prediction)
    assert torch.allclose(schedule.x_0(answer, schedule.noised(x_0, noise, t), t, prediction), x_0)


def test_refuses_a_schedule_of_one_time():
    with pytest.raises(ValueError, match="at least 2"):
        make_schedule(1)

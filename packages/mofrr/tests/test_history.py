"""Histories of photographs: the same for both pictures of a pair, with points that follow."""

import numpy as np
import pytest
from mofrr.history import LARGEST, SMALLEST, History, photographed
from retouch_common.photo.filters import gaussian_blur

SIDE = 160


@pytest.fixture(scope="module")
def photo():
    y, x = np.mgrid[:200, :240]
    image = np.stack([0.3 + 0.4 * x / 240, 0.4 + 0.3 * y / 200, 0.5 + 0 * x], axis=-1)
    return (image + np.random.default_rng(0).normal(0, 0.03, image.shape)).clip(0, 1).astype(np.float32)


def drawn(count=60):
    return [History.random(np.random.default_rng(seed), SIDE) for seed in range(count)]


def test_every_step_occurs_and_some_photographs_stay_as_they_are():
    histories = drawn(200)
    for name in ("turn", "bend", "bumps", "sharpening", "grain", "quality"):
        share = np.mean([bool(getattr(history, name)) for history in histories])
        assert 0.08 < share < 0.7, name
    assert 0.2 < np.mean([history.scale != 1 for history in histories]) < 0.6
    assert all(SMALLEST / SIDE <= history.scale <= min(3.0, LARGEST / SIDE) for history in histories)
    plain = [h for h in histories if h.scale == 1 and not (h.turn or h.bend or h.bumps or h.sharpening or h.grain)]
    assert 0.3 < len(plain) / 200 < 0.55 and any(history.quality is None for history in plain)


def test_both_pictures_of_a_pair_undergo_the_same(photo):
    """What was not retouched stays the same in both; a history repeats itself to the bit."""
    other = photo.copy()
    other[80:120, 100:140] += 0.1
    for history in drawn(12):
        if history.quality is not None:
            history = History(**vars(history) | {"quality": None})  # whose blocks spread differences
        one, two = history(photo), history(other.clip(0, 1))
        assert np.array_equal(one, history(photo)) and not np.array_equal(one, two)
        differs = (one != two).any(axis=-1)
        ys, xs = np.nonzero(differs)
        corners = history.moved(np.array([[100.0, 80.0], [140.0, 120.0], [100.0, 120.0], [140.0, 80.0]]), 200, 240)
        low, high, room = corners.min(0), corners.max(0), 9 * max(history.scale, 1)
        assert xs.min() > low[0] - room and xs.max() < high[0] + room
        assert ys.min() > low[1] - room and ys.max() < high[1] + room


def test_points_follow_the_picture():
    """A bright spot is found where its point is moved to."""
    image = np.zeros((200, 240, 3), np.float32)
    image[90, 100] = 1.0
    image = (gaussian_blur(image, 3.0) * 50).clip(0, 1)
    for history in drawn(30):
        history = History(**vars(history) | {"grain": 0.0})
        y, x = np.mgrid[: history(image).shape[0], : history(image).shape[1]]
        weight = history(image)[..., 0].astype(float) ** 2
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        (expected,) = history.moved(np.array([[100.0, 90.0]]), 200, 240)
        assert np.hypot(*(found - expected)) < 2.5 * max(history.scale, 1)


def test_photographs_have_their_scale(photo):
    scales = set()
    for seed in range(20):
        image, scale = photographed(photo, 400.0, np.random.default_rng(seed))
        assert image.shape[:2] == pytest.approx((200 * scale, 240 * scale), abs=1)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        scales.add(scale)
    assert 1.0 in scales and min(scales) < 0.9 and max(scales) > 1.3

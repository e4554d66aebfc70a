"""Whitening and smoothing by hand."""

from __future__ import annotations

import numpy as np
import pytest
from retouch_common.photo.colour import rgb_to_lab
from retouch_common.synthesis.retouching_tones import smooth, whiten

KINDS = ("guided", "bilateral", "bands", "gaussian", "median", "surface")
WHITENING = ("lab", "log", "ycc", "hsv", "linear", "screen")
SKIN = np.float32([0.75, 0.55, 0.45])


def left_half(size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[:, : size // 2] = 1.0
    return mask


def test_tint_is_an_exponent_of_each_channel() -> None:
    image = np.full((8, 8, 3), 0.5, np.float32)
    options = {"gamma": 0.8, "pull": 0.0, "hue": (0.0, 0.0), "kind": "log"}
    plain, tinted = (whiten(image, np.ones((8, 8), np.float32), **options, tint=t) for t in ((1, 1, 1), (1, 1.1, 0.9)))
    np.testing.assert_allclose(tinted, plain ** np.float32([1, 1.1, 0.9]), atol=1e-6)


def test_whitening_in_lab() -> None:
    image = np.broadcast_to(SKIN, (64, 64, 3)).copy()
    before = rgb_to_lab(image)[0, 0]
    white = whiten(image, left_half(), gamma=0.8, pull=0.25, hue=(10.0, 4.0))
    after = rgb_to_lab(white)[0, 0]
    assert after[0] == pytest.approx(100 * (before[0] / 100) ** 0.8, abs=0.02)
    assert after[1] == pytest.approx(before[1] + 0.25 * (10 - before[1]), abs=0.02)
    assert after[2] == pytest.approx(before[2] + 0.25 * (4 - before[2]), abs=0.02)
    assert np.array_equal(white[:, 32:], image[:, 32:])


@pytest.mark.parametrize("kind", WHITENING)
def test_every_kind_of_whitening_lightens_a_middle_grey_alike(kind: str) -> None:
    grey = np.full((64, 64, 3), 0.5, np.float32)
    before, gamma = rgb_to_lab(grey)[0, 0, 0], 0.8
    white = whiten(grey, left_half(), gamma=gamma, pull=0.0, hue=(0.0, 0.0), kind=kind)
    if kind == "lab":
        assert rgb_to_lab(white)[0, 0, 0] == pytest.approx(100 * (before / 100) ** gamma, abs=0.02)
    else:
        assert white[0, 0] == pytest.approx(np.full(3, 0.5**gamma), abs=0.012)
    assert np.array_equal(white[:, 32:], grey[:, 32:])
    skin = np.broadcast_to(SKIN, (64, 64, 3)).copy()
    pale = whiten(skin, left_half(), gamma=gamma, pull=0.3, hue=(0.0, 0.0), kind=kind)[0, 0]
    assert pale.mean() > SKIN.mean() + 0.02 and np.ptp(pale) < np.ptp(SKIN)


def test_half_a_mask_is_half_the_change() -> None:
    image = np.broadcast_to(SKIN, (64, 64, 3)).copy()
    whole, half = (whiten(image, m * left_half(), gamma=0.8, pull=0.2, hue=(9.0, 9.0)) for m in (1.0, np.float32(0.5)))
    np.testing.assert_allclose(half - image, (whole - image) / 2, atol=1e-6)


def test_nothing_asked_is_nothing_done() -> None:
    image = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    assert np.array_equal(whiten(image, left_half(), gamma=1.0, pull=0.0, hue=(0.0, 0.0)), image)
    empty = np.zeros((64, 64), np.float32)
    assert np.array_equal(whiten(image, empty, gamma=0.5, pull=0.5, hue=(0.0, 0.0)), image)
    for kind in KINDS:
        assert np.array_equal(smooth(image, left_half(), kind=kind, radius=4, contrast=0.2, amount=0.0), image)
        assert np.array_equal(smooth(image, empty, kind=kind, radius=4, contrast=0.2, amount=1.0), image)


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_keeps_even_skin_edges_and_all_else(kind: str) -> None:
    image = np.broadcast_to(SKIN, (64, 64, 3)).copy()
    even = smooth(image, left_half(), kind=kind, radius=5, contrast=0.2, amount=1.0, evenness=0.6)
    np.testing.assert_allclose(even, image, atol=2e-3)
    image[:, :16] *= 0.3  # a strong edge
    image[:, 40:] = np.random.default_rng(0).random((64, 24, 3))
    result = smooth(image, left_half(), kind=kind, radius=5, contrast=0.15, amount=1.0)
    assert np.array_equal(result[:, 32:], image[:, 32:])
    assert np.abs(result[20:40, 15:17] - image[20:40, 15:17]).max() < 0.1
    assert result[30, 16, 0] - result[30, 15, 0] > 0.35


@pytest.mark.parametrize("kind", KINDS)
def test_weak_texture_goes_by_the_share_asked_for(kind: str) -> None:
    """Waves of 3 % and 14 pixels on skin: at most 0.4 of them stay, or all but half of what goes."""
    waves = np.sin(np.arange(96) * 2 * np.pi / 14)
    texture = (0.03 * waves[:, None] * waves)[..., None].astype(np.float32)
    image = SKIN + texture
    skin, part = np.ones((96, 96), np.float32), (slice(30, 70), slice(30, 70))
    whole, half = (smooth(image, skin, kind=kind, radius=10, contrast=0.2, amount=a) for a in (1.0, 0.5))
    left = [float((r - SKIN)[part].std() / texture[part].std()) for r in (whole, half)]
    assert left[0] < 0.4
    assert left[1] == pytest.approx((1 + left[0]) / 2, abs=0.03)


def test_bands_keep_pores() -> None:
    """Noise from pixel to pixel stays under frequency separation, and goes under a guided filter."""
    noise = np.random.default_rng(0).normal(0, 0.01, (96, 96, 1)).astype(np.float32)
    noise -= (np.roll(noise, 1, 0) + np.roll(noise, -1, 0) + np.roll(noise, 1, 1) + np.roll(noise, -1, 1)) / 4
    skin, part = np.ones((96, 96), np.float32), (slice(20, 76), slice(20, 76))
    left = {
        kind: (smooth(SKIN + noise, skin, kind=kind, radius=10, contrast=0.2, amount=1.0) - SKIN)[part].std()
        for kind in ("bands", "guided")
    }
    assert left["bands"] > 0.8 * noise[part].std() and left["guided"] < 0.2 * noise[part].std()


def test_evenness_fills_shadows_up() -> None:
    """A cheek in shadow becomes lighter, one in light hardly changes."""
    shade = np.linspace(0.6, 1.2, 128, dtype=np.float32)
    image = np.repeat((shade[:, None] * SKIN)[:, None], 128, axis=1)
    skin = np.ones((128, 128), np.float32)
    plain, even = (
        smooth(image, skin, kind="guided", radius=6, contrast=0.2, amount=1.0, evenness=e) for e in (0.0, 0.5)
    )
    change = (even / plain)[:, 64, 0]
    assert change[10] > 1.15 and abs(change[102] - 1) < 0.03 and np.all(np.diff(change[5:120]) < 1e-4)


def test_unknown_kinds_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.float32)
    with pytest.raises(ValueError, match=r"guided, bilateral, bands, .* not 'mean'"):
        smooth(image, left_half(8), kind="mean", radius=2, contrast=0.1, amount=1.0)
    with pytest.raises(ValueError, match=r"lab, log, .* not 'bleach'"):
        whiten(image, left_half(8), gamma=0.8, pull=0.1, hue=(9.0, 9.0), kind="bleach")

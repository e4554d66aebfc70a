import numpy as np
import pytest
from retouch_common.photo.filters import gaussian_blur
from retouch_common.synthesis.cleaning import clean_skin, fill_blemishes, find_blemishes

UNIT = 192.0
SIZE = 220


def texture(seed: int = 0) -> np.ndarray:
    """Skin with pores and slow shading but without blemishes."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    shade = 0.9 + 0.15 * x - 0.08 * y * y
    pores = gaussian_blur(generator.standard_normal((SIZE, SIZE)).astype(np.float32), 0.9) * 0.03
    return np.clip((shade + pores)[..., None] * np.array([0.75, 0.56, 0.47], dtype=np.float32), 0, 1)


def spot(radius: float, cy: float = 110.0, cx: float = 110.0, hardness: float = 4.0) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    return np.exp(-((np.hypot(y - cy, x - cx) / radius) ** hardness))[..., None]


def everywhere() -> np.ndarray:
    return np.ones((SIZE, SIZE), dtype=np.float32)


@pytest.mark.parametrize("radius", [3.0, 6.0, 10.0])
@pytest.mark.parametrize("density", [(0.1, 0.35, 0.3), (-0.15, -0.25, -0.3)])
def test_a_drawn_spot_is_taken_out(radius: float, density: tuple[float, float, float]) -> None:
    clean = texture()
    shape = spot(radius)
    raw = np.clip(clean * np.exp(-shape * np.array(density, dtype=np.float32)), 0, 1)
    result = clean_skin(raw, everywhere(), UNIT)
    inside = shape[..., 0] > 0.5
    before = gaussian_blur(raw - clean, 2.0)[inside]
    after = gaussian_blur(result - clean, 2.0)[inside]
    assert np.sqrt((after**2).mean()) < 0.3 * np.sqrt((before**2).mean())


def test_filled_places_keep_the_texture() -> None:
    clean = texture(1)
    shape = spot(9.0)
    raw = clean * np.exp(-shape * np.array([0.1, 0.4, 0.35], dtype=np.float32))
    result = clean_skin(raw, everywhere(), UNIT)
    inside = shape[..., 0] > 0.6

    def fineness(image: np.ndarray) -> float:
        return float((image - gaussian_blur(image, 2.5))[inside].std())

    assert 0.5 * fineness(clean) < fineness(result) < 1.6 * fineness(clean)


def test_skin_without_blemishes_is_nearly_untouched() -> None:
    clean = texture(2)
    result = clean_skin(clean, everywhere(), UNIT)
    changed = np.abs(result - clean).max(-1) > 2 / 255
    assert changed.mean() < 0.03
    assert -10 * np.log10(((result - clean) ** 2).mean() + 1e-12) > 45.0


def test_nothing_changes_outside_the_cleanable_part() -> None:
    raw = texture() * np.exp(-spot(6.0) * np.float32(0.4))
    cleanable = everywhere()
    cleanable[:, :112] = 0.0
    result = clean_skin(raw, cleanable, UNIT)
    np.testing.assert_array_equal(result[:, :112], raw[:, :112])


def test_a_mole_stays_and_a_red_spot_beside_it_goes() -> None:
    clean = texture(3)
    mole, red = spot(5.0, 80.0, 80.0, 8.0), spot(5.0, 140.0, 150.0)
    raw = clean * np.exp(-mole * np.array([0.7, 0.9, 1.1], dtype=np.float32))
    raw = raw * np.exp(-red * np.array([0.05, 0.4, 0.35], dtype=np.float32))
    result = clean_skin(raw, everywhere(), UNIT)
    at_mole, at_red = mole[..., 0] > 0.9, red[..., 0] > 0.7
    np.testing.assert_allclose(result[at_mole], raw[at_mole], atol=0.02)
    assert np.abs(gaussian_blur(result - clean, 2.0)[at_red]).mean() < 0.02


def test_the_edge_of_a_shadow_is_no_blemish() -> None:
    image = texture(4)
    x = np.arange(SIZE, dtype=np.float32)
    shadow = 1.0 - 0.5 / (1.0 + np.exp(-(x - 110.0) / 3.0))
    image = (image * shadow[None, :, None]).astype(np.float32)
    found, moles = find_blemishes(image, everywhere(), UNIT)
    assert found[:, 90:130].mean() < 0.03 and moles.sum() == 0


def test_a_given_mask_is_filled() -> None:
    clean = texture(5)
    shape = spot(8.0)
    raw = np.where(shape > 0.5, np.float32(0.0), clean)
    blemishes = (shape[..., 0] > 0.4).astype(np.float32)
    result = fill_blemishes(raw, everywhere(), blemishes, np.zeros_like(blemishes), UNIT / 256)
    assert np.abs(result - clean)[shape[..., 0] > 0.5].mean() < 0.05


def test_skin_that_is_narrower_than_the_way_to_borrowed_texture_is_filled() -> None:
    clean, blemishes = texture(5)[:20], np.zeros((20, SIZE), dtype=np.float32)
    blemishes[8:12, 100:106] = 1.0
    raw = np.where(blemishes[..., None] > 0, np.float32(0.0), clean)
    result = fill_blemishes(raw, np.ones_like(blemishes), blemishes, np.zeros_like(blemishes), 1.0)
    assert np.abs(result - clean)[blemishes > 0].mean() < 0.1

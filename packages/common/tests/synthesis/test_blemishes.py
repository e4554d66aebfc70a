from math import gamma

import numpy as np
import pytest
from retouch_common.synthesis.blemish_canvas import Canvas
from retouch_common.synthesis.blemish_kinds import KINDS
from retouch_common.synthesis.blemish_shapes import NoisePool, OutsideImage, blob, curve_distance, window_around
from retouch_common.synthesis.blemish_spots import mole
from retouch_common.synthesis.blemishes import NOTHING_KEPT, BlemishConfig, BlemishSynthesizer

SIZE = 160


@pytest.fixture(scope="module")
def skin_image() -> np.ndarray:
    generator = np.random.default_rng(0)
    image = np.full((SIZE, SIZE, 3), (0.8, 0.6, 0.5), dtype=np.float32)
    return np.clip(image + generator.normal(0, 0.01, image.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def half_skin() -> np.ndarray:
    skin = np.zeros((SIZE, SIZE), dtype=np.float32)
    skin[:, 20:100] = 1.0
    skin[:, 100:110] = 0.5
    return skin


@pytest.fixture(scope="module")
def noise() -> NoisePool:
    return NoisePool()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_paints_on_skin_only_and_stays_in_range(
    name: str, skin_image: np.ndarray, half_skin: np.ndarray, noise: NoisePool
) -> None:
    changed = 0
    for seed in range(12):
        canvas = Canvas(skin_image.copy(), half_skin, np.array([0.6, 0.8]), 1.0, noise)
        radius = [0.7, 3.0, 12.0][seed % 3]
        KINDS[name](canvas, 70.0, 98.0 if seed % 2 else 40.0, radius, np.random.default_rng(seed))
        assert np.isfinite(canvas.image).all()
        assert canvas.image.min() >= 0.0 and canvas.image.max() <= 1.0
        np.testing.assert_array_equal(canvas.image[half_skin == 0], skin_image[half_skin == 0])
        changed += bool((np.abs(canvas.image - skin_image) > 2 / 255).any())
    assert changed >= 10


@pytest.mark.parametrize("name", KINDS)
def test_kinds_survive_the_border_but_not_beyond(name: str, skin_image: np.ndarray, noise: NoisePool) -> None:
    skin = np.ones((SIZE, SIZE), dtype=np.float32)
    for place in (0.0, -3.0, SIZE - 0.5):
        canvas = Canvas(skin_image.copy(), skin, np.array([0.0, 1.0]), 1.0, noise)
        KINDS[name](canvas, place, place, 4.0, np.random.default_rng(1))
        assert np.isfinite(canvas.image).all()
    before = canvas.image.copy()
    with pytest.raises(OutsideImage):
        KINDS[name](canvas, SIZE + 400.0, SIZE + 400.0, 4.0, np.random.default_rng(1))
    np.testing.assert_array_equal(canvas.image, before)


def test_blood_absorbs_in_proportion_on_dark_and_light_skin(noise: NoisePool) -> None:
    skin = np.ones((64, 64), dtype=np.float32)
    ratios = []
    for tone in (0.15, 0.45, 0.9):
        image = np.full((64, 64, 3), tone, dtype=np.float32)
        canvas = Canvas(image.copy(), skin, np.array([0.0, 1.0]), 1.0, noise)
        KINDS["red_spot"](canvas, 32.0, 32.0, 8.0, np.random.default_rng(5))
        ratios.append(canvas.image[32, 32] / tone)
    np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-4)
    np.testing.assert_allclose(ratios[0], ratios[2], rtol=1e-4)
    assert ratios[0][0] > ratios[0][1]  # red stays, green goes


def test_moles_are_darker_and_crisper_than_dark_spots(noise: NoisePool) -> None:
    def depth(kind: object, seed: int) -> tuple[float, float]:
        image = np.full((64, 64, 3), 0.7, dtype=np.float32)
        canvas = Canvas(image, np.ones((64, 64), dtype=np.float32), np.array([0.0, 1.0]), 1.0, noise)
        kind(canvas, 32.0, 32.0, 6.0, np.random.default_rng(seed))  # type: ignore[operator]
        density = -np.log(canvas.image[..., 1] / 0.7)
        middle = float(density[31:34, 31:34].mean())
        edge = float((density > 0.75 * middle).sum() / max((density > 0.25 * middle).sum(), 1))
        return middle, edge

    moles = np.array([depth(mole, seed) for seed in range(30)])
    spots = np.array([depth(KINDS["dark_spot"], seed) for seed in range(30)])
    assert moles[:, 0].min() > 0.35
    assert np.median(moles[:, 0]) > 3 * np.median(spots[:, 0])
    assert np.median(moles[:, 1]) > np.median(spots[:, 1])


def test_pair_is_equal_off_skin_and_repeatable(skin_image: np.ndarray, half_skin: np.ndarray) -> None:
    synthesizer = BlemishSynthesizer(BlemishConfig(clean_probability=0.0))
    for seed in range(6):
        raw, target = synthesizer(skin_image, half_skin, generator=np.random.default_rng(seed))
        again, _ = synthesizer(skin_image, half_skin, generator=np.random.default_rng(seed))
        np.testing.assert_array_equal(raw, again)
        np.testing.assert_array_equal(raw[half_skin == 0], target[half_skin == 0])
        assert (raw != target).any()


def test_pairs_without_blemishes_are_equal_to_the_bit(skin_image: np.ndarray, half_skin: np.ndarray) -> None:
    synthesizer = BlemishSynthesizer(BlemishConfig(clean_probability=1.0, mole_probability=1.0))
    raw, target = synthesizer(skin_image, half_skin, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(raw, target)


def test_moles_are_in_both_pictures(skin_image: np.ndarray, half_skin: np.ndarray) -> None:
    config = BlemishConfig(mole_probability=1.0, clean_probability=1.0, hair_probability=0, freckle_probability=0)
    dark = 0
    for seed in range(8):
        raw, target = BlemishSynthesizer(config)(skin_image, half_skin, generator=np.random.default_rng(seed))
        moles = skin_image[..., 1] - target[..., 1] > 0.15
        dark += int(moles.sum())
        np.testing.assert_array_equal(raw[moles], target[moles])
    assert dark > 50


@pytest.mark.parametrize("kind", ["shine", "shade", "crease"])
def test_shading_and_wrinkles_are_in_both_images(kind: str, skin_image: np.ndarray, half_skin: np.ndarray) -> None:
    config = BlemishConfig(clean_probability=1.0, **NOTHING_KEPT | {"kept_probabilities": {kind: 1.0}})
    raw, target = BlemishSynthesizer(config)(skin_image, half_skin, generator=np.random.default_rng(0))
    assert np.abs(target - skin_image).max() > 0.01
    np.testing.assert_array_equal(raw, target)


def test_share_of_clean_pairs(skin_image: np.ndarray, half_skin: np.ndarray) -> None:
    synthesizer = BlemishSynthesizer(BlemishConfig(clean_probability=0.5, max_count=12.0))
    clean = 0
    for seed in range(60):
        raw, target = synthesizer(skin_image, half_skin, generator=np.random.default_rng(seed))
        clean += bool(np.array_equal(raw, target))
    assert 18 <= clean <= 42


def test_without_skin_nothing_is_drawn(skin_image: np.ndarray) -> None:
    skin = np.zeros((SIZE, SIZE), dtype=np.float32)
    raw, target = BlemishSynthesizer()(skin_image, skin, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(raw, skin_image)
    np.testing.assert_array_equal(target, skin_image)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kinds of blemishes: wart"):
        BlemishSynthesizer(BlemishConfig(spot_weights={"wart": 1.0}))


def test_blob_has_the_area_of_its_radius() -> None:
    window = window_around(40.0, 40.0, 39.0, (81, 81))
    disc = blob(window, 12.0, np.random.default_rng(0), hardness=12.0, aspect=1.5)
    assert disc.sum() == pytest.approx(np.pi * 12.0**2 * gamma(1.0 + 2.0 / 12.0), rel=0.02)
    assert disc.max() == pytest.approx(1.0, abs=1e-3)


def test_a_blob_ends_within_its_window() -> None:
    """A straight border of the window would be seen on the skin, and tell a network where something was drawn."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        radius = float(generator.uniform(3.0, 40.0))
        window = window_around(100.0, 100.0, 2.0 * radius, (201, 201))
        aspect, irregular = generator.uniform(1.0, 3.0), generator.uniform(0.0, 0.35)
        shape = blob(window, radius, generator, aspect=aspect, irregular=irregular, hardness=generator.uniform(1.2, 12))
        border = np.concatenate([shape[[0, -1]].ravel(), shape[:, [0, -1]].ravel()])
        assert border.max() < 0.02 and shape.max() > 0.9


def test_a_blob_is_cut_off_by_the_images_border_alone() -> None:
    window = window_around(0.0, 100.0, 40.0, (201, 201))
    assert blob(window, 20.0, np.random.default_rng(0))[0].max() == pytest.approx(1.0)


def test_a_window_outside_the_image_is_refused() -> None:
    assert window_around(-2.0, 3.0, 2.0, (9, 9)).shape == (1, 5)
    with pytest.raises(OutsideImage):
        window_around(-3.1, 3.0, 2.0, (9, 9))


def test_distance_to_a_straight_curve() -> None:
    window = window_around(10.0, 10.0, 10.0, (21, 21))
    distance, place = curve_distance(window, np.array([[0.0, -8.0], [0.0, 0.0], [0.0, 8.0]]))
    assert distance[10, 10] == 0.0 and distance[13, 10] == pytest.approx(3.0)
    assert place[10, 2] == pytest.approx(0.0) and place[10, 18] == pytest.approx(1.0)
    assert distance[10, 0] == pytest.approx(2.0)

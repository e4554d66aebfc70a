import numpy as np
import pytest
from retouch_common.photo.filters import (
    dilate,
    fill_polygon,
    gaussian_blur,
    label_regions,
    resize,
    smooth_noise,
    smoothstep,
)


def winding(points: np.ndarray, x: float, y: float) -> bool:
    """Even-odd rule by counting crossings of one ray, written independently."""
    inside = False
    for i in range(len(points)):
        (x0, y0), (x1, y1) = points[i - 1], points[i]
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


@pytest.mark.parametrize("seed", range(5))
def test_polygons_follow_the_even_odd_rule(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-8.3, 41.7, (9, 2))
    mask = fill_polygon(points, 29, 37)
    expected = [[winding(points, x, y) for x in range(37)] for y in range(29)]
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, np.array(expected, dtype=np.float32))


def test_a_square_covers_its_area() -> None:
    square = np.array([[2.5, 3.5], [12.5, 3.5], [12.5, 9.5], [2.5, 9.5]])
    mask = fill_polygon(square, 20, 20)
    assert mask.sum() == 60 and mask[4:10, 3:13].all()


@pytest.mark.parametrize("sigma", [0.8, 2.0, 5.0, 11.0])
def test_blur_spreads_a_step_like_the_error_function(sigma: float) -> None:
    from math import erf

    step = np.zeros((96, 128), dtype=np.float32)
    step[:, 64:] = 1.0
    expected = [0.5 + 0.5 * erf((x - 63.5) / (sigma * 2**0.5)) for x in range(128)]
    np.testing.assert_allclose(gaussian_blur(step, sigma)[48], expected, atol=0.03)


def test_blur_keeps_flat_colour_and_its_argument() -> None:
    image = np.full((37, 53, 3), (0.2, 0.5, 0.9), dtype=np.float32)
    before = image.copy()
    np.testing.assert_allclose(gaussian_blur(image, 9.0), before, atol=1e-5)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("radius", [2, 5, 9])
def test_dilation_grows_a_point_to_a_blob_and_erosion_takes_it_back(radius: int) -> None:
    point = np.zeros((41, 41), dtype=np.float32)
    point[20, 20] = 1.0
    grown = dilate(point, radius)
    rows, columns = np.nonzero(grown)
    assert rows.min() == 20 - radius and columns.max() == 20 + radius
    assert np.hypot(rows - 20, columns - 20).max() <= 1.3 * radius
    np.testing.assert_array_equal(dilate(grown, -radius), point)


def test_resize_halves_a_checkerboard_to_grey() -> None:
    board = (np.indices((16, 16)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(resize(board, 8, 8, antialias=True)[2:-2, 2:-2], 0.5, atol=0.02)


def test_smoothstep_goes_both_ways() -> None:
    x = np.array([0.0, 1.0, 1.5, 2.0, 3.0], dtype=np.float32)
    np.testing.assert_allclose(smoothstep(x, 1.0, 2.0), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smoothstep(x, 2.0, 1.0), [1, 1, 0.5, 0, 0])


def test_smooth_noise_is_smooth_and_repeatable() -> None:
    first = smooth_noise(64, 80, 16.0, np.random.default_rng(3), channels=2)
    second = smooth_noise(64, 80, 16.0, np.random.default_rng(3), channels=2)
    assert first.shape == (64, 80, 2)
    np.testing.assert_array_equal(first, second)
    assert np.abs(np.diff(first, axis=0)).max() < 0.4 * first.std() + 0.2
    assert 0.5 < first.std() < 1.6


def test_regions_are_numbered_apart() -> None:
    mask = np.zeros((20, 30), dtype=np.float32)
    mask[2:6, 2:9] = 1.0
    mask[10:15, 20:28] = 1.0
    labels = label_regions(mask)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert len(np.unique(labels[2:6, 2:9])) == 1 and labels[3, 3] != labels[12, 22]

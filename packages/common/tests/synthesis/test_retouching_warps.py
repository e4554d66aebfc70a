"""Displacements by hand: the radial map, drags, pulls, their composition, and what an empty flow leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from retouch_common.faces.landmarks import canonical_landmarks
from retouch_common.synthesis.retouching_warps import (
    displacement,
    drag,
    enlarge,
    face_lift,
    moving_least_squares,
    narrow,
    pinch,
    pull,
    warp_image,
)

CENTRE = np.array([50.0, 40.0])


def at(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=float)


def test_enlarging_at_the_middle_between_and_at_the_radius() -> None:
    """R = 20, k = 0.4: r = 10 comes from 10 (1 - 0.4 (3/4)²) = 7.75; the rest stays."""
    points = at((50, 40), (60, 40), (50, 50), (70, 40), (50, 65))
    expected = at((50, 40), (57.75, 40), (50, 47.75), (70, 40), (50, 65))
    np.testing.assert_allclose(enlarge(points, CENTRE, 20.0, 0.4), expected, atol=1e-12)
    np.testing.assert_array_equal(enlarge(points, CENTRE, 20.0, 0.0), points)
    diagonal = enlarge(at((56, 48)), CENTRE, 20.0, 0.4)  # r = 10 again, in another direction
    np.testing.assert_allclose(diagonal, at((50 + 6 * 0.775, 40 + 8 * 0.775)))
    np.testing.assert_allclose(enlarge(at((60, 40)), CENTRE, 20.0, 0.4, 3.0), at((50 + 10 * (1 - 0.4 * 0.75**3), 40)))


def test_the_middle_grows_by_1_over_1_minus_the_amount() -> None:
    step = 1e-4
    source = enlarge(at((50 + step, 40)), CENTRE, 20.0, 0.2)[0, 0] - 50
    assert step / source == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("kind", "share"),
    [("cone", 0.5), ("gaussian", (np.exp(-1) - np.exp(-4)) / (1 - np.exp(-4))), ("cosine", 0.5)],
)
def test_other_kinds_of_enlarging_at_half_the_radius(kind: str, share: float) -> None:
    points = at((50, 40), (60, 40), (70, 40), (50, 65))
    expected = at((50, 40), (60 - 10 * 0.4 * share, 40), (70, 40), (50, 65))
    np.testing.assert_allclose(enlarge(points, CENTRE, 20.0, 0.4, kind=kind), expected, atol=1e-9)
    with pytest.raises(ValueError, match="not 'fisheye'"):
        enlarge(points, CENTRE, 20.0, 0.4, kind="fisheye")


def test_pinching_draws_in_between_the_middle_and_the_radius() -> None:
    """R = 20: r = 10 comes from 10 (1 + 0.4 (3/4)² / 2)."""
    points = at((50, 40), (60, 40), (70, 40), (50, 65))
    expected = at((50, 40), (50 + 10 * (1 + 0.4 * 0.75**2 * 0.5), 40), (70, 40), (50, 65))
    np.testing.assert_allclose(pinch(points, CENTRE, 20.0, 0.4), expected, atol=1e-9)


def test_moving_least_squares_repeat_similarities_and_hold_their_points() -> None:
    generator = np.random.default_rng(0)
    places, points = generator.uniform(0, 100, (7, 2)), generator.uniform(0, 100, (4, 5, 2))

    def turned(p: np.ndarray) -> np.ndarray:
        return p @ np.array([[0.8, 0.6], [-0.6, 0.8]]) * 1.1 + (5, -3)

    np.testing.assert_allclose(moving_least_squares(points, places, turned(places)), turned(points), atol=1e-6)
    origins = places + generator.normal(0, 3, (7, 2))
    np.testing.assert_allclose(moving_least_squares(places, places, origins), origins, atol=1e-3)


def test_dragging_moves_the_place_by_all_and_the_radius_by_nothing() -> None:
    """Half way the weight is (3/4)² = 0.5625."""
    points = at((50, 40), (60, 40), (50, 20), (70, 40))
    expected = at((46, 43), (60 - 4 * 0.5625, 40 + 3 * 0.5625), (50, 20), (70, 40))
    np.testing.assert_allclose(drag(points, CENTRE, np.array([4.0, -3.0]), 20.0), expected)


def test_pulling_is_the_weighted_mean() -> None:
    """Three standard deviations are 30 pixels; a floor of 0.5 lets the effect end."""
    centres, shifts = at((0, 0), (20, 0)), at((6, 0), (0, 9))
    near, far = 1.0, np.exp(-0.5 * 4.0)  # 20 pixels are two standard deviations
    expected = -np.array([6 * near, 9 * far]) / (0.5 + near + far)
    np.testing.assert_allclose(pull(at((0, 0)), centres, shifts, 30.0), [expected])
    np.testing.assert_allclose(pull(at((10, 300)), centres, shifts, 30.0), at((10, 300)), atol=1e-12)


def test_narrowing_draws_both_sides_in() -> None:
    """Axis from (50, 0) down to (50, 100), half width 30: at its chin both sides move by the full amount."""
    points = at((80, 80), (20, 80), (50, 80), (80, 0), (80, 140))
    moved = narrow(points, at((50, 0), (50, 100)), 30.0, 0.1) - points
    np.testing.assert_allclose(moved[:3], at((3, 0), (-3, 0), (0, 0)), atol=1e-6)
    np.testing.assert_array_equal(moved[3:], 0)
    turned = narrow(at((20, 80)), at((100, 50), (0, 50)), 30.0, 0.1)  # the face lies on its side, chin to the left
    np.testing.assert_allclose(turned, at((20, 83)), atol=1e-6)


def test_warps_follow_each_other() -> None:
    """A shift to the right by 3, then one that doubles: x of the result comes from x / 2 - 3, not (x - 3) / 2."""
    flow = displacement(60, 60, [lambda p: p - np.float32([3, 0]), lambda p: p * np.float32([0.5, 1])])
    assert flow[30, 30].tolist() == [-18.0, 0.0]
    other = displacement(60, 60, [lambda p: p * np.float32([0.5, 1]), lambda p: p - np.float32([3, 0])])
    assert other[30, 30].tolist() == [-16.5, 0.0]


def test_disjoint_warps_add_up() -> None:
    def left(points: np.ndarray) -> np.ndarray:
        return enlarge(points, np.array([30.0, 50.0]), 15.0, 0.3)

    def right(points: np.ndarray) -> np.ndarray:
        return drag(points, np.array([70.0, 50.0]), np.array([2.0, 5.0]), 15.0)

    both, one, two = (displacement(100, 100, warps) for warps in ([left, right], [left], [right]))
    np.testing.assert_allclose(both, one + two, atol=1e-5)
    assert np.abs(one).max() > 1 and np.abs(two).max() > 4


def test_the_border_stays() -> None:
    flow = displacement(100, 80, [lambda p: p + np.float32([7, -4])])
    for edge in (flow[0], flow[-1], flow[:, 0], flow[:, -1]):
        assert not edge.any()
    assert flow[50, 40].tolist() == [7.0, -4.0] and flow[5, 40].tolist() == [7.0, -4.0]
    assert 0 < flow[50, 2, 0] < 7


@pytest.mark.parametrize("radius", [6.0, 30.0])
def test_what_is_left_out_for_speed_would_not_have_moved(radius):
    """Beside the bounding box of a warp, pixel by pixel."""
    places = [np.array([71.3, 33.8]), np.array([12.0, 60.5])]
    warps = [lambda points, at=at: enlarge(points, at, radius, 0.3) for at in places]
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(80)), axis=-1).astype(np.float32)
    whole = warps[0](warps[1](grid)) - grid
    flow = displacement(80, 100, warps)
    inner = np.s_[5:-5, 5:-5]  # flows fade out at the border
    assert (whole[inner] != 0).any()
    assert np.array_equal(flow[inner] != 0, whole[inner] != 0)


def test_an_empty_flow_returns_the_picture_to_the_bit() -> None:
    image = np.random.default_rng(0).random((37, 41, 3), dtype=np.float32)
    still = warp_image(image, np.zeros((37, 41, 2), np.float32))
    assert np.array_equal(still, image) and still is not image


def test_only_what_moves_is_interpolated() -> None:
    image = np.random.default_rng(1).random((40, 50, 3), dtype=np.float32)
    flow = np.zeros((40, 50, 2), np.float32)
    flow[10:20, 10:20] = (3, -2)
    moved = warp_image(image, flow)
    np.testing.assert_allclose(moved[10:20, 10:20], image[8:18, 13:23], atol=1e-4)  # whole pixels: no blur
    moved[10:20, 10:20] = image[10:20, 10:20]
    assert np.array_equal(moved, image)


def test_slopes_are_interpolated_exactly() -> None:
    """Cubic interpolation has linear pictures right."""
    rows, columns = np.mgrid[:40, :40].astype(np.float32)
    image = np.repeat(((rows * 2 + columns) / 200)[..., None], 3, axis=-1)
    moved = warp_image(image, np.full((40, 40, 2), (0.3, 0.6), np.float32))
    np.testing.assert_allclose(moved[5:-5, 5:-5], image[5:-5, 5:-5] + (2 * 0.6 + 0.3) / 200, atol=1e-4)


@pytest.mark.parametrize("kind", ["drag", "pull", "narrow", "mls", "taper", "pinch"])
def test_a_lift_draws_the_jaw_in_evenly_and_folds_nothing(kind: str) -> None:
    landmarks = canonical_landmarks(256)
    flow = displacement(256, 256, [face_lift(landmarks, kind, 0.13, 0.8)])
    for index in (4, 5):
        (x, y), (mirrored, _) = landmarks.jaw[index].round().astype(int), landmarks.jaw[16 - index].round().astype(int)
        assert flow[y, x, 0] < -2 and flow[y, mirrored, 0] > 2
    np.testing.assert_allclose(flow[:, ::-1, 0], -flow[..., 0], atol=0.5)
    eyes = landmarks.eye_centres.round().astype(int)
    assert np.abs(flow[eyes[:, 1], eyes[:, 0]]).max() < 0.5
    x, y = flow[..., 0] + np.arange(256), flow[..., 1] + np.arange(256)[:, None]
    area = np.diff(x, axis=1)[:-1] * np.diff(y, axis=0)[:, :-1] - np.diff(x, axis=0)[:, :-1] * np.diff(y, axis=1)[:-1]
    assert area.min() > 0.2


def test_unknown_lifts_are_refused() -> None:
    with pytest.raises(ValueError, match="'drag', 'pull', 'narrow', 'mls', 'taper' or 'pinch', not 'push'"):
        face_lift(canonical_landmarks(256), "push", 0.1, 0.5)

"""Brush strokes: repeatable, of the stated width, inside the image."""

import numpy as np
from bpfre.strokes import _corners, _draw, brush_strokes, paint_white


def test_a_line_by_hand():
    mask = np.zeros((20, 30), np.float32)
    _draw(mask, np.array([[10.0, 5.0], [10.0, 20.0]]), 2.0)
    y, x = np.mgrid[:20, :30]
    nearest = np.clip(x, 5, 20)
    assert np.array_equal(mask > 0, np.hypot(y - 10, x - nearest) <= 2)


def test_a_stroke_is_a_start_and_8_to_27_steps_back_and_forth():
    """Of 1000 x 1000: steps of 177 +- 88 pixels before they are clipped to the image, at 60 to 84 degrees or -."""
    counts = []
    for seed in range(300):
        corners = _corners(1000, 1000, np.random.default_rng(seed))
        counts.append(len(corners) - 1)
        inside = (corners > 0).all(axis=1) & (corners < 1000).all(axis=1)
        steps = np.diff(corners, axis=0)
        free = inside[1:] & inside[:-1] & (np.hypot(*steps.T) > 1)
        angles = np.degrees(np.arctan2(steps[:, 0], steps[:, 1]))
        backwards = np.arange(len(steps)) % 2 == 0
        assert (np.abs(np.where(backwards, -angles, angles)[free] - 72) <= 24.001).all()
        assert (np.hypot(*steps.T) <= 2 * np.hypot(1000, 1000) / 8 + 1e-6).all()
    assert min(counts) == 8 and max(counts) == 27 and set(counts) == set(range(8, 28))


def test_repeats_with_the_generator_and_differs_without():
    first, again, other = (brush_strokes(120, 90, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert set(np.unique(first)) == {0.0, 1.0}


def test_covers_about_as_much_at_any_size():
    """Widths and steps grow with the image."""
    small, large = (
        np.mean([brush_strokes(size, size, np.random.default_rng(seed)).mean() for seed in range(20)])
        for size in (64, 256)
    )
    assert 0.05 < small < 0.6 and abs(small - large) < 0.03


def test_white_of_every_type():
    mask = np.array([[1.0, 0.0]])
    for dtype, white in ((np.float32, 1.0), (np.uint8, 255), (np.uint16, 65535)):
        image = np.zeros((1, 2, 3), dtype)
        painted = paint_white(image, mask)
        assert painted.dtype == dtype and painted[0].tolist() == [[white] * 3, [0] * 3] and not image.any()

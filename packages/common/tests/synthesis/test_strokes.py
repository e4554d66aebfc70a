"""Brush strokes: repeatable, of the stated width, inside the picture."""

import numpy as np
from retouch_common.synthesis.strokes import _draw, brush_strokes, paint_white


def test_a_line_by_hand():
    mask = np.zeros((20, 30), np.float32)
    _draw(mask, np.array([[10.0, 5.0], [10.0, 20.0]]), 2.0)
    y, x = np.mgrid[:20, :30]
    nearest = np.clip(x, 5, 20)
    assert np.array_equal(mask > 0, np.hypot(y - 10, x - nearest) <= 2)


def test_repeats_with_the_generator_and_differs_without():
    first, again, other = (brush_strokes(120, 90, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert set(np.unique(first)) == {0.0, 1.0}


def test_covers_about_as_much_at_any_size():
    """Widths and steps grow with the picture."""
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

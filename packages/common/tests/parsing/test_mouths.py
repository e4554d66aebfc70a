"""Mouths are opened where lips meet; everything far from them stays."""

import numpy as np
import pytest
from retouch_common.parsing.labels import CLASSES
from retouch_common.parsing.mouths import open_mouth

UPPER, INSIDE, LOWER = (CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip"))
UNIT = 96.0


@pytest.fixture
def planes():
    """Skin with a nose's mark, lips 90 pixels wide that meet at row 250, a chin's mark below."""
    y, x = np.mgrid[:400, :300]
    labels = np.ones((400, 300), np.uint8)
    inside = ((x - 150) / 45) ** 2 + ((y - 250) / 14) ** 2 < 1
    labels[inside & (y < 250)], labels[inside & (y >= 250)] = UPPER, LOWER
    image = np.full((400, 300, 3), (200, 150, 130), np.uint8)
    image[inside] = (170, 60, 70)
    image[170:176, 130:170] = (90, 50, 40)
    return np.dstack([image, labels, np.zeros((400, 300, 2), np.uint8)])


def test_lips_part_and_something_shows_between_them(planes):
    for seed in range(12):
        opened = open_mouth(planes, UNIT, np.random.default_rng(seed))
        labels = opened[..., 3]
        column = labels[:, 150]
        upper, inside, lower = (np.nonzero(column == part)[0] for part in (UPPER, INSIDE, LOWER))
        assert len(inside) >= 4 and upper.max() < inside.min() and inside.max() < lower.min()
        assert abs(len(upper) - 14) <= 2 and abs(len(lower) - 14) <= 2, "lips move and do not swell"
        columns = np.nonzero((labels == INSIDE).any(axis=0))[0]
        assert columns.min() >= 106 and columns.max() <= 194
        assert len(inside) >= (labels == INSIDE).sum(axis=0)[columns].mean(), "widest in the middle"


def test_the_rest_stays(planes):
    before = planes.copy()
    opened = open_mouth(planes, UNIT, np.random.default_rng(0))
    np.testing.assert_array_equal(planes, before)
    np.testing.assert_array_equal(opened[:176], planes[:176])
    np.testing.assert_array_equal(opened[:, :105], planes[:, :105])
    np.testing.assert_array_equal(opened[396:], planes[396:])
    assert set(np.unique(opened[..., 3])) == {1, UPPER, INSIDE, LOWER}


def test_what_shows_differs(planes):
    generators = [np.random.default_rng(seed) for seed in range(12)]
    colours = [open_mouth(planes, UNIT, generator)[250, 150, :3].astype(int) for generator in generators]
    assert np.ptp(np.sum(colours, axis=1)) > 200, "teeth, tongues and darkness"


def test_an_open_mouth_or_none_stays_as_it_is(planes):
    open_already = planes.copy()
    open_already[245:255, ..., 3] = INSIDE
    for other in (open_already, np.where(planes == UPPER, 1, planes)):
        assert open_mouth(other, UNIT, np.random.default_rng(0)) is other

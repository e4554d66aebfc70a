"""Degrees by PSNR, counted by hand."""

import numpy as np
import pytest
from mofrr.degree import DEGREE_SHARES, degree_edges, degrees


def test_twenty_pictures_by_hand() -> None:
    """15, 25, 25, 25 and 10 % of 20: the 3 lowest are of degree 5, then come 5, 5, 5, and the 2 highest."""
    psnrs = np.random.default_rng(0).permutation(np.arange(1.0, 21.0))
    edges = degree_edges(psnrs)
    np.testing.assert_allclose(edges, [3.85, 8.6, 13.35, 18.1])
    expected = [5] * 3 + [4] * 5 + [3] * 5 + [2] * 5 + [1] * 2
    assert degrees(np.arange(1.0, 21.0), edges).tolist() == expected


def test_borders_and_extremes() -> None:
    edges = np.array([20.0, 25.0, 30.0, 35.0])
    assert degrees([[19.99, 20.0], [25.0, 29.0]], edges).tolist() == [[5, 4], [3, 3]]
    assert degrees([-5.0, 30.0, 35.0, 99.0, np.inf], edges).tolist() == [5, 2, 1, 1, 1]
    assert degrees(21.0, edges) == 4
    with pytest.raises(ValueError, match="not a number"):
        degrees(np.nan, edges)


def test_degrees_have_the_papers_shares() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(29, 3, 4000)
    edges = degree_edges(values)
    shares = [float((degrees(values, edges) == degree).mean()) for degree in (5, 4, 3, 2, 1)]
    np.testing.assert_allclose(shares, DEGREE_SHARES, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [([30.0] * 4, "degrees need"), ([[30.0] * 9], "degrees need"), ([30.0] * 5 + [np.inf], "1 of 6")],
)
def test_too_little_to_tell_is_refused(values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        degree_edges(np.array(values))

from __future__ import annotations

import numpy as np
import pytest
from retouch_common.testing import blemish_program
from retouch_common.testing.anywhere import MeshPortrait
from retouch_common.testing.blemish_program import Target, draw_blemishes, from_oklab, to_oklab
from retouch_common.testing.portraits import visible


def test_oklab_goes_there_and_back_and_knows_white() -> None:
    colours = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(from_oklab(to_oklab(colours)), colours, atol=1e-6)
    np.testing.assert_allclose(to_oklab(np.ones(3)), (1, 0, 0), atol=1e-4)
    np.testing.assert_allclose(to_oklab(np.array([1.0, 0, 0])), (0.628, 0.2249, 0.1258), atol=1e-3)  # as published


def test_a_target_turns_hue_and_keeps_what_it_is_not_told_to_change() -> None:
    skin = np.array([0.7, 0.06, 0.06])
    np.testing.assert_allclose(Target(1.0, 0.0).offset(skin), 0, atol=1e-12)
    redder = skin + Target(0.9, 0.02, -20).offset(skin)
    assert redder[0] == pytest.approx(0.63)
    assert np.hypot(*redder[1:]) == pytest.approx(np.hypot(*skin[1:]) + 0.02)
    assert np.degrees(np.arctan2(redder[2], redder[1])) == pytest.approx(25)


@pytest.mark.parametrize("seed", range(4))
def test_blemishes_cover_a_few_percent_of_skin_and_nothing_else(drawn_portrait: MeshPortrait, seed: int) -> None:
    drawn = draw_blemishes(drawn_portrait, seed)
    changed = visible(drawn, drawn_portrait.levels)
    assert 0.005 <= changed.sum() / drawn_portrait.skin.sum() < 0.06
    assert (drawn == drawn_portrait.levels)[~drawn_portrait.skin].all()
    np.testing.assert_array_equal(drawn, draw_blemishes(drawn_portrait, seed))
    assert (drawn != draw_blemishes(drawn_portrait, seed + 10)).any()


@pytest.mark.parametrize("kind", blemish_program.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_a_shape_in_a_window(kind: blemish_program.Kind) -> None:
    for seed in range(5):
        for coverage, _ in kind(250.0, np.random.default_rng(seed)):
            assert coverage.shape[0] == coverage.shape[1] and coverage.shape[0] % 2 == 1
            assert coverage.min() >= 0 and 0.1 < coverage.max() <= 1
            border = np.concatenate([coverage[[0, -1]].ravel(), coverage[:, [0, -1]].ravel()])
            assert border.max() < 0.1  # no blemish ends in a straight edge

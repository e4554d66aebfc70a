from __future__ import annotations

import numpy as np
import pytest
from retouch_common.faces import mesh
from retouch_common.testing import blemish_program, retouching_program
from retouch_common.testing.anywhere import MeshPortrait, filled
from retouch_common.testing.blemish_program import Target, draw_blemishes, from_oklab, to_oklab
from retouch_common.testing.portraits import visible
from retouch_common.testing.retouching_program import compressed, retouch


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


@pytest.fixture
def uncompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retouching_program, "compressed", lambda levels, seed: levels)


def test_whitening_lightens_skin_and_leaves_eyes_and_walls(drawn_portrait: MeshPortrait, uncompressed: None) -> None:
    before = drawn_portrait.levels.astype(int)
    means = []
    for strength in (1, 2, 3):
        change = retouch(drawn_portrait, {"white": strength}, 0) - before
        cheek = change[210:225, 150:160]
        assert (cheek > 0).all()
        assert cheek[..., 2].mean() > cheek[..., 0].mean()  # cooler
        means.append(cheek.mean())
        assert not change[:15].any() and not change[:, :40].any()  # the wall
        assert np.abs(change[165:175, 150:160]).max() < 0.5 * cheek.mean() + 2  # an eye
    assert means == sorted(means) and means[0] > 4


def test_smoothing_takes_grain_off_and_keeps_edges(drawn_portrait: MeshPortrait, uncompressed: None) -> None:
    before, after = (
        levels.astype(float) for levels in (drawn_portrait.levels, retouch(drawn_portrait, {"smooth": 3}, 0))
    )
    cheek = slice(205, 230), slice(140, 170)
    assert after[cheek].std(axis=(0, 1)).mean() < 0.5 * before[cheek].std(axis=(0, 1)).mean()
    assert after[cheek].mean() == pytest.approx(before[cheek].mean(), abs=1)
    column = before[200:330, 200].mean(axis=-1), after[200:330, 200].mean(axis=-1)  # over the mouth
    assert np.ptp(column[1]) > 0.9 * np.ptp(column[0])


def test_lifting_narrows_the_jaw(drawn_portrait: MeshPortrait, uncompressed: None) -> None:
    after = retouch(drawn_portrait, {"lift": 3}, 0)
    row = int(drawn_portrait.mesh[list(mesh.OVAL), 1].max()) - 60  # beside the chin

    def width(levels: np.ndarray) -> int:
        skin = np.abs(levels[row].astype(int) - (205, 155, 130)).max(axis=-1) < 25
        return int(skin.sum())

    assert width(drawn_portrait.levels) - width(after) >= 4
    eyes = filled(drawn_portrait.mesh[list(mesh.EYES[0])], 400, 400)
    assert np.abs(after[eyes].astype(int) - drawn_portrait.levels[eyes]).mean() < 4


def test_eyes_become_larger(drawn_portrait: MeshPortrait, uncompressed: None) -> None:
    after = retouch(drawn_portrait, {"eye": 3}, 0)
    around = filled(drawn_portrait.mesh[list(mesh.EYES[1])], 400, 400, 2.5)
    before_dark, after_dark = ((levels.mean(axis=-1) < 100) & around for levels in (drawn_portrait.levels, after))
    assert after_dark.sum() > 1.2 * before_dark.sum()
    np.testing.assert_array_equal(after[280:], drawn_portrait.levels[280:])


def test_what_is_not_asked_for_is_not_done(drawn_portrait: MeshPortrait, uncompressed: None) -> None:
    np.testing.assert_array_equal(retouch(drawn_portrait, {}, 0), drawn_portrait.levels)
    for wrong in ({"whiten": 1}, {"white": 4}):
        with pytest.raises(ValueError, match="white"):
            retouch(drawn_portrait, wrong, 0)


def test_results_come_out_of_a_jpeg_file(drawn_portrait: MeshPortrait) -> None:
    once = compressed(drawn_portrait.levels, 3)
    assert once.shape == drawn_portrait.levels.shape and once.dtype == np.uint8
    error = np.abs(once.astype(int) - drawn_portrait.levels)
    assert 0.2 < error.mean() < 6
    np.testing.assert_array_equal(once, compressed(drawn_portrait.levels, 3))

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from retouch_common.faces import mesh
from retouch_common.testing import anywhere
from retouch_common.testing.anywhere import MeshPortrait, filled

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import retouching_program

    yield retouching_program
    sys.modules.pop("retouching_program")


@pytest.fixture
def uncompressed(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(program, "compressed", lambda levels, seed: levels)
    return program


@pytest.fixture
def drawn_portrait(tmp_path: Path) -> MeshPortrait:
    return anywhere.drawn_portrait(tmp_path / "drawn" / "person.png")


def test_whitening_lightens_skin_and_leaves_eyes_and_walls(
    drawn_portrait: MeshPortrait, uncompressed: ModuleType
) -> None:
    before = drawn_portrait.levels.astype(int)
    means = []
    for strength in (1, 2, 3):
        change = uncompressed.retouch(drawn_portrait, {"white": strength}, 0) - before
        cheek = change[210:225, 150:160]
        assert (cheek > 0).all()
        assert cheek[..., 2].mean() > cheek[..., 0].mean()  # cooler
        means.append(cheek.mean())
        assert not change[:15].any() and not change[:, :40].any()  # the wall
        assert np.abs(change[165:175, 150:160]).max() < 0.5 * cheek.mean() + 2  # an eye
    assert means == sorted(means) and means[0] > 4


def test_smoothing_takes_grain_off_and_keeps_edges(drawn_portrait: MeshPortrait, uncompressed: ModuleType) -> None:
    before, after = (
        levels.astype(float)
        for levels in (drawn_portrait.levels, uncompressed.retouch(drawn_portrait, {"smooth": 3}, 0))
    )
    cheek = slice(205, 230), slice(140, 170)
    assert after[cheek].std(axis=(0, 1)).mean() < 0.5 * before[cheek].std(axis=(0, 1)).mean()
    assert after[cheek].mean() == pytest.approx(before[cheek].mean(), abs=1)
    column = before[200:330, 200].mean(axis=-1), after[200:330, 200].mean(axis=-1)  # over the mouth
    assert np.ptp(column[1]) > 0.9 * np.ptp(column[0])


def test_lifting_narrows_the_jaw(drawn_portrait: MeshPortrait, uncompressed: ModuleType) -> None:
    after = uncompressed.retouch(drawn_portrait, {"lift": 3}, 0)
    row = int(drawn_portrait.mesh[list(mesh.OVAL), 1].max()) - 60  # beside the chin

    def width(levels: np.ndarray) -> int:
        skin = np.abs(levels[row].astype(int) - (205, 155, 130)).max(axis=-1) < 25
        return int(skin.sum())

    assert width(drawn_portrait.levels) - width(after) >= 4
    eyes = filled(drawn_portrait.mesh[list(mesh.EYES[0])], 400, 400)
    assert np.abs(after[eyes].astype(int) - drawn_portrait.levels[eyes]).mean() < 4


def test_eyes_become_larger(drawn_portrait: MeshPortrait, uncompressed: ModuleType) -> None:
    after = uncompressed.retouch(drawn_portrait, {"eye": 3}, 0)
    around = filled(drawn_portrait.mesh[list(mesh.EYES[1])], 400, 400, 2.5)
    before_dark, after_dark = ((levels.mean(axis=-1) < 100) & around for levels in (drawn_portrait.levels, after))
    assert after_dark.sum() > 1.2 * before_dark.sum()
    np.testing.assert_array_equal(after[280:], drawn_portrait.levels[280:])


def test_what_is_not_asked_for_is_not_done(drawn_portrait: MeshPortrait, uncompressed: ModuleType) -> None:
    np.testing.assert_array_equal(uncompressed.retouch(drawn_portrait, {}, 0), drawn_portrait.levels)
    for wrong in ({"whiten": 1}, {"white": 4}):
        with pytest.raises(ValueError, match="white"):
            uncompressed.retouch(drawn_portrait, wrong, 0)


def test_results_come_out_of_a_jpeg_file(drawn_portrait: MeshPortrait, program: ModuleType) -> None:
    once = program.compressed(drawn_portrait.levels, 3)
    assert once.shape == drawn_portrait.levels.shape and once.dtype == np.uint8
    error = np.abs(once.astype(int) - drawn_portrait.levels)
    assert 0.2 < error.mean() < 6
    np.testing.assert_array_equal(once, program.compressed(drawn_portrait.levels, 3))

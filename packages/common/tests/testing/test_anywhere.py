from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import pyvips
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.faces import mesh
from retouch_common.faces.mesh import write_mesh_file
from retouch_common.testing.anywhere import (
    TONES,
    Gains,
    MeshPortrait,
    changed_elsewhere,
    filled,
    largest_block_shift,
    measure_gain,
    measure_harm,
    mesh_square,
    portraits_with_mesh,
    through_files,
    typology_angle,
)


def test_skin_is_the_oval_without_enlarged_features(drawn_portrait: MeshPortrait) -> None:
    skin, points = drawn_portrait.skin, drawn_portrait.mesh
    inside = filled(points[list(mesh.OVAL)], *skin.shape)
    assert not skin[~inside].any()
    lost = inside & ~skin
    for part, scale in ((mesh.EYES[0], 1.7), (mesh.BROWS[1], 1.35), (mesh.OUTER_LIPS, 1.2)):
        assert lost[filled(points[list(part)], *skin.shape, scale)].all()
    beside_the_eye = points[list(mesh.EYES[0])].mean(axis=0) - (0, 90 * 0.09 * 1.9)
    assert skin[tuple(np.rint(beside_the_eye[::-1]).astype(int))]
    # what is lost is what the four enlargements take, and no more
    expected = np.pi * 90**2 * (2 * 0.22 * 0.09 * 1.7**2 + 2 * 0.3 * 0.05 * 1.35**2 + 0.4 * 0.15 * 1.2**2)
    expected += np.pi * 90**2 * 0.2 * 0.06 * 1.3**2
    assert lost.sum() == pytest.approx(expected, rel=0.08)


def test_a_hull_takes_points_in_any_order() -> None:
    square = np.array([(10, 10), (30, 30), (10, 30), (30, 10)], np.float32)
    assert filled(square, 50, 50, hull=True).sum() == pytest.approx(400, rel=0.12)
    assert filled(square, 50, 50).sum() < 300  # in this order the outline crosses itself


def test_changes_elsewhere_count_outside_skin_from_three_levels_on() -> None:
    before = np.full((40, 50, 3), 100, np.uint8)
    skin = np.zeros((40, 50), bool)
    skin[:20] = True
    after = before.copy()
    after[:10] += 50  # skin
    after[20:22, :, 1] += 3  # a channel of 100 of the 1000 other pixels
    after[30:] += 2  # too little
    assert changed_elsewhere(before, after, skin) == pytest.approx(0.1)


def test_blocks_are_found_wherever_they_lie() -> None:
    before = np.full((100, 120, 3), 100, np.uint8)
    after = before.copy()
    after[13:37, 37:61, 2] += 11
    assert largest_block_shift(before, after) == pytest.approx(11)
    assert 0 < largest_block_shift(before, after, 24) < 10
    noisy = before + np.random.default_rng(0).integers(0, 2, before.shape).astype(np.uint8) * 40
    noisy -= 20
    assert largest_block_shift(before, noisy) < 10  # texture moves no mean


def test_lighter_skin_has_the_larger_angle(drawn_portrait: MeshPortrait) -> None:
    tones = [(240, 215, 200), (205, 155, 130), (110, 70, 50)]
    angles = [typology_angle(np.array(tone)) for tone in tones]
    assert angles[0] > 41 and angles[2] < 0 and sorted(angles, reverse=True) == angles
    assert drawn_portrait.tone == TONES[2]
    assert drawn_portrait.tone_angle == pytest.approx(angles[1], abs=2)


def test_the_square_of_a_mesh_is_upright_around_the_face(drawn_portrait: MeshPortrait) -> None:
    square = mesh_square(drawn_portrait)
    assert square.angle == pytest.approx(0, abs=0.02)
    assert abs(square.centre[0] - 200) < 5 and 200 < square.side < 600


def test_only_held_out_people_with_a_mesh_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "headshots"
    folder.mkdir()
    for name in "abcdefghi":
        pyvips.Image.black(64, 64, bands=3).write_to_file(str(folder / f"{name}.png"))
    points = np.zeros((mesh.NUM_POINTS, 2), np.float32)
    write_mesh_file(folder / mesh.LANDMARKS_FILE, {f"{name}.png": points for name in "abcdefgh"})
    held_out = [path.stem for path in split_portraits(find_portraits(folder), "val")]
    assert held_out == ["a", "e", "i"]
    assert [portrait.path.stem for portrait in portraits_with_mesh(folder)] == ["a", "e"]


def test_harm_and_gain_of_what_is_known(drawn_portrait: MeshPortrait) -> None:
    def draw(portrait: MeshPortrait, seed: int) -> np.ndarray:
        drawn = portrait.levels.astype(np.int16)
        drawn[230:250, 150:170] -= 40
        return drawn.clip(0, 255).astype(np.uint8)

    def halve(levels: np.ndarray) -> np.ndarray:  # undoes half of what was drawn, and repaints a corner
        result = levels.copy()
        result[230:250, 150:170] += 20
        result[:30, :40] = 0
        return result

    harm = measure_harm([drawn_portrait], halve)
    outside = ~drawn_portrait.skin
    assert harm.elsewhere[drawn_portrait.name] == pytest.approx(30 * 40 / outside.sum())
    assert harm.painted_over == [drawn_portrait.name]
    gains = measure_gain([drawn_portrait], halve, draw)
    assert gains.gain() == pytest.approx(20 * np.log10(2), abs=0.2)
    assert gains.worse == [] and gains.as_json()["pictures by skin tone"][drawn_portrait.tone] == 1


def test_a_face_that_is_not_found_counts_as_unchanged(drawn_portrait: MeshPortrait) -> None:
    harm = measure_harm([drawn_portrait], lambda levels: None)
    assert harm.not_found == [drawn_portrait.name]
    assert statistics.mean(harm.elsewhere.values()) == 0 and harm.painted_over == []


def test_gains_are_told_apart_by_tone() -> None:
    gains = Gains(
        before=dict.fromkeys("abc", 20.0),
        after={"a": 26.0, "b": 27.0, "c": 19.5},
        tones={"a": "dark", "b": "light", "c": "light"},
    )
    assert gains.gain() == pytest.approx(12.5 / 3)
    assert gains.gain("light") == pytest.approx(3.25) and np.isnan(gains.gain("medium"))
    assert gains.tone_spread == pytest.approx(2.75)
    assert gains.worse == ["c"]


def test_photographs_go_through_files() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)

    def invert(source: Path, target: Path) -> None:
        pyvips.Image.new_from_file(str(source)).invert().write_to_file(str(target))

    def find_nothing(source: Path, target: Path) -> None:
        raise ValueError(f"{source}: no face was found; give a face box")

    def fail(source: Path, target: Path) -> None:
        raise ValueError("strength must lie between 0 and 1")

    np.testing.assert_array_equal(through_files(invert)(levels), 255 - levels)
    assert through_files(find_nothing)(levels) is None
    with pytest.raises(ValueError, match="strength"):
        through_files(fail)(levels)

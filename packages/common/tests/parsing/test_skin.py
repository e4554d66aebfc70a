"""Where retouching may change a face: on skin only."""

from __future__ import annotations

import numpy as np
import pytest
from retouch_common.faces.face import Face
from retouch_common.parsing.finder import find_faces
from retouch_common.parsing.skin import SkinSegmenter
from retouch_common.photo.sources import ArraySource


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the portrait")
    return data.astronaut()


@pytest.fixture(scope="module")
def segmenter() -> SkinSegmenter:
    return SkinSegmenter()


@pytest.fixture(scope="module")
def face(astronaut: np.ndarray, segmenter: SkinSegmenter) -> Face:
    return find_faces(astronaut, segmenter.parser)[0]


@pytest.fixture(scope="module")
def mask(astronaut: np.ndarray, segmenter: SkinSegmenter, face: Face) -> np.ndarray:
    return segmenter.locate(ArraySource(astronaut), face).weights(0, 0, 512, 512)


def at(mask: np.ndarray, point: np.ndarray) -> float:
    x, y = np.rint(point).astype(int)
    return float(mask[y - 1 : y + 2, x - 1 : x + 2].mean())


def test_skin_is_found_and_eyes_and_mouth_are_left_out(mask: np.ndarray, face: Face) -> None:
    left, right, _, *corners = face.landmarks
    unit = float(np.hypot(*(right - left)))
    for cheek in ((left + corners[0]) / 2, (right + corners[1]) / 2):
        assert at(mask, cheek) > 0.9
    assert at(mask, (left + right) / 2 - (0.0, 0.38 * unit)) > 0.9, "the forehead"
    for kept in (left, right, np.mean(corners, axis=0)):
        assert at(mask, kept) < 0.05
    assert 0.3 * unit**2 < mask.sum() < 12 * unit**2 and mask.min() >= 0 and mask.max() <= 1


def test_the_fringe_is_left_out(mask: np.ndarray, face: Face) -> None:
    left, right = face.landmarks[:2]
    across, up = (right - left) / 2, (right - left)[::-1] * (1, -1)
    for side in (-0.8, -0.4, 0.0, 0.4, 0.8):
        assert at(mask, (left + right) / 2 + side * across + 0.75 * up) < 0.05


def test_a_forehead_without_a_fringe_stays_whole(astronaut: np.ndarray, segmenter: SkinSegmenter, face: Face) -> None:
    left, right = face.landmarks[:2]
    unit = float(right[0] - left[0])
    bald = astronaut.copy()
    top, bottom = int(left[1] - 1.3 * unit), int(left[1] - 0.45 * unit)
    skin = astronaut[int(left[1] + 0.6 * unit) : int(left[1] + 0.6 * unit) + 8, int(left[0]) : int(left[0]) + 12]
    fill = np.tile(skin, (40, 40, 1))[: bottom - top, : int(1.6 * unit)]
    start = int(left[0] - 0.3 * unit)
    bald[top:bottom, start : start + fill.shape[1]] = fill
    mask = segmenter.locate(ArraySource(bald), face).weights(0, 0, 512, 512)
    middle = (left + right) / 2
    assert at(mask, middle - (0.0, 0.7 * unit)) > 0.9 and at(mask, middle - (0.0, 0.55 * unit)) > 0.9


def test_a_beard_is_left_out_and_the_cheeks_stay(astronaut: np.ndarray, segmenter: SkinSegmenter, face: Face) -> None:
    left, right, nose, *corners = face.landmarks
    unit, mouth = float(right[0] - left[0]), np.mean(corners, axis=0)
    y, x = np.mgrid[:512, :512]
    chin = ((x - mouth[0]) / (0.75 * unit)) ** 2 + ((y - mouth[1] - 0.1 * unit) / (0.75 * unit)) ** 2 < 1
    chin &= (y > nose[1] + 0.3 * unit) & (abs(y - mouth[1]) > 0.18 * unit)
    hairs = np.random.default_rng(0).uniform(0.15, 0.75, (512, 512, 1))
    bearded = np.where(chin[..., None], (astronaut * hairs).astype(np.uint8), astronaut)
    mask = segmenter.locate(ArraySource(bearded), face).weights(0, 0, 512, 512)
    assert mask[chin].mean() < 0.05
    for eye, corner in ((left, corners[0]), (right, corners[1])):
        assert at(mask, 0.6 * eye + 0.4 * corner) > 0.9


def test_rims_of_glasses_are_left_out(astronaut: np.ndarray, segmenter: SkinSegmenter, face: Face) -> None:
    left, right, _, *corners = face.landmarks
    unit = float(right[0] - left[0])
    y, x = np.mgrid[:512, :512]
    away = np.min([np.abs(np.hypot(x - eye[0], y - eye[1]) - 0.4 * unit) for eye in (left, right)], axis=0)
    rims = away < 0.04 * unit
    glasses = np.where(rims[..., None], 30, astronaut).astype(np.uint8)
    mask = segmenter.locate(ArraySource(glasses), face).weights(0, 0, 512, 512)
    assert mask[rims].mean() < 0.05
    for eye, corner in ((left, corners[0]), (right, corners[1])):
        assert at(mask, 0.4 * eye + 0.6 * corner) > 0.9


def test_what_is_far_from_the_face_is_exactly_zero(mask: np.ndarray, face: Face) -> None:
    x, y, width, height = face.box
    away = np.ones_like(mask, bool)
    away[max(0, int(y - height)) : int(y + 2.2 * height), max(0, int(x - width)) : int(x + 2 * width)] = False
    assert away.any() and (mask[away] == 0).all()


def test_parts_of_the_mask_are_those_of_the_whole(
    astronaut: np.ndarray, segmenter: SkinSegmenter, face: Face, mask: np.ndarray
) -> None:
    found = segmenter.locate(ArraySource(astronaut), face)
    np.testing.assert_allclose(found.weights(180, 60, 90, 70), mask[60:130, 180:270], atol=1e-4)


def test_a_picture_without_a_face_is_refused_by_its_shape_only(segmenter: SkinSegmenter) -> None:
    grey = segmenter(np.full((64, 64, 3), 0.5, np.float32))
    assert grey.shape == (segmenter.size, segmenter.size) and grey.min() >= 0 and grey.max() <= 1
    with pytest.raises(ValueError, match="a face is a square image"):
        segmenter(np.zeros((64, 32, 3), np.float32))

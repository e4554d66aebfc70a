"""Landmarks from their three sources, moved into the aligned picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skimage.data
from retouch_common.faces.alignment import FaceSquare, align, face_square
from retouch_common.faces.face import Face
from retouch_common.faces.landmarks import (
    FaceLandmarks,
    canonical_landmarks,
    ffhq_square,
    landmarks_from_68,
    landmarks_from_template,
    portrait_square_of,
    read_landmarks,
    to_aligned,
)

if TYPE_CHECKING:
    from ..conftest import Person

PARTS = ("eyes", "brows", "lips", "mouth", "nose", "jaw", "outline")


def points_of(landmarks: FaceLandmarks) -> np.ndarray:
    parts = (getattr(landmarks, name) for name in PARTS)
    return np.concatenate([np.concatenate(part) if isinstance(part, tuple) else part for part in parts])


def test_parts_of_the_template(person: Person) -> None:
    landmarks = landmarks_from_template(person.template)
    np.testing.assert_allclose(landmarks.eye_centres, [(100, 130), (160, 130)], atol=1e-4)
    np.testing.assert_allclose(landmarks.eye_widths, [30, 30], atol=1e-4)
    assert landmarks.unit == pytest.approx(60)
    np.testing.assert_allclose(landmarks.mouth, [(104, 200), (156, 200)], atol=1e-4)
    np.testing.assert_allclose(landmarks.nose[:, 0], 130, atol=1e-4)
    assert landmarks.nose[0, 1] < landmarks.nose[1, 1]
    np.testing.assert_allclose(landmarks.jaw[[0, -1]], [(62, 160), (198, 160)], atol=1e-3)  # left to right
    chin = landmarks.jaw[landmarks.jaw[:, 1].argmax()]
    np.testing.assert_allclose(chin, (130, 240), atol=1e-3)
    assert (np.diff(landmarks.jaw[:, 0]) >= -1e-4).all()


def test_a_mirrored_template_still_goes_from_left_to_right(person: Person) -> None:
    points = person.template.points * np.float32([-1, 1]) + np.float32([259, 0])
    jaw = landmarks_from_template(replace(person.template, points=points)).jaw
    assert jaw[0, 0] < jaw[-1, 0]


def test_parts_of_68_points() -> None:
    points = np.arange(136, dtype=np.float64).reshape(68, 2)
    points[[8, 36, 45]] += ((0, 300), (-20, 0), (20, 0))
    landmarks = landmarks_from_68(points)
    expected = {"jaw": points[:17], "lips": points[48:60], "mouth": points[[48, 54]], "nose": points[27:31]}
    for name, part in expected.items():
        np.testing.assert_array_equal(getattr(landmarks, name), part)
    np.testing.assert_array_equal(landmarks.eyes[0], points[36:42])
    np.testing.assert_array_equal(landmarks.eyes[1], points[42:48])
    brows = [points[17:22].mean(0), points[22:27].mean(0)]
    np.testing.assert_allclose([brow.mean(0) for brow in landmarks.brows], brows, rtol=1e-5)
    np.testing.assert_array_equal(landmarks.outline[:17], points[:17])
    np.testing.assert_allclose(landmarks.five_points[[2, 3, 4]], points[[30, 48, 54]])


def test_the_guessed_hairline_lies_above_the_brows() -> None:
    """0.674 of the way from eyes to chin above the eyes, in the middle; sides run into the jaw's ends."""
    landmarks = canonical_landmarks(512)
    top = landmarks.outline[landmarks.outline[:, 1].argmin()]
    eyes = landmarks.eye_centres.mean(0)
    assert top[0] == pytest.approx(255.5, abs=0.1)
    assert eyes[1] - top[1] == pytest.approx(0.674 * (landmarks.jaw[8, 1] - eyes[1]), abs=0.1)
    gaps = np.hypot(*np.diff(np.concatenate([landmarks.outline, landmarks.outline[:1]]), axis=0).T)
    assert gaps.max() < 0.5 * landmarks.unit
    assert min(brow[:, 1].min() for brow in landmarks.brows) > top[1] + 0.5 * landmarks.unit


def test_canonical_landmarks_are_symmetric_at_every_size_and_framed_as_ffhq() -> None:
    for size in (256, 512, 1024):
        landmarks = canonical_landmarks(size)
        points = points_of(landmarks)
        mirrored = points * (-1, 1) + (size - 1, 0)
        nearest = np.hypot(*(points[:, None] - mirrored[None]).transpose(2, 0, 1)).min(1)
        assert nearest.max() < 0.01 * size / 2
        square = ffhq_square(landmarks)
        assert square.side == pytest.approx(size, rel=0.05)
        np.testing.assert_allclose(square.centre, (size / 2, size / 2), atol=0.01 * size)
        assert abs(square.angle) < 0.01


def test_scaling_keeps_pixels_in_place() -> None:
    """At twice the size the first pixel covers the first two: its middle moves from 0 to 0.5."""
    landmarks = landmarks_from_68(np.arange(136.0).reshape(68, 2))
    np.testing.assert_allclose(landmarks.scaled(2.0).nose, landmarks.nose * 2 + 0.5)


def test_landmarks_move_with_the_picture(person: Person) -> None:
    """Where the template's eyes are in the photo is where the eyes are in the aligned, turned picture."""
    landmarks = landmarks_from_template(person.template)
    square = FaceSquare((128.0, 160.0), 220.0, angle=0.3)
    face = align(person.levels, square, 192)
    moved = to_aligned(landmarks, square, 192)
    dark = np.argwhere(face.max(axis=-1) < 0.13)[:, ::-1]
    for centre, outline in zip(moved.eye_centres, moved.eyes, strict=True):
        near = dark[np.hypot(*(dark - centre).T) < 0.6 * np.ptp(outline[:, 0])]
        np.testing.assert_allclose(near.mean(0), centre, atol=0.7)
    assert moved.unit == pytest.approx(landmarks.unit * 192 / 220)


def test_one_pixel_by_hand() -> None:
    """An upright square from (10, 20) of side 50 at 100 pixels: twice as large, half pixels kept."""
    landmarks = landmarks_from_68(np.arange(136.0).reshape(68, 2))
    moved = to_aligned(landmarks, FaceSquare((35.0, 45.0), 50.0), 100)
    np.testing.assert_allclose(moved.nose, (landmarks.nose + 0.5 - (10, 20)) * 2 - 0.5, rtol=1e-5)


def test_ffhqs_square_by_hand() -> None:
    """Eyes 100 apart, mouth 120 below: sides 4 * 100 and 3.6 * 120 = 432; the centre lies 12 below the eyes."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[48:60] = (100, 200), (200, 200), (150, 320)
    points[36:42] += np.array([(-9, 0), (-3, -3), (3, -3), (9, 0), (3, 3), (-3, 3)])
    points[8] = (150, 400)
    square = ffhq_square(landmarks_from_68(points))
    assert square.side == pytest.approx(432) and square.angle == pytest.approx(0)
    np.testing.assert_allclose(square.centre, (150.5, 212.5))
    turned = ffhq_square(landmarks_from_68(points[:, ::-1] * (-1, 1)))  # a quarter turn clockwise
    assert turned.angle == pytest.approx(np.pi / 2) and turned.side == pytest.approx(432)
    np.testing.assert_allclose(turned.centre, (-211.5, 150.5))


def test_canonical_and_real_landmarks_agree_on_a_portrait() -> None:
    """scikit-image's astronaut, aligned by what the detector finds; she smiles, the template does not."""
    found = np.array([(201.9, 104.2), (245.0, 103.7), (221.7, 128.3), (203.2, 143.5), (241.7, 143.1)])
    photo = skimage.data.astronaut()
    square = face_square(Face((190.0, 60.0, 65.0, 105.0), 1.0, found), *photo.shape[:2])
    aligned = np.stack(square.from_photo(*found.T), axis=1) * 512 - 0.5
    canonical = canonical_landmarks(512)
    np.testing.assert_allclose(aligned[:3], canonical.five_points[:3], atol=8)
    np.testing.assert_allclose(aligned, canonical.five_points, atol=20)
    face = align(photo, square, 512)
    dark = np.argwhere(face.max(axis=-1) < 0.25)[:, ::-1]
    for centre, outline in zip(canonical.eye_centres, canonical.eyes, strict=True):
        near = dark[np.hypot(*(dark - centre).T) < np.ptp(outline[:, 0]) / 2]
        np.testing.assert_allclose(near.mean(0), centre, atol=14)  # lashes make the upper half darker


def test_reading(person: Person, tmp_path: Path) -> None:
    person.save(tmp_path / "a.png", with_template=True)
    np.testing.assert_allclose(
        points_of(read_landmarks(tmp_path / "a.tem")), points_of(landmarks_from_template(person.template)), atol=1e-3
    )
    points = np.random.default_rng(0).uniform(100, 900, (68, 2)).astype(np.float32)
    np.save(tmp_path / "a.npy", points)
    np.testing.assert_array_equal(read_landmarks(tmp_path / "a.npy").jaw, points[:17])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "landmarks are read from .tem templates and .npy arrays"),
        ("a.tem", b"2\n1 2\n3 4\n0\n", "189-point"),
        ("a.npy", b"nothing", "a.npy"),
        ("a.npy", b"", "a.npy"),
        ("a.npy", b"PK\3\4cut off", "a.npy"),
        ("a.npy", np.zeros((5, 2)), r"expected 68 landmarks as an array \(68, 2\), got \(5, 2\)"),
        ("a.npy", np.full((68, 2), np.nan), "eyes must be at least two finite points"),
        ("a.npy", np.zeros((68, 2)), "the eye landmarks coincide"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes | np.ndarray, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=message) as error:
        read_landmarks(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_portrait_frame_of_a_template(person: Person) -> None:
    """Where an aligned portrait has its eyes and mouth, to a few pixels of 256: faces differ."""
    landmarks = landmarks_from_template(person.template)
    aligned = to_aligned(landmarks, portrait_square_of(landmarks), 256)
    np.testing.assert_allclose(aligned.eye_centres, [(99, 116), (156, 116)], atol=4)
    np.testing.assert_allclose(aligned.mouth.mean(0), (127, 180), atol=4)

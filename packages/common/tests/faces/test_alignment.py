"""Where an aligned face lies, and that cutting it out and pasting its change back are each other's inverse."""

import math

import numpy as np
import pytest
from retouch_common.faces.alignment import (
    PORTRAIT_TEMPLATE,
    TEMPLATE,
    FaceSquare,
    align,
    face_square,
    fit_portrait,
    portrait_square,
    read_aligned,
    whole_square,
)
from retouch_common.faces.face import Face, face_crop
from retouch_common.photo import sources
from retouch_common.photo.sources import ArraySource

UNKNOWN = np.full((5, 2), np.nan, np.float32)


def placed(centre, side, angle, template=TEMPLATE):
    """A face whose landmarks are the template's, put somewhere."""
    x, y = FaceSquare(centre, side, angle).to_photo(*template.T)
    return Face((x.min(), y.min(), np.ptp(x), np.ptp(y)), 1.0, np.stack([x, y], axis=1))


def waves(height, width, period=40.0):
    y, x = np.mgrid[:height, :width] + 0.5
    phase = np.arange(3)
    values = 0.5 + 0.3 * np.sin(2 * np.pi * x[..., None] / period + phase) * np.cos(2 * np.pi * y[..., None] / period)
    return np.rint(values * 65535).astype(np.uint16)


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.3, math.pi])
def test_landmarks_on_the_template_give_its_square(angle):
    face = placed((300.0, 200.0), 260.0, angle)
    square = face_square(face, 600, 700)
    assert square.centre == pytest.approx((300, 200), abs=1.5)
    # The detector's own mouths are a little higher than the template's, which asks for 4 % more.
    assert 260 <= square.side <= 260 * 1.05
    assert math.remainder(square.angle - angle, 2 * math.pi) == pytest.approx(0, abs=1e-3)


def test_a_head_turned_aside_keeps_its_size():
    profile = (TEMPLATE - 0.5) * [0.25, 1.0] + 0.5
    assert face_square(placed((300, 300), 260.0, 0.2, profile), 600, 600).side > 0.97 * 260
    tilted = (TEMPLATE - 0.5) * [1.0, 0.6] + 0.5
    assert face_square(placed((300, 300), 260.0, 0.2, tilted), 600, 600).side > 0.93 * 260


def test_a_box_gives_the_square_of_such_a_face():
    square = face_square(Face((100.0, 50.0, 53.0, 72.0), 1.0, UNKNOWN), 300, 300)
    assert square.side == pytest.approx(100) and square.angle == 0
    assert square.centre == pytest.approx((126.5, 80.7))
    wide = face_square(Face((100.0, 50.0, 106.0, 72.0), 1.0, UNKNOWN), 300, 300)
    assert wide.side == pytest.approx(200)


def test_unusable_faces_are_refused():
    with pytest.raises(ValueError, match="the face box 400,0,9,9 lies outside the photo of 300x200 pixels"):
        face_square(Face((400.0, 0.0, 9.0, 9.0), 1.0, UNKNOWN), 200, 300)
    with pytest.raises(ValueError, match="coincide"):
        face_square(Face((10.0, 10.0, 9.0, 9.0), 1.0, np.ones((5, 2), np.float32)), 200, 300)
    with pytest.raises(ValueError, match="a square image, not one of 300x200"):
        whole_square(200, 300)
    with pytest.raises(ValueError, match="outside the photo"):
        FaceSquare((-100.0, 50.0), 60.0).bounds(200, 300)


@pytest.mark.parametrize("box", [(0.0, 0.0, 1e300, 1e300), (-1e300, 0.0, 2e300, 9.0), (0.0, 0.0, 9.0, 3001.0)])
@pytest.mark.parametrize("frame", [face_square, portrait_square, face_crop])
def test_boxes_far_larger_than_the_photo_are_refused(box, frame):
    with pytest.raises(ValueError, match=r"the face box .* is far larger than the photo of 300x200 pixels"):
        frame(Face(box, 1.0, UNKNOWN), 200, 300)


def test_coordinates_go_there_and_back():
    square = FaceSquare((123.4, 56.7), 89.0, 0.7)
    u, v = np.random.default_rng(0).uniform(-1, 2, (2, 50))
    back = square.from_photo(*square.to_photo(u, v))
    np.testing.assert_allclose(back, (u, v), atol=1e-12)
    assert square.to_photo(np.array(0.5), np.array(0.5)) == pytest.approx(square.centre)


def test_weights_are_one_inside_and_zero_from_the_border_on():
    square = FaceSquare((0.0, 0.0), 10.0)
    line = np.array([-0.1, 0.0, 1 / 32, 1 / 16, 0.5, 15 / 16, 1.0, 1.2])
    np.testing.assert_allclose(square.weights(line, np.array(0.5)), [0, 0, 0.5, 1, 1, 1, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(whole_square(8, 8).weights(line, np.array(0.5)), [0, 1, 1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_aligned_picture_of_the_right_size_is_itself(dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (64, 64, 3)).astype(dtype)
    face = align(image, whole_square(64, 64), 64)
    np.testing.assert_allclose(face, image / np.iinfo(dtype).max, atol=1e-5)


@pytest.mark.parametrize("side", [60.0, 128.0, 180.0, 300.0, 700.0])
def test_the_square_is_sampled_at_its_points(side):
    """At every scale the result is the photo at the square's points, as long as the photo is smooth."""
    image, square = waves(990, 1000, period=90 + side / 3), FaceSquare((490.0, 490.0), side, 0.5)
    face = align(image, square, 128)
    unit = (np.arange(128) + 0.5) / 128
    x, y = square.to_photo(unit[None], unit[:, None])
    k = 2 * np.pi / (90 + side / 3)
    expected = 0.5 + 0.3 * np.sin(k * x[..., None] + np.arange(3)) * np.cos(k * y[..., None])
    assert np.abs(face - expected).max() < 0.01


def test_fine_detail_is_averaged_not_aliased():
    checks = np.indices((800, 800)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * np.uint8(255)
    for square in (whole_square(800, 800), FaceSquare((400.0, 400.0), 500.0, 0.3)):
        face = align(checks.astype(np.uint8), square, 128)
        assert np.abs(face - 0.5).max() < 0.06


def test_reading_in_blocks_changes_nothing(monkeypatch):
    image = waves(700, 600)
    squares = [
        FaceSquare((300.0, 500.0), 350.0, 0.2),
        FaceSquare((200.0, 100.0), 90.0),
        FaceSquare((20.0, 300.0), 99.0),
    ]
    monkeypatch.setattr(sources, "BLOCK_ROWS", 10_000)
    monkeypatch.setattr(sources, "BLOCK_PIXELS", 10**9)
    whole = [align(image, square, 64) for square in squares]
    monkeypatch.setattr(sources, "BLOCK_ROWS", 37)
    asked = []

    class Source(ArraySource):
        def read_rows(self, y0, y1):
            asked.append((y0, y1))
            return super().read_rows(y0, y1)

    found = dict(read_aligned(Source(image), squares, 64))
    for index, face in enumerate(whole):
        np.testing.assert_allclose(found[index], face, atol=1e-6)
    assert asked == sorted(set(asked))  # once, from top to bottom


def test_outside_the_photo_it_is_mirrored():
    image = waves(200, 200)
    face = align(image, FaceSquare((0.0, 100.0), 100.0), 100)
    np.testing.assert_allclose(face[:, :50], face[:, 50:][:, ::-1], atol=1e-5)


def test_portraits_are_framed_by_eyes_and_mouth():
    """At 256 pixels eyes at (99, 116) and (156, 116), the mouth's middle at (127, 180)."""
    square = FaceSquare((400.0, 300.0), 300.0, 0.3)
    x, y = square.to_photo(*PORTRAIT_TEMPLATE.T)
    left, right, mouth = np.stack([x, y], axis=1)
    across = (right - left) / 2
    points = np.array([left, right, (left + right + mouth) / 3, mouth - across, mouth + across], np.float32)
    face = Face((x.min(), y.min(), np.ptp(x), np.ptp(y)), 1.0, points)
    found = portrait_square(face, 600, 800)
    assert found.centre == pytest.approx((400, 300), abs=0.01)
    assert (found.side, found.angle) == pytest.approx((300, 0.3), abs=0.01)
    np.testing.assert_allclose(np.round(PORTRAIT_TEMPLATE * 256), [[99, 116], [156, 116], [127, 180]])


def test_a_portraits_frame_is_wider_than_ffhqs():
    face = placed((300.0, 300.0), 260.0, 0.0)
    portrait, narrow = portrait_square(face, 600, 600), face_square(face, 600, 600)
    assert 1.01 < portrait.side / narrow.side < 1.2
    box = Face(face.box, 1.0, UNKNOWN)
    assert abs(portrait_square(box, 600, 600).angle) < 0.02


def test_a_portrait_without_landmarks_is_framed_by_its_box():
    known = placed((300.0, 300.0), 260.0, 0.0)
    w, h = 0.53 * 260, 0.72 * 260
    box = Face((300 - w / 2, 300 + 0.053 * 260 - h / 2, w, h), 1.0, UNKNOWN)
    expected, found = portrait_square(known, 600, 600), portrait_square(box, 600, 600)
    assert found.side == pytest.approx(expected.side, rel=0.02)
    assert found.centre == pytest.approx(expected.centre, abs=3)


def test_a_portrait_turned_aside_keeps_its_size():
    eyes, mouth = PORTRAIT_TEMPLATE[:2] * 300, PORTRAIT_TEMPLATE[2] * 300
    narrow = eyes.mean(0) + (eyes - eyes.mean(0)) * [0.3, 1]
    assert fit_portrait(narrow, mouth).side == pytest.approx(300, rel=0.02)
    with pytest.raises(ValueError, match="coincide"):
        fit_portrait(np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="outside"):
        portrait_square(placed((-300.0, 300.0), 100.0, 0.0), 600, 600)

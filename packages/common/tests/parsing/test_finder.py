"""Faces found without a face detector, and what happens when neither can be had."""

import logging

import numpy as np
import pytest
import torch
from retouch_common.faces import detection, yunet
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.parsing import detector, finder
from retouch_common.parsing.finder import find_faces
from retouch_common.parsing.labels import CLASSES
from retouch_common.parsing.model import BUNDLED
from retouch_common.weights import bundled_names

# A parser that needs no training: every class has a colour of its own.
COLOURS = torch.linspace(0.05, 0.95, 11)
COLOURS = torch.stack([COLOURS, COLOURS.roll(4), COLOURS.roll(7)], 1)


class ByColour(torch.nn.Module):
    def forward(self, image):
        return -200 * (image[:, None] - COLOURS[None, :, :, None, None]).square().sum(2)


class Parser:
    size, device, dtype, model = 256, torch.device("cpu"), torch.float32, ByColour()

    def probabilities(self, face):
        image = torch.from_numpy(face).permute(2, 0, 1)[None]
        return self.model(image)[0].softmax(0).numpy()


def drawn(places, height=400, width=500):
    """Faces of parts in their classes' colours; places are (x, y) of the eyes' middle, their distance, their turn."""
    y, x = np.mgrid[:height, :width] + 0.5
    labels = np.zeros((height, width), np.uint8)
    for cx, cy, unit, angle in places:
        cos, sin = np.cos(angle), np.sin(angle)
        u = ((x - cx) * cos + (y - cy) * sin) / unit
        v = ((y - cy) * cos - (x - cx) * sin) / unit
        for name, (a, b), (w, h) in (
            ("skin", (0, 0.45), (1.1, 1.4)), ("nose", (0, 0.45), (0.25, 0.35)), ("eye_left", (-0.5, 0), (0.2, 0.09)),
            ("eye_right", (0.5, 0), (0.2, 0.09)), ("upper_lip", (0, 1.08), (0.4, 0.1)),
            ("lower_lip", (0, 1.16), (0.38, 0.1)),
        ):  # fmt: skip
            labels[((u - a) / w) ** 2 + ((v - b) / h) ** 2 < 1] = CLASSES.index(name)
    return np.rint(255 * COLOURS.numpy()[labels]).astype(np.uint8)


@pytest.mark.parametrize("unit", [24, 57, 110])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_a_face_is_found_where_it_is(unit, angle):
    (found,) = find_faces(drawn([(250, 150, unit, angle)]), Parser())
    across = np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-across[1], across[0]])
    middle = np.array([250, 150])
    expected = [middle - across * unit / 2, middle + across * unit / 2, middle + 1.1 * down * unit]
    points = found.landmarks
    for point, place in zip((points[0], points[1], points[3:].mean(0)), expected, strict=True):
        assert np.hypot(*(point - place)) < 0.1 * unit
    assert np.hypot(*(points[4] - points[3])) == pytest.approx(0.8 * unit, rel=0.25)
    assert 0.2 * unit < (points[2] - middle) @ down < 0.9 * unit, "the tip of the nose is between eyes and mouth"
    x, y, w, h = found.box
    assert x < points[:, 0].min() and y < points[:, 1].min()
    assert x + w > points[:, 0].max() and y + h > points[:, 1].max()
    assert 0.6 < found.score <= 1


def test_several_faces_come_largest_first():
    found = find_faces(drawn([(120, 120, 40, 0), (350, 150, 70, 0.1), (120, 310, 28, -0.2)]), Parser())
    assert [round(face.landmarks[:2].mean(0)[0] / 10) for face in found] == [35, 12, 12]
    assert found[0].size > found[1].size > found[2].size


def test_parts_in_disorder_are_no_face():
    assert find_faces(drawn([], 128, 128), Parser()) == []
    face = drawn([(130, 100, 57, 0)], 240, 260)
    assert len(find_faces(face, Parser())) == 1
    upside_down = np.ascontiguousarray(face[::-1])
    assert find_faces(upside_down, Parser()) == []
    mirrored = np.ascontiguousarray(face[:, ::-1])
    assert find_faces(mirrored, Parser()) == [], "the right eye is on the left"


def test_a_part_in_two_places_is_no_face():
    """Nothing is near the middle of its points."""
    likely = np.zeros((len(CLASSES), 256, 256), np.float32)
    likely[0] = 0.1
    for name, columns in (("eye_left", (60, 190)), ("eye_right", (150,)), ("nose", (120,)), ("mouth", (120,))):
        for column in columns:
            likely[CLASSES.index(name), 100:140, column : column + 30] = 1
    assert finder._parts(likely) is None


def test_large_photos_are_shown_reduced(monkeypatch):
    monkeypatch.setattr(finder, "FINDING_SIDE", 256)
    (found,) = find_faces(drawn([(500, 300, 150, 0)], 800, 1000), Parser())
    assert np.abs(found.landmarks[:2].mean(0) - (500, 300)).max() < 10


@pytest.fixture
def no_detector(monkeypatch):
    def unavailable():
        raise DetectorUnavailable("put yunet_final.pth there")

    monkeypatch.setattr(yunet, "_detector", unavailable)
    caches = (detection._warn_once, detector.load_detector)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_the_parser_stands_in_with_one_warning(no_detector, monkeypatch, caplog):
    monkeypatch.setattr("retouch_common.parsing.parser.FaceParser", lambda name, device: Parser())
    image = drawn([(130, 100, 57, 0)], 240, 260)
    with caplog.at_level(logging.WARNING):
        assert len(detect_faces(image)) == len(detect_faces(image)) == 1
    (record,) = caplog.records
    assert "falling back to the face parser" in record.message and "put yunet_final.pth there" in record.message
    assert "\n" not in record.message
    assert detect_faces(image, score_threshold=1.0) == []


def test_without_either_it_is_an_error(no_detector, monkeypatch, tmp_path):
    monkeypatch.setattr("retouch_common.parsing.model.BUNDLED", tmp_path)
    with pytest.raises(DetectorUnavailable, match=r"put yunet_final\.pth there"):
        detect_faces(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.skipif("small" not in bundled_names(BUNDLED), reason="needs the bundled weights")
def test_the_astronaut_is_found_without_a_detector(no_detector):
    data = pytest.importorskip("skimage.data")
    found = detect_faces(data.astronaut())
    assert found, "no face"
    # read off the photograph by eye: pupils, and the middle between the corners of the mouth
    expected = np.array([[204.0, 101.5], [246.5, 104.0], [224.0, 140.5]])
    points = found[0].landmarks
    away = np.hypot(*(np.concatenate([points[:2], points[3:].mean(0, keepdims=True)]) - expected).T)
    assert away.max() < 0.15 * np.hypot(*(expected[1] - expected[0]))
    assert detect_faces(data.chelsea()) == []

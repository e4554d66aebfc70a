"""Which faces a network will see: said, found, or the whole picture."""

import numpy as np
import pytest
from retouch_common.faces.alignment import TEMPLATE
from retouch_common.faces.face import Face
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference import face_plan
from retouch_common.inference.face_plan import plan_faces, squares_in
from retouch_common.photo.io import Photo
from retouch_common.photo.pixels import image_from_array


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    image_from_array(np.full((80, 120, 3), 128, np.uint8), "srgb").pngsave(str(path))
    return Photo.open(path)


def test_a_box_says_where_the_face_is(photo):
    plan = plan_faces(photo, face_boxes=[(40, 20, 30, 40)])
    assert str(plan) == "1 face, because the face box was given"
    x, y, w, h = plan.squares[0].bounds(80, 120)
    assert x <= 40 and y <= 20 and x + w >= 70 and y + h >= 60


def test_an_aligned_photo_is_one_square(tmp_path, photo):
    with pytest.raises(ValueError, match=r"photo\.png.*square"):
        plan_faces(photo, aligned=True)
    path = tmp_path / "face.png"
    image_from_array(np.full((64, 64, 3), 128, np.uint8), "srgb").pngsave(str(path))
    (square,) = plan_faces(Photo.open(path), aligned=True).squares
    assert square.bounds(64, 64) == (0, 0, 64, 64)
    with pytest.raises(ValueError, match="are mutually exclusive"):
        plan_faces(photo, aligned=True, face_boxes=[(1, 2, 3, 4)])


def test_says_what_to_do_without_a_face_or_a_detector(photo, monkeypatch):
    monkeypatch.setattr(face_plan, "locate_faces", lambda photo, overview: [])
    with pytest.raises(ValueError, match=r"photo\.png: no face was found; give a face box"):
        plan_faces(photo)

    def unavailable(photo, overview):
        raise DetectorUnavailable("no weights")

    monkeypatch.setattr(face_plan, "locate_faces", unavailable)
    with pytest.raises(ValueError, match=r"photo\.png: no weights; or give a face box"):
        plan_faces(photo)


def test_faces_of_a_picture_in_memory(monkeypatch):
    image = np.full((80, 120, 3), 257 * 128, np.uint16)
    seen = []

    def detect(levels):
        seen.append(levels)
        return [Face((40, 20, 30, 40), 1.0, 40 + 8 * TEMPLATE)] if len(seen) == 1 else []

    monkeypatch.setattr(face_plan, "detect_faces", detect)
    assert len(squares_in(image, None, False)) == 1
    assert seen[0].dtype == np.uint8 and (seen[0] == 128).all()
    with pytest.raises(ValueError, match="no face was found"):
        squares_in(image, None, False)
    with pytest.raises(ValueError, match="are mutually exclusive"):
        squares_in(image, [], True)
    for wrong in (image.astype(np.float32), image[..., 0]):
        with pytest.raises(ValueError, match="uint8 or uint16"):
            squares_in(wrong, None, False)

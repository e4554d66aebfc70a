import numpy as np
import pytest
import pyvips
from retouch_common.faces.face import Face
from retouch_common.inference import regions
from retouch_common.inference.regions import RegionPlan, plan_region, retouched_rows
from retouch_common.photo.io import Photo
from scipy import ndimage


class Darker:
    """Takes a fixed number of levels off everything."""

    def __init__(self, levels):
        self.levels = levels

    def __call__(self, image, *, strength):
        return image - np.asarray(self.levels * strength, image.dtype)

    def stripes(self, source, *, strength):
        for y in range(0, source.height, 100):
            rows = source.read_rows(max(0, y - 16), min(source.height, y + 116))
            yield self(rows[min(y, 16) :][: min(100, source.height - y)], strength=strength)


def retouched(photo, plan, retoucher):
    return np.concatenate(list(retouched_rows(photo, plan, retoucher)))


@pytest.fixture(params=[np.uint8, np.uint16])
def photo(request, make_photo):
    path, _ = make_photo("a.png", size=(700, 500), dtype=request.param)
    return Photo.open(path)


@pytest.mark.parametrize("in_memory", [True, False])
def test_overlapping_crops_share_pixels_and_never_add_up(photo, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(regions, "IN_MEMORY_PIXELS", 0)
    levels = 8 if photo.dtype == np.uint8 else 2000
    plan = RegionPlan("faces", ((50, 100, 200, 200), (150, 220, 240, 300), (0, 0, 500, 60)), "")
    before = photo.read().astype(int)
    change = before - retouched(photo, plan, Darker(levels))
    assert change.min() == 0 and change.max() == levels
    inside = np.zeros(before.shape[:2], bool)
    for x, y, w, h in plan.crops:
        inside[y : y + h, x : x + w] = True
    assert (change[~inside] == 0).all()
    assert (change[230:270, 170:230] == levels).all()  # both crops' middle: full change, not twice
    assert (change[:50, :] == levels).all()  # no slope along the photo's own border


def test_seams_are_smooth(photo):
    levels = 8 if photo.dtype == np.uint8 else 2000
    plan = RegionPlan("faces", ((100, 100, 300, 300),), "")
    change = photo.read().astype(int) - retouched(photo, plan, Darker(levels))
    steps = np.abs(np.diff(change, axis=0)).max(), np.abs(np.diff(change, axis=1)).max()
    assert max(steps) <= max(1, levels * 0.06)


def test_whole_photo_goes_through_the_network_as_rows(photo):
    plan = plan_region(photo, "photo")
    np.testing.assert_array_equal(retouched(photo, plan, Darker(1)), photo.read() - np.array(1, photo.dtype))


def test_given_boxes_replace_the_detector(photo, monkeypatch):
    monkeypatch.setattr(regions, "detect_faces", lambda image: pytest.fail("the detector was asked"))
    plan = plan_region(photo, face_boxes=[(100, 100, 50, 60)])
    assert plan.crops == ((74, 79, 102, 102),)
    assert str(plan) == "1 face, because the face box was given"
    with pytest.raises(ValueError, match=r"a.png: the face box 600,0,9,9 lies outside"):
        plan_region(photo, face_boxes=[(600, 0, 9, 9)])
    with pytest.raises(ValueError, match="are mutually exclusive"):
        plan_region(photo, "photo", face_boxes=[(1, 1, 9, 9)])
    with pytest.raises(ValueError, match="region must be"):
        plan_region(photo, "all")


def test_crops_are_blended_by_slopes_except_along_the_photos_border():
    weights = regions.feather_profile(80, 0.25, open_start=False, open_stop=False)
    assert weights.dtype == np.float32 and weights[0] == weights[-1] == 0 and (weights[20:60] == 1).all()
    assert np.abs(np.diff(weights)).max() < 0.08
    np.testing.assert_array_equal(weights, weights[::-1])
    assert (regions.feather_profile(80, 0.25, open_start=True, open_stop=False)[:60] == 1).all()
    assert (regions.feather_profile(9, 0.5, open_start=True, open_stop=True) == 1).all()


def test_photo_without_a_face_stays_as_it_is(photo, monkeypatch):
    monkeypatch.setattr(regions, "detect_faces", lambda image: [])
    plan = plan_region(photo)
    assert plan.is_empty
    assert str(plan) == "unchanged, because no face was found; the region 'photo' retouches the whole frame"
    np.testing.assert_array_equal(retouched(photo, plan, Darker(8)), photo.read())
    assert not plan_region(photo, "photo").is_empty


def test_small_faces_of_a_panorama_are_found_once(monkeypatch, make_photo):
    """Squares of 20 pixels, which reducing the whole panorama would blur; one lies in the overlap of two parts."""
    path, _ = make_photo("wide.png", size=(200, 4000))
    pixels = np.zeros((200, 4000, 3), np.uint8)
    places = [(30, 100), (505, 60), (2000, 150), (3900, 10)]
    for x, y in places:
        pixels[y : y + 20, x : x + 20] = 255
    pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").write_to_file(str(path))
    monkeypatch.setattr(regions, "DETECTION_SIDE", 640)
    asked = []

    def detect(image):
        asked.append(image.shape)
        numbers, _ = ndimage.label(image[..., 0] > 200)
        boxes = [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in ndimage.find_objects(numbers)]
        points = np.full((5, 2), np.nan, np.float32)
        return [Face(tuple(map(float, box)), 0.9, points) for box in boxes if min(box[2:]) > 10]

    monkeypatch.setattr(regions, "detect_faces", detect)
    found = regions.locate_faces(Photo.open(path))
    assert sorted((round(face.box[0]), round(face.box[1])) for face in found) == sorted(places)
    assert len(asked) > 4 and max(max(shape) for shape in asked) <= 640

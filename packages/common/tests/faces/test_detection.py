import hashlib
import http.client
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from retouch_common.faces import registry, yunet
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face, face_crop
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.faces.yunet import _merge


def face(x, y, w, h):
    return Face((x, y, w, h), 1.0, np.full((5, 2), np.nan, np.float32))


def seen(*boxes):
    """What a look sees: boxes as x, y, side, score."""
    rows = torch.zeros(len(boxes), 15)
    for row, (x, y, side, score) in zip(rows, boxes, strict=True):
        row[:4] = torch.tensor([x, y, x + side, y + side], dtype=torch.float32)
        row[14] = score
    return rows


def test_face_must_be_seen_at_every_size_at_which_it_should_be():
    scales = [1.0, 0.5, 0.25]
    once = [seen((100, 100, 150, 0.95)), seen(), seen()]
    assert _merge(once, scales, 0.6) == []
    always = [seen((100, 100, 150, 0.95)), seen((104, 98, 150, 0.9)), seen((100, 100, 140, 0.9))]
    (found,) = _merge(always, scales, 0.6)
    assert found.box == (100, 100, 150, 150) and found.score == pytest.approx((0.95 + 0.9 + 0.9) / 3)


def test_small_face_needs_to_be_seen_only_where_it_is_large_enough():
    (found,) = _merge([seen((10, 10, 24, 0.9)), seen(), seen()], [1.0, 0.5, 0.25], 0.6)
    assert found.score == pytest.approx(0.9)


def test_box_inside_a_better_one_is_dropped():
    scales = [1.0, 0.5]
    looks = [seen((0, 0, 100, 0.95), (40, 40, 35, 0.8)), seen((0, 0, 100, 0.95))]
    assert [found.box[2] for found in _merge(looks, scales, 0.6)] == [100]


@pytest.mark.parametrize(("score", "count"), [(0.82, 1), (0.95, 2)])
def test_tiny_face_beside_a_large_one_must_be_certain(score, count):
    """Badges, hands and folds scored 0.60 to 0.82 in 10 of 519 portraits; faces in the background score above 0.9."""
    found = _merge([seen((100, 100, 180, 0.98), (600, 700, 30, score))], [1.0], 0.6)
    assert len(found) == count
    assert len(_merge([seen((600, 700, 30, score))], [1.0], 0.6)) == 1


def marked(box, score, eyes, shift=(0, 0)):
    """One detection: a box, and landmarks of a face whose eyes are ``eyes`` pixels apart."""
    row = torch.zeros(1, 15)
    x, y, w, h = box
    row[0, :4] = torch.tensor([x, y, x + w, y + h])
    points = torch.tensor([[0, 0], [1, 0], [0.5, 0.6], [0.1, 1], [0.9, 1]]) * eyes + torch.tensor(shift)
    row[0, 4:14] = points.reshape(-1)
    row[0, 14] = score
    return row


def test_one_face_as_two_halves_is_one_face():
    """Measured on a drawing of 0.3 megapixels: landmarks that nearly agree, boxes that share less than half."""
    low, high = marked((219, 338, 373, 358), 1.0, 200, (301, 380)), marked((188, 191, 342, 316), 0.99, 200, (336, 402))
    (found,) = _merge([torch.cat([low, high])], [1.0], 0.6)
    assert found.box == (188, 191, 404, 505)
    assert found.landmarks[0] == pytest.approx((318.5, 391))
    apart = marked((480, 338, 373, 358), 0.99, 200, (562, 380))
    assert len(_merge([torch.cat([low, apart])], [1.0], 0.6)) == 2  # two heads side by side


def test_a_small_detection_that_touches_a_much_larger_face_is_dropped():
    head, ear = marked((100, 100, 200, 200), 0.95, 90, (150, 160)), marked((280, 180, 60, 60), 0.8, 25, (290, 190))
    (found,) = _merge([torch.cat([head, ear])], [1.0], 0.6)
    assert found.box[2] == 200
    child = marked((310, 180, 60, 60), 0.8, 25, (320, 190))
    assert len(_merge([torch.cat([head, child])], [1.0], 0.6)) == 2


@pytest.mark.parametrize("quarters", [1, 3])
def test_faces_that_lie_on_their_side_are_found(monkeypatch, quarters):
    """A stand-in detector sees a bright square with a mark at its upper left, upright only."""
    image = np.zeros((90, 140, 3), np.uint8)
    image[20:50, 60:100] = 100
    image[20:30, 60:70] = 255

    def detect(image, *, score_threshold):
        y, x = (int(axis.min()) for axis in np.nonzero(image[..., 0]))
        h, w = (int(np.ptp(axis)) + 1 for axis in np.nonzero(image[..., 0]))
        if image[y, x, 0] != 255:
            return []
        points = np.array([[x, y], [x + w, y], [x + w / 2, y + h / 2], [x, y + h], [x + w, y + h]], np.float32)
        return [Face((x, y, w, h), 0.9, points)]

    monkeypatch.setattr(registry, "_loaders", {"stand-in": lambda: detect})
    upright = detect_faces(image)[0]
    (found,) = detect_faces(np.rot90(image, -quarters))
    assert found.box[2:] == upright.box[3:1:-1]
    turned = np.rot90(image, -quarters)
    x, y, w, h = map(int, found.box)
    assert (turned[y : y + h, x : x + w] > 0).all() and (turned > 0).sum() == 3 * w * h
    mark = (0 if quarters == 1 else h, w if quarters == 1 else 0)  # of the photo turned clockwise: upper right
    assert found.landmarks[0].tolist() == [x + mark[1], y + mark[0]]


def test_nothing_seen_is_no_face():
    assert _merge([seen(), seen()], [1.0, 0.5], 0.6) == []


def test_crop_is_a_square_around_the_face():
    assert face_crop(face(400, 300, 60, 100), 1000, 1000, 2.0) == (330, 250, 200, 200)


def test_crop_is_shifted_into_the_photo_and_cut_to_it():
    assert face_crop(face(0, 0, 60, 100), 1000, 1000, 2.0) == (0, 0, 200, 200)
    assert face_crop(face(950, 950, 60, 100), 1000, 1000, 2.0) == (800, 800, 200, 200)
    assert face_crop(face(100, 10, 100, 100), 150, 800, 2.0) == (50, 0, 200, 150)
    with pytest.raises(ValueError, match="the face box 1000,0,5,5 lies outside the photo of 1000x1000"):
        face_crop(face(1000, 0, 5, 5), 1000, 1000)


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.hub.set_dir(str(tmp_path / "hub"))
    yunet._detector.cache_clear()
    monkeypatch.delitem(registry._loaders, "face parser")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub._hub_dir = None
    yunet._detector.cache_clear()


def test_missing_weights_say_which_file_goes_where(empty_hub, monkeypatch):
    monkeypatch.setattr(yunet, "_download", lambda: None)
    with pytest.raises(DetectorUnavailable) as caught:
        detect_faces(np.zeros((64, 64, 3), np.uint8))
    message = str(caught.value)
    assert "yunet_final.pth" in message and str(empty_hub) in message and "ee0a3035" in message


def test_wrong_weights_are_neither_loaded_nor_installed(empty_hub, monkeypatch):
    monkeypatch.setattr(yunet, "_download", lambda: b"something else")
    with pytest.raises(DetectorUnavailable, match="could not be downloaded"):
        detect_faces(np.zeros((64, 64, 3), np.uint8))
    assert not empty_hub.exists()
    empty_hub.mkdir(parents=True)
    (empty_hub / "yunet_final.pth").write_bytes(b"something else")
    with pytest.raises(DetectorUnavailable, match="is not the face detector's file"):
        detect_faces(np.zeros((64, 64, 3), np.uint8))


def test_a_file_of_weights_that_cannot_be_read_is_no_error_of_the_photo(empty_hub):
    """The last resort takes over: a folder of another user, say, where reading raises PermissionError."""
    (empty_hub / "yunet_final.pth").mkdir(parents=True)
    with pytest.raises(DetectorUnavailable, match="cannot be read"):
        detect_faces(np.zeros((64, 64, 3), np.uint8))


def test_weights_put_there_later_are_seen(empty_hub, monkeypatch):
    monkeypatch.setattr(yunet, "_download", lambda: None)
    monkeypatch.setattr(yunet, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    path = empty_hub / "yunet_final.pth"
    with pytest.raises(DetectorUnavailable):
        yunet._ensure_weights(path)
    empty_hub.mkdir(parents=True)
    path.write_bytes(b"weights")
    yunet._ensure_weights(path)


@pytest.fixture
def first_download():
    yunet._download.cache_clear()
    yield
    yunet._download.cache_clear()


def test_a_download_that_breaks_off_counts_as_none(first_download, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, *_):
            raise http.client.IncompleteRead(b"")

    faults = []
    monkeypatch.setattr(yunet.urllib.request, "urlopen", lambda *_, **__: Broken())
    monkeypatch.setattr(threading, "excepthook", faults.append)
    assert yunet._download() is None and not faults


def test_slow_download_gives_up_once(first_download, monkeypatch):
    release, asked = threading.Event(), []

    def never_answers(*arguments, **options):
        asked.append(arguments)
        release.wait(5)
        raise TimeoutError

    monkeypatch.setattr(yunet, "_DOWNLOAD_SECONDS", 0.05)
    monkeypatch.setattr(yunet.urllib.request, "urlopen", never_answers)
    assert yunet._download() is None and yunet._download() is None and len(asked) == 1
    release.set()


def test_image_must_be_8_bit_rgb():
    with pytest.raises(ValueError, match="uint8"):
        detect_faces(np.zeros((64, 64, 3), np.uint16))


@pytest.fixture
def yunet_weights(tmp_path):
    """The real detector, from a weights file in the torch hub folder or in the shared data."""
    import shutil

    shared = Path(os.environ.get("RETOUCH_DATA", "../shared/data")) / "models" / yunet.WEIGHTS_NAME
    installed = Path(torch.hub.get_dir()) / "checkpoints" / yunet.WEIGHTS_NAME
    source = next((path for path in (installed, shared) if path.exists()), None)
    if source is None:
        pytest.skip(f"needs {yunet.WEIGHTS_NAME} in {installed.parent} or {shared.parent}")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(source, folder)
    before = torch.hub._hub_dir
    torch.hub.set_dir(str(tmp_path / "hub"))
    yunet._detector.cache_clear()
    yield
    torch.hub._hub_dir = before
    yunet._detector.cache_clear()


def test_astronaut_is_found_at_every_size_and_nothing_else_is(yunet_weights):
    data = pytest.importorskip("skimage.data")
    portrait = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    for factor in (0.25, 1.0, 2.5):
        scaled = torch.nn.functional.interpolate(portrait, scale_factor=factor, mode="bilinear", antialias=True)
        image = scaled.round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
        (found,) = detect_faces(image)
        x, y, w, h = (value / factor for value in found.box)
        assert abs(x + w / 2 - 225) < 12 and abs(y + h / 2 - 117) < 12 and 80 < h < 150
        assert found.landmarks[0, 0] < found.landmarks[1, 0]
        assert (found.landmarks[:2, 1] < found.landmarks[3:, 1]).all()
    assert detect_faces(data.chelsea()) == []


def test_one_face_of_a_photo_is_not_detected_as_two_halves(yunet_weights):
    pyvips = pytest.importorskip("pyvips")
    path = Path(os.environ.get("RETOUCH_DATA", "../shared/data")) / "faults" / "two_half_faces.jpg"
    if not path.is_file():
        pytest.skip(f"needs RETOUCH_DATA with faults/{path.name}")
    (found,) = detect_faces(pyvips.Image.new_from_file(str(path)).numpy()[..., :3])
    x, y, w, h = found.box
    assert x < 220 and y < 210 and x + w > 560 and y + h > 680  # both halves


@pytest.mark.parametrize("side", [320, 512, 832])  # less and more than the rows that are computed at once
def test_yunet_detects_what_kornias_does(yunet_weights, side):
    data = pytest.importorskip("skimage.data")
    from kornia.contrib import FaceDetector

    portrait = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float()
    image = torch.nn.functional.interpolate(portrait, (side, side + 64), mode="bilinear", antialias=True)
    with torch.inference_mode():
        expected = FaceDetector(confidence_threshold=0.3).eval()(image)[0]
    found = yunet._detector()(image[0].permute(1, 2, 0).contiguous(), 0.3)
    assert len(expected) > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


def test_small_and_large_faces_in_one_photo(yunet_weights):
    data = pytest.importorskip("skimage.data")
    portrait = torch.from_numpy(data.astronaut()[:300, 80:380]).permute(2, 0, 1)[None].float()
    canvas = np.full((900, 1400, 3), 120, np.uint8)
    places = [(20, 20, 80), (150, 20, 120), (350, 20, 200), (600, 20, 800)]
    for x, y, side in places:
        small = torch.nn.functional.interpolate(portrait, (side, side), mode="bilinear", antialias=True)
        canvas[y : y + side, x : x + side] = small.round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    found = detect_faces(canvas)
    assert len(found) == 4
    for (x, _, side), one in zip(sorted(places, key=lambda place: -place[2]), found, strict=True):
        assert x < one.box[0] < x + side and 0.3 * side < one.size < 0.5 * side


@pytest.fixture(scope="module")
def portraits():
    """25 frontal portraits of one studio, 256x256."""
    pyvips = pytest.importorskip("pyvips")
    folder = Path(os.environ.get("RETOUCH_DATA", "../shared/data")) / "faces" / "london_neutral"
    files = sorted(folder.glob("*.jpg"))[:25]
    if len(files) < 25:
        pytest.skip(f"needs the portraits in {folder} (RETOUCH_DATA)")
    return [pyvips.Image.thumbnail(str(file), 256, height=256, size="force").numpy()[..., :3] for file in files]


def detected_by_both(image):
    """Return the faces, after checking that kornia's detector at the same scales detects the same."""
    from kornia.contrib import FaceDetector

    kornia = FaceDetector(confidence_threshold=0.2).eval()
    found = yunet._find_faces(yunet._detector(), image, score_threshold=0.6)
    expected = yunet._find_faces(
        lambda level, threshold: kornia(level.permute(2, 0, 1)[None])[0], image, score_threshold=0.6
    )
    assert len(found) == len(expected)
    for face, other in zip(found, expected, strict=True):
        assert face.box == pytest.approx(other.box, abs=0.05) and face.score == pytest.approx(other.score, abs=1e-3)
    return found


@pytest.mark.parametrize("share", [4, 12, 30, 60])
def test_portraits_are_detected_down_to_a_sixtieth_of_the_frame(yunet_weights, portraits, share):
    canvas = torch.full((1, 3, 960, 1280), 120.0)
    side = 2 * 1280 // share  # a face takes about half of a portrait's width
    places = range(10, 1280 - side, max(side, 160))[:3]
    for index, place in enumerate(places):
        portrait = torch.from_numpy(portraits[index].copy()).permute(2, 0, 1)[None].float()
        small = torch.nn.functional.interpolate(portrait, (side, side), mode="bilinear", antialias=True)
        canvas[..., 40 : 40 + side, place : place + side] = small
    image = canvas.round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    found = detected_by_both(image)
    for place in places:  # at a quarter of the frame, both see a second face in the only portrait
        assert any(0.35 * side < face.size < side and place < face.box[0] < place + side / 2 for face in found)


def test_finest_level_is_searched_only_where_faces_are(yunet_weights, portraits, monkeypatch):
    canvas = np.full((1920, 2560, 3), 120, np.uint8)
    places = [
        (40, 40, 1024),
        (1500, 200, 220),
        (1800, 1200, 120),
        (2300, 1700, 50),
    ]  # the last face has 20 to 25 pixels
    for (x, y, side), portrait in zip(places, portraits, strict=False):
        image = torch.from_numpy(portrait.copy()).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
        canvas[y : y + side, x : x + side] = small[0].permute(1, 2, 0).numpy()
    searched = []
    detect = yunet._detect_at_scale
    monkeypatch.setattr(
        yunet,
        "_detect_at_scale",
        lambda net, level, scale: searched.append((scale, level[0, 0].numel())) or detect(net, level, scale),
    )
    found = detect_faces(canvas)
    assert all(
        any(x < face.box[0] < x + side / 2 and y < face.box[1] < y + side / 2 for face in found)
        for x, y, side in places
    )
    assert 0 < sum(pixels for scale, pixels in searched if scale == 1) < canvas[..., 0].size / 4


def test_all_of_25_portraits_in_a_mosaic_are_detected(yunet_weights, portraits):
    rows = [np.concatenate(portraits[5 * row : 5 * row + 5], axis=1) for row in range(5)]
    assert len(detected_by_both(np.concatenate(rows))) == 25

"""Previews of open photos: how often a file is decoded, and that the faces are those that the commands find."""

import threading

import numpy as np
import pytest
import pyvips
from retouch_common.inference import regions
from retouch_common.inference.regions import locate_faces
from retouch_common.photo.decoder import Decoder
from retouch_common.photo.io import Photo
from retouch_common.studio import views
from retouch_common.studio.files import DECODE_LOCK, StoredFile
from retouch_common.studio.views import PhotoPreview

HEIGHT, WIDTH = 300, 399


@pytest.fixture(autouse=True)
def small_sides(monkeypatch):
    """Photos count as large that are small enough for tests."""
    monkeypatch.setattr(views, "PROXY_SIDE", 150)
    for module in (views, regions):
        monkeypatch.setattr(module, "DETECTION_SIDE", 160)


@pytest.fixture
def decodings(monkeypatch):
    """The factors by which files were reduced when they were decoded, in order."""
    found, decode = [], Decoder.decode

    def counted(self, shrink=1):
        if self._decoded is None or shrink > 1:
            found.append(shrink)
        return decode(self, shrink)

    monkeypatch.setattr(Decoder, "decode", counted)
    return found


@pytest.fixture
def detected(monkeypatch):
    """The images that were given to the face detector."""
    found = []
    monkeypatch.setattr(regions, "detect_faces", lambda image: found.append(image) or [])
    return found


@pytest.fixture(params=[".jpg", ".png", ".tif"])
def path(request, tmp_path):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.rint(128 + 90 * np.sin(x[..., None] / 23 + y[..., None] / 31 + np.arange(3))).astype(np.uint8)
    path = tmp_path / f"large{request.param}"
    pyvips.Image.new_from_array(pixels).write_to_file(str(path))
    return path


def test_opening_decodes_a_file_once_and_only_reading_its_pixels_decodes_a_large_jpeg_in_full(
    path, decodings, detected
):
    preview = PhotoPreview.open(StoredFile(path, path.name, owned=False))
    locate_faces(preview.photo, preview.overview)
    assert decodings == ([2] if path.suffix == ".jpg" else [1]) and len(detected) == 1
    for x in (10, 200):
        preview.crop((x, 20, 50, 40), (400, 320))
        preview.photo.read(x, 5, 20, 20)
    preview.photo.read_rows(0, HEIGHT)
    assert decodings == ([2, 1] if path.suffix == ".jpg" else [1])


def test_a_jpeg_that_cannot_be_decoded_reduced_is_decoded_once(path, decodings, monkeypatch):
    monkeypatch.setattr(views, "DETECTION_SIDE", 250)
    preview = PhotoPreview.open(StoredFile(path, path.name, owned=False))
    preview.photo.read(10, 10, 20, 20)
    assert decodings == [1]


def test_faces_are_sought_in_what_the_commands_seek_them_in(path, detected):
    preview = PhotoPreview.open(StoredFile(path, path.name, owned=False))
    locate_faces(preview.photo, preview.overview)
    locate_faces(Photo.open(path))
    np.testing.assert_array_equal(*detected)


def test_the_proxy_shows_the_photo_reduced(path):
    preview = PhotoPreview.open(StoredFile(path, path.name, owned=False))
    assert preview.factor == 3 and preview.proxy.shape == (100, 133, 3)
    means = Photo.open(path).read().reshape(100, 3, 133, 3, 3).mean(axis=(1, 3))
    assert np.abs(preview.proxy - means).mean() < 2


def test_only_the_first_full_decoding_waits_for_that_of_another_photo(path):
    """So that a photo is panned while another one is exported."""
    preview = PhotoPreview.open(StoredFile(path, path.name, owned=False))
    reading = threading.Thread(target=preview.crop, args=((10, 20, 50, 40), (50, 40)))
    with DECODE_LOCK:
        reading.start()
        reading.join(1 if path.suffix == ".jpg" else 60)
        assert reading.is_alive() == (path.suffix == ".jpg")
    reading.join()
    with DECODE_LOCK:
        preview.crop((10, 20, 50, 40), (50, 40))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("window", [(0, 0, WIDTH, HEIGHT), (35, 22, 201, 151)])
def test_a_crop_is_reduced_by_means_of_whole_cells_in_strips(tmp_path, monkeypatch, dtype, window):
    monkeypatch.setattr(views, "STRIP_PIXELS", 5000)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(dtype) * (np.iinfo(dtype).max // 255)
    space = "srgb" if dtype == np.uint8 else "rgb16"
    pyvips.Image.new_from_array(pixels).copy(interpretation=space).write_to_file(str(tmp_path / "a.png"))
    preview = PhotoPreview.open(StoredFile(tmp_path / "a.png", "a.png", owned=False))
    x, y, w, h = window
    crop, factor = preview.crop(window, (round(w / 2.5), round(h / 2.5)))
    top, left = y // 2, x // 2
    shape = (y + h + 1) // 2 - top, (x + w + 1) // 2 - left
    assert factor == 2 and crop.dtype == np.uint8 and crop.shape == (*shape, 3)
    inside = pixels[2 * top :, 2 * left :][: 2 * (shape[0] - 1), : 2 * (shape[1] - 1)]
    means = inside.reshape(shape[0] - 1, 2, shape[1] - 1, 2, 3).mean(axis=(1, 3)) * (255 / np.iinfo(dtype).max)
    assert np.abs(crop[:-1, :-1] - means).max() <= 1


def test_a_large_photo_shows_its_detail_at_40_percent(tmp_path, monkeypatch):
    """Twelve megapixels of it are on the screen, more than which the proxy has."""
    monkeypatch.setattr(views, "PROXY_SIDE", 2048)
    blocks = np.random.default_rng(0).integers(0, 256, (620, 820, 3)).astype(np.uint8)  # two pixels of the screen each
    pixels = blocks.repeat(5, axis=0).repeat(5, axis=1)
    pyvips.Image.new_from_array(pixels).jpegsave(str(tmp_path / "a.jpg"), Q=95, subsample_mode="off")
    preview = PhotoPreview.open(StoredFile(tmp_path / "a.jpg", "a.jpg", owned=False))
    assert preview.factor == 3
    crop, _ = preview.crop((50, 50, 4000, 3000), (1600, 1200))
    shown = pyvips.Image.jpegload_buffer(views.encode_view(crop, (1600, 1200))).numpy().astype(int)
    assert shown.shape == (1200, 1600, 3)
    assert np.abs(shown - blocks[10:610, 10:810].repeat(2, axis=0).repeat(2, axis=1)).mean() < 15

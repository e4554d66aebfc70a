"""Previews of open photos: how often a file is decoded, and that the faces are those that the commands find."""

import numpy as np
import pytest
import pyvips
from retouch_common.inference import regions
from retouch_common.inference.regions import locate_faces
from retouch_common.photo.decoder import Decoder
from retouch_common.photo.io import Photo
from retouch_common.studio import views
from retouch_common.studio.files import StoredFile
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
        preview.crop((x, 20, 50, 40), 400)
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

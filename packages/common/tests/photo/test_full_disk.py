"""A full disk of the temporary folder is named, and not taken for a damaged photograph."""

import contextlib
import io
import tempfile

import numpy as np
import pytest
from PIL import Image
from retouch_common.photo import decoder
from retouch_common.photo.io import Photo

resource = pytest.importorskip("resource", reason="the limit of a file's size stands in for a small disk")


@contextlib.contextmanager
def small_files():
    """Let no file grow beyond 64 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def levels():
    return np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def full(name, folder):
    return rf"{name}: does not fit into the temporary folder {folder}: the disk is full; set TMPDIR"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_of_a_turned_photo(tmp_path, monkeypatch, levels, scratch, name):
    monkeypatch.setattr(decoder, "_IN_MEMORY_BYTES", 0)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(levels).save(tmp_path / name, exif=exif)
    photo = Photo.open(tmp_path / name)
    with small_files(), pytest.raises(OSError, match=full(name, scratch)) as caught:
        photo.read()
    assert isinstance(caught.value.__cause__, OSError)
    del photo, caught


def test_damage_of_a_turned_photo_stays_damage(tmp_path, monkeypatch, levels):
    monkeypatch.setattr(decoder, "_IN_MEMORY_BYTES", 0)
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", exif=exif)
    data = bytearray(file.getvalue())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.png: cannot be read, it is damaged .* chunk IDAT is wrong"):
        Photo.open(tmp_path / "a.png").read()


def test_of_a_heic(tmp_path, levels, scratch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_bytes("RGB", (200, 300), levels.tobytes()).save(tmp_path / "a.heic", quality=50)
    with small_files(), pytest.raises(OSError, match=full("a.heic", scratch)):
        Photo.open(tmp_path / "a.heic")


def test_of_a_jpeg_xl(tmp_path, levels, scratch):
    pytest.importorskip("pillow_jxl")
    Image.fromarray(levels).save(tmp_path / "a.jxl", quality=50)
    with small_files(), pytest.raises(OSError, match=full("a.jxl", scratch)):
        Photo.open(tmp_path / "a.jxl")

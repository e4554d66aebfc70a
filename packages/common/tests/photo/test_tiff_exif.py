import io
import struct

import numpy as np
import pytest
import pyvips
from retouch_common.photo.io import Photo
from retouch_common.photo.tiff_exif import append_tiff_exif, read_tiff_exif

Image = pytest.importorskip("PIL.Image", reason="Pillow is the independent reader of EXIF in TIFF files")
MAKE, ORIENTATION, EXIF, GPS, ISO, EXPOSURE, LENS, ACROSS = 271, 274, 34665, 34853, 34855, 33434, 42036, 40962
LONG_NAME = "a lens with a name that does not fit into a directory's record"


def pillow_exif(path):
    with Image.open(path) as image:
        exif = image.getexif()
        return dict(exif), dict(exif.get_ifd(EXIF)), dict(exif.get_ifd(GPS))


def camera_exif():
    exif = Image.Exif()
    exif[MAKE] = "Maker of cameras"
    exif[ORIENTATION] = 6
    exif.get_ifd(EXIF).update({ISO: 400, EXPOSURE: 0.004, LENS: LONG_NAME, ACROSS: 90})
    exif.get_ifd(GPS).update({1: "N", 2: (59.0, 51.0, 30.5)})
    exif[EXIF] = exif[GPS] = 0  # Pillow's TIFF writer puts the pointers in for the tags it sees
    return exif


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)


def check(path, across):
    first, exif, gps = pillow_exif(path)
    assert first[MAKE] == "Maker of cameras"
    assert first.get(ORIENTATION, 1) == 1
    assert exif[ISO] == 400 and float(exif[EXPOSURE]) == pytest.approx(0.004) and exif[LENS] == LONG_NAME
    assert exif[ACROSS] == across
    assert gps[1] == "N" and [float(value) for value in gps[2]] == [59.0, 51.0, 30.5]


@pytest.mark.parametrize("target", ["out.tif", "out.jpg", "out.png", "out.webp"])
@pytest.mark.parametrize("source", ["a.tif", "a.jpg"])
def test_exif_travels_between_tiff_and_other_formats(tmp_path, pixels, source, target):
    Image.fromarray(pixels).save(tmp_path / source, exif=camera_exif())
    Photo.open(tmp_path / source).write(tmp_path / target)
    check(tmp_path / target, across=60)  # it was turned
    with Image.open(tmp_path / target) as image:
        assert image.size == (60, 90)
        if source == "a.tif" and target in ("out.tif", "out.png"):
            np.testing.assert_array_equal(np.asarray(image), np.rot90(pixels, -1))


@pytest.mark.parametrize("big", [False, True])
def test_exif_is_appended_to_both_kinds_of_tiff(tmp_path, pixels, big):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path), bigtiff=big, compression="lzw")
    append_tiff_exif(path, camera_exif().tobytes(), 90, 60)
    check(path, across=90)
    np.testing.assert_array_equal(pyvips.Image.tiffload(str(path), fail_on="warning").numpy(), pixels)
    with Image.open(path) as image:
        assert image.n_frames == 1


def test_big_endian_values_are_turned_around(tmp_path, pixels):
    exif = camera_exif()
    exif.endian = ">"
    data = exif.tobytes()
    assert data[6:8] == b"MM"
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path))
    append_tiff_exif(path, data, 90, 60)
    check(path, across=90)


def test_tiff_without_exif_has_none(tmp_path, pixels):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path))
    assert read_tiff_exif(path) is None
    before = path.read_bytes()
    append_tiff_exif(path, b"Exif\0\0 nonsense", 90, 60)
    assert path.read_bytes() == before


def test_damaged_directories_are_no_exif(tmp_path):
    path = tmp_path / "a.tif"
    for content in (
        b"II*\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 20,
        struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, EXIF, 4, 1, 8, 0),  # its EXIF directory is itself
    ):
        path.write_bytes(content)
        assert read_tiff_exif(path) is None


def test_block_is_a_readable_exif_block(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.tif", exif=camera_exif())
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + read_tiff_exif(tmp_path / "a.tif"))
    assert exif[MAKE] == "Maker of cameras" and exif.get_ifd(EXIF)[ISO] == 400
    assert ORIENTATION not in exif
    assert io.BytesIO(exif.tobytes()).read(6) == b"Exif\0\0"

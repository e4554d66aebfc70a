"""Files that `nox -s fuzz` found."""

import struct

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageOps
from retouch_common.photo.io import Photo
from retouch_common.photo.png_chunks import SIGNATURE, chunk

from ..conftest import smooth_pixels, write_photo


def test_exif_after_the_pixels_of_a_png_turns_the_photo(tmp_path):
    """The PNG specification allows that, and ExifTool writes it so."""
    levels = smooth_pixels(60, 80, 3, np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(levels).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:])
    assert data.startswith(SIGNATURE)
    photo = Photo.open(tmp_path / "a.png")
    upright = np.rot90(levels, -1)
    np.testing.assert_array_equal(photo.read(), upright)
    np.testing.assert_array_equal(photo.read_rows(0, photo.height), upright)
    write_photo(photo, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(image)), upright)


def test_a_profile_that_cannot_be_used_is_named_at_once(tmp_path):
    image = pyvips.Image.new_from_array(smooth_pixels(60, 80, 3, np.uint8)).copy(interpretation="srgb")
    profile = bytearray(pyvips.Image.profile_load("p3"))
    profile[430] = 111
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", bytes(profile))
    image.pngsave(str(tmp_path / "a.png"), keep="icc")
    with pytest.raises(ValueError, match=r"a\.png: its colour profile cannot be used: .+; replace it$"):
        Photo.open(tmp_path / "a.png")


def test_exif_that_points_nowhere_is_carried(tmp_path, caplog):
    """A pointer to the exposure data whose type is not that of an offset; TIFF loses that, and says so."""
    block = struct.pack(
        "<2sHIHHHIIHHIII", b"II", 42, 8, 2, 271, 2, 4, int.from_bytes(b"Mak\0", "little"), 34665, 8, 1, 26, 0
    )
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
    for suffix in (".jpg", ".tif", ".webp"):
        write_photo(Photo.open(tmp_path / "a.jpg"), tmp_path / f"out{suffix}")
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.getexif()[271].rstrip("\0") == "Mak"
    lines = [record.message for record in caplog.records]
    assert [line.split(": ", 1)[1] for line in lines] == ["not carried over from a.jpg: EXIF (malformed)"]
    assert lines[0].startswith(str(tmp_path / "out.tif"))

"""Files that `nox -s fuzz` and attacks by hand found."""

import struct

import numpy as np
import pytest
import pyvips
import tifffile
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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_without_a_header_turns_nothing_and_is_named(tmp_path, caplog, suffix):
    """Other readers refuse it; an orientation set upright in it would belie the pixels, which were not turned."""
    levels = smooth_pixels(60, 80, 3, np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    block = exif.tobytes().replace(b"MM\0\x2a", b"MM\0\x80")
    assert b"\x80" in block
    Image.fromarray(levels).save(tmp_path / f"a{suffix}", exif=block)
    photo = Photo.open(tmp_path / f"a{suffix}")
    assert (photo.height, photo.width) == (60, 80)
    write_photo(photo, tmp_path / f"out{suffix}")
    assert f"not carried over from a{suffix}: EXIF (malformed)" in caplog.text
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.size == (80, 60) and "exif" not in image.info


@pytest.mark.parametrize("offset", [10**6, 2**63, 2**64 - 1])
def test_a_strip_after_the_end_of_a_bigtiff_is_damage(tmp_path, offset):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(smooth_pixels(60, 80, 3, np.uint8)).tiffsave(
        str(path), bigtiff=True, compression="deflate"
    )
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["StripOffsets"].valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, at, offset)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif: .+ strips or tiles overlap or lie outside the file$"):
        Photo.open(path).read_rows(0, 60)


@pytest.mark.parametrize("tiles", [False, True])
def test_pixels_whose_positions_cannot_be_read_are_damage(tmp_path, tiles):
    """libtiff reads the positions that it finds, whatever their number."""
    path = tmp_path / "a.tif"
    image = pyvips.Image.new_from_array(smooth_pixels(60, 80, 3, np.uint8))
    image.tiffsave(str(path), compression="lzw", tile=tiles, tile_width=32, tile_height=16)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        positions, compression = tags["TileOffsets" if tiles else "StripOffsets"].offset, tags["Compression"].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, positions + 4, 1 << 18)  # their number
    struct.pack_into("<H", data, compression, 60001)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif: .+ the positions of its strips or tiles are missing$"):
        Photo.open(path).read_rows(0, 60)


def written_png(path, *chunks):
    """Write a PNG with chunks after its header."""
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path)
    data, end = path.read_bytes(), len(SIGNATURE) + 25
    path.write_bytes(data[:end] + b"".join(chunk(*one) for one in chunks) + data[end:])
    return Photo.open(path)


def test_an_absurd_resolution_is_no_error(tmp_path):
    photo = written_png(tmp_path / "a.png", (b"pHYs", b"\x7f\xff\xff\xff" * 2 + b"\1"))
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        write_photo(photo, tmp_path / f"out{suffix}")
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(tmp_path / "b.tif", dpi=(4e9, 4e9))
    write_photo(Photo.open(tmp_path / "b.tif"), tmp_path / "b.png")
    assert Photo.open(tmp_path / "b.png").width == 80


def test_deeply_nested_xmp_is_dropped_and_named(tmp_path, caplog):
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%b</rdf:RDF>'
    packet = rdf % (b"<a>" * 5000 + b"</a>" * 5000)
    photo = written_png(tmp_path / "a.png", (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    write_photo(photo, tmp_path / "out.png")
    assert "not carried over from a.png: XMP (malformed)" in caplog.text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_a_profile_that_is_none_is_dropped_and_named(tmp_path, caplog, suffix):
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(tmp_path / f"a{suffix}", icc_profile=b"junk" * 100)
    write_photo(Photo.open(tmp_path / f"a{suffix}"), tmp_path / "out.png")
    assert f"not carried over from a{suffix}: ICC profile (malformed, or for another colour model)" in caplog.text
    caplog.clear()
    write_photo(Photo.open(tmp_path / "out.png"), tmp_path / "out.tif")
    assert not caplog.text


def test_what_is_lost_is_named_in_a_short_line(tmp_path, caplog):
    others = [(b"ab%cd" % (65 + number % 5), b"") for number in range(1000)]
    texts = [(b"tEXt", b"%d" % number + b"k" * 5000 + b"\0value") for number in range(1000)]
    write_photo(written_png(tmp_path / "a.png", *others, *texts), tmp_path / "out.tif")
    (record,) = caplog.records
    message = record.message.split(" from ")[1]
    assert len(message) < 2500 and message.count("chunk abAd") == 1 and "980 more)" in message

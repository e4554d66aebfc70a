"""Formats that are read through extras."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from retouch_common.inference.batch import plan_jobs
from retouch_common.photo.io import Photo
from retouch_common.testing.photos import make_dng

from ..conftest import smooth_pixels, write_photo


@pytest.fixture
def heic(tmp_path):
    """Write a lossless HEIC file with EXIF of a turned photo, as iPhones do; gives the path and its levels."""
    pillow_heif = pytest.importorskip("pillow_heif")

    def write(dtype=np.uint8, **options):
        levels = smooth_pixels(60, 80, 3, dtype)
        image = pillow_heif.from_bytes("RGB" if dtype == np.uint8 else "RGB;16", (80, 60), levels.tobytes())
        exif = Image.Exif()
        exif[271], exif[274] = "Maker", 1
        image.info["exif"] = exif.tobytes()
        image.info.update(options)
        image.save(tmp_path / "a.heic", quality=-1, chroma=444, matrix_coefficients=0)
        return tmp_path / "a.heic", levels

    return write


def test_heic_keeps_pixels_profile_and_exif(heic, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path, levels = heic(icc_profile=profile, icc_profile_type="prof")
    photo = Photo.open(path)
    np.testing.assert_array_equal(photo.read(), levels)
    patch = np.zeros((8, 8, 3), np.uint8)
    write_photo(photo, tmp_path / "out.png", [(10, 20, patch)])
    with Image.open(tmp_path / "out.png") as image:
        levels[20:28, 10:18] = 0
        np.testing.assert_array_equal(np.asarray(image), levels)
        assert image.info["icc_profile"] == profile and image.getexif()[271] == "Maker"


def test_heic_of_ten_bits_keeps_them(heic, tmp_path):
    path, levels = heic(np.uint16)
    photo = Photo.open(path)
    assert photo.dtype == np.uint16 and np.abs(photo.read().astype(int) - levels).max() < 64
    with pytest.raises(ValueError, match=r"out.jpg: the photo has 16 bits per channel and JPEG holds 8"):
        photo.check_output(tmp_path / "out.jpg")


def test_heic_is_limited_in_pixels_and_refused_if_damaged(heic):
    path, _ = heic()
    with pytest.raises(ValueError, match=r"a.heic: has 80x60 pixels, more than the 0.004 million allowed for HEIC"):
        Photo.open(path, max_pixels=12_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=r"a.heic: cannot be read, it is damaged or cut off: ."):
        Photo.open(path).read()


def test_heic_without_a_decodable_image_is_refused(heic):
    """Its coding parameters are missing, of which pillow-heif says nothing."""
    path, _ = heic()
    data = path.read_bytes()
    assert data.count(b"hvcC") == 1
    path.write_bytes(data.replace(b"hvcC", b"none"))
    with pytest.raises(ValueError, match=r"a.heic: cannot be read, it is damaged or cut off: it holds no image$"):
        Photo.open(path)


def test_what_a_heic_loses_is_named(heic, tmp_path, caplog):
    path, _ = heic(exif=b"Exif\0\0 nonsense")
    credentials = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"\0\0\0\0manifest\0"
    path.write_bytes(path.read_bytes() + (len(credentials) + 8).to_bytes(4, "big") + b"uuid" + credentials)
    write_photo(Photo.open(path), tmp_path / "out.tif")
    assert "not carried over from a.heic: content credentials (C2PA); EXIF (malformed)" in caplog.text


def test_output_of_an_import_in_a_folder_is_a_tiff(heic, tmp_path):
    path, _ = heic()
    (job,) = plan_jobs([path], tmp_path / "out")
    assert job.target == tmp_path / "out" / "a.tif"


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    with pytest.raises(ValueError, match=r"a.heic: is an HEIC photo, which needs an extra: .*common\[heif\]'; or conv"):
        Photo.open(tmp_path / "a.heic")


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
XMP += b'<r:Description xmlns:m="urn:mine" m:note="mine"/></r:RDF></x:xmpmeta>'
IPTC = b"\x1c\x02\x78\x00\x07caption"


@pytest.fixture
def dng(tmp_path):
    """Write a Bayer mosaic of a neutral grey, half as bright on the right, with XMP, IPTC and a private tag."""
    pytest.importorskip("rawpy")
    mosaic = np.full((100, 120), 20_000, np.uint16)
    mosaic[:, 60:] //= 2
    tags = [
        (700, 1, len(XMP), XMP, False),
        (33723, 7, len(IPTC), IPTC, False),
        (65000, 3, 1, 7, False),
    ]
    path = tmp_path / "a.dng"
    make_dng(path, mosaic, tags=tags, resolution=(300, 300))
    return path


def test_raw_files_are_rendered_in_16_bits(dng, tmp_path):
    photo = Photo.open(dng)
    assert photo.dtype == np.uint16 and (photo.width, photo.height) == (120, 100)
    left, right = (photo.read(x, 20, 40, 60).reshape(-1, 3).mean(axis=0) for x in (8, 72))
    assert np.ptp(left) < 0.02 * left.max() and 1.25 < left.mean() / right.mean() < 1.6  # linear 2 in sRGB
    write_photo(photo, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].asarray().dtype == np.uint16 and file.pages[0].tags["Make"].value == "Maker"


def test_xmp_iptc_and_resolution_of_raw_files_are_kept_and_the_rest_named(dng, tmp_path, caplog):
    write_photo(Photo.open(dng), tmp_path / "out.tif")
    assert caplog.messages == [f"{tmp_path / 'out.tif'}: not carried over from a.dng: tag 65000"]
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        tags = file.pages[0].tags
        assert b'm:note="mine"' in tags["XMP"].value and tags["IPTCNAA"].value == IPTC
        assert file.pages[0].get_resolution("INCH") == (300, 300)


def test_metadata_of_raw_files_without_a_tiff_structure_are_named(tmp_path, monkeypatch, caplog):
    rawpy = pytest.importorskip("rawpy")

    class Raw(contextlib.nullcontext):
        """What libraw gives of a file that it can read."""

        sizes = SimpleNamespace(width=40, height=30)
        black_level_per_channel, white_level = [0, 0, 0, 0], 65535

        def __enter__(self):
            return self

        def postprocess(self, **options):
            return smooth_pixels(30, 40, 3, np.uint16)

    monkeypatch.setattr(rawpy, "imread", lambda path: Raw())
    (tmp_path / "a.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(100))
    write_photo(Photo.open(tmp_path / "a.raf"), tmp_path / "out.tif")
    assert "not carried over from a.raf: metadata outside a readable TIFF structure" in caplog.text


def test_raw_file_that_libraw_cannot_read_is_named(dng):
    dng.write_bytes(dng.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"a.dng: is a camera raw file \(DNG\) that libraw cannot read: ."):
        Photo.open(dng)


def test_raw_file_whose_black_is_brighter_than_white_is_damaged(dng):
    with tifffile.TiffFile(dng) as file:
        at = file.pages[0].tags[50714].valueoffset
    data = bytearray(dng.read_bytes())
    data[at : at + 4] = (70_000).to_bytes(4, "little")
    dng.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.dng: .+ level of black, 70000, is not below that of white, 65535$"):
        Photo.open(dng)

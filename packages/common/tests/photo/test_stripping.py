"""What --strip leaves out of photographs, read by Pillow."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from retouch_common.photo.io import Photo

from ..conftest import write_photo

SUFFIXES = [".jpg", ".png", ".tif", ".webp", ".avif"]
LATITUDE = (48.0, 51.0, 29.5)
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:drone="http://www.dji.com/drone-dji/1.0/" exif:GPSLatitude="48,51.49N" drone:GpsLongitude="2.2945">
<exif:GPSAltitude>35/1</exif:GPSAltitude><xmp:Rating>4</xmp:Rating></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture
def placed(tmp_path):
    """Write a photo with coordinates in EXIF and XMP, a camera's name, and a profile."""

    def write(suffix):
        levels = np.random.default_rng(0).integers(90, 160, (60, 80, 3), np.uint8)
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "Maker"
        exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: LATITUDE, 3: "E", 4: (2.0, 17.0, 40.2)})
        options = {"exif": exif, "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
        path = tmp_path / f"in{'.jpg' if suffix == '.tif' else suffix}"
        if suffix == ".png":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", XMP)
            text.add_text("exif:GPSLatitude", "48/1, 51/1, 29/1")
            text.add_text("Author", "Somebody")
            options["pnginfo"] = text
        else:
            options["xmp"] = XMP.encode()
        Image.fromarray(levels).save(path, **options)
        if suffix == ".tif":  # Pillow cannot write a TIFF's GPS directory
            Photo.open(path).write_unchanged(path := tmp_path / "in.tif")
        with Image.open(path) as image:
            assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[2] == LATITUDE
        return path

    return write


def coordinates(path):
    """What Pillow finds: (GPS directory, maker, XMP, other metadata), and the bytes of the file."""
    data = path.read_bytes()
    with Image.open(path) as image:
        exif = image.getexif()
        xmp = image.info.get("xmp") or exif.get(700) or image.info.get("XML:com.adobe.xmp") or b""
        xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
        return dict(exif.get_ifd(ExifTags.IFD.GPSInfo)), exif.get(ExifTags.Base.Make), xmp, image.info, data


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("unchanged", [False, True])
def test_coordinates_are_left_out(placed, tmp_path, suffix, unchanged):
    photo, out = Photo.open(placed(suffix)), tmp_path / f"out{suffix}"
    photo.write_unchanged(out, strip="gps") if unchanged else write_photo(photo, out, strip="gps")
    gps, make, xmp, info, data = coordinates(out)
    assert gps == {} and make == "Maker" and info["icc_profile"]
    assert b"gps" not in xmp.lower() and b"Rating" in xmp
    for order in "<>":
        assert struct.pack(order + "IIII", 48, 1, 51, 1) not in data
    assert "exif:GPSLatitude" not in info and (suffix != ".png" or info["Author"] == "Somebody")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_metadata_but_the_colours_are_left_out(placed, tmp_path, suffix, caplog):
    source, out = placed(suffix), tmp_path / f"out{suffix}"
    write_photo(Photo.open(source), out, strip="all")
    gps, make, xmp, info, data = coordinates(out)
    assert gps == {} and make is None and xmp == b"" and info["icc_profile"]
    assert b"Maker" not in data and b"Rating" not in data and b"Somebody" not in data
    assert not caplog.records  # what was asked for is no loss
    np.testing.assert_allclose(Photo.open(out).read(), Photo.open(source).read(), atol=24)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_coordinates_stay_without_the_option(placed, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    write_photo(Photo.open(placed(suffix)), out)
    gps, _, xmp, _, _ = coordinates(out)
    assert gps[2] == LATITUDE and b"GPSAltitude" in xmp


@pytest.mark.parametrize("strip", ["All", "exif", True])
def test_an_unknown_value_is_refused_and_leaves_no_output(placed, tmp_path, strip):
    out = tmp_path / "out.jpg"
    with pytest.raises(ValueError, match="strip must be gps or all, not"):
        write_photo(Photo.open(placed(".jpg")), out, strip=strip)
    assert not out.exists()

"""The guide's table of what becomes of metadata is what other programs find in the outputs."""

import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, PngImagePlugin
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_segments import read_segments, segment

from ..conftest import smooth_pixels, write_photo
from .test_metadata import IPTC, PIXELS, PREVIEW, exif_with_notes, iptc_of, resource, with_segments

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "photographs.md"
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WebP": ".webp", "AVIF": ".avif"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
XMP += b'<r:Description xmlns:m="urn:mine" m:note="mine"/></r:RDF></x:xmpmeta>'
OTHERS = resource(1061, b"digest")


def full_jpeg(path):
    file = io.BytesIO()
    exif = b"Exif\0\0" + exif_with_notes()[0]
    Image.fromarray(PIXELS).save(file, "JPEG", exif=exif, xmp=XMP, icc_profile=PROFILE, dpi=(300, 300))
    resources = resource(1028, IPTC) + OTHERS + resource(1036, b"\0" * 28 + PREVIEW)
    app13 = segment(0xED, b"Photoshop 3.0\0" + resources)
    path.write_bytes(with_segments(file.getvalue(), app13, segment(0xFE, b"a comment")))


def text_png(path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Jürgen")
    Image.fromarray(PIXELS).save(path, pnginfo=text)


def ultra_hdr(path):
    pixels = pyvips.Image.new_from_array(smooth_pixels(96, 128, 3, np.uint8)).copy(interpretation="srgb")
    pixels.colourspace("scrgb").uhdrsave(str(path))


def resolution(image):
    exif = image.getexif()
    found = image.info.get("dpi") or (exif.get(282), exif.get(283))
    return found == pytest.approx((300, 300), abs=0.1)


def image_resources(path, image):
    return OTHERS in path.read_bytes() or OTHERS.hex() in image.info.get("Raw profile type iptc", "").replace("\n", "")


# Row of the table: source, name in the warning, and whether a file and Pillow's image of it carry it.
ROWS = {
    "ICC profile": (full_jpeg, None, lambda path, image: image.info.get("icc_profile") == PROFILE),
    "EXIF": (full_jpeg, None, lambda path, image: image.getexif().get(18246) == 4),
    "maker notes": (full_jpeg, None, lambda path, image: b"MAKER" in image.getexif().get_ifd(34665).get(37500, b"")),
    "XMP": (full_jpeg, None, lambda path, image: b'm:note="mine"' in image.info.get("xmp", b"")),
    "IPTC": (full_jpeg, None, lambda path, image: iptc_of(path).rstrip(b"\0") == IPTC),
    "Photoshop's image resources": (full_jpeg, None, image_resources),
    "resolution": (full_jpeg, None, lambda path, image: resolution(image)),
    "comments of a JPEG": (full_jpeg, "comments", lambda path, image: b"a comment" in path.read_bytes()),
    "text of a PNG": (text_png, "text (Author)", lambda path, image: image.info.get("Author") == "Jürgen"),
    "gain map of an Ultra HDR JPEG": (
        ultra_hdr,
        "gain map",
        lambda path, image: path.suffix == ".jpg" and read_segments(path).gain_map is not None,
    ),
}


@pytest.mark.skipif(not GUIDE.is_file(), reason="the guide is not here")
def test_table_of_the_guide_holds(tmp_path, caplog):
    lines = ["| | " + " | ".join(SUFFIXES) + " |", "|---" * (1 + len(SUFFIXES)) + "|"]
    for row, (make, name, carries) in ROWS.items():
        if make is ultra_hdr and not pyvips.type_find("VipsOperation", "uhdrsave"):
            pytest.skip("this libvips writes no Ultra HDR")
        source = tmp_path / ("source.png" if make is text_png else "source.jpg")
        make(source)
        found = []
        for suffix in SUFFIXES.values():
            caplog.clear()
            out = tmp_path / f"out{suffix}"
            write_photo(Photo.open(source), out)
            with Image.open(out) as image:
                image.load()
                kept = carries(out, image)
            assert kept or (name is not None and name in caplog.text), (row, suffix)
            found.append("kept" if kept else "named")
            assert PREVIEW[20:] not in out.read_bytes()
        lines.append(f"| {row} | " + " | ".join(found) + " |")
    lines.append("| previews" + " | removed" * len(SUFFIXES) + " |")
    table = "\n".join(lines)
    assert table in GUIDE.read_text(encoding="utf-8"), f"the guide needs this table:\n{table}"

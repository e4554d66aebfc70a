"""The guide's table of what becomes of metadata is what other programs find in the outputs."""

import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, PngImagePlugin
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_segments import segment
from retouch_common.photo.png_chunks import chunk

from ..conftest import smooth_pixels, write_photo
from .test_colour_spaces import as_srgb, avif_of, png_with, skin
from .test_metadata import IPTC, PIXELS, PREVIEW, exif_with_notes, iptc_of, jpeg, resource, with_segments

GUIDE = Path(__file__).parents[4] / "docs" / "guides" / "photographs.md"
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WebP": ".webp", "AVIF": ".avif"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
XMP += b'<r:Description xmlns:m="urn:mine" m:note="mine"/></r:RDF></x:xmpmeta>'
DEPTH_XMP = XMP.replace(b"urn:mine", b"http://ns.google.com/photos/1.0/depthmap/").replace(b"note", b"Data")
OTHERS = resource(1061, b"digest")
P3 = bytes(pyvips.Image.profile_load("p3"))


def write_full(path):
    """Write a photo with all metadata that its format has a place for."""
    block = exif_with_notes()[0]
    options = {"icc_profile": PROFILE, "xmp": XMP}
    resources = resource(1028, IPTC) + OTHERS + resource(1036, b"\0" * 28 + PREVIEW)
    if path.suffix == ".jpg":
        data = jpeg(exif=b"Exif\0\0" + block, dpi=(300, 300), **options)
        app13 = segment(0xED, b"Photoshop 3.0\0" + resources)
        path.write_bytes(with_segments(data, app13, segment(0xFE, b"a comment")))
        return
    exif = Image.Exif()
    exif.load(block)
    exif[282] = exif[283] = 300
    exif[296] = 2
    if path.suffix == ".heic":
        import pillow_heif

        image = pillow_heif.from_bytes("RGB", (80, 60), PIXELS.tobytes())
        image.info.update(exif=exif.tobytes(), xmp=XMP, icc_profile=PROFILE, icc_profile_type="prof")
        image.save(path)
        return
    exif[33723] = IPTC
    exif[34377] = OTHERS if path.suffix != ".tif" else resources
    if path.suffix == ".tif":
        exif[700] = options.pop("xmp")
    Image.fromarray(PIXELS).save(path, exif=exif, **options)


def write_text(path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Jürgen")
    Image.fromarray(PIXELS).save(path, pnginfo=text)


def write_ultra_hdr(path):
    pixels = pyvips.Image.new_from_array(smooth_pixels(96, 128, 3, np.uint8)).copy(interpretation="srgb")
    pixels.colourspace("scrgb").uhdrsave(str(path))


def write_pages(path):
    Image.fromarray(PIXELS).save(path, save_all=True, append_images=[Image.fromarray(PIXELS)])


def write_mpf(path):
    Image.fromarray(PIXELS).save(path, "MPO", save_all=True, append_images=[Image.fromarray(PIXELS[::2, ::2])])


def write_extended_xmp(path):
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 9, 0) + b"<x/>12345"
    path.write_bytes(with_segments(jpeg(xmp=XMP), segment(0xE1, extended)))


def write_depth_map(path):
    if path.suffix == ".jpg":
        path.write_bytes(jpeg(xmp=DEPTH_XMP))
        return
    Image.fromarray(smooth_pixels(60, 80, 4, np.uint8)).save(path)  # its transparency becomes a depth map
    path.write_bytes(path.read_bytes().replace(b"auxiliary:alpha", b"auxiliary:depth"))


def write_cicp(path):
    png_with(path, chunk(b"cICP", bytes([12, 13, 0, 1])))


def write_gamma(path):
    png_with(path, chunk(b"gAMA", (100_000).to_bytes(4, "big")))


def write_nclx(path):
    if path.suffix == ".avif":
        avif_of(path, 12, 13)
        return
    import pillow_heif

    image = pillow_heif.from_bytes("RGB", (80, 60), skin().tobytes())
    image.save(path, color_primaries=12, transfer_characteristics=13)


def has_resolution(image):
    exif = image.getexif()
    found = image.info.get("dpi") or (exif.get(282), exif.get(283))
    return found == pytest.approx((300, 300), abs=0.1)


def has_image_resources(path, image):
    return OTHERS in path.read_bytes() or OTHERS.hex() in image.info.get("Raw profile type iptc", "").replace("\n", "")


def has_gain_map(path, image):
    """Whether libultrahdr finds one, and Pillow a second image."""
    if image.format != "MPO" or image.n_frames != 2:
        return False
    return any(name.startswith("gainmap") for name in pyvips.Image.uhdrload(str(path)).get_fields())


def has_second_image(path, image):
    return getattr(image, "n_frames", 1) > 1 or path.read_bytes().count(b"\xff\xd8\xff") > 1


def has_depth_map(path, image):
    data = path.read_bytes()
    return b'm:Data="mine"' in data or b"auxiliary:depth" in data


def has_profile_of(image, expected):
    """Whether lcms sees in a ramp of colours what is expected."""
    profile = image.info.get("icc_profile")
    return profile is not None and np.abs(as_srgb(skin(), profile) - expected).mean() < 1


def carries_p3(path, image):
    if b"cICP\x0c\x0d\0\1" in path.read_bytes():
        return "kept"
    return "as ICC profile" if has_profile_of(image, as_srgb(skin(), P3)) else False


def carries_gamma(path, image):
    if image.info.get("gamma") == pytest.approx(1):
        return "kept"
    light = skin() / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return "as ICC profile" if has_profile_of(image, expected) else False


@dataclass
class Row:
    """A row of the table.

    Attributes:
        sources: Names of files that have it, and ``write`` makes them.
        carries: Whether an output, given by path and as Pillow's image, has it; or how.
        name: What the warning calls it, or the refusal; None if every output has it.
    """

    write: object
    sources: tuple[str, ...]
    carries: object
    name: str | None = None


FULL = "full.jpg", "full.tif", "full.webp", "full.avif"
ROWS = {
    "ICC profile": Row(write_full, (*FULL, "full.heic"), lambda path, image: image.info.get("icc_profile") == PROFILE),
    "EXIF": Row(write_full, (*FULL, "full.heic"), lambda path, image: image.getexif().get(18246) == 4),
    "maker notes": Row(
        write_full,
        (*FULL, "full.heic"),
        lambda path, image: b"MAKER" in image.getexif().get_ifd(34665).get(37500, b""),
    ),
    "XMP": Row(write_full, (*FULL, "full.heic"), lambda path, image: b'm:note="mine"' in image.info.get("xmp", b"")),
    "IPTC": Row(write_full, FULL, lambda path, image: iptc_of(path).rstrip(b"\0") == IPTC),
    "Photoshop's image resources": Row(write_full, FULL, has_image_resources),
    "resolution": Row(write_full, (*FULL, "full.heic"), lambda path, image: has_resolution(image)),
    "comments of a JPEG": Row(
        write_full, ("full.jpg",), lambda path, image: b"a comment" in path.read_bytes(), "comments"
    ),
    "text of a PNG": Row(
        write_text, ("text.png",), lambda path, image: image.info.get("Author") == "Jürgen", "text (Author)"
    ),
    "cICP of a PNG": Row(write_cicp, ("cicp.png",), carries_p3),
    "gAMA of a PNG": Row(write_gamma, ("gamma.png",), carries_gamma),
    "NCLX of an AVIF or HEIC": Row(write_nclx, ("nclx.avif", "nclx.heic"), carries_p3),
    "gain map of an Ultra HDR JPEG": Row(write_ultra_hdr, ("hdr.jpg",), has_gain_map, "gain map"),
    "depth map of a JPEG or AVIF": Row(write_depth_map, ("depth.jpg", "depth.avif"), has_depth_map, "depth map"),
    "further MPF images of a JPEG": Row(write_mpf, ("mpf.jpg",), has_second_image, "1 further image"),
    "extended XMP of a JPEG": Row(
        write_extended_xmp, ("extended.jpg",), lambda path, image: b"12345" in path.read_bytes(), "extended XMP"
    ),
    "further pages of a TIFF": Row(write_pages, ("pages.tif",), has_second_image, "holds 2 pages"),
}


def write_outputs(source, caplog):
    """Write a photo in every format; return paths and what was logged, or no path and why it was refused."""
    found = []
    for suffix in SUFFIXES.values():
        caplog.clear()
        target = source.with_name(f"out-of-{source.name}{suffix}")
        try:
            write_photo(Photo.open(source), target)
        except ValueError as error:
            found.append((None, str(error)))
        else:
            found.append((target, caplog.text))
            assert PREVIEW[20:] not in target.read_bytes()
    return found


def becomes(row, target, text):
    """Return what becomes of a row's metadata in an output: "kept" or how, "named" or "refused"."""
    named = row.name is not None and row.name in text
    if target is None:
        assert named, text
        return "refused"
    with Image.open(target) as image:
        image.load()
        carried = row.carries(target, image)
    assert bool(carried) != named, (target, text)
    return "named" if named else carried if isinstance(carried, str) else "kept"


@pytest.mark.skipif(not GUIDE.is_file(), reason="the guide is not here")
@pytest.mark.skipif(not pyvips.type_find("VipsOperation", "uhdrsave"), reason="this libvips writes no Ultra HDR")
def test_table_of_the_guide_holds(tmp_path, caplog):
    lines = ["| | " + " | ".join(SUFFIXES) + " |", "|---" * (1 + len(SUFFIXES)) + "|"]
    outputs = {}
    for title, row in ROWS.items():
        found = []
        for name in row.sources:
            if name.endswith(".heic") and importlib.util.find_spec("pillow_heif") is None:
                continue
            if name not in outputs:
                row.write(tmp_path / name)
                outputs[name] = write_outputs(tmp_path / name, caplog)
            found.append([becomes(row, *output) for output in outputs[name]])
        assert all(other == found[0] for other in found), (title, found)
        lines.append(f"| {title} | " + " | ".join(found[0]) + " |")
    lines.append("| previews" + " | removed" * len(SUFFIXES) + " |")
    table = "\n".join(lines)
    assert table in GUIDE.read_text(encoding="utf-8"), f"the guide needs this table:\n{table}"

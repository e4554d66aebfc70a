"""What HEIC and AVIF files hold besides their image is named; libheif says what they hold."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from retouch_common.photo.io import Photo

from ..conftest import smooth_pixels, write_photo

pillow_heif = pytest.importorskip("pillow_heif")
ALPHA = {".heic": b"urn:mpeg:hevc:2015:auxid:1", ".avif": b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"}
DEPTH = {".heic": b"urn:mpeg:hevc:2015:auxid:2", ".avif": b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth"}
APPLE = b"urn:com:apple:photo:2020:aux:hdrgainmap"


def coded(suffix, mode):
    """Return a file with EXIF, and with an auxiliary image of transparency if the mode has it."""
    file, levels = io.BytesIO(), smooth_pixels(60, 80, len(mode), np.uint8)
    exif = Image.Exif()
    exif[271] = "Maker"
    if suffix == ".avif":
        Image.fromarray(levels).save(file, "AVIF", exif=exif)
    else:
        image = pillow_heif.from_bytes(mode, (80, 60), levels.tobytes())
        image.info["exif"] = exif.tobytes()
        image.save(file)
    return file.getvalue()


def losses(path, caplog):
    """Return what is named when a file is written as TIFF, without "not carried over"."""
    write_photo(Photo.open(path), path.with_name("out.tif"))
    return [record.message.split(f"{path.name}: ")[1] for record in caplog.records]


@pytest.mark.parametrize(
    ("suffix", "purpose", "name"),
    [
        (".heic", DEPTH[".heic"], "depth map"),
        (".avif", DEPTH[".avif"], "depth map"),
        (".avif", APPLE, "gain map"),
        (".heic", b"urn:mpeg:hevc:2015:auxid:9", "auxiliary image"),
        (".avif", b"urn:of:another", "auxiliary image"),
    ],
)
def test_auxiliary_images_are_named(tmp_path, caplog, suffix, purpose, name):
    """That of transparency is given another purpose."""
    data, path = coded(suffix, "RGBA"), tmp_path / f"a{suffix}"
    assert ALPHA[suffix] in data
    path.write_bytes(data.replace(ALPHA[suffix], purpose.ljust(len(ALPHA[suffix]), b"\0")))
    info = pillow_heif.open_heif(path).info
    assert info["depth_images"] if purpose == DEPTH[suffix] else purpose.decode() in info["aux"]
    assert losses(path, caplog) == [name]


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_tone_mapped_items_are_gain_maps(tmp_path, caplog, suffix):
    """Items of ISO 21496-1; here EXIF is declared to be one."""
    data, count = re.subn(rb"(infe.{8})Exif", rb"\1tmap", coded(suffix, "RGB"), flags=re.DOTALL)
    assert count == 1
    (tmp_path / f"a{suffix}").write_bytes(data)
    assert losses(tmp_path / f"a{suffix}", caplog) == ["gain map"]


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_transparency_is_no_loss(tmp_path, caplog, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(coded(suffix, "RGBA"))
    assert Photo.open(path).has_opacity and losses(path, caplog) == []

"""Ultra HDR photographs keep their gain map; libultrahdr (in libvips) and Pillow read the result."""

import numpy as np
import pytest
import pyvips
from PIL import Image
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_header import append_gain_map, pack_header
from retouch_common.photo.jpeg_segments import APP1, MAX_XMP, XMP, read_segments, segment
from retouch_common.photo.metadata import Metadata
from retouch_common.photo.xmp import Edit, Xmp

from ..conftest import smooth_pixels, write_photo

pytestmark = pytest.mark.skipif(
    not pyvips.type_find("VipsOperation", "uhdrsave"), reason="this libvips reads no Ultra HDR"
)


@pytest.fixture
def ultra_hdr(tmp_path):
    pixels = smooth_pixels(96, 128, 3, np.uint8)
    hdr = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").colourspace("scrgb") * 2.5
    path = tmp_path / "a.jpg"
    hdr.copy(interpretation="scrgb").uhdrsave(str(path), Q=95)
    return path


def gain_map(path):
    image = pyvips.Image.uhdrload(str(path))
    found = image.get("gainmap-data") if image.get_typeof("gainmap-data") else image.get("gainmap")
    gains = found if isinstance(found, pyvips.Image) else pyvips.Image.new_from_buffer(found, "")
    settings = {
        name: image.get(name) for name in image.get_fields() if name.startswith("gainmap-") and "data" not in name
    }
    return gains.numpy(), settings


def test_gain_map_is_kept_bit_by_bit(ultra_hdr, tmp_path, caplog):
    out = tmp_path / "out.jpg"
    photo = Photo.open(ultra_hdr)
    edited = photo.read()
    edited[20:40, 20:40] //= 2
    photo.write_stripes(out, [edited], edit=Edit(software="test", version="1"))
    assert not caplog.text
    assert read_segments(out).gain_map == read_segments(ultra_hdr).gain_map is not None
    before, after = gain_map(ultra_hdr), gain_map(out)
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1] == before[1]
    with Image.open(out) as image:
        assert image.format == "MPO" and image.n_frames == 2
        assert image.size == (128, 96)
        image.seek(1)
        image.load()
    assert np.abs(Photo.open(out).read().astype(int) - edited).mean() < 4
    light = pyvips.Image.uhdrload(str(out)).uhdr2scRGB()
    assert light.max() > 1.2  # brighter than the base's white


def test_turned_photo_turns_its_gain_map(ultra_hdr, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    block = exif.tobytes()
    found = read_segments(ultra_hdr)
    with Image.open(ultra_hdr) as image:
        image.convert("RGB").save(tmp_path / "base.jpg", "JPEG", quality=95)
    metadata = Metadata(
        exif=block.removeprefix(b"Exif\0\0"),
        xmp=found.xmp,
        gain_map=found.gain_map,
        iso_gain_map=found.iso_gain_map,
    )
    header = pack_header(metadata, jfif=False)
    raw = (tmp_path / "base.jpg").read_bytes()
    (tmp_path / "turned.jpg").write_bytes(raw[:2] + header + raw[2:])
    append_gain_map(tmp_path / "turned.jpg", found.gain_map, len(header))
    write_photo(Photo.open(tmp_path / "turned.jpg"), tmp_path / "out.jpg")
    before, after = gain_map(tmp_path / "turned.jpg"), gain_map(tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (96, 128) and image.getexif().get(274, 1) == 1
    assert np.abs(after[0].astype(int) - np.rot90(before[0], -1)).mean() < 3
    assert after[1] == before[1]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_lost_gain_map_is_named(ultra_hdr, tmp_path, caplog, suffix):
    write_photo(Photo.open(ultra_hdr), tmp_path / f"out{suffix}")
    assert f"out{suffix}: not carried over from a.jpg: gain map" in caplog.text
    assert b"hdrgm" not in (tmp_path / f"out{suffix}").read_bytes()


def test_gain_map_stays_announced_where_the_xmp_is_too_large(ultra_hdr, tmp_path, caplog):
    """The packet is replaced, and still says that the photo has one."""
    announcing = Xmp()
    announcing.announce_gain_map(9)
    packet = announcing.serialize()
    large = packet.replace(b"</rdf:RDF>", b"<!--%s--></rdf:RDF>" % (b"x" * (MAX_XMP - len(packet) - 20)))
    data = ultra_hdr.read_bytes()
    assert read_segments(ultra_hdr).xmp is None
    ultra_hdr.write_bytes(data[:2] + segment(APP1, XMP + large) + data[2:])
    photo = Photo.open(ultra_hdr)
    photo.write_stripes(tmp_path / "out.jpg", [photo.read()], edit=Edit(software="test", version="1"))
    assert "XMP (too large for JPEG)" in caplog.text
    written = read_segments(tmp_path / "out.jpg")
    assert Xmp(written.xmp).gain_map and written.gain_map is not None


def test_other_gain_maps_are_not_announced_as_ultra_hdr(ultra_hdr, tmp_path):
    """Such as Apple's, which the photo's XMP does not announce."""
    image = pyvips.Image.black(8, 8).jpegsave_buffer()
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/><!-- urn:com:apple:photo:2020:aux:hdrgainmap -->'
    apple = image[:2] + segment(APP1, XMP + packet) + image[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(pyvips.Image.black(96, 64, bands=3).copy(interpretation="srgb").jpegsave_buffer() + apple)
    photo = Photo.open(path)
    assert photo._metadata.gain_map == apple
    photo.write_stripes(tmp_path / "out.jpg", [photo.read()], edit=Edit(software="test", version="1"))
    assert not Xmp(read_segments(tmp_path / "out.jpg").xmp).gain_map

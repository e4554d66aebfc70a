import struct

import numpy as np
import pytest
import pyvips
from PIL import Image
from retouch_common.photo.formats import format_of_name, is_lossless_webp, sniff
from retouch_common.photo.io import Photo
from retouch_common.photo.png_chunks import chunk


def frames(count):
    pixels = np.random.default_rng(0).integers(0, 255, (32 * count, 32, 3)).astype(np.uint8)
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gint_type, "page-height", 32)
    return image


def refusal(path):
    with pytest.raises((ValueError, OSError)) as caught:
        Photo.open(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.avif"])
def test_content_decides(make_photo, name):
    path, _ = make_photo(name)
    assert sniff(path) is format_of_name(name)
    bare = path.rename(path.with_suffix(".photo"))
    assert sniff(bare) is format_of_name(name)


def test_a_misnamed_photo_is_read_by_its_content(make_photo):
    path, _ = make_photo("portrait.jpg")
    assert Photo.open(path.rename(path.with_suffix(".png"))).format.name == "JPEG"


def test_things_that_are_no_photos(tmp_path):
    for name, content, message in [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello, I am a text", "is not a photo"),
        ("page.png", b"%PDF-1.7", "is a PDF"),
        ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "phone.heic: "),
        ("film.avif", b"\0\0\0\x18ftypavis\0\0\0\0avifavis", "is an animated AVIF"),
        ("clip.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "is a video"),
        ("head.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "cannot be read, it is damaged or cut off"),
        ("head.png", b"\x89PNG\r\n\x1a\n", "cannot be read, it is damaged or cut off"),
        ("head.tif", b"II*\0\x08\0\0\0", "cannot be read, it is damaged or cut off"),
    ]:
        (tmp_path / name).write_bytes(content)
        assert message in refusal(tmp_path / name)
    assert "is a folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "missing.jpg")


def test_animations_and_pages_are_refused(tmp_path):
    frames(3).gifsave(str(tmp_path / "a.gif"))
    assert "is a GIF" in refusal(tmp_path / "a.gif")
    frames(3).webpsave(str(tmp_path / "a.webp"))
    assert "holds 3 frames" in refusal(tmp_path / "a.webp")
    frames(2).tiffsave(str(tmp_path / "a.tif"))
    assert "holds 2 pages" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("before", [0, 100_000])
def test_animated_png_is_refused(make_photo, before):
    path, _ = make_photo("a.png")
    data = path.read_bytes()
    text = chunk(b"tEXt", b"Comment\0" + b"x" * before) if before else b""
    path.write_bytes(data[:33] + text + chunk(b"acTL", struct.pack(">II", 2, 0)) + data[33:])
    assert "is an animated PNG" in refusal(path)


def test_tiny_photo_is_refused(make_photo):
    path, _ = make_photo("dot.png", size=(1, 1))
    assert refusal(path).endswith("is 1x1 pixels; at least 16x16 are needed")


def test_floats_and_lab_are_refused(tmp_path):
    image = pyvips.Image.new_from_array(np.ones((20, 20, 3), np.float32))
    image.copy(interpretation="scrgb").tiffsave(str(tmp_path / "f.tif"))
    assert "only 8 and 16 bits" in refusal(tmp_path / "f.tif")
    image.cast("uchar").copy(interpretation="srgb").colourspace("labs").tiffsave(str(tmp_path / "l.tif"))
    assert "supported" in refusal(tmp_path / "l.tif")


def test_lossless_webp_is_recognised(make_photo):
    assert is_lossless_webp(make_photo("a.webp")[0])
    assert is_lossless_webp(make_photo("b.webp", alpha=True, metadata={})[0])
    assert not is_lossless_webp(make_photo("c.webp", lossless=False, alpha=True)[0])


@pytest.mark.parametrize("major", [b"avis", b"avif"])
def test_animated_avif_is_refused_whatever_its_major_brand(tmp_path, major):
    picture = Image.fromarray(np.zeros((32, 32, 3), np.uint8))
    picture.save(tmp_path / "a.avif", save_all=True, append_images=[picture])
    data = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "a.avif").write_bytes(data[:8] + major + data[12:])
    assert "is an animated AVIF" in refusal(tmp_path / "a.avif")


def test_image_sequence_of_an_avif_without_its_brand_is_named(tmp_path, caplog):
    picture = Image.fromarray(np.zeros((32, 32, 3), np.uint8))
    picture.save(tmp_path / "a.avif", save_all=True, append_images=[picture])
    (tmp_path / "a.avif").write_bytes((tmp_path / "a.avif").read_bytes().replace(b"avis", b"avif"))
    Photo.open(tmp_path / "a.avif").write_unchanged(tmp_path / "out.png")
    assert "not carried over from a.avif: image sequence" in caplog.text

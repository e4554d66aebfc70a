import io
import os
import struct
import zlib

import numpy as np
import pytest
import pyvips
from PIL import Image
from retouch_common.inference.photos import PhotoOptions, open_photo
from retouch_common.photo import png_chunks
from retouch_common.photo.damage import DamageError
from retouch_common.photo.decoding import check_jpeg
from retouch_common.photo.formats import sniff
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_segments import segment
from retouch_common.photo.png_chunks import SIGNATURE, chunk


def huge_png(path, width, height, bits=1):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    path.write_bytes(SIGNATURE + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_photo_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = huge_png(tmp_path / "a.png", 60_000, 60_000)
    large = r"a.png: has 60000x60000 pixels, more than the 500 million allowed for PNG; reduce it"
    with pytest.raises(ValueError, match=rf"{large}$"):  # most commands have no option
        Photo.open(path)
    with pytest.raises(ValueError, match=rf"{large}, or raise the limit with --max-pixels$"):
        open_photo(path, tmp_path / "out.png", PhotoOptions())
    assert Photo.open(path, max_pixels=None).width == 60_000
    assert Photo.open(path, max_pixels=3_600_000_000).width == 60_000


def test_formats_decoded_in_memory_have_a_third(tmp_path):
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "a.webp")
    assert Photo.open(tmp_path / "a.webp", max_pixels=30_000).width == 100
    with pytest.raises(
        ValueError, match=r"a.webp: has 100x100 pixels, more than the 0.009999 million allowed for WebP"
    ):
        Photo.open(tmp_path / "a.webp", max_pixels=29_999)


def jpeg_of_three_scans(path, side):
    """Write a sequential JPEG that has a scan for each colour, of those of three grey files."""
    files = []
    for colour in range(3):
        file = io.BytesIO()
        Image.fromarray(np.full((side, side), 80 * colour, np.uint8)).save(file, "JPEG")
        files.append(file.getvalue())
    frame, scan = files[0].index(b"\xff\xc0"), files[0].index(b"\xff\xda")
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    header = files[0][:frame] + segment(0xC0, struct.pack(">BHHB", 8, side, side, 3) + components)
    header += files[0][frame + 13 : scan]
    scans = (
        segment(0xDA, bytes([1, number, 0, 0, 63, 0])) + data[data.index(b"\xff\xda") + 10 : -2]
        for number, data in enumerate(files, 1)
    )
    path.write_bytes(header + b"".join(scans) + b"\xff\xd9")


@pytest.mark.parametrize("kind", ["progressive", "three scans", "interlaced"])
def test_files_decoded_in_memory_have_a_third_in_any_format(tmp_path, kind):
    name, coding = ("a.png", "interlaced PNG") if kind == "interlaced" else ("a.jpg", "progressive JPEG")
    image = pyvips.Image.black(100, 100, bands=3).copy(interpretation="srgb")
    if kind == "three scans":
        jpeg_of_three_scans(tmp_path / name, 100)
    else:
        image.write_to_file(str(tmp_path / name), interlace=True)
    assert Photo.open(tmp_path / name, max_pixels=30_000).read().shape == (100, 100, 3)
    with pytest.raises(
        ValueError, match=rf"{name}: has 100x100 pixels, more than the 0.009999 million allowed for {coding}"
    ):
        Photo.open(tmp_path / name, max_pixels=29_999)
    image.write_to_file(str(tmp_path / name))
    assert Photo.open(tmp_path / name, max_pixels=10_000).width == 100


def test_a_progressive_part_of_a_tiff_is_not_decoded_in_memory(tmp_path):
    """Of a TIFF in itself, which has the whole limit."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, "JPEG", progressive=True)
    data = bytearray(file.getvalue())
    check_jpeg(bytes(data), 4096)
    struct.pack_into(">HH", data, data.index(b"\xff\xc2") + 5, 17000, 10000)
    with pytest.raises(DamageError, match="a progressive JPEG image of more than 166,666,666 pixels"):
        check_jpeg(bytes(data), 170_000_000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_refused_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a.jpg: is not a regular file"):
        sniff(tmp_path / "a.jpg")


def test_a_jpeg_of_countless_segments_is_refused(tmp_path):
    """Two million empty comments took seconds; as many as a photo has are read."""
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xfe\0\2" * 2000 + data[2:])
    assert not Photo.open(path).read().any()
    path.write_bytes(data[:2] + b"\xff\xfe\0\2" * 100_000 + data[2:])
    with pytest.raises(ValueError, match=r"a.jpg: .*it has more than 20000 segments"):
        Photo.open(path).read()


def encoded(name, tmp_path):
    path = tmp_path / name
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    return path, path.read_bytes()


@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT", b"abCd"])
def test_a_png_of_countless_chunks_is_refused(tmp_path, kind):
    """Two million empty ones took half a minute and 600 MB; as many as a photo has are read."""
    path, data = encoded("a.png", tmp_path)
    empty, pixels = chunk(kind, b"x\0" if kind == b"tEXt" else b""), data.index(b"IDAT") - 4
    path.write_bytes(data[:pixels] + empty * 900 + data[pixels:])
    assert not Photo.open(path).read().any()
    path.write_bytes(data[:pixels] + empty * 40_000 + data[pixels:])
    with pytest.raises(ValueError, match=r"a.png: cannot be read, it is damaged.*: it has more than 2\d{4} chunks"):
        Photo.open(path)


def test_many_chunks_of_pixels_are_no_attack(tmp_path):
    """libpng writes pixels in chunks of 8 kB: 30,000 of 1 kB stand for a photo of 240 MB."""
    pixels = np.zeros((2000, 5001 * 3 + 1), np.uint8)
    data = zlib.compress(pixels.tobytes(), 0)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 5001, 2000, 8, 2, 0, 0, 0))
    parts = b"".join(chunk(b"IDAT", data[at : at + 1024]) for at in range(0, len(data), 1024))
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + parts + chunk(b"IEND", b""))
    assert len(parts) // 1036 > 29_000
    assert not Photo.open(tmp_path / "a.png").read_rows(0, 16).any()


def test_of_many_raw_profiles_of_a_png_those_are_decoded_that_are_used(tmp_path, monkeypatch):
    """Each could inflate to 64 MB."""
    path, data = encoded("a.png", tmp_path)
    names = ["iptc", "iptc", *(f"exif{number}" for number in range(9))]
    inflated = []
    monkeypatch.setattr(png_chunks, "_raw_profile", lambda kind, data: inflated.append(data) or b"")
    profiles = [
        chunk(b"zTXt", f"Raw profile type {name}\0\0".encode() + zlib.compress(b"\nx\n 1\n61\n")) for name in names
    ]
    path.write_bytes(data[:33] + b"".join(profiles) + data[33:])
    found = png_chunks.read_chunks(path)
    assert len(inflated) == 1 and set(found.profiles) == set(names)


def test_a_webp_of_countless_chunks_is_refused(tmp_path):
    path, data = encoded("a.webp", tmp_path)
    extended = b"VP8X\x0a\0\0\0\0\0\0\0" + (31).to_bytes(3, "little") * 2

    def with_chunks(count):
        body = b"WEBP" + extended + data[12:] + b"abcd\0\0\0\0" * count
        path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
        return path

    assert not Photo.open(with_chunks(900)).read().any()
    with pytest.raises(ValueError, match=r"a.webp: .*it has more than 1000 chunks"):
        Photo.open(with_chunks(2000))


def test_an_avif_of_countless_boxes_is_refused(tmp_path):
    """Two million empty ones took a minute."""
    path = tmp_path / "a.avif"
    pyvips.Image.black(32, 32, bands=3).copy(interpretation="srgb").heifsave(str(path), compression="av1")
    data = path.read_bytes()
    path.write_bytes(data + b"\0\0\0\x08free" * 900)
    assert not Photo.open(path).read().any()
    path.write_bytes(data + b"\0\0\0\x08free" * 40_000)
    with pytest.raises(ValueError, match=r"a.avif: .*it has more than 20000 boxes"):
        Photo.open(path)


@pytest.mark.parametrize("tile", [False, True])
def test_deflated_tiff_data_that_inflate_beyond_the_picture_are_refused(tmp_path, tile):
    """8 MB inflated to 8 GB took over a minute."""
    path = tmp_path / "a.tif"
    image = pyvips.Image.black(32, 32, bands=3).copy(interpretation="srgb")
    image.tiffsave(str(path), compression="deflate", tile=tile, tile_width=32, tile_height=32)
    assert not Photo.open(path).read().any()
    data = path.read_bytes()
    bomb = zlib.compress(bytes(8 << 20))
    offset, length = (324, 325) if tile else (273, 279)
    (at,) = struct.unpack_from("<I", data, 4)
    patched = bytearray(data)
    for index in range(*struct.unpack_from("<H", data, at)):
        entry = at + 2 + 12 * index
        if (tag := struct.unpack_from("<H", data, entry)[0]) in (offset, length):
            struct.pack_into("<I", patched, entry + 8, len(data) if tag == offset else len(bomb))
    path.write_bytes(patched + bomb)
    with pytest.raises(ValueError, match=r"a.tif: .*its compressed data are larger than the picture"):
        Photo.open(path).read()

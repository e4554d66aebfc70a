import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
import pyvips
from retouch_common.photo.io import Photo
from retouch_common.photo.tiff_exif import append_tiff_tags, read_tiff_tags

from ..conftest import write_photo

Image = pytest.importorskip("PIL.Image", reason="Pillow is the independent reader of EXIF in TIFF files")
MAKE, ORIENTATION, EXIF, GPS, ISO, EXPOSURE, LENS, ACROSS = 271, 274, 34665, 34853, 34855, 33434, 42036, 40962
LONG_NAME = "a lens with a name that does not fit into a directory's record"


def pillow_exif(path):
    with Image.open(path) as image:
        exif = image.getexif()
        return dict(exif), dict(exif.get_ifd(EXIF)), dict(exif.get_ifd(GPS))


def camera_exif():
    exif = Image.Exif()
    exif[MAKE] = "Maker of cameras"
    exif[ORIENTATION] = 6
    exif.get_ifd(EXIF).update({ISO: 400, EXPOSURE: 0.004, LENS: LONG_NAME, ACROSS: 90})
    exif.get_ifd(GPS).update({1: "N", 2: (59.0, 51.0, 30.5)})
    exif[EXIF] = exif[GPS] = 0  # Pillow's TIFF writer puts the pointers in for the tags it sees
    return exif


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)


def check(path, across):
    first, exif, gps = pillow_exif(path)
    assert first[MAKE] == "Maker of cameras"
    assert first.get(ORIENTATION, 1) == 1
    assert exif[ISO] == 400 and float(exif[EXPOSURE]) == pytest.approx(0.004) and exif[LENS] == LONG_NAME
    assert exif[ACROSS] == across
    assert gps[1] == "N" and [float(value) for value in gps[2]] == [59.0, 51.0, 30.5]


@pytest.mark.parametrize("target", ["out.tif", "out.jpg", "out.png", "out.webp"])
@pytest.mark.parametrize("source", ["a.tif", "a.jpg"])
def test_exif_travels_between_tiff_and_other_formats(tmp_path, pixels, source, target):
    Image.fromarray(pixels).save(tmp_path / source, exif=camera_exif())
    write_photo(Photo.open(tmp_path / source), tmp_path / target)
    check(tmp_path / target, across=60)  # it was turned
    with Image.open(tmp_path / target) as image:
        assert image.size == (60, 90)
        if source == "a.tif" and target in ("out.tif", "out.png"):
            np.testing.assert_array_equal(np.asarray(image), np.rot90(pixels, -1))


@pytest.mark.parametrize("big", [False, True])
def test_exif_is_appended_to_both_kinds_of_tiff(tmp_path, pixels, big):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path), bigtiff=big, compression="lzw")
    append_tiff_tags(path, camera_exif().tobytes(), 90, 60)
    check(path, across=90)
    np.testing.assert_array_equal(pyvips.Image.tiffload(str(path), fail_on="warning").numpy(), pixels)
    with Image.open(path) as image:
        assert image.n_frames == 1


def test_directories_beyond_four_gigabytes_are_found(tmp_path, pixels):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path), bigtiff=True)
    with open(path, "r+b") as file:
        file.truncate((1 << 32) + 10)  # sparse
    append_tiff_tags(path, camera_exif().tobytes(), 90, 60)
    tags = read_tiff_tags(path)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + tags.exif)
    assert exif.get_ifd(EXIF)[ISO] == 400 and exif.get_ifd(GPS)[1] == "N"


def test_big_endian_values_are_turned_around(tmp_path, pixels):
    exif = camera_exif()
    exif.endian = ">"
    data = exif.tobytes()
    assert data[6:8] == b"MM"
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path))
    append_tiff_tags(path, data, 90, 60)
    check(path, across=90)


def test_tiff_without_exif_has_none(tmp_path, pixels):
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path))
    assert read_tiff_tags(path).exif is None
    before = path.read_bytes()
    append_tiff_tags(path, b"Exif\0\0 nonsense", 90, 60)
    assert path.read_bytes() == before


def test_damaged_directories_are_no_exif(tmp_path):
    path = tmp_path / "a.tif"
    for content in (
        b"II*\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 20,
        struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, EXIF, 4, 1, 8, 0),  # its EXIF directory is itself
    ):
        path.write_bytes(content)
        assert read_tiff_tags(path).exif is None


def test_a_directory_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 20)
    assert read_tiff_tags(path).losses == ("metadata outside a readable TIFF structure",)


def test_block_is_a_readable_exif_block(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.tif", exif=camera_exif())
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + read_tiff_tags(tmp_path / "a.tif").exif)
    assert exif[MAKE] == "Maker of cameras" and exif.get_ifd(EXIF)[ISO] == 400
    assert ORIENTATION not in exif
    assert io.BytesIO(exif.tobytes()).read(6) == b"Exif\0\0"


class Layout:
    """Byte order and widths of a TIFF written by hand."""

    def __init__(self, order, big):
        self.order, self.big = order, big
        self.head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
        if big:
            self.head += struct.pack(order + "HH", 8, 0)

    def pack(self, *values):
        return struct.pack(self.order + ("Q" if self.big else "I") * len(values), *values)

    def record(self, tag, kind, count, value):
        if kind == 3:
            value = struct.pack(self.order + "H", value).ljust(8 if self.big else 4, b"\0")
        else:
            value = self.pack(value)
        return struct.pack(self.order + "HH", tag, kind) + self.pack(count) + value

    def directory(self, records, count=None):
        count = len(records) if count is None else count
        return struct.pack(self.order + ("Q" if self.big else "H"), count) + b"".join(records) + self.pack(0)


def grey_tiff(layout, exif, *, more=(), size=0):
    """A grey picture of 32x32 pixels with an EXIF directory, filled up to a size."""
    exif_at = len(layout.head) + (8 if layout.big else 4)
    pixels_at = exif_at + len(exif)
    first_at = pixels_at + 32 * 32
    tags = [(256, 3, 1, 32), (257, 3, 1, 32), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, pixels_at), (277, 3, 1, 1), (278, 3, 1, 32), (279, 4, 1, 1024), (EXIF, 4, 1, exif_at)]
    tags += more
    if layout.big:
        tags = [(tag, 16 if kind == 4 else kind, count, value) for tag, kind, count, value in tags]
    data = layout.head + layout.pack(first_at) + exif + bytes(range(256)) * 4
    data += layout.directory([layout.record(*tag) for tag in sorted(tags)])
    return data.ljust(size, b"\1")


def overlapping(layout, number, length):
    """An EXIF directory of values that all lie in the same place."""
    return layout.directory([layout.record(tag, 5, length // 8, 64) for tag in range(1, number + 1)])


BOMBS = {
    "65535 values of 16 MB": lambda layout: grey_tiff(layout, overlapping(layout, 65535, 16_000_000), size=900_000),
    "65535 values of the file's size": lambda layout: grey_tiff(
        layout, overlapping(layout, 65535, 800_000), size=1_700_000
    ),
    "900 values of the file's size": lambda layout: grey_tiff(layout, overlapping(layout, 900, 800_000), size=900_000),
    "a directory of 2^16 - 1 entries that are not there": lambda layout: grey_tiff(
        layout, layout.directory([], count=65535)
    ),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_and_time_stay_within_the_size_of_the_file(tmp_path, bomb, big, order):
    path = tmp_path / "a.tif"
    path.write_bytes(BOMBS[bomb](Layout(order, big)))
    started = time.process_time()
    tracemalloc.start()
    read_tiff_tags(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size + 1_000_000
    assert time.process_time() - started < 2
    photo = Photo.open(path)
    write_photo(photo, tmp_path / "out.tif")
    assert (photo.read()[..., 0].ravel() == np.arange(1024) % 256).all()
    assert (tmp_path / "out.tif").stat().st_size < 100_000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [2**63, 2**40, 2**17])
def test_a_huge_count_in_a_small_bigtiff_costs_nothing(tmp_path, order, count):
    layout = Layout(order, True)
    path = tmp_path / "a.tif"
    path.write_bytes(grey_tiff(layout, layout.directory([], count=count), size=13_000))
    assert read_tiff_tags(path).exif is None
    assert Photo.open(path).read().shape == (32, 32, 3)
    record = layout.record(LENS, 2, count, 0)
    path.write_bytes(grey_tiff(layout, layout.directory([layout.record(ISO, 3, 1, 400), record]), size=13_000))
    exif = Image.Exif()
    exif.load(read_tiff_tags(path).exif)
    assert dict(exif.get_ifd(EXIF)) == {ISO: 400}


def test_only_wanted_values_of_the_first_directory_are_read(tmp_path):
    layout = Layout("<", False)
    more = [(tag, 5, 100_000, 64) for tag in range(50000, 50900)]
    path = tmp_path / "a.tif"
    path.write_bytes(grey_tiff(layout, layout.directory([layout.record(ISO, 3, 1, 400)]), more=more, size=900_000))
    tracemalloc.start()
    exif = read_tiff_tags(path).exif
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert exif is not None and peak < 500_000


@pytest.mark.parametrize("number", [65535, 900])
def test_a_bomb_in_another_format_is_not_written_into_a_tiff(tmp_path, pixels, number):
    layout = Layout("<", False)
    exif = b"Exif\0\0" + grey_tiff(layout, overlapping(layout, number, 800_000), size=1_000_000)
    path = tmp_path / "a.tif"
    pyvips.Image.new_from_array(pixels).tiffsave(str(path))
    before = path.stat().st_size
    tracemalloc.start()
    append_tiff_tags(path, exif, 90, 60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * len(exif)
    assert path.stat().st_size < before + 1_000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_values_are_read_in_both_orders_and_widths(tmp_path, order, big):
    layout = Layout(order, big)
    path = tmp_path / "a.tif"
    text = b"a lens with a long name\0"
    at = len(layout.head) + (8 if big else 4)
    records = [layout.record(ISO, 3, 1, 400), layout.record(LENS, 2, len(text), 0)]
    at += len(layout.directory(records))
    exif = layout.directory([records[0], layout.record(LENS, 2, len(text), at)]) + text
    path.write_bytes(grey_tiff(layout, exif))
    block = Image.Exif()
    block.load(read_tiff_tags(path).exif)
    assert dict(block.get_ifd(EXIF)) == {ISO: 400, LENS: text[:-1].decode()}

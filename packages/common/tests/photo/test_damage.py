"""Damaged files are refused, and sound ones with oddities are not."""

import contextlib
import io
import logging
import os
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image
from retouch_common.inference.batch import Job, run_jobs
from retouch_common.photo.damage import reason
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_segments import read_segments
from retouch_common.photo.png_chunks import chunk

from ..conftest import smooth_pixels, write_photo

HEIGHT, WIDTH = 120, 100
FAULTS = Path(os.environ.get("RETOUCH_DATA", "../shared/data")) / "faults"


def drawn_picture():
    """Slopes, edges and a little noise, (120, 100, 3) uint8."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH][..., None]
    values = 0.5 + 0.35 * np.sin(x / 17 + y / 23 + generator.uniform(0, 6, 3))
    values = values + 0.1 * np.sign(np.sin(x / 7) * np.sin(y / 11)) + generator.normal(0, 0.02, values.shape)
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


def encoded(kind):
    """The drawn picture as the bytes of a file: "jpeg-…", "tiff-…" or "png-…"."""
    pixels = drawn_picture()
    picture = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    inks = pyvips.Image.new_from_array(np.dstack([255 - pixels, np.full(pixels.shape[:2], 40, np.uint8)]))
    tiles = {"tile": True, "tile_width": 64, "tile_height": 64}
    jpeg = {"Q": 90, "subsample_mode": "off"}
    return {
        "jpeg-baseline": lambda: picture.jpegsave_buffer(**jpeg),
        "jpeg-subsampled": lambda: picture.jpegsave_buffer(Q=85, subsample_mode="on"),
        "jpeg-optimised": lambda: picture.jpegsave_buffer(**jpeg, optimize_coding=True),
        "jpeg-progressive": lambda: picture.jpegsave_buffer(Q=85, subsample_mode="on", interlace=True),
        "jpeg-restarts": lambda: picture.jpegsave_buffer(Q=85, subsample_mode="on", restart_interval=4),
        "jpeg-cmyk": lambda: inks.copy(interpretation="cmyk").jpegsave_buffer(**jpeg),
        "jpeg-grey": lambda: picture.extract_band(1).copy(interpretation="b-w").jpegsave_buffer(Q=90),
        "tiff-strips-lzw": lambda: picture.tiffsave_buffer(compression="lzw", predictor="none"),
        "tiff-tiles-lzw": lambda: picture.tiffsave_buffer(compression="lzw", predictor="none", **tiles),
        "tiff-strips-deflate": lambda: picture.tiffsave_buffer(compression="deflate", predictor="horizontal"),
        "tiff-tiles-deflate": lambda: picture.tiffsave_buffer(compression="deflate", predictor="none", **tiles),
        "tiff-strips-jpeg": lambda: picture.tiffsave_buffer(compression="jpeg", Q=90),
        "tiff-tiles-jpeg": lambda: picture.tiffsave_buffer(compression="jpeg", Q=90, **tiles),
        "png-plain": lambda: picture.pngsave_buffer(),
        "png-interlaced": lambda: picture.pngsave_buffer(interlace=True),
    }[kind]()


JPEGS = [f"jpeg-{name}" for name in ["baseline", "subsampled", "optimised", "progressive", "restarts", "cmyk", "grey"]]
TIFFS = [f"tiff-{parts}-{name}" for parts in ("strips", "tiles") for name in ("lzw", "deflate", "jpeg")]
PNGS = ["png-plain", "png-interlaced"]
SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif", "png": ".png"}


@pytest.fixture
def retouched(tmp_path):
    """Write a file and let a photo with nothing changed go through it: gives RGB, or the reason of the refusal."""

    def run(kind, data):
        path = tmp_path / f"a{SUFFIXES[kind.split('-')[0]]}"
        path.write_bytes(data)
        try:
            photo = Photo.open(path)
            if photo.width * photo.height > 1_000_000:
                return "too large for a test"
            return photo.read_rows(0, photo.height)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            return str(error)

    return run


def is_wrong(pixels, truth):
    """Whether more than 1 % of pixels differ strongly; a refusal is never wrong."""
    if isinstance(pixels, str):
        return False
    return pixels.shape != truth.shape or (np.abs(pixels.astype(int) - truth).max(axis=2) > 24).mean() > 0.01


def pillow_rgb(data):
    """What Pillow decodes, None where it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        return None


def cut(data, generator):
    return data[: generator.integers(2, len(data))]


def cut_before_end_marker(data, generator):
    return data[: generator.integers(len(data) // 4, len(data) - 4)] + b"\xff\xd9"


def with_early_end_marker(data, generator):
    at = generator.integers(len(data) // 4, len(data) - 4)
    return data[:at] + b"\xff\xd9" + data[at:]


def with_flipped_bits(data, generator):
    result = bytearray(data)
    for at in generator.integers(2, len(data), generator.integers(1, 8)):
        result[at] ^= 1 << generator.integers(8)
    return bytes(result)


def with_zeros(data, generator):
    at = generator.integers(len(data) // 4, len(data) - 4)
    length = min(generator.integers(1, 600), len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def with_bytes_lost(data, generator):
    at = generator.integers(len(data) // 4, len(data) - 40)
    return data[:at] + data[at + generator.integers(1, 30) :]


def with_bytes_inserted(data, generator):
    at = generator.integers(len(data) // 4, len(data) - 4)
    return data[:at] + generator.integers(0, 256, generator.integers(1, 200)).astype(np.uint8).tobytes() + data[at:]


CUTS = [cut, cut_before_end_marker, with_early_end_marker]
CHANGES = [with_flipped_bits, with_zeros, with_bytes_lost, with_bytes_inserted]
# Deflate (TIFF, PNG) has checksums. Huffman and LZW codes have none: some changes give other valid codes.
UNDETECTABLE = {"jpeg": 0.3, "lzw": 0.15, "deflate": 0.0, "png": 0.0}


@pytest.mark.parametrize("kind", JPEGS + TIFFS + PNGS)
def test_sound_files_are_accepted(retouched, kind):
    assert isinstance(retouched(kind, encoded(kind)), np.ndarray)


@pytest.mark.parametrize("kind", JPEGS + TIFFS + PNGS)
@pytest.mark.parametrize("mutate", CUTS)
def test_no_cut_file_gives_wrong_pixels(retouched, kind, mutate):
    data, generator = encoded(kind), np.random.default_rng(1)
    truth = retouched(kind, data)
    if not kind.startswith("jpeg") and mutate is not cut:
        pytest.skip("end markers are JPEG's")
    assert not [
        result for result in (retouched(kind, mutate(data, generator)) for _ in range(12)) if is_wrong(result, truth)
    ]


@pytest.mark.parametrize("kind", JPEGS + TIFFS + PNGS)
def test_a_changed_file_gives_wrong_pixels_only_if_its_codes_are_valid(retouched, kind):
    """Accepted with wrong pixels are only files that decode to the end, and that Pillow decodes to the same."""
    data, generator = encoded(kind), np.random.default_rng(2)
    truth = retouched(kind, data)
    mutated = [mutate(data, generator) for mutate in CHANGES for _ in range(15)]
    wrong = [item for item in mutated if is_wrong(retouched(kind, item), truth)]
    for item in wrong:
        second = pillow_rgb(item)
        assert second is not None
        if kind != "jpeg-cmyk":  # Pillow converts without a profile
            assert not is_wrong(retouched(kind, item), second)
    allowed = next(share for name, share in UNDETECTABLE.items() if name in kind.split("-")[::-1])
    assert len(wrong) <= allowed * len(mutated)


def frame(data):
    """Offset of the height in a JPEG's frame header; the width follows."""
    return data.index(b"\xff\xc0\x00") + 5


@pytest.mark.parametrize("kind", ["jpeg-baseline", "jpeg-grey", "jpeg-cmyk"])
def test_damage_in_the_last_rows_of_a_jpeg_is_refused(retouched, kind):
    data = encoded(kind)
    result = retouched(kind, data[:-12] + b"\xff\xd9")
    assert "a.jpg: cannot be read, it is damaged or cut off: Corrupt JPEG data: premature end" in result


@pytest.mark.parametrize("kind", ["jpeg-baseline", "jpeg-grey", "jpeg-cmyk"])
@pytest.mark.parametrize("side", [0, 1])
def test_jpeg_data_left_over_are_refused(retouched, kind, side):
    """The header says fewer rows or columns than the scan holds."""
    data = bytearray(encoded(kind))
    at = frame(data) + 2 * side
    struct.pack_into(">H", data, at, struct.unpack_from(">H", data, at)[0] - 8)
    assert "bytes are left over after its last row" in retouched(kind, bytes(data))


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_without_end_marker_is_refused(retouched, kind):
    assert "damaged or cut off" in retouched(kind, encoded(kind)[:-2])


def test_a_progressive_jpeg_without_its_last_scans_is_refused(retouched):
    data = encoded("jpeg-progressive")
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    assert len(scans) == 10
    for at in scans[1:]:
        table = data.rindex(b"\xff\xc4", 0, at) if data.rindex(b"\xff\xc4", 0, at) > scans[scans.index(at) - 1] else at
        assert "scans of its data are missing" in retouched("jpeg-progressive", data[:table] + b"\xff\xd9")


@pytest.mark.parametrize("kind", JPEGS)
def test_what_follows_a_jpeg_picture_is_not_its_damage(retouched, kind):
    data = encoded(kind)
    truth = retouched(kind, data)
    for after in (b"\0" * 100, data, data[:300]):
        np.testing.assert_array_equal(retouched(kind, data + after), truth)


@pytest.mark.parametrize("kind", JPEGS)
def test_fill_bytes_before_the_end_marker_of_a_jpeg_are_no_damage_and_no_loss(retouched, kind, tmp_path):
    data = encoded(kind)
    truth = retouched(kind, data)
    assert data.endswith(b"\xff\xd9")
    filled = data[:-2] + b"\xff\xff\xff\xd9"
    np.testing.assert_array_equal(retouched(kind, filled), truth)
    (tmp_path / "filled.jpg").write_bytes(filled)
    assert read_segments(tmp_path / "filled.jpg").losses == ()


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (121, 99), (128, 128), (300, 1000)])
@pytest.mark.parametrize("options", [{"subsample_mode": "off"}, {"subsample_mode": "on"}, {"restart_interval": 3}])
def test_jpegs_of_all_sizes_are_read_to_their_end(tmp_path, size, options):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    path = tmp_path / "a.jpg"
    pyvips.Image.new_from_array(pixels).jpegsave(str(path), Q=95, **options)
    photo = Photo.open(path)
    rows = np.concatenate([photo.read_rows(y, y + 1) for y in range(size[0])])
    np.testing.assert_array_equal(rows, pyvips.Image.jpegload(str(path)).numpy())
    np.testing.assert_array_equal(photo.read(), rows)
    assert photo.thumbnail(30).shape[2] == 3


def test_damage_found_at_the_end_leaves_no_output(tmp_path):
    data = encoded("jpeg-baseline")
    (tmp_path / "a.jpg").write_bytes(data[:-12] + b"\xff\xd9")
    for attempt in (
        lambda photo: write_photo(photo, tmp_path / "out.jpg"),
        lambda photo: write_photo(photo, tmp_path / "a.jpg"),
        lambda photo: photo.read(0, 0, 20, 20),
    ):
        before = (tmp_path / "a.jpg").read_bytes()
        with pytest.raises(ValueError, match=r"a.jpg: cannot be read"):
            attempt(Photo.open(tmp_path / "a.jpg"))
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.jpg"]
        assert (tmp_path / "a.jpg").read_bytes() == before


def test_damage_found_at_the_end_is_found_again(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("jpeg-baseline")[:-12] + b"\xff\xd9")
    photo = Photo.open(tmp_path / "a.jpg")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a.jpg: cannot be read"):
            photo.read_rows(photo.height - 8, photo.height)


def test_warnings_of_the_decoder_stay_off_the_terminal(retouched, caplog):
    with caplog.at_level(logging.DEBUG, logger="root"):
        retouched("jpeg-baseline", encoded("jpeg-baseline")[:-12] + b"\xff\xd9")
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def with_unsorted_directory(data):
    """A TIFF file that a reader may warn about but that holds the same picture."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    records = [data[at + 2 + 12 * number :][:12] for number in range(count)]
    return data[: at + 2] + b"".join(records[::-1]) + data[at + 2 + 12 * count :]


def test_messages_about_one_file_do_not_name_another(retouched, tmp_path):
    data = encoded("tiff-tiles-lzw")
    description = struct.pack("<HHI", 305, 2, 400)
    (at,) = struct.unpack_from("<I", data, 4)
    other = bytearray(data)
    other[at + 2 : at + 14] = description + struct.pack("<I", 0x7FFFFFFF)  # its text lies outside the file
    (tmp_path / "other.tif").write_bytes(other)
    with contextlib.suppress(pyvips.Error):
        pyvips.Image.tiffload(str(tmp_path / "other.tif")).avg()
    broken = bytearray(data)
    broken[400:460] = bytes(range(60))
    assert "other" not in retouched("tiff-tiles-lzw", bytes(broken))


def test_photos_that_fail_at_once_do_not_swap_reasons(tmp_path):
    """libvips has one buffer of messages for all threads, to which some sound AVIF files add."""
    jpeg, tiff = encoded("jpeg-baseline"), encoded("tiff-strips-lzw")
    avif = pyvips.Image.new_from_array(drawn_picture()).heifsave_buffer(compression="av1", effort=1)
    files = {
        "a.jpg": jpeg[: len(jpeg) * 2 // 3] + jpeg[-2:],
        "b.jpg": jpeg.replace(b"\xff\xc4", b"\xff\xc4\0\x1f\x77", 1),
        "c.tif": tiff[:3000] + bytes(3000) + tiff[6000:],
        "d.avif": avif[:-400] + bytes(300) + avif[-100:],
        "e.avif": avif[:-400],
    }

    jobs = [Job(tmp_path / name, tmp_path / "out" / name) for name in files]
    for job in jobs:
        job.source.write_bytes(files[job.source.name])

    def reasons(jobs):
        return run_jobs(jobs, lambda job: Photo.open(job.source).read(), overwrite=True, report=lambda line: None)

    alone = [reason for job in jobs for reason in reasons([job])]
    assert len(set(alone)) == len(jobs)
    assert reasons(jobs * 60) == alone * 60


@pytest.mark.parametrize("kind", TIFFS)
def test_an_odd_tiff_is_no_damaged_tiff(retouched, kind):
    data = encoded(kind)
    np.testing.assert_array_equal(retouched(kind, with_unsorted_directory(data)), retouched(kind, data))


@pytest.mark.parametrize("odd", [False, True])
def test_a_tile_that_cannot_be_decoded_is_refused(retouched, odd):
    data = bytearray(encoded("tiff-tiles-lzw"))
    data[400:460] = bytes(range(60))
    data = with_unsorted_directory(bytes(data)) if odd else bytes(data)
    assert "a.tif: cannot be read, it is damaged or cut off" in retouched("tiff-tiles-lzw", data)


def test_deflated_tiff_data_are_compared_with_their_checksum(retouched):
    """Stored deflate blocks decode whatever is in them."""
    for tiles in (False, True):
        image = pyvips.Image.new_from_array(drawn_picture()).copy(interpretation="srgb")
        data = bytearray(image.tiffsave_buffer(compression="deflate", level=1, tile=tiles))
        data[2000:2060] = data[3000:3060]
        assert "compressed data are damaged" in retouched("tiff-strips-deflate", bytes(data))


def test_a_missing_tile_is_refused(retouched):
    """libtiff takes it for black."""
    data = bytearray(encoded("tiff-tiles-deflate"))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for number in range(count):
        tag, _, _, value = struct.unpack_from("<HHII", data, at + 2 + 12 * number)
        if tag in (324, 325):
            struct.pack_into("<I", data, value, 0)
    assert "a strip or tile is empty" in retouched("tiff-tiles-deflate", bytes(data))


@pytest.mark.parametrize("name", ["cmykjpg-021-scancutEOI.jpg", "tiletif-032-bitflip.tif"])
def test_damaged_samples_are_refused(name):
    if not (FAULTS / name).is_file():
        pytest.skip(f"needs RETOUCH_DATA with faults/{name}")
    photo = Photo.open(FAULTS / name)
    with pytest.raises(ValueError, match=f"{name}: cannot be read, it is damaged or cut off: .*data"):
        for top in range(0, photo.height, 50):
            photo.read_rows(top, min(top + 50, photo.height))


def test_tiff_tags_that_contradict_each_other_are_refused(tmp_path):
    """Tiles without their lengths, and four samples that are said to be grey: libtiff guesses at both."""
    import tifffile
    from retouch_common.photo.damage import DamageError
    from retouch_common.photo.tiff_check import check_tiff

    for name, samples, photometric, tag in (("tiles", 3, "rgb", 325), ("cmyk", 4, "separated", 262)):
        path = tmp_path / f"{name}.tif"
        image = np.zeros((64, 64, samples), np.uint8)
        tifffile.imwrite(path, image, photometric=photometric, tile=(32, 32) if name == "tiles" else None)
        check_tiff(path)
        with tifffile.TiffFile(path, mode="r+b") as file:
            entry = file.pages[0].tags[tag]
            if name == "cmyk":
                entry.overwrite(0)
            place = entry.offset
        if name == "tiles":
            data = bytearray(path.read_bytes())
            data[place : place + 2] = (65000).to_bytes(2, "little")  # a tag that nobody knows
            path.write_bytes(data)
        with pytest.raises(DamageError, match=r"lengths of its tiles|declared greyscale"):
            check_tiff(path)


def test_a_tile_that_holds_a_larger_image_is_refused_before_it_is_decoded(retouched):
    data = bytearray(encoded("tiff-tiles-jpeg"))
    huge = pyvips.Image.black(9000, 9000, bands=3).copy(interpretation="srgb").jpegsave_buffer(interlace=True)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for number in range(count):
        tag, _, _, value = struct.unpack_from("<HHII", data, at + 2 + 12 * number)
        if tag in (324, 325):
            struct.pack_into("<I", data, value, len(data) if tag == 324 else len(huge))
    begin = time.process_time()
    assert "a strip or tile is larger than it should be" in retouched("tiff-tiles-jpeg", bytes(data) + huge)
    assert time.process_time() - begin < 0.5


def test_a_strip_that_is_filled_up_is_no_damage(tmp_path):
    """libtiff takes the rows of the picture of a JPEG strip that has more, up to those of a strip."""
    pixels = smooth_pixels(104, 96, 3, np.uint8)
    strip = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").jpegsave_buffer(Q=95)
    entries = [
        (256, 3, 1, 96), (257, 3, 1, 100), (258, 3, 3, 158), (259, 3, 1, 7), (262, 3, 1, 6), (273, 4, 1, 164),
        (277, 3, 1, 3), (278, 3, 1, 104), (279, 4, 1, len(strip)), (284, 3, 1, 1), (530, 3, 2, 1 << 16 | 1),
        (296, 3, 1, 1),
    ]  # fmt: skip
    records = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + records + bytes(4)
    path = tmp_path / "a.tif"
    path.write_bytes(head + struct.pack("<HHH", 8, 8, 8) + strip)
    assert len(head) == 158 and Photo.open(path).read().shape == (100, 96, 3)


@pytest.mark.parametrize("tag", [256, 324, 325])
def test_tiff_sizes_and_positions_of_a_wrong_type_are_refused(tmp_path, tag):
    """Positions as single bytes: libtiff reads pixels from elsewhere in the file."""
    import tifffile
    from retouch_common.photo.damage import DamageError
    from retouch_common.photo.tiff_check import check_tiff

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(32, 32))
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[tag].offset
    data = bytearray(path.read_bytes())
    data[place + 2 : place + 4] = (1).to_bytes(2, "little")  # BYTE
    path.write_bytes(data)
    with pytest.raises(DamageError, match=f"its tag {tag}"):
        check_tiff(path)


def test_a_damaged_png_says_what_is_damaged(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path)
    data = path.read_bytes()
    pixels = data.index(b"IDAT")
    flipped = bytearray(data)
    flipped[pixels + 40] ^= 1
    (length,) = struct.unpack(">I", data[pixels - 4 : pixels])
    wrong = chunk(b"IDAT", bytes(flipped[pixels + 4 : pixels + 4 + length]))
    for damaged, why in (
        (flipped, "the checksum of its chunk IDAT is wrong"),
        (data[: pixels + 50], "it ends within its chunk IDAT"),
        (data[: pixels - 4], "its end is missing"),
        (data[:8] + data[33:], "its first chunk is IDAT instead of IHDR"),
        (data[:33] + b"\0" * 30 + data[33:], "after 33 bytes there is no chunk"),
        (data[: pixels - 4] + wrong + data[pixels + 8 + length :], "its compressed pixels are damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"a\.png: cannot be read, it is damaged or cut off: .*{why}$"):
            Photo.open(path).read()


@pytest.mark.parametrize(
    ("message", "detail", "why"),
    [
        ("unable to fetch from region", "", "its pixels cannot be decoded"),
        ("unable to call pngload", "pngload: bad header", "pngload: bad header"),
    ],
)
def test_every_damage_has_a_reason(message, detail, why):
    """libvips says nothing of a TIFF file with too few tile offsets."""
    pyvips.vips_lib.vips_error_clear()
    assert reason(pyvips.Error(message, detail)) == why


@pytest.mark.parametrize("missing", [1, 4, 12])
def test_a_png_without_its_end_is_refused(tmp_path, missing):
    """Its pixels are complete, but chunks that followed them may be missing."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(ValueError, match=r"a.png: cannot be read, it is damaged or cut off: its end is missing"):
        Photo.open(path)

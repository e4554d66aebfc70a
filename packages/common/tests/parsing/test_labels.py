"""Label pictures survive files, and what is no label picture is refused in one line."""

import io
import zlib

import numpy as np
import pytest
import pyvips
from PIL import Image
from retouch_common.parsing.labels import (
    CLASSES,
    COLOURS,
    NUM_CLASSES,
    coloured,
    decode_labels,
    encode_labels,
    mirrored,
    read_labels,
    resized,
    write_labels,
)

EVERY = np.arange(NUM_CLASSES, dtype=np.uint8)[None].repeat(3, 0)


def png(pixels, mode=None, palette=None):
    picture = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    if palette is not None:
        picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_colours_tell_classes_apart():
    assert len(CLASSES) == NUM_CLASSES == len(COLOURS) == 11
    distance = np.abs(COLOURS[:, None].astype(int) - COLOURS[None]).sum(-1) + 1000 * np.eye(11)
    assert distance.min() > 60


def test_files_come_back_and_look_like_their_classes(tmp_path):
    path = tmp_path / "labels.png"
    write_labels(path, EVERY)
    np.testing.assert_array_equal(read_labels(path), EVERY)
    # another program sees colours
    seen = pyvips.Image.new_from_file(str(path)).numpy()[..., :3]
    np.testing.assert_array_equal(seen, COLOURS[EVERY])
    np.testing.assert_array_equal(coloured(EVERY), seen)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.png"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_any_whole_numbers_are_written(dtype):
    np.testing.assert_array_equal(decode_labels(encode_labels(EVERY.astype(dtype)), "x"), EVERY)


def test_grey_values_are_classes():
    np.testing.assert_array_equal(decode_labels(png(EVERY), "x"), EVERY)


def test_a_foreign_palette_leaves_the_indices():
    palette = np.random.default_rng(0).integers(0, 256, (NUM_CLASSES, 3))
    np.testing.assert_array_equal(decode_labels(png(EVERY, palette=palette), "x"), EVERY)


def test_our_colours_in_another_order_tell_the_class():
    order = np.random.default_rng(1).permutation(NUM_CLASSES)
    indices = np.argsort(order).astype(np.uint8)[EVERY]
    np.testing.assert_array_equal(decode_labels(png(indices, palette=COLOURS[order]), "x"), EVERY)


def test_exact_colours_are_read_and_others_refused():
    np.testing.assert_array_equal(decode_labels(png(COLOURS[EVERY]), "x"), EVERY)
    np.testing.assert_array_equal(decode_labels(png(COLOURS[EVERY], "RGBA"), "x"), EVERY)
    blended = COLOURS[EVERY].copy()
    blended[1, 4] += 1
    with pytest.raises(
        ValueError, match=r"face\.png: 1 pixels have a colour of no class, first \(41, 111, 221\) at x=4, y=1"
    ):
        decode_labels(png(blended), "face.png")


def test_what_is_no_label_picture_is_refused():
    with pytest.raises(ValueError, match=r"a\.png: holds the label 11; classes go from 0 to 10"):
        decode_labels(png(EVERY + 1), "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg: not a PNG file"):
        decode_labels(b"\xff\xd8\xff\xe0 no picture", "a.jpg")
    with pytest.raises(ValueError, match=r"a\.png: a damaged PNG file"):
        decode_labels(encode_labels(np.zeros((90, 90), np.uint8))[:-30], "a.png")
    with pytest.raises(ValueError, match="a PNG of kind I;16 holds no labels"):
        decode_labels(png(EVERY.astype(np.uint16)), "a.png")
    see_through = np.dstack([COLOURS[EVERY], np.full(EVERY.shape, 99, np.uint8)])
    with pytest.raises(ValueError, match="kind RGBA"):
        decode_labels(png(see_through), "a.png")


def test_a_small_file_that_claims_to_be_huge_is_refused():
    huge = bytearray(encode_labels(EVERY))
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    with pytest.raises(ValueError, match=r"x\.png: too many pixels"):
        decode_labels(bytes(huge), "x.png")


@pytest.mark.parametrize(
    "wrong", [np.full((2, 2), 11), np.full((2, 2), -1), np.zeros((2, 2)), np.zeros((2, 2, 3), int)]
)
def test_only_labels_are_written(wrong):
    with pytest.raises(ValueError, match="labels"):
        encode_labels(wrong)


def test_a_mirror_exchanges_left_and_right():
    labels = np.array([[2, 0, 3], [4, 6, 5], [1, 7, 10]], np.uint8)
    np.testing.assert_array_equal(mirrored(labels), [[2, 0, 3], [4, 6, 5], [10, 7, 1]])
    np.testing.assert_array_equal(mirrored(mirrored(EVERY)), EVERY)


def test_resized_labels_are_those_of_the_nearest_pixel():
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    np.testing.assert_array_equal(resized(labels, 4, 2), [[1, 2], [1, 2], [3, 4], [3, 4]])
    np.testing.assert_array_equal(resized(resized(labels, 6, 10), 2, 2), labels)

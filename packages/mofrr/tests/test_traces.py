"""Traces of a photograph: by hand, in one pass over its rows, and what leaves some."""

import numpy as np
import pytest
import torch
from mofrr.traces import CHANNELS, FLOOR, GRID, image_traces, packed, photo_traces, read_faces, unpacked
from retouch_common.faces.alignment import FaceSquare, whole_square
from retouch_common.photo.filters import resize
from retouch_common.photo.sources import ArraySource
from retouch_common.synthesis.retouching_warps import displacement, enlarge, warp_image

SECOND_ORDER = 7  # the map whose differences see interpolation best


def grainy(height=512, width=512, seed=0):
    generator = np.random.default_rng(seed)
    return (128 + generator.normal(0, 6, (height, width, 1)).repeat(3, axis=2)).round().clip(0, 255).astype(np.uint8)


def test_by_hand():
    """Each cell of 128 pixels' square is one pixel: the mean over 2 x 2 of roots of differences to the right."""
    image = grainy(128, 128)
    maps = photo_traces(image, whole_square(128, 128))
    assert maps.shape == (CHANNELS, GRID, GRID) and maps.dtype == np.float32
    level = image[..., 0].astype(float)
    roots = np.sqrt(np.abs(np.diff(level, axis=1, append=level[:, -1:])))
    expected = np.log2(roots.reshape(GRID, 2, GRID, 2).mean(axis=(1, 3)) + FLOOR)
    np.testing.assert_allclose(maps[0], expected, atol=0.5 / 32 + 1e-3)
    assert (maps[-1] == np.log2(128 / 256)).all()
    np.testing.assert_array_equal(unpacked(packed(maps)), maps)


def test_a_large_photo_is_read_once_in_blocks():
    """Traces do not depend on where blocks of rows end, nor on what lies beside the square."""
    image = grainy(1500, 1400)
    squares = [FaceSquare((500.0, 450.0), 640.0), FaceSquare((700.0, 800.0), 900.0, 0.2)]
    found = {index: traces for index, _, traces in read_faces(ArraySource(image), squares, 64)}
    for index, square in enumerate(squares):
        x, y, w, h = square.bounds(1500, 1400)
        alone = np.zeros_like(image)
        alone[y : y + h, x : x + w] = image[y : y + h, x : x + w]
        np.testing.assert_array_equal(found[index], photo_traces(alone, square))


def test_sixteen_bits_say_the_same():
    image = grainy(200, 200)
    square = whole_square(200, 200)
    np.testing.assert_allclose(
        photo_traces(image.astype(np.uint16) * 257, square), photo_traces(image, square), atol=1 / 32
    )


def test_a_warp_leaves_traces_where_it_was_and_resizing_everywhere():
    image = grainy().astype(np.float32) / 255
    square = whole_square(512, 512)
    before = photo_traces(np.rint(255 * image).astype(np.uint8), square)[SECOND_ORDER]
    flow = displacement(512, 512, [lambda points: enlarge(points, np.array([256.0, 256.0]), 100.0, 0.2)])
    warped = np.rint(255 * warp_image(image, flow)).astype(np.uint8)
    change = photo_traces(warped, square)[SECOND_ORDER] - before
    assert change[26:38, 26:38].mean() < -0.2 and np.abs(change[:18]).max() == 0
    larger = np.rint(255 * resize(image, 768, 768)).astype(np.uint8)
    change = photo_traces(larger, whole_square(768, 768))[SECOND_ORDER] - before
    assert change.max() < -0.3


def test_pictures_are_photographs_of_their_own():
    image = grainy(96, 80)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    maps = image_traces(torch.cat([tensor, 1 - tensor]))
    assert maps.shape == (2, CHANNELS, GRID, GRID)
    expected = photo_traces(image, FaceSquare((40.0, 48.0), 96.0))
    np.testing.assert_array_equal(maps[0].numpy(), expected)
    assert maps[0, :-1].numpy() == pytest.approx(maps[1, :-1].numpy(), abs=1 / 32)

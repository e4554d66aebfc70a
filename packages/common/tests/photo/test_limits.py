import os
import struct

import numpy as np
import pytest
from PIL import Image
from retouch_common.photo.formats import sniff
from retouch_common.photo.io import Photo
from retouch_common.photo.png_chunks import SIGNATURE, chunk


def huge_png(path, width, height, bits=1):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    path.write_bytes(SIGNATURE + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_photo_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = huge_png(tmp_path / "a.png", 60_000, 60_000)
    with pytest.raises(ValueError, match=r"a.png: has 60000x60000 pixels, more than the 500 million .*--max-pixels"):
        Photo.open(path)
    assert Photo.open(path, max_pixels=None).width == 60_000
    assert Photo.open(path, max_pixels=3_600_000_000).width == 60_000


def test_formats_decoded_in_memory_have_a_fifth(tmp_path):
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "a.webp")
    assert Photo.open(tmp_path / "a.webp", max_pixels=50_000).width == 100
    with pytest.raises(
        ValueError, match=r"a.webp: has 100x100 pixels, more than the 0.009999 million allowed for WebP"
    ):
        Photo.open(tmp_path / "a.webp", max_pixels=49_999)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_refused_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a.jpg: is not a regular file"):
        sniff(tmp_path / "a.jpg")

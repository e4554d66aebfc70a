"""Files beside a retouched photo."""

import os

import numpy as np
from PIL import Image
from retouch_common.inference.companions import Comparison, write_change, write_map
from retouch_common.photo.io import Photo


class View:
    """A photo that is reduced to pictures of a given size."""

    width, height = 3000, 4000

    def __init__(self, shape, level):
        self.view = np.full((*shape, 3), level, np.uint8)

    def thumbnail(self, side, part):
        return self.view


def test_views_before_and_after_may_differ_by_a_pixel(tmp_path):
    """JPEG is reduced while it is decoded, PNG afterwards."""
    for before, after in (((1024, 750), (1025, 751)), ((1025, 751), (1024, 750))):
        Comparison(View(before, 10), []).write(View(after, 200), tmp_path / "compare.jpg")
        with Image.open(tmp_path / "compare.jpg") as image:
            assert image.size == (2 * 751 + 8, 1025)
            left, right = image.getpixel((700, 500))[0], image.getpixel((751 + 8 + 700, 500))[0]
        assert abs(left - 10) < 3 and abs(right - 200) < 3


def test_companions_in_folders_whose_names_are_not_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Image.fromarray(np.full((40, 50, 3), 100, np.uint8)).save(tmp_path / "a.png")
    photo = Photo.open(tmp_path / "a.png")
    Comparison(photo, []).write(photo, folder / "compare.jpg")
    write_map(folder / "map.png", 40, 50, [])
    write_change(photo.reopen(), iter([photo.read()]), folder / "change.tif")
    assert sorted(path.name for path in folder.iterdir()) == ["change.tif", "compare.jpg", "map.png"]

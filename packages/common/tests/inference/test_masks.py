"""Masks beside a photograph: what they select, and what they cost."""

import tracemalloc

import numpy as np
import pytest
import pyvips
from retouch_common.inference.masks import mask_files, open_mask
from retouch_common.photo.io import Photo

SIDE = 2500


def saved(path, width, height=100):
    """Write and open a plain photo."""
    pyvips.Image.black(width, height, bands=3).copy(interpretation="srgb").write_to_file(str(path))
    return Photo.open(path)


@pytest.fixture
def photo(tmp_path):
    return saved(tmp_path / "photo.png", SIDE, SIDE)


@pytest.mark.parametrize("kind", ["white", "strokes", "ones"])
def test_a_mask_is_decoded_in_rows(tmp_path, photo, kind):
    selected = np.zeros((SIDE, SIDE), np.uint8)
    selected[1000:1200, 300:900] = 1
    levels = {"white": 255 * selected, "ones": selected, "strokes": np.dstack([0 * selected] * 3 + [255 * selected])}
    image = pyvips.Image.new_from_array(levels[kind])
    image.copy(interpretation="srgb" if kind == "strokes" else "b-w").pngsave(str(tmp_path / "mask.png"))
    del levels, image
    tracemalloc.start()
    try:
        mask = open_mask(tmp_path / "mask.png", photo, "what to protect")
        for top in range(0, SIDE, 100):
            rows = mask.read_rows(top, top + 100)
            assert np.array_equal(rows, np.repeat(255 * selected[top : top + 100, :, None], 3, axis=2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * SIDE * SIDE  # bytes; all levels would be four per pixel


def test_a_mask_of_another_size_is_refused(tmp_path, photo):
    pyvips.Image.black(40, 50).pngsave(str(tmp_path / "mask.png"))
    with pytest.raises(ValueError, match=r"has 2500x2500 pixels and the image of what to protect, .* has 40x50"):
        open_mask(tmp_path / "mask.png", photo, "what to protect")


@pytest.mark.parametrize("suffix", [".webp", ".heic"])
def test_a_mask_larger_than_the_photo_is_refused_before_it_is_decoded(tmp_path, monkeypatch, suffix):
    """Formats that are decoded in memory could need any amount of it."""
    photo = saved(tmp_path / "photo.png", 100)
    given = tmp_path / f"mask{suffix}"
    if suffix == ".heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        monkeypatch.setattr(pillow_heif.HeifFile, "__array_interface__", property(lambda image: pytest.fail("decoded")))
        pillow_heif.from_bytes("L", (101, 100), bytes(10_100)).save(given)
    else:
        saved(given, 101)
    with pytest.raises(ValueError, match=rf"photo.png: has 100x100 pixels and the image of .*{given.name}, has more"):
        open_mask(given, photo, "what to protect")


def test_a_mask_of_any_format_may_be_as_large_as_the_photo(tmp_path):
    photo = saved(tmp_path / "photo.png", 100)
    saved(tmp_path / "mask.webp", 100)
    assert open_mask(tmp_path / "mask.webp", photo, "what to protect").read_rows(0, 100).shape == (100, 100, 3)


def black(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyvips.Image.black(100, 100).pngsave(str(path))
    return path


def white_in(given, photo):
    return open_mask(given, photo, "what to protect").read_rows(0, 100).any()


def test_masks_in_folders_follow_the_photos(tmp_path):
    masks = tmp_path / "masks"
    sources = [tmp_path / "tree" / folder / "1.png" for folder in "ab"]
    for source in sources:
        source.parent.mkdir(parents=True)
        saved(source, 100)
    (masks / "a").mkdir(parents=True)
    pyvips.Image.black(100, 100).invert().pngsave(str(masks / "a" / "1.png"))
    assert white_in(masks, Photo.open(sources[0]))
    with pytest.raises(ValueError, match=r"in the folder .*masks no image is named like it"):
        white_in(masks, Photo.open(sources[1]))
    other = black(masks / "b" / "1.png")
    assert not white_in(masks, Photo.open(sources[1]))
    assert mask_files(masks, sources) == [masks / "a" / "1.png", other]


def test_one_mask_does_not_serve_photos_of_two_folders(tmp_path):
    mask = black(tmp_path / "masks" / "1.png")
    first, second = (tmp_path / "tree" / folder / "1.png" for folder in "ab")
    with pytest.raises(ValueError, match=r"masks.1.png: is named like .*1.png and .*; put masks into .*masks.a"):
        mask_files(mask.parent, [first, second])
    assert mask_files(mask.parent, [first, first.with_suffix(".jpg"), second.with_name("2.png")]) == [mask]
    assert mask_files(mask, [first, second]) == [mask]


def test_the_folder_of_the_photos_is_not_that_of_their_masks(tmp_path):
    source, mask = tmp_path / "photos" / "1.png", black(tmp_path / "1.png")
    source.parent.mkdir()
    photo = saved(source, 100)
    assert mask_files(tmp_path, [source]) == [mask, source.parent] and not white_in(tmp_path, photo)

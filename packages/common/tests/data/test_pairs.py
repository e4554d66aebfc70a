from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from retouch_common.data.pair_files import find_pairs, match
from retouch_common.data.pairs import ImagePairs, open_pairs


def draw(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyvips.Image.new_from_array(pixels).write_to_file(str(path), **options)
    return path


def noise(seed: int, height: int = 24, width: int = 32, dtype=np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, (height, width, 3), dtype=dtype, endpoint=True)


def folder_of(root: Path, count: int, **size) -> Path:
    for number in range(count):
        draw(root / "raw" / f"{number:02d}.png", noise(number, **size))
        draw(root / "target" / f"{number:02d}.png", noise(number, **size) // 2)
    return root


def stems(pairs) -> list[str]:
    return [raw.stem for raw, _ in pairs]


# ---- finding pairs ----


def test_names_match_whatever_the_formats_and_subfolders(tmp_path, caplog):
    for name in (
        "raw/a.jpg",
        "target/a.tif",
        "raw/sub/b.PNG",
        "target/sub/b.png",
        "raw/c.png",
        "target/d.png",
    ):
        draw(tmp_path / name, noise(0))
    for name in ("raw/Thumbs.db", "raw/._a.jpg", "raw/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    pairs = match(tmp_path / "raw", tmp_path / "target")
    assert [(raw.name, target.name) for raw, target in pairs] == [("a.jpg", "a.tif"), ("b.PNG", "b.png")]
    assert "raw: 1 without a partner, skipped: c" in caplog.text
    assert "target: 1 without a partner, skipped: d" in caplog.text


def test_long_lists_of_lonely_names_are_cut_short(tmp_path, caplog):
    folder_of(tmp_path, 24)
    for file in sorted((tmp_path / "target").iterdir())[1:]:
        file.unlink()
    match(tmp_path / "raw", tmp_path / "target")
    assert "23 without a partner, skipped: 01, 02, 03" in caplog.text and "19, 20, 3 more" in caplog.text


def test_nothing_matches(tmp_path):
    draw(tmp_path / "raw" / "a.png", noise(0))
    draw(tmp_path / "target" / "b.png", noise(0))
    with pytest.raises(ValueError, match="none of its 1 photographs is named like one of the 1 in"):
        open_pairs(tmp_path, size=16)


def test_two_files_of_one_name(tmp_path):
    folder_of(tmp_path, 2)
    draw(tmp_path / "raw" / "01.jpg", noise(0))
    with pytest.raises(ValueError, match=r"01\.jpg and 01\.png differ in their suffix alone"):
        open_pairs(tmp_path, size=16)


def test_every_tenth_pair_is_held_out(tmp_path):
    folder_of(tmp_path, 12, height=16, width=16)
    assert stems(find_pairs(tmp_path, "val")) == stems(find_pairs(tmp_path, "test")) == ["00", "10"]
    assert stems(find_pairs(tmp_path, "train")) == [f"{n:02d}" for n in range(12) if n % 10]
    assert len(find_pairs(tmp_path, "all")) == 12


def test_a_single_pair_trains_and_validates_nothing(tmp_path):
    folder_of(tmp_path, 1)
    assert len(open_pairs(tmp_path, size=16, split="train")) == 1
    with pytest.raises(ValueError, match="a single pair cannot be divided; there is nothing for 'val'"):
        open_pairs(tmp_path, size=16, split="val")


def test_folders_for_splits_are_used(tmp_path):
    folder_of(tmp_path / "train", 3)
    folder_of(tmp_path / "val", 2)
    assert [len(find_pairs(tmp_path, split)) for split in ("train", "val", "test", "all")] == [3, 2, 2, 5]
    folder_of(tmp_path / "test", 1)
    assert [len(find_pairs(tmp_path, split)) for split in ("test", "all")] == [1, 6]


def test_a_test_folder_validates_where_there_is_no_other(tmp_path):
    for name, count in (("train", 3), ("test", 2)):
        folder_of(tmp_path / name, count)
    assert [len(find_pairs(tmp_path, split)) for split in ("train", "val", "test", "all")] == [3, 2, 2, 5]


def test_a_split_without_its_folder(tmp_path):
    folder_of(tmp_path / "train", 3)
    with pytest.raises(ValueError, match=re.escape("has no val/raw and val/target")):
        open_pairs(tmp_path, size=16, split="val")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}", "not a set of pairs; it needs raw/ and target/"),
        ("pairs:{}", "has no raw/ and target/"),
        ("{}/none", "is not a folder"),
        ("ffhqr:{}/none", "is not a folder"),
    ],
)
def test_folders_that_are_none(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        open_pairs(spec.format(tmp_path), size=16)


@pytest.mark.parametrize("name", ["faces", "pairs", "crhd"])
def test_a_folder_may_have_the_name_of_a_kind(tmp_path, monkeypatch, name):
    folder_of(tmp_path / name, 2)
    monkeypatch.chdir(tmp_path)
    assert len(open_pairs(name, size=16, split="all")) == len(open_pairs(f"pairs:{name}", size=16, split="all")) == 2


def test_mistakes(tmp_path):
    folder_of(tmp_path, 2)
    for options, message in (
        ({"split": "some"}, "'some' is not one of train, dev, val, test, all"),
        ({"fit": "stretch"}, "'stretch' is not one of whole, crop"),
        ({"size": 8}, "8 pixels are too small"),
        ({"cache": "x"}, "the option cache is only for faces:DIR"),
    ):
        with pytest.raises(ValueError, match=message):
            open_pairs(tmp_path, **{"size": 16, **options})
    with pytest.raises(ValueError, match="there are no pairs"):
        ImagePairs([], size=16)


def test_faces_go_to_their_own_data_set(tmp_path, monkeypatch):
    import retouch_common.data.faces as faces

    monkeypatch.setattr(faces, "FaceBlemishes", lambda folder, **options: (folder, options))
    found = open_pairs(f"faces:{tmp_path}", size=64, split="test", seed=3, cache="there")
    assert found == (str(tmp_path), {"size": 64, "split": "val", "seed": 3, "cache": "there", "natural": 0.0})
    assert "natural" not in open_pairs(f"faces:{tmp_path}", size=64, split="train")[1]
    assert open_pairs(f"faces:{tmp_path},there", size=64, split="dev")[0] == f"{tmp_path},there"


# ---- samples ----


def sample_of(tmp_path, raw, target, index=0, **options):
    pairs = [(draw(tmp_path / "raw.png", raw), draw(tmp_path / "target.png", target))]
    return ImagePairs(pairs, **options)[index]


def test_values_shape_and_type(tmp_path):
    pixels = noise(1, 20, 20)
    sample = sample_of(tmp_path, pixels, pixels // 2, size=20)
    assert sorted(sample) == ["raw", "target"]
    for name, expected in (("raw", pixels), ("target", pixels // 2)):
        assert sample[name].dtype == torch.float32
        assert sample[name].shape == (3, 20, 20)
        assert sample[name].is_contiguous()
        assert np.array_equal(sample[name].permute(1, 2, 0).numpy() * np.float32(255), expected.astype(np.float32))


def test_sixteen_bits_are_kept(tmp_path):
    pixels = noise(1, 16, 16, np.uint16)
    sample = sample_of(tmp_path, pixels, pixels, size=16)
    assert np.array_equal(np.rint(sample["raw"].permute(1, 2, 0).numpy() * 65535), pixels)


def test_grey_becomes_rgb_and_alpha_is_dropped(tmp_path):
    grey = noise(1, 16, 16)[..., 0]
    rgba = np.dstack([grey, grey, grey, np.full_like(grey, 9)])
    sample = sample_of(tmp_path, grey, rgba, size=16)
    assert torch.equal(sample["raw"], sample["target"])
    assert sample["raw"].shape == (3, 16, 16)


def test_orientation_is_applied(tmp_path):
    pixels = noise(1, 16, 24)
    turned = pyvips.Image.new_from_array(np.ascontiguousarray(np.rot90(pixels))).copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)  # "turn clockwise to see it upright"
    turned.write_to_file(str(tmp_path / "turned.png"))
    upright = draw(tmp_path / "upright.png", pixels)
    sample = ImagePairs([(upright, tmp_path / "turned.png")], size=24)[0]
    assert torch.equal(sample["raw"], sample["target"])


def test_whole_photos_are_reduced_and_padded_with_their_edge(tmp_path):
    raw = np.zeros((16, 64, 3), np.uint8)
    raw[:8] = 200
    sample = sample_of(tmp_path, raw, raw, size=32)["raw"][0] * 255
    assert sample.shape == (32, 32)
    assert (sample[:14].round() == 200).all(), "12 rows of padding above repeat the upper edge"
    assert (sample[18:].round() == 0).all(), "and 12 below the lower one"


def test_small_photos_are_enlarged_to_the_size(tmp_path):
    sample = sample_of(tmp_path, np.full((16, 20, 3), 50, np.uint8), np.full((16, 20, 3), 50, np.uint8), size=40)
    assert sample["raw"].shape == (3, 40, 40)
    assert torch.allclose(sample["raw"], torch.tensor(50 / 255))


def test_raw_and_target_are_cropped_and_mirrored_alike(tmp_path):
    pixels = noise(1, 40, 50)
    pairs = [(draw(tmp_path / "a.png", pixels), draw(tmp_path / "b.png", 255 - pixels))]
    data = ImagePairs(pairs, size=16, fit="crop", augment=True, seed=5)
    places, mirrored = set(), set()
    for index in range(24):
        sample = data[index]
        assert torch.allclose(sample["raw"] + sample["target"], torch.ones(3, 16, 16))
        crop = np.rint(sample["raw"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        found = [
            (y, x, flip)
            for flip in (False, True)
            for y in range(25)
            for x in range(35)
            if np.array_equal(pixels[y : y + 16, x : x + 16], crop[:, ::-1] if flip else crop)
        ]
        assert len(found) == 1, "a crop at the photo's own resolution"
        places.add(found[0][:2])
        mirrored.add(found[0][2])
    assert len(places) > 20
    assert mirrored == {False, True}


def test_the_last_row_and_column_can_be_reached(tmp_path):
    pixels = noise(1, 18, 18)
    data = ImagePairs([(draw(tmp_path / "a.png", pixels),) * 2], size=16, fit="crop", augment=True)
    corners = {tuple(np.rint(data[i]["raw"][:, -1, -1].numpy() * 255).astype(int)) for i in range(60)}
    assert tuple(pixels[-1, -1].astype(int)) in corners


def test_small_photos_are_padded_by_a_crop(tmp_path):
    sample = sample_of(
        tmp_path, np.full((16, 64, 3), 9, np.uint8), np.full((16, 64, 3), 9, np.uint8), size=32, fit="crop"
    )
    assert torch.allclose(sample["raw"], torch.full((3, 32, 32), 9 / 255))


def test_a_sample_depends_on_seed_and_whole_index_only(tmp_path):
    folder_of(tmp_path, 3, height=40, width=40)

    def picture(index, seed=1):
        return open_pairs(tmp_path, size=16, split="train", seed=seed, fit="crop")[index]["raw"]

    assert torch.equal(picture(7), picture(7))
    assert not torch.equal(picture(1), picture(3)), "the same photo in the next epoch, cut elsewhere"
    assert not torch.equal(picture(1), picture(1, seed=2))


def test_validation_is_cut_from_the_middle_and_never_mirrored(tmp_path):
    folder_of(tmp_path, 3, height=40, width=40)
    data = open_pairs(tmp_path, size=16, split="val", fit="crop")
    expected = torch.from_numpy(noise(0, 40, 40)[12:28, 12:28].transpose(2, 0, 1) / np.float32(255))
    for index in range(4):
        assert torch.allclose(data[index]["raw"], expected)


def test_different_sizes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"raw\.png has 20x16 pixels but .*target\.png has 16x20"):
        sample_of(tmp_path, noise(0, 16, 20), noise(0, 20, 16), size=16)


@pytest.mark.parametrize("content", ["empty", "cut", "text"])
def test_damaged_files_are_named(tmp_path, content):
    good = draw(tmp_path / "good.png", noise(0, 64, 64))
    bad = tmp_path / "bad.png"
    whole = good.read_bytes()
    bad.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"not a picture at all"}[content])
    with pytest.raises(ValueError, match=r"bad\.png"):
        ImagePairs([(good, bad)], size=16)[0]


def test_check_lists_what_cannot_be_used(tmp_path):
    folder_of(tmp_path, 4)
    draw(tmp_path / "target" / "01.png", noise(0, 30, 30))
    (tmp_path / "raw" / "02.png").write_bytes(b"junk")
    faults = open_pairs(tmp_path, size=16, split="all").check()
    assert len(faults) == 2
    assert "01.png has 32x24 pixels but" in faults[0]
    assert "02.png" in faults[1]


def test_loading_with_workers_equals_loading_without(tmp_path):
    """The workers are real processes; libvips has already run in this one."""
    from retouch_common.training.samplers import EndlessBatches, endless_loader

    data = open_pairs(folder_of(tmp_path, 4), size=16, split="all")
    batches = EndlessBatches(4, batch_size=2, seed=1)
    plain = iter(endless_loader(data, batches))
    working = iter(endless_loader(data, batches, num_workers=1))
    for _ in range(3):
        assert torch.equal(next(plain)["raw"], next(working)["raw"])

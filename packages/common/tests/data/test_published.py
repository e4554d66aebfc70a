"""FFHQR and CRHD-3K: small trees in the published layouts."""

from __future__ import annotations

import pytest
from retouch_common.data.crhd import find_crhd
from retouch_common.data.ffhqr import find_ffhqr
from retouch_common.data.pairs import open_pairs

NUMBERS = [0, 999, 1000, 55999, 56000, 62999, 63000, 69999]


def ffhqr(folder, raw="images1024x1024", retouched="image_retouched", nested=True, numbers=NUMBERS):
    for name in (raw, retouched):
        for number in numbers:
            path = folder / name / (f"{number // 1000 * 1000:05d}" if nested else "") / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return folder


def stems(pairs):
    return [int(raw.stem) for raw, _ in pairs]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("retouched", ["image_retouched", "ffhqr", "ffhqr/images1024x1024"])
def test_ffhqr_split_by_the_authors_folders(tmp_path, retouched, nested):
    ffhqr(tmp_path, retouched=retouched, nested=nested)
    assert stems(find_ffhqr(tmp_path, "train")) == [0, 999, 1000, 55999]
    assert stems(find_ffhqr(tmp_path, "val")) == [56000, 62999]
    assert stems(find_ffhqr(tmp_path, "test")) == [63000, 69999]
    assert stems(find_ffhqr(tmp_path, "all")) == NUMBERS
    for raw, target in find_ffhqr(tmp_path, "all"):
        assert raw.name == target.name
        assert "images1024x1024" in raw.parts[-3:-1] or raw.parent.name == "images1024x1024"
        assert retouched.split("/")[0] in target.parts


def test_ffhqr_is_recognised_and_a_part_of_it_is_enough(tmp_path, caplog):
    ffhqr(tmp_path)
    (tmp_path / "image_retouched" / "55000" / "55999.png").unlink()
    data = open_pairs(tmp_path, size=64, split="train")
    assert stems(data.pairs) == [0, 999, 1000]
    assert "1 images of the train split have no partner" in caplog.text


def test_ffhqr_that_is_not_there(tmp_path):
    (tmp_path / "images1024x1024").mkdir()
    with pytest.raises(ValueError, match=r"has no folder image_retouched \(FFHQR\)"):
        open_pairs(f"ffhqr:{tmp_path}", size=64)
    ffhqr(tmp_path, numbers=[5])
    with pytest.raises(ValueError, match="no pairs in the val split, numbers 56000 to 62999"):
        open_pairs(f"ffhqr:{tmp_path}", size=64, split="val")


def crhd(folder, count):
    for name in ("src", "gt"):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"photo_{number}.jpg").touch()
    return folder


def test_crhd_is_divided_2522_to_500_by_names_alone(tmp_path):
    crhd(tmp_path, 3022)
    train, test = find_crhd(tmp_path, "train"), find_crhd(tmp_path, "test")
    assert (len(train), len(test)) == (2522, 500)
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(find_crhd(tmp_path, "all"))
    assert find_crhd(tmp_path, "val") == test
    # the division is part of every published number: it may never change
    assert [raw.stem for raw, _ in test[:3]] == ["photo_1000", "photo_101", "photo_1011"]
    numbers = sorted(int(raw.stem.split("_")[1]) for raw, _ in test)
    assert 1300 < sum(numbers) / 500 < 1720, "spread over the whole set"


def test_crhd_is_recognised_and_divided_in_proportion(tmp_path):
    crhd(tmp_path, 12)
    assert len(open_pairs(tmp_path, size=64, split="train")) == 10
    assert len(open_pairs(f"crhd:{tmp_path}", size=64, split="test")) == 2
    assert len(open_pairs(tmp_path, size=64, split="all")) == 12


def test_crhd_that_is_still_packed(tmp_path):
    (tmp_path / "src.zip").touch()
    (tmp_path / "gt.zip").touch()
    with pytest.raises(ValueError, match=r"has no folders src and gt; unpack src\.zip and gt\.zip there"):
        open_pairs(f"crhd:{tmp_path}", size=64)

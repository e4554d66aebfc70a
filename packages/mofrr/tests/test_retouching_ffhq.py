"""The published layouts, on small trees of empty pictures."""

import shutil

import pytest
from mofrr.retouching_ffhq import APIS, find_retouched


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


@pytest.fixture
def tree(tmp_path):
    """Ten thousands of one face each."""
    for thousand in range(10):
        number = f"{1000 * thousand + 7:08d}"
        touch(tmp_path / "ori" / f"{thousand:05d}" / f"{number}.png")
        touch(tmp_path / "Whitening_30" / f"{thousand:05d}" / f"{number}.png")
        touch(tmp_path / "EyeEnlarging_90" / f"{thousand:05d}" / f"{number}.png")
        touch(tmp_path / "multi" / "two" / f"megvii_{number}.png")
    lines = [
        f"{{'EyeEnlarging': 60, 'FaceLifting': 30, 'Smoothing': 0}}\tmulti/two/megvii_{1000 * t + 7:08d}.png"
        for t in range(10)
    ]
    (tmp_path / "multi.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_operations_and_magnitudes(tree):
    found = find_retouched(tree)
    assert len(found) == 40
    of_first = {tuple(sorted(p.magnitudes.items())) for p in found if p.original.name == "00000007.png"}
    assert of_first == {(), (("white", 1),), (("eye", 3),), (("eye", 2), ("lift", 1))}


def test_split_by_thousands(tree):
    sizes = {split: len(find_retouched(tree, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 32, "val": 4, "test": 4}
    originals = {split: {p.original for p in find_retouched(tree, split)} for split in sizes}
    assert not originals["train"] & originals["val"] and not originals["val"] & originals["test"]


def test_split_by_folder(tmp_path):
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        touch(tmp_path / "ori" / split / f"{number}.png")
        touch(tmp_path / "Smoothing_60" / split / f"{number}.png")
    val, original = find_retouched(tmp_path, "val")
    assert val.file.name == "2.png" and val.magnitudes == {"smooth": 2} and original.magnitudes == {}


def test_an_original_is_in_the_split_of_what_was_made_from_it(tmp_path):
    """FFHQ's own folders say nothing about splits."""
    for split, number in (("test", 1), ("train", 1000), ("val", 2000)):
        touch(tmp_path / "images1024x1024" / f"{number}.png")
        touch(tmp_path / "Whitening_30" / split / f"{number}.png")
    for split, number in (("test", 1), ("train", 1000), ("val", 2000)):
        assert [picture.file.name for picture in find_retouched(tmp_path, split)] == 2 * [f"{number}.png"]


def test_operations_of_other_names(tmp_path):
    for name in ("ori/train", "LipPlumping_30/train", "multi"):
        touch(tmp_path / name / "1.png")
    (tmp_path / "multi.txt").write_text("{'LipPlumping': 90, 'Whitening': 30}\tmulti/1.png")
    found = find_retouched(tmp_path)
    assert [picture.magnitudes for picture in found] == [{"lip_plumping": 1}, {"lip_plumping": 3, "white": 1}, {}]


@pytest.fixture
def published(tmp_path):
    """The folders of three programs as published, and an image of PortraitPro as MoFRR names it."""
    two, portrait = [], []
    for thousand in range(10):
        number, place = f"{thousand:02d}001", f"{thousand:02d}000"
        touch(tmp_path / "FFHQ" / place / f"{number}.png")
        touch(tmp_path / "FFHQ_process" / "Whitening_30" / place / f"{number}.png")
        touch(tmp_path / "FFHQ_ali_process" / "Smoothing_60" / place / f"{number}.png")
        touch(tmp_path / "FFHQ_megvii_dual_process" / place / f"1_{number}.png")
        touch(tmp_path / "multi" / "two" / f"portrait_{number}.png")
        label = "{'EyeEnlarging': 60, 'Whitening': 30}\t"
        two.append(f"{label}/groupshare/x/FFHQ_megvii_dual_process/{place}/1_{number}.png\n")
        portrait.append(f"{label}multi/two/portrait_{number}.png\n")
    (tmp_path / "FFHQ_megvii_dual_process" / "dual_process.txt").write_text("".join(two))
    (tmp_path / "multi.txt").write_text("".join(portrait))
    return tmp_path


def test_programs_are_read_from_paths(published):
    found = [image for image in find_retouched(published) if image.magnitudes]
    assert {api: sum(image.api == api for image in found) for api in APIS} == dict.fromkeys(APIS, 10)
    assert len(found) == 40


def test_images_of_chosen_programs(published):
    """Originals stay, and so do the splits: nobody is tested with one program and trained on with another."""
    kept = find_retouched(published, apis=["megvii", "alibaba"])
    assert {image.api for image in kept} == {"", "megvii", "alibaba"} and len(kept) == 30
    train = find_retouched(published, "train", ["megvii", "alibaba", "tencent"])
    test = find_retouched(published, "test", ["portrait"])
    assert {image.api for image in test} == {"", "portrait"} and len(test) == 2 and len(train) == 32
    assert not {image.original for image in train} & {image.original for image in test}
    with pytest.raises(ValueError, match="unknown API meitu; choose from megvii, alibaba, portrait, tencent"):
        find_retouched(published, apis=["meitu"])
    shutil.rmtree(published / "FFHQ_ali_process")
    with pytest.raises(ValueError, match="no image of alibaba in the split 'train'"):
        find_retouched(published, "train", ["alibaba"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'EyeEnlarging': 45}\tori/00000/00000007.png", "30, 60 or 90, not 45"),
        ("__import__('os').system('true')\tori/00000/00000007.png", "line 1: not a label"),
        ("{'nose tip': 30}\tori/00000/00000007.png", "line 1: not a label"),
        ("{'EyeEnlarging': 30} ori/00000/00000007.png", "line 1: not a label"),
        ("{'EyeEnlarging': 30}\tnowhere.png", "no nowhere.png"),
    ],
)
def test_bad_labels_are_named(tree, line, message):
    (tree / "multi.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        find_retouched(tree)


def test_what_is_missing_is_said(tmp_path, caplog):
    with pytest.raises(ValueError, match="no folder of originals"):
        find_retouched(tmp_path)
    touch(tmp_path / "ori" / "1.png")
    with pytest.raises(ValueError, match="no retouched images"):
        find_retouched(tmp_path)
    touch(tmp_path / "Smoothing_30" / "1.png")
    touch(tmp_path / "Smoothing_30" / "2.png")
    assert len(find_retouched(tmp_path)) == 2
    assert "1 images have no original" in caplog.text
    with pytest.raises(ValueError, match="split 'test'"):
        find_retouched(tmp_path, "test")
    touch(tmp_path / "Smoothing_31" / "1.png")
    with pytest.raises(ValueError, match="not 31"):
        find_retouched(tmp_path)

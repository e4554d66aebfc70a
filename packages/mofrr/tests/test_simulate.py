"""The simulated set: layout, labels, splits by person, resuming."""

import json
import shutil

import numpy as np
import pytest
import pyvips
from mofrr import simulate as module
from mofrr.retouching_ffhq import find_retouched
from mofrr.simulate import STYLES, simulate
from retouch_common.faces.landmarks import canonical_landmarks


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Two skin-coloured pictures of each of twelve people."""
    folder = tmp_path_factory.mktemp("portraits")
    y, x = np.mgrid[:64, :64] / 64
    for mood in ("set_neutral", "set_smiling"):
        (folder / mood).mkdir()
        for person in range(12):
            levels = (np.stack([200 - 40 * y, 150 - 20 * x, 120 + 10 * person + 0 * x], axis=-1)).astype(np.uint8)
            pyvips.Image.new_from_array(levels).write_to_file(str(folder / mood / f"{person:02d}.png"))
    return folder


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Every portrait is a face already; returns the portraits that were opened."""
    opened = []

    def open_face(path, side):
        opened.append(path)
        levels = pyvips.Image.new_from_file(str(path)).resize(side / 64).numpy()
        return None if path.stem == "06" else (levels, canonical_landmarks(side))

    monkeypatch.setattr(module, "open_face", open_face)
    return opened


def test_is_read_back_as_it_was_made(portraits, tmp_path):
    said = []
    simulate(portraits, tmp_path, size=64, multi=2, report=said.append)
    pictures = find_retouched(tmp_path)
    assert len(pictures) == 22 * (1 + 12 + 2)
    kinds = [tuple(sorted(picture.magnitudes.items())) for picture in pictures]
    for operation in ("white", "smooth", "lift", "eye"):
        for magnitude in (1, 2, 3):
            assert kinds.count(((operation, magnitude),)) == 22
    styles = {json.loads(line)["style"] for line in (tmp_path / "recipes.jsonl").read_text().splitlines()}
    assert styles == set(STYLES) - {"foreign"}  # which is for tests
    assert kinds.count(()) == 22 and sum(len(kind) >= 2 for kind in kinds) == 44
    assert "no face found in 2 portraits" in said[0] and said[-1].startswith("308 retouched images of 22 portraits")
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 7  # of the first eight portraits one shows no face
    # Persons 00 and 10 are held out, 07 is for validation, neutral and smiling; 06 shows no face.
    numbers = {
        split: {int(picture.original.stem) % 12 for picture in find_retouched(tmp_path, split)}
        for split in ("train", "val", "test")
    }
    assert numbers == {"test": {0, 10}, "val": {7}, "train": {1, 2, 3, 4, 5, 8, 9, 11}}
    recipes = [json.loads(line) for line in (tmp_path / "recipes.jsonl").read_text().splitlines()]
    for folder, operation in (("Whitening_", "white"), ("Smoothing_", "smooth")):
        assert {tuple(recipe["strengths"]) for recipe in recipes if recipe["file"].startswith(folder)} == {(operation,)}
    of_one = [recipe for recipe in recipes if recipe["file"].startswith("EyeEnlarging_60")]
    assert all(0.5 <= recipe["strengths"]["eye"] <= 0.7 and len(recipe["strengths"]) == 1 for recipe in of_one)


def test_a_killed_run_goes_on(portraits, tmp_path, found):
    simulate(portraits, tmp_path, size=64, multi=1, report=print)
    content = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    removed = [file for file in content if "_000003" in file.name or file.name in ("000005.png", "multi.txt")]
    assert len(removed) > 10
    for file in removed:
        file.unlink()
    found.clear()
    simulate(portraits, tmp_path, size=64, multi=1, report=print)
    assert {file: file.read_bytes() for file in content} == content
    assert len({path.stem for path in found} - {"06"}) == 2  # only what was incomplete was opened
    with pytest.raises(ValueError, match=r"options\.json: was begun with other seed"):
        simulate(portraits, tmp_path, size=64, multi=1, seed=1, report=print)
    shutil.copytree(portraits, tmp_path / "set")
    (tmp_path / "set" / "set_neutral" / "03.png").rename(tmp_path / "set" / "set_smiling" / "20.png")
    with pytest.raises(ValueError, match="was begun with other portraits"):  # as many, but other numbers
        simulate(tmp_path / "set", tmp_path, size=64, multi=1, report=print)


def test_few_people_are_validated_on_those_held_out(portraits, tmp_path):
    few = tmp_path / "set_few"
    few.mkdir()
    for person in ("00", "01", "02"):
        shutil.copy(portraits / "set_neutral" / f"{person}.png", few)
    simulate(few, tmp_path / "out", size=64, multi=1, report=print)
    of = {
        split: {p.original.stem for p in find_retouched(tmp_path / "out", split)} for split in ("train", "val", "test")
    }
    assert of == {"train": {"000001", "000002"}, "val": {"000000"}, "test": {"000000"}}


def test_nothing_to_retouch(portraits, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_face", lambda path, side: None)
    with pytest.raises(ValueError, match="no face was found in 24 portraits"):
        simulate(portraits, tmp_path / "out", size=64, report=print)
    with pytest.raises(ValueError, match="out: is inside the data"):  # and would be retouched, too
        simulate(portraits, portraits / "out", size=64, report=print)
    assert not (portraits / "out").exists()
    with pytest.raises(ValueError, match="unknown style 'vivid'"):
        simulate(portraits, tmp_path / "other", styles=("vivid",), report=print)
    assert not (tmp_path / "other").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="choose a new folder"):
        simulate(portraits, tmp_path / "full", size=64, report=print)

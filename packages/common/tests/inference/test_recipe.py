"""Recipes: steps, brushes, blemishes brought back, files, and that a recipe is replayed exactly."""

import json

import numpy as np
import pytest
import pyvips
from retouch_common.faces.face import Face
from retouch_common.inference.blemishes import REST, Blemishes
from retouch_common.inference.companions import write_change
from retouch_common.inference.photos import PhotoOptions
from retouch_common.inference.recipe import Recipe
from retouch_common.inference.recipe_retouching import RetouchedParts, apply_recipe
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import pasted_rows

HEIGHT, WIDTH = 240, 320
CROP = (40, 20, 200, 200)
FACE = Face((80.0, 50.0, 100.0, 120.0), 1.0, np.full((5, 2), np.nan, np.float32))
MOLE, SPOT, PATCH = (100, 90), (160, 90), (130, 150)  # x, y
SPOTS = ((*MOLE, 5), (*SPOT, 1), (*PATCH, 12))  # diameters: medium, small, large for a face of 120


class DrawnChange:
    """Brightens discs by 60 levels and everything by 3."""

    x, y, width, height = CROP

    def read(self, x, y, width, height):
        rows, columns = np.mgrid[y : y + height, x : x + width]
        difference = np.full((height, width, 3), 3, np.float32)
        for cx, cy, radius in SPOTS:
            difference[np.hypot(columns - cx, rows - cy) <= radius] = 60
        return difference, np.ones((height, width), np.float32)


class DrawnPhotoChange(DrawnChange):
    x, y, width, height = 0, 0, WIDTH, HEIGHT


class FacesNetwork:
    name, weights_sha256 = "abpn", "a" * 64

    def changes(self, photo, faces):
        return [DrawnChange() for _ in faces]


class DrawnNetwork(FacesNetwork):
    def photo_change(self, photo):
        return DrawnPhotoChange()


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(40, 180, (HEIGHT, WIDTH, 3), np.uint8)
    path = tmp_path / "anna.png"
    pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").pngsave(str(path))
    return path


def recipe(*steps, **more):
    fields = {"network": "abpn", "width": WIDTH, "height": HEIGHT, "faces": (FACE,), "weights": "a" * 64}
    return Recipe(**{**fields, **more}, steps=steps)


def change(photo, *steps, **more):
    """What a recipe adds to the photo, of the first colour."""
    target = photo.with_name("after.png")
    apply_recipe(recipe(*steps, **more), DrawnNetwork(), photo, target, PhotoOptions(overwrite=True))
    return Photo.open(target).read().astype(int)[..., 0] - Photo.open(photo).read()[..., 0]


def test_without_steps_the_whole_change_is_applied(photo):
    added = change(photo)
    assert added[MOLE[::-1]] == added[PATCH[::-1]] == 60 and added[30, 50] == 3
    assert not added[:20].any() and not added[:, :40].any()


def test_strength_and_faces(photo):
    half = {"step": "strength", "value": 0.5}
    assert change(photo, half)[MOLE[::-1]] == 30
    assert change(photo, half, {"step": "strength", "value": 1})[MOLE[::-1]] == 60  # later steps count
    assert not change(photo, {"step": "strength", "value": 0}).any()
    assert not change(photo, {"step": "face", "face": 0, "on": False}).any()
    added = change(photo, {"step": "add_face", "box": [80, 50, 100, 120]}, faces=())
    assert added[MOLE[::-1]] == 60


WHOLE = {"step": "region", "value": "photo"}


@pytest.mark.parametrize("faces", [(FACE,), ()])
def test_the_whole_photo_is_retouched(photo, faces):
    faces_off = [{"step": "face", "face": index, "on": False} for index in range(len(faces))]
    added = change(photo, WHOLE, *faces_off, faces=faces)
    assert added[MOLE[::-1]] == added[PATCH[::-1]] == 60
    assert (added[:20] == 3).all() and (added[:, :40] == 3).all()
    off, half = {"step": "blemish", "at": list(MOLE), "on": False}, {"step": "strength", "value": 0.5}
    added = change(photo, WHOLE, off, half, faces=faces)
    assert added[MOLE[::-1]] == 0 and added[PATCH[::-1]] == 30
    assert not change(photo, WHOLE, {"step": "protect", "radius": 5, "points": [[10, 10]]}, faces=faces)[10, 10]


def test_the_region_may_be_changed_back(photo):
    np.testing.assert_array_equal(change(photo, WHOLE, {"step": "region", "value": "faces"}), change(photo))


def test_a_network_for_faces_does_not_retouch_the_whole_photo(photo, tmp_path):
    with pytest.raises(ValueError, match="abpn retouches faces"):
        apply_recipe(recipe(WHOLE), FacesNetwork(), photo, tmp_path / "x.png")


def test_the_result_says_what_was_retouched(photo, tmp_path):
    whole = apply_recipe(recipe(WHOLE), DrawnNetwork(), photo, tmp_path / "whole.png")
    assert str(whole) == "the whole photo, 1 step of the recipe" and whole.num_faces == 0
    assert str(apply_recipe(recipe(), DrawnNetwork(), photo, tmp_path / "face.png")).startswith("1 face, 0 steps")


def test_a_blemish_is_brought_back_and_removed_again(photo):
    off = {"step": "blemish", "at": list(MOLE), "on": False}
    added = change(photo, off)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mole = np.hypot(x - MOLE[0], y - MOLE[1]) <= 5
    assert not added[mole].any()
    assert added[SPOT[::-1]] == added[PATCH[::-1]] == 60 and added[30, 50] == 3
    np.testing.assert_array_equal(change(photo, off, {**off, "on": True}), change(photo))


def test_sizes_are_brought_back_together(photo):
    def spots(*steps):
        added = change(photo, *steps)
        return tuple(int(added[at[::-1]]) for at in (MOLE, SPOT, PATCH)), int(added[30, 50])

    for size, expected in (
        ("small", ((60, 0, 60), 3)), ("medium", ((0, 60, 60), 3)), ("large", ((60, 60, 0), 3)),
        ("rest", ((60, 60, 60), 0)),
    ):  # fmt: skip
        assert spots({"step": "size", "size": size, "on": False}) == expected
    small, medium = ({"step": "size", "size": size, "on": False} for size in ("small", "medium"))
    back = {"step": "blemish", "at": list(MOLE), "on": True}
    assert spots(small, medium, back)[0] == (60, 0, 60)
    assert spots(small, back, medium)[0] == (0, 0, 60)


def test_brushes_protect_and_restore_in_their_order(photo):
    x, y = PATCH
    protect = {"step": "protect", "radius": 40, "points": [[x, y - 10], [x, y + 10]]}
    added = change(photo, protect)
    assert not added[y - 25 : y + 26, x - 20 : x + 21].any() and added[MOLE[::-1]] == 60
    restore = {"step": "restore", "radius": 6, "points": [[x, y]]}
    added = change(photo, protect, restore)
    assert added[y, x] == 60 and not added[y, x - 12 : x - 7].any()
    np.testing.assert_array_equal(change(photo, restore, protect), change(photo, protect))
    edge = change(photo, {"step": "protect", "radius": 8, "points": [[60.5, 200.5]]})[200, 60:75]
    assert edge[0] == 0 and edge[-1] == 3 and (np.diff(edge) >= 0).all()


def test_the_kinds_of_blemishes(photo):
    blemishes = Blemishes(DrawnChange(), FACE, 255)
    assert {blemish.size: blemish.at for blemish in blemishes.all}.keys() == {"small", "medium", "large"}
    assert [blemishes.label_at(*blemish.at) for blemish in blemishes.all] == [1, 2, 3]
    assert blemishes.label_at(45, 25) == blemishes.label_at(0, 0) == REST
    (mole,) = (blemish for blemish in blemishes.all if blemish.size == "medium")
    assert mole.box == (MOLE[0] - 5, MOLE[1] - 5, 11, 11)


@pytest.mark.parametrize("scale", [1, 2])
def test_blemishes_on_a_coarse_grid(scale, monkeypatch):
    """Where a face has more pixels than the grid has cells."""
    from retouch_common.inference import blemishes as module

    monkeypatch.setattr(module, "MAX_CELLS", -(-200 // scale))
    blemishes = Blemishes(DrawnChange(), FACE, 255)
    assert len(blemishes.all) == 3
    patch = max(blemishes.all, key=lambda blemish: blemish.box[2])
    weights = blemishes.kept_weights({patch.label}).read(*CROP)
    assert weights.shape == (200, 200)
    assert weights[PATCH[1] - 20, PATCH[0] - 40] == pytest.approx(0, abs=1e-5) and weights[5, 5] == 1
    part = blemishes.kept_weights({patch.label}).read(50, 60, 31, 17)
    np.testing.assert_array_equal(part, weights[40:57, 10:41])
    assert blemishes.kept_weights(set()) is None


def test_small_blemishes_in_a_large_photo_are_brought_back_whole(monkeypatch):
    """Where a face has few cells of the grid of the whole photo."""
    from retouch_common.inference import blemishes as module

    monkeypatch.setattr(module, "MAX_CELLS", 34)  # six pixels a cell
    face = Face((150.0, 75.0, 30.0, 30.0), 1.0, FACE.landmarks)
    blemishes = Blemishes(DrawnChange(), face, 255)
    (spot,) = (blemish for blemish in blemishes.all if blemish.at[0] // 6 == SPOT[0] // 6)
    x, y = SPOT[0] - CROP[0], SPOT[1] - CROP[1]
    assert blemishes.kept_weights({spot.label}).read(*CROP)[y, x] < 0.02


def test_a_view_shows_what_is_written(photo):
    state = recipe({"step": "blemish", "at": list(MOLE), "on": False}, {"step": "strength", "value": 0.7}).state
    (layer,) = RetouchedParts.compute(DrawnNetwork(), Photo.open(photo), state).edited(state)
    whole, _ = layer.read(*CROP)
    part, _ = layer.read(90, 80, 40, 30)
    np.testing.assert_array_equal(part, whole[60:90, 50:90])


def test_a_file_makes_the_round_trip_and_gives_the_same_bytes(photo, tmp_path):
    landmarks = np.random.default_rng(0).uniform(60, 120, (5, 2)).astype(np.float32)
    made = recipe(
        {"step": "blemish", "at": list(MOLE), "on": False},
        {"step": "protect", "radius": 4.5, "points": [[100.25, 60.5], [110, 70]]},
        faces=(Face((80.1, 50.7, 100.3, 120.9), 0.9, landmarks),),
        name="anna.png",
        time="2026-01-02T03:04:05+00:00",
    )
    path = made.write(photo)
    assert path.name == "anna.recipe.json"
    read = Recipe.read(path)
    assert read.steps == made.steps and (read.time, read.name) == (made.time, made.name)
    assert read.faces[0].box == made.faces[0].box
    np.testing.assert_array_equal(read.faces[0].landmarks, landmarks)
    targets = [tmp_path / "one.png", tmp_path / "two.png"]
    for kept, target in zip((made, read), targets, strict=True):
        apply_recipe(kept, DrawnNetwork(), photo, target)
    assert targets[0].read_bytes() == targets[1].read_bytes()
    assert b"2026-01-02T03:04:05" in targets[0].read_bytes()


def test_the_change_alone_gives_the_result_as_linear_light(photo, tmp_path):
    state = recipe().state
    opened = Photo.open(photo)
    layers = RetouchedParts.compute(DrawnNetwork(), opened, state).edited(state)
    write_change(Photo.open(photo), pasted_rows(opened, layers), tmp_path / "anna.change.tif")
    layer = pyvips.Image.new_from_file(str(tmp_path / "anna.change.tif"))
    assert layer.format == "ushort" and layer.get_typeof("icc-profile-data")
    before = opened.read().astype(float) / 255
    after = np.rint(255 * (before + 2 * (layer.numpy() / 65535 - 0.5)))
    apply_recipe(recipe(), DrawnNetwork(), photo, tmp_path / "after.png")
    np.testing.assert_array_equal(after, Photo.open(tmp_path / "after.png").read())


@pytest.mark.parametrize(
    "change, words",
    [
        ({"retouch-recipe": 2}, "version 2"),
        ({"faces": 3}, "damaged recipe"),
        ({"faces": [{"box": [1, 2, 3]}]}, "four numbers"),
        ({"faces": [{"box": [900, 900, 10, 10]}]}, "lies outside"),
        ({"steps": [{"step": "sing"}]}, "step 1 of the recipe: unknown step 'sing'"),
        ({"steps": [{"step": "strength", "value": 2}]}, "between 0 and 1"),
        ({"steps": [{"step": "strength"}]}, "step 1 of the recipe is damaged"),
        ({"steps": [3]}, "step 1 of the recipe is damaged"),
        ({"steps": [{"step": "region", "value": "sky"}]}, "unknown region 'sky'; choose from faces, photo"),
        ({"steps": [{"step": "face", "face": 7, "on": True}]}, "no face 7"),
        ({"steps": [{"step": "face", "face": 0, "on": 1}]}, "true or false"),
        ({"steps": [{"step": "size", "size": "huge", "on": True}]}, "unknown size 'huge'"),
        ({"steps": [{"step": "protect", "radius": 1e9, "points": [[1, 1]]}]}, "radius"),
        ({"steps": [{"step": "protect", "radius": 3, "points": [1, 1]}]}, "pairs"),
        ({"steps": [{"step": "protect", "radius": 3, "points": [["a", 1]]}]}, "step 1"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(tmp_path, change, words):
    path = tmp_path / "x.recipe.json"
    path.write_text(json.dumps(json.loads(recipe().to_json()) | change))
    with pytest.raises(ValueError, match=words) as caught:
        Recipe.read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    for content, words in (
        (b"{", "is not JSON"),
        (b"[]", "not a recipe"),
        (b"\xff", "not JSON"),
        (b"[" * 99999, "is not|recursion"),
    ):
        path = tmp_path / "x.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            Recipe.read(path)


def test_a_recipe_fits_its_network_and_its_photo(photo, tmp_path, caplog):
    with pytest.raises(ValueError, match="use bpfre-retouch, not abpn-retouch"):
        apply_recipe(recipe(network="bpfre"), DrawnNetwork(), photo, tmp_path / "x.png")
    with pytest.raises(ValueError, match="has 320x240 pixels and the recipe is for a photo of 400x240"):
        apply_recipe(recipe(width=400), DrawnNetwork(), photo, tmp_path / "x.png")
    apply_recipe(recipe(weights="b" * 64), DrawnNetwork(), photo, tmp_path / "x.png")
    assert "other weights" in caplog.text

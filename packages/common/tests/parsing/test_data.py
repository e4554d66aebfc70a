"""Samples for training: the same for the same index, varied between indices, labels always with their pixels."""

import shutil

import numpy as np
import pytest
import torch
from retouch_common.faces.alignment import FaceSquare, fit_portrait
from retouch_common.parsing.augmentation import Augmenter, Pose, cut, dead_leaves, random_pose
from retouch_common.parsing.data import find_pairs, open_data
from retouch_common.parsing.labels import CLASSES, COLOURS, exchanged, mirrored, write_labels
from retouch_common.parsing.portraits import LabelledPortrait, labels_square, load_portrait, prepare_portraits
from retouch_common.synthesis.blemish_shapes import NoisePool


def named(labels, name):
    return labels == CLASSES.index(name)


@pytest.fixture(scope="module")
def portrait(people):
    return load_portrait(prepare_portraits(find_pairs(people, "val"))[0])


@pytest.fixture(scope="module")
def painted():
    """A portrait whose every pixel has the colour of its class."""
    y, x = np.mgrid[:200, :300]
    labels = np.where((x - 150) ** 2 + (y - 100) ** 2 < 60**2, 1, 0).astype(np.uint8)
    labels[80:90, 110:140], labels[80:90, 160:190], labels[120:130, 130:170] = 4, 5, 9
    planes = np.dstack([COLOURS[labels], labels, 255 * (labels == 0), 255 * (labels > 0)]).astype(np.uint8)
    return LabelledPortrait(planes, FaceSquare((150.0, 100.0), 160.0))


def test_people_are_split(people):
    train, dev, val = ({picture for picture, _ in find_pairs(people, split)} for split in ("train", "dev", "val"))
    assert (len(train), len(dev), len(val)) == (9, 1, 2) and len(train | dev | val) == 12
    assert len(find_pairs(people, "all")) == 12


def test_faces_are_aligned(people):
    faces = open_data(people, size=128, split="val")
    for index in range(2):
        labels = faces[index]["labels"].numpy()
        for name, x, y in (("eye_left", 99, 116), ("eye_right", 156, 116)):
            rows, columns = named(labels, name).nonzero()
            assert abs(columns.mean() - x / 2) < 5 and abs(rows.mean() - y / 2) < 5
        assert torch.equal(faces[index]["image"], faces[index + 2]["image"]), "no augmentation, so repeated"


def test_labels_stay_with_their_pixels(painted):
    """Whatever the pose, the colour of a pixel is its class's, but for edges."""
    generator = np.random.default_rng(0)
    for pose in [None, *(random_pose(generator, strong=bool(n % 4)) for n in range(20))]:
        framed = cut(painted, 96, pose)
        # a mirror moves the pixels, whose colours still are those of the other side
        labels = exchanged(framed.labels) if pose is not None and pose.mirror else framed.labels
        wrong = np.abs(framed.image - COLOURS[labels].astype(np.float32) / 255).max(-1) > 0.1
        assert wrong.mean() < 0.12
        assert np.abs(framed.background - named(framed.labels, "background")).mean() < 0.08


def test_a_pose_does_what_it_says(painted):
    straight, large = cut(painted, 96), cut(painted, 96, Pose(scale=1.25))
    assert named(large.labels, "eye_left").sum() / named(straight.labels, "eye_left").sum() == pytest.approx(
        1.56, rel=0.2
    )
    moved = cut(painted, 96, Pose(shift=(0.25, -0.125)))
    centre = [np.mean(axis) for axis in named(straight.labels, "lower_lip").nonzero()]
    new = [np.mean(axis) for axis in named(moved.labels, "lower_lip").nonzero()]
    assert new[1] - centre[1] == pytest.approx(24, abs=1.5) and new[0] - centre[0] == pytest.approx(-12, abs=1.5)
    turned = cut(painted, 96, Pose(angle=np.radians(30)))
    eyes = [
        np.array([np.mean(axis) for axis in named(turned.labels, name).nonzero()]) for name in ("eye_left", "eye_right")
    ]
    down, across = eyes[1] - eyes[0]
    assert np.degrees(np.arctan2(down, across)) == pytest.approx(30, abs=4), "clockwise: the right eye is lower"
    mirror = cut(painted, 96, Pose(mirror=True))
    np.testing.assert_array_equal(mirror.labels, mirrored(straight.labels))
    outside = cut(painted, 96, Pose(scale=0.5)).outside
    assert outside[0].all() and not outside[48, 48]


def test_the_same_index_is_the_same_sample_and_another_is_not(people):
    faces, again = (open_data(people, size=64, split="train", seed=3, augmentation="strong") for _ in range(2))
    other = open_data(people, size=64, split="train", seed=4, augmentation="strong")
    for index in (0, 17, 40):
        one, two = faces[index], again[index]
        assert torch.equal(one["image"], two["image"]) and torch.equal(one["labels"], two["labels"])
        assert not torch.equal(one["image"], other[index]["image"])
    assert not torch.equal(faces[0]["image"], faces[len(faces)]["image"])
    with pytest.raises(IndexError):
        faces[-1]


def test_samples_are_pictures_with_labels(people):
    faces = open_data(people, size=64, split="train", augmentation="strong")
    seen, empty = set(), 0
    for index in range(60):
        sample = faces[index]
        assert sample["image"].shape == (3, 64, 64) and sample["image"].dtype == torch.float32
        assert sample["image"].min() >= 0 and sample["image"].max() <= 1
        assert sample["labels"].shape == (64, 64) and sample["labels"].dtype == torch.int64
        seen |= set(sample["labels"].unique().tolist())
        empty += not sample["labels"].any()
    assert seen >= {0, 1, 2, 3, 4, 5, 6, 7, 9, 10} and 0 < empty < 10
    colours = torch.stack([faces[index]["image"].mean((1, 2)) for index in range(40)])
    assert colours.std(0).min() > 0.08, "light and backgrounds vary"


def test_the_papers_augmentation_changes_poses_only(people):
    faces = open_data(people, size=64, split="train", augmentation="paper")
    plain = open_data(people, size=64, split="train")
    walls = torch.stack([faces[index]["image"][:, 0, 0] for index in range(20)])
    assert (walls - plain[0]["image"][:, 0, 0]).abs().max() < 0.05
    assert not torch.equal(faces[0]["labels"], plain[0]["labels"])


def test_scenes_have_many_shapes():
    pool = NoisePool()
    scenes = [dead_leaves(64, np.random.default_rng(seed), pool) for seed in range(4)]
    assert all(scene.shape == (64, 64, 3) and scene.min() >= 0 and scene.max() <= 1 for scene in scenes)
    assert min(scene.std() for scene in scenes) > 0.02 and not np.array_equal(scenes[0], scenes[1])


def test_large_scenes_have_noise_enough():
    size, generator = 1040, np.random.default_rng(0)
    augmenter = Augmenter(size)
    assert augmenter.pool.cut((size, size), 3.0, generator).shape == (size, size)
    assert augmenter.noise(np.zeros((size, size, 3), np.float32), generator).shape[:2] == (size, size)


@pytest.fixture
def folder(person, tmp_path, cache):
    """images/ and labels/ of twelve pictures of one person, framed at will."""
    import pyvips
    from retouch_common.parsing.templates import labels_of_photo

    labels = labels_of_photo(person.levels, person.template)
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for number in range(12):
        part = (slice(0, 300 - number), slice(number, 260))
        pixels = np.ascontiguousarray(person.levels[part])
        pyvips.Image.new_from_array(pixels).write_to_file(str(tmp_path / "set/images" / f"{number:02}.jpg"))
        write_labels(tmp_path / "set/labels" / f"{number:02}.png", labels[part])
    return tmp_path / "set"


def test_a_folder_of_pictures_and_labels(folder):
    faces = open_data(str(folder), size=64, split="train")
    assert len(faces) == 9
    labels = open_data(str(folder), size=128, split="val")[0]["labels"].numpy()
    rows, columns = named(labels, "eye_left").nonzero()
    assert abs(columns.mean() - 99 / 2) < 5 and abs(rows.mean() - 116 / 2) < 5
    assert faces[0]["labels"].any()


def test_unusable_folders_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        open_data(str(tmp_path / "none"), size=64, split="train")
    with pytest.raises(ValueError, match="needs the folders images and labels"):
        find_pairs(str(tmp_path), "train")
    with pytest.raises(ValueError, match=r"none of the 12 portraits has a \.tem template or a landmarks\.npz"):
        find_pairs(f"faces:{folder / 'images'}", "train")
    (folder / "labels" / "03.png").unlink()
    with pytest.raises(ValueError, match=r"03\.png: missing"):
        find_pairs(str(folder), "train")
    write_labels(folder / "labels" / "03.png", np.zeros((5, 9), np.uint8))
    with pytest.raises(ValueError, match=r"03\.png: labels of 9x5 pixels for an image of 257x297"):
        open_data(str(folder), size=64, split="train")


def test_labels_tell_where_the_face_is():
    labels = np.zeros((512, 512), np.uint8)
    labels[228:236, 190:206], labels[228:236, 304:320], labels[350:370, 230:278] = 4, 5, 9
    square = labels_square(labels)
    x, y = square.from_photo(np.array([198.0, 312.0]), np.array([232.0, 232.0]))
    assert x == pytest.approx([99 / 256, 156 / 256], abs=0.01) and y == pytest.approx([116 / 256] * 2, abs=0.01)
    assert labels_square(np.where(labels == 4, 0, labels)) is None


def test_labels_frame_the_face_as_its_landmarks_do():
    """The corners of the mouth lie above the middle of the lips; a box around these would frame the face wider."""
    eyes, corners = np.array([[198.0, 232.0], [312.0, 232.0]]), np.array([[215.0, 340.0], [295.0, 340.0]])
    y, x = np.mgrid[:512, :512] + 0.5
    labels = np.zeros((512, 512), np.uint8)
    for label, (cx, cy) in zip((4, 5), eyes, strict=True):
        labels[np.hypot(x - cx, 2 * (y - cy)) < 8] = label
    across = np.abs(x - 255) / 40
    labels[(across < 1) & (y > 340 - 8 * (1 - across)) & (y < 341 + 40 * (1 - across**2))] = 9
    expected = fit_portrait(eyes, corners.mean(axis=0))
    assert labels_square(labels).side == pytest.approx(expected.side, rel=0.015)


def test_a_damaged_entry_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"centre": [1, 1], "side": 4, "angle": 0}')
    (tmp_path / "x.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"x\.npy: damaged"):
        load_portrait(tmp_path / "x.npy")


def test_prepared_once(portrait, people):
    entry = prepare_portraits(find_pairs(people, "val"))[0]
    before = entry.stat().st_mtime_ns
    assert prepare_portraits(find_pairs(people, "val"))[0] == entry and entry.stat().st_mtime_ns == before


def test_a_copied_folder_is_not_prepared_again(people, tmp_path, monkeypatch):
    entry = prepare_portraits(find_pairs(people, "val"))[0]
    shutil.copytree(people.removeprefix("faces:"), tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setattr("retouch_common.parsing.portraits._prepared", lambda *_: pytest.fail("prepared again"))
    assert prepare_portraits(find_pairs(f"faces:{tmp_path / 'copy'}", "val"))[0] == entry


def test_portraits_without_landmarks_do_not_change_who_is_held_out(people, tmp_path):
    """Whoever trains on all portraits, with or without landmarks, must hold out the same people."""
    folder = tmp_path / "people"
    shutil.copytree(people.removeprefix("faces:"), folder)
    spec = f"faces:{folder}"
    before = {picture.name for picture, _ in find_pairs(spec, "val")}
    lost = sorted(picture for picture, _ in find_pairs(spec, "train"))[0]
    lost.with_suffix(".tem").unlink()
    assert {picture.name for picture, _ in find_pairs(spec, "val")} == before
    assert lost.name not in {picture.name for picture, _ in find_pairs(spec, "all")}

"""Labels from a face mesh: its parts, what they leave open, and what a teacher may add."""

import numpy as np
import pytest
import torch
from retouch_common.faces import mesh
from retouch_common.faces.alignment import FaceSquare, points_in_square
from retouch_common.faces.mesh import write_mesh_file
from retouch_common.parsing.augmentation import draw_glasses
from retouch_common.parsing.data import find_pairs, open_data
from retouch_common.parsing.evaluate import mesh_f1
from retouch_common.parsing.labels import CLASSES, NOT_FACE, UNKNOWN, mirrored
from retouch_common.parsing.losses import dice_loss, parsing_loss
from retouch_common.parsing.meshes import (
    certain_background,
    labels_from_mesh,
    teacher_labels,
    with_mesh_parts,
    with_open_surroundings,
)
from retouch_common.parsing.metrics import confusion
from retouch_common.parsing.portraits import load_portrait, prepare_portraits

SKIN, HAIR = CLASSES.index("skin"), CLASSES.index("hair")
SIDE = 200


def ellipse(count, centre, radii, start=0.0):
    angle = start + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(angle), centre[1] + radii[1] * np.sin(angle)], axis=1)


@pytest.fixture(scope="module")
def points():
    """A drawn face of 60 by 80 pixels in a picture of SIDE, its mouth open by 4 pixels."""
    points = np.full((mesh.NUM_POINTS, 2), (100.0, 100.0), np.float32)
    points[list(mesh.OVAL)] = ellipse(36, (100, 105), (30, 40), start=-np.pi / 2)
    for outlines, y, radii in ((mesh.EYES, 95, (6, 3)), (mesh.BROWS, 85, (8, 2))):
        for outline, x in zip(outlines, (87, 113), strict=True):
            points[list(outline)] = ellipse(len(outline), (x, y), radii, start=np.pi)
    points[list(mesh.NOSE)] = ellipse(18, (100, 107), (6, 10))
    points[list(mesh.OUTER_LIPS)] = ellipse(20, (100, 128), (12, 6), start=np.pi)
    points[list(mesh.INNER_LIPS)] = ellipse(20, (100, 128), (10, 2), start=np.pi)
    return points


@pytest.fixture(scope="module")
def picture(points):
    """Skin, and dark hair around and above it, before grey."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE, 3), 0.6, np.float32)
    hair = (np.hypot((x - 100) / 42, (y - 95) / 55) < 1) & (y < 170)
    image[hair] = 0.2, 0.15, 0.1
    image[labels_from_mesh(points, SIDE, SIDE) > 0] = 0.8, 0.6, 0.5
    return image, hair


def test_parts_lie_where_the_mesh_has_them(points):
    labels = labels_from_mesh(points, SIDE, SIDE)
    places = {
        "eye_left": (95, 87),
        "eye_right": (95, 113),
        "brow_left": (85, 87),
        "nose": (107, 100),
        "skin": (125, 80),
    }
    places |= {"upper_lip": (124, 100), "mouth": (128, 100), "lower_lip": (132, 100), "background": (60, 60)}
    for name, place in places.items():
        assert CLASSES[labels[place]] == name
    assert (labels == CLASSES.index("eye_left")).sum() == pytest.approx(np.pi * 6 * 3, rel=0.15)
    lips = np.isin(labels, [CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip")]).sum()
    assert lips == pytest.approx(np.pi * 12 * 6, rel=0.1)
    assert (labels > 0).sum() == pytest.approx(np.pi * 30 * 40, rel=0.02)


def test_points_in_a_square_are_where_its_pixels_are(points):
    square = FaceSquare((100.0, 100.0), 80.0)
    moved = points_in_square(points, square, 160)
    np.testing.assert_allclose(moved, 2 * (points - 60.0) + 0.5, atol=1e-3)


def test_outside_the_oval_classes_are_open(points):
    nothing = np.zeros((SIDE, SIDE), np.float32)
    labels = with_open_surroundings(points, nothing, nothing > 0)
    assert labels[95, 87] == CLASSES.index("eye_left") and labels[120, 80] == SKIN
    assert labels[75, 100] == UNKNOWN, "a fringe may cover the forehead"
    assert labels[55, 100] == UNKNOWN, "skin or hair"
    assert labels[110, 60] == NOT_FACE and labels[155, 100] == NOT_FACE, "ear and neck: not the face's skin"
    assert with_open_surroundings(points, nothing, nothing == 0)[75, 100] == SKIN, "bare"
    assert with_open_surroundings(points, nothing + 1, nothing > 0)[110, 60] == 0, "plain background"


def test_only_whole_and_light_backgrounds_are_certain(points):
    image, matte = np.full((SIDE, SIDE, 3), 0.6, np.float32), np.ones((SIDE, SIDE), np.float32)
    assert certain_background(image, points, matte).all()
    assert not certain_background(image / 10, points, matte).any()
    assert not certain_background(image, points, np.tile((0.0, 1.0), SIDE // 2) * matte).any()


def test_a_teacher_settles_what_is_open(points, picture):
    image, hair = picture
    nothing = np.zeros((SIDE, SIDE), np.float32)
    labels = with_open_surroundings(points, nothing, nothing > 0)
    upper = hair & (np.arange(SIDE)[:, None] < 90)
    likely = np.stack([~upper, upper, nothing > 0]).astype(np.float32)
    settled = teacher_labels(image, labels, points, likely)
    assert settled[55, 100] == HAIR and settled[30, 30] == 0
    assert settled[115, 64] == NOT_FACE, (
        "dark as the hair and connected with it: no background, though the teacher says so"
    )
    assert settled[75, 100] == HAIR, "a fringe"
    kept = (labels > SKIN) & (labels < NOT_FACE)
    np.testing.assert_array_equal(settled[kept], labels[kept])
    doubtful = teacher_labels(image, labels, points, np.full_like(likely, 1 / 3))
    outside = labels_from_mesh(points, SIDE, SIDE) == 0
    np.testing.assert_array_equal(doubtful[outside], labels[outside])
    assert doubtful[75, 100] == SKIN


def test_hair_and_forehead_stay_when_the_mesh_gives_the_parts(points):
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[50:170, 60:140], labels[50:70, 60:140] = SKIN, HAIR
    found = with_mesh_parts(labels, points)
    assert found[60, 100] == HAIR and found[95, 87] == CLASSES.index("eye_left")
    assert found[72, 75] == SKIN, "forehead beyond the oval"
    assert found[150, 70] == 0, "cheeks and neck end where the oval does"


def test_open_pixels_ask_for_what_is_known_only():
    logits = torch.zeros(1, 11, 1, 3)
    logits[0, HAIR] = 3.0
    labels = torch.tensor([[[SKIN, NOT_FACE, UNKNOWN]]])
    known = torch.logsumexp(logits[0, :, 0, 0], 0)
    either = known - torch.logsumexp(torch.tensor([0.0, 3.0]), 0)
    assert float(parsing_loss(logits, labels)) == pytest.approx(float(known + either) / 2, rel=1e-5)
    weights = (1.0, 5.0, *[1.0] * 9)
    assert float(parsing_loss(logits, labels, weights)) == pytest.approx(float(5 * known + either) / 6, rel=1e-5)
    assert float(parsing_loss(logits, torch.full((1, 1, 3), UNKNOWN))) == 0
    np.testing.assert_array_equal(confusion(torch.tensor([1, 10, 5]), labels.reshape(-1)).sum(), 1)
    assert mirrored(np.array([[UNKNOWN, NOT_FACE, 4]], np.uint8)).tolist() == [[5, NOT_FACE, UNKNOWN]]


def test_dice_is_of_the_small_parts():
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[0, :8], labels[0, 8:16] = 4, UNKNOWN
    perfect = 40.0 * torch.nn.functional.one_hot(labels.clamp(max=10), 11).permute(0, 3, 1, 2).float()
    perfect[0, :, 8:16] = 40.0 * torch.eye(11)[4][:, None, None]  # eyes where nothing is known cost nothing
    assert float(dice_loss(perfect, labels)) == pytest.approx(0, abs=1e-3)
    blind = perfect.clone()
    blind[0, :, :8] = 40.0 * torch.eye(11)[1][:, None, None]
    assert float(dice_loss(blind, labels)) == pytest.approx(1 / 8, abs=1e-3), "one part of eight is missed"


class Drawn:
    """A parser that knows the answer."""

    size = 256

    def __init__(self, shift):
        self.shift = shift

    def __call__(self, face):
        white = face.mean(-1) > 0.5
        return np.roll(np.where(white, SKIN, 0).astype(np.uint8), self.shift, axis=1)


@pytest.fixture(scope="module")
def meshed(points, tmp_path_factory, cache):
    """Thirteen faces as white ovals, in a folder with their meshes."""
    import pyvips

    folder = tmp_path_factory.mktemp("meshed") / "set"
    folder.mkdir()
    oval = np.repeat(255 * (labels_from_mesh(points, SIDE, SIDE) > 0).astype(np.uint8)[..., None], 3, axis=2)
    for number in range(13):
        pyvips.Image.new_from_array(oval).write_to_file(str(folder / f"{number:02}.png"))
    write_mesh_file(folder / mesh.LANDMARKS_FILE, {f"{number:02}.png": points for number in range(13)})
    return folder


def test_a_parser_is_compared_with_the_mesh(meshed):
    paths = sorted(meshed.glob("*.png"))[:2]
    right, moved = mesh_f1(Drawn(0), paths), mesh_f1(Drawn(12), paths)
    assert right["face"] > 0.98 and right["eyes"] == right["lips"] == 0
    assert 0.7 < moved["face"] < 0.95
    with pytest.raises(ValueError, match="no portraits"):
        mesh_f1(Drawn(0), [])


def test_portraits_with_meshes_are_read_and_divided(meshed):
    spec = f"faces:{meshed}"
    people = {split: {path.stem for path, _ in find_pairs(spec, split)} for split in ("train", "dev", "val", "all")}
    assert people["val"] == {"00", "10"} and people["dev"] == {"07"}
    assert people["train"] == people["all"] - people["val"] - people["dev"]
    sample = open_data(spec, size=64, split="dev")[0]
    assert {SKIN, NOT_FACE, UNKNOWN} <= set(sample["labels"].unique().tolist())


def test_a_teacher_is_asked_once(meshed, monkeypatch, tmp_path):
    class Teacher(Drawn):
        def __init__(self, weights, device):
            super().__init__(0)
            self.model = torch.nn.Linear(1, 1)
            torch.nn.init.constant_(self.model.weight, float(weights))
            torch.nn.init.zeros_(self.model.bias)
            self.size, self.asked = 64, 0
            teachers.append(self)

        def probabilities(self, face):
            self.asked += 1
            likely = np.zeros((11, *face.shape[:2]), np.float32)
            likely[HAIR] = 1
            return likely

    teachers: list = []
    monkeypatch.setattr("retouch_common.parsing.portraits.FaceParser", Teacher)
    pairs = find_pairs(f"faces:{meshed}", "dev")
    (plain,), (taught,) = prepare_portraits(pairs), prepare_portraits(pairs, teacher="1")
    assert not (load_portrait(plain).planes[..., 3] == HAIR).any() and teachers[0].asked
    assert (load_portrait(taught).planes[..., 3] == HAIR).any()
    assert prepare_portraits(pairs, teacher="1") == [taught] and not teachers[1].asked
    assert prepare_portraits(pairs, teacher="2") != [taught] and teachers[2].asked


def test_glasses_stand_before_the_eyes(points):
    labels = labels_from_mesh(points, SIDE, SIDE)
    image = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    changed = np.zeros((SIDE, SIDE))
    for seed in range(20):
        drawn = draw_glasses(image, labels, np.random.default_rng(seed))
        assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.dtype == np.float32
        changed += np.abs(drawn - image).max(-1) > 0.05
    assert changed[80:110, 73:127].mean() > 3 and not changed[125:].any() and not changed[:70].any()
    assert draw_glasses(image, np.zeros_like(labels), np.random.default_rng(0)) is image

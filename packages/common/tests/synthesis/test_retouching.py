"""Retouched faces: what changes and what must not, repeatable, labelled, refused with a clear line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from retouch_common.faces.landmarks import FaceLandmarks, landmarks_from_template
from retouch_common.photo.filters import dilate
from retouch_common.synthesis.retouching import (
    ANY,
    OPERATIONS,
    STYLES,
    RetouchConfig,
    any_style,
    random_recipe,
    retouch_face,
    strength_label,
)
from retouch_common.synthesis.retouching_skin import retouching_skin

if TYPE_CHECKING:
    from ..conftest import Person

TONES, WARPS = OPERATIONS[:2], OPERATIONS[2:]


@pytest.fixture(scope="module")
def face(person: Person) -> tuple[np.ndarray, FaceLandmarks, np.ndarray]:
    landmarks = landmarks_from_template(person.template)
    return person.image, landmarks, retouching_skin(person.image, landmarks)


def test_the_skin_is_the_face_without_its_features(person: Person, face: tuple) -> None:
    _, _, skin = face
    for name in ("eye_left", "eye_right", "brow_left", "brow_right", "lips", "hair", "shirt"):
        assert skin[dilate(person.parts[name], -2) > 0].mean() < 0.03, name
    features = np.maximum.reduce([dilate(person.parts[n], 5) for n in ("eye_left", "eye_right", "lips")])
    brows = np.maximum(dilate(person.parts["brow_left"], 5), dilate(person.parts["brow_right"], 5))
    inside = dilate(person.parts["face"], -8) * (1 - np.maximum(features, brows)) > 0
    assert skin[inside].mean() > 0.9
    assert skin[116:119, 95:106].mean() > 0.5  # between lid and brow, which the masks for blemishes leave out
    assert skin[:15].max() == 0.0 and skin[:, :15].max() == 0.0


def test_a_picture_without_skin_has_none(face: tuple) -> None:
    image, landmarks, _ = face
    noise = np.random.default_rng(0).random(image.shape, dtype=np.float32)
    assert retouching_skin(np.zeros_like(image), landmarks).max() == 0.0
    result = retouch_face(np.zeros_like(image), landmarks, {"white": 1.0, "smooth": 1.0})
    assert not result.image.any()
    assert retouching_skin(noise, landmarks).mean() < 0.1


@pytest.mark.parametrize("style", STYLES)
def test_strength_0_is_the_original_to_the_bit(face: tuple, style: str) -> None:
    image, landmarks, skin = face
    for strengths in ({}, dict.fromkeys(OPERATIONS, 0.0)):
        result = retouch_face(image, landmarks, strengths, style=style, skin=skin)
        assert np.array_equal(result.image, image) and not result.flow.any()
        assert result.image is not image


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_changes_its_own_part(face: tuple, operation: str, style: str) -> None:
    image, landmarks, skin = face
    before = image.copy()
    light, heavy = (retouch_face(image, landmarks, {operation: s}, style=style, skin=skin) for s in (0.3, 0.9))
    assert np.array_equal(image, before)
    errors = [np.square(r.image - image).mean() for r in (light, heavy)]
    assert 0 < errors[0] < errors[1]
    same = (heavy.image == image).all(axis=-1)
    assert heavy.image.dtype == np.float32 and heavy.image.min() >= 0 and heavy.image.max() <= 1
    if operation in TONES:
        assert same[skin == 0].all() and not heavy.flow.any()
    else:
        assert same[(heavy.flow == 0).all(axis=-1)].all()
        assert same[0].all() and same[-1].all() and same[:, 0].all() and same[:, -1].all()
    if operation == "white":
        assert heavy.image[skin > 0.9].mean() > light.image[skin > 0.9].mean() > image[skin > 0.9].mean() + 0.02


@pytest.mark.parametrize("style", STYLES)
def test_smoothing_takes_spots_off(face: tuple, style: str) -> None:
    image, landmarks, skin = face
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    spot = np.exp(-((rows - 165) ** 2 + (columns - 88) ** 2) / (2 * 2.0**2))[..., None].astype(np.float32)
    spotted = np.clip(image - 0.06 * spot, 0, 1)
    smooth = retouch_face(spotted, landmarks, {"smooth": 0.9}, style=style, skin=skin).image
    middle, around = spot[..., 0] > 0.7, (spot[..., 0] < 0.01) & (spot[..., 0] > 1e-6)
    assert image[around].mean() - spotted[middle].mean() > 0.045
    assert abs(smooth[around].mean() - smooth[middle].mean()) < 0.02


@pytest.mark.parametrize("style", STYLES)
def test_eyes_grow_and_the_jaw_shrinks(person: Person, face: tuple, style: str) -> None:
    image, landmarks, skin = face
    eyes = (slice(118, 145), slice(75, 185))
    larger = retouch_face(image, landmarks, {"eye": 1.0}, style=style, skin=skin).image
    assert (larger[eyes].max(axis=-1) < 0.3).sum() > 1.2 * (image[eyes].max(axis=-1) < 0.3).sum()

    at = int(landmarks.jaw[:, 1].max()) - 30  # a row through the lower cheeks
    flow = retouch_face(image, landmarks, {"lift": 1.0}, style=style, skin=skin).flow
    left, right = np.flatnonzero(person.parts["face"][at])[[0, -1]]
    assert flow[at, left, 0] < -1 and flow[at, right, 0] > 1  # colours come from further outside
    assert abs(flow[at, left, 0] + flow[at, right, 0]) < 0.3


def test_all_at_once_is_one_after_the_other(face: tuple) -> None:
    """Tones of the original, then one displacement; each operation varies by itself."""
    image, landmarks, skin = face
    together = retouch_face(image, landmarks, {"white": 0.5, "lift": 0.8}, skin=skin, seed=3)
    white = retouch_face(image, landmarks, {"white": 0.5}, skin=skin, seed=3)
    lifted = retouch_face(white.image, landmarks, {"lift": 0.8}, skin=skin, seed=3)
    assert np.array_equal(together.image, lifted.image) and np.array_equal(together.flow, lifted.flow)


def test_the_same_arguments_give_the_same_picture(face: tuple) -> None:
    image, landmarks, _ = face
    strengths = dict.fromkeys(OPERATIONS, 0.6)
    first, again = (retouch_face(image, landmarks, strengths, seed=5) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    others = [retouch_face(image, landmarks, strengths, seed=6)]
    others += [retouch_face(image, landmarks, strengths, seed=5, style=style) for style in ("rosy", "studio")]
    for other in others:
        assert not np.array_equal(first.image, other.image) and not np.array_equal(first.flow, other.flow)


def test_labels_by_hand() -> None:
    expected = {0.0: 0, 0.01: 1, 0.3: 1, 0.44: 1, 0.45: 2, 0.6: 2, 0.74: 2, 0.75: 3, 0.9: 3, 1.0: 3}
    assert {strength: strength_label(strength) for strength in expected} == expected


def test_any_style_is_another_program_for_every_seed_and_never_the_foreign_one() -> None:
    styles = [any_style(seed) for seed in range(80)]
    assert any_style(3) == styles[3] != styles[4]
    foreign = STYLES["foreign"]
    for field in ("whitening", "smoothing", "lift", "eye"):
        kinds = {getattr(style, field) for style in styles}
        assert len(kinds) >= 3 and getattr(foreign, field) not in kinds, field
    assert {style.whitened for style in styles} == {"skin", "face", "ellipse", "colour", "likelihood"}
    assert {style.interpolation for style in styles} == {"bilinear", "bicubic"}
    assert {style.tint == (1.0, 1.0, 1.0) for style in styles} == {True, False} == {s.softness > 0 for s in styles}
    assert min(style.lift_peak for style in styles) < 0.15 < 0.28 < max(style.lift_peak for style in styles)


def test_strengths_can_be_continuous() -> None:
    config = RetouchConfig(styles=(ANY,), spread=None)
    recipes = [random_recipe(np.random.default_rng(seed), config, operations=["eye"]) for seed in range(200)]
    strengths = np.array([recipe.strengths["eye"] for recipe in recipes])
    assert 0.2 <= strengths.min() < 0.23 and 0.97 < strengths.max() <= 1.0
    assert np.histogram(strengths, bins=8, range=(0.2, 1.0))[0].min() > 10
    assert {recipe.style for recipe in recipes} == {ANY}


def test_recipes() -> None:
    config = RetouchConfig(styles=("rosy",), counts=(0.0, 0.0, 1.0, 0.0, 0.0))
    seen, labels = set(), set()
    for seed in range(60):
        recipe = random_recipe(np.random.default_rng(seed), config)
        active = [name for name in OPERATIONS if recipe.strengths[name] > 0]
        assert list(recipe.strengths) == list(OPERATIONS) and len(active) == 2 and recipe.style == "rosy"
        assert all(0.2 <= recipe.strengths[name] <= 1.0 for name in active)
        labels |= {strength_label(recipe.strengths[name]) for name in active}
        seen.add(tuple(active))
    assert len(seen) == 6 and labels == {1, 2, 3}
    config = RetouchConfig()
    assert random_recipe(np.random.default_rng(1), config) == random_recipe(np.random.default_rng(1), config)
    styles = {random_recipe(np.random.default_rng(seed), config).style for seed in range(30)}
    assert styles == set(STYLES)
    only = random_recipe(np.random.default_rng(0), config, operations=["eye"]).strengths
    assert only["eye"] > 0 and sum(value > 0 for value in only.values()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strengths": {"whit": 0.5}}, "unknown operation 'whit' .did you mean 'white'"),
        ({"strengths": {"eye": 1.2}}, "the strength of 'eye' is 1.2"),
        ({"strengths": {"eye": float("nan")}}, "the strength of 'eye' is nan"),
        ({"style": "rose"}, "unknown style 'rose' .did you mean 'rosy'"),
        ({"seed": -1}, "seed is -1"),
        ({"skin": np.zeros((3, 3), np.float32)}, "mask .3, 3. is not of the image's size"),
        ({"image": np.zeros((30, 30), np.float32)}, r"expected an \(H, W, 3\) float32 image"),
        ({"image": np.zeros((300, 260, 3), np.uint8)}, "type uint8"),
        ({"image": np.full((300, 260, 3), 200, np.float32)}, "outside .0, 1."),
        ({"image": np.full((300, 260, 3), np.nan, np.float32)}, "outside .0, 1."),
        ({"image": np.zeros((80, 80, 3), np.float32)}, "eyes lie outside the image of 80x80"),
    ],
)
def test_bad_input_is_refused_with_one_line(face: tuple, change: dict, message: str) -> None:
    image, landmarks, skin = face
    arguments = {"image": image, "landmarks": landmarks, "strengths": {"eye": 0.5}, "skin": skin} | change
    with pytest.raises(ValueError, match=message) as error:
        retouch_face(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": ("porcelan",)}, "did you mean 'porcelain'"),
        ({"styles": ()}, "styles is empty"),
        ({"counts": (0.5, 0.5)}, "five probabilities"),
        ({"counts": (0.5, 0.5, 0.5, 0.0, 0.0)}, "five probabilities"),
        ({"spread": 0.3}, "spread is 0.3"),
    ],
)
def test_bad_configurations_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetouchConfig(**options)

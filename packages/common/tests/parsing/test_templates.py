"""Labels from landmarks: parts where they were drawn, hair told from everything else."""

import numpy as np
import pytest
from retouch_common.faces.webmorph import Template
from retouch_common.parsing.labels import CLASSES
from retouch_common.parsing.templates import (
    NotPlain,
    labels_from_template,
    labels_of_photo,
    nose_outline,
    parse_portrait,
    reduced,
)


def named(labels, name):
    return labels == CLASSES.index(name)


def test_every_part_lies_where_it_was_drawn(person, agreement):
    height, width = person.image.shape[:2]
    labels = labels_from_template(person.template, height, width)
    for name in ("brow_left", "brow_right", "eye_left", "eye_right"):
        assert agreement(named(labels, name), person.parts[name]) == 1
    lips = named(labels, "upper_lip") | named(labels, "lower_lip")
    assert agreement(lips, person.parts["lips"]) > 0.95
    assert not named(labels, "mouth").any(), "closed lips have nothing between them"
    assert named(labels, "upper_lip").nonzero()[0].max() <= named(labels, "lower_lip").nonzero()[0].min()
    face = labels > 0
    assert agreement(face, person.parts["face"]) == 1 and not named(labels, "hair").any()
    rows, columns = named(labels, "nose").nonzero()
    assert 120 < columns.mean() < 140 and rows.min() >= 130 and rows.max() <= 175


def test_an_open_mouth_shows_what_is_between_the_lips(person):
    points = person.template.points.copy()
    points[person.template.polylines[22][1], 1] += 5  # the lower lip's inner line goes down in the middle
    labels = labels_from_template(Template(points, person.template.polylines), 300, 260)
    assert named(labels, "mouth").sum() > 40
    rows = [named(labels, name)[:, 130].nonzero()[0] for name in ("upper_lip", "mouth", "lower_lip")]
    assert rows[0].max() < rows[1].min() and rows[1].max() < rows[2].min()


def test_left_is_the_pictures_left_whatever_wing_comes_first(person):
    outline = nose_outline(person.template)
    lines = list(person.template.polylines)
    lines[14], lines[15] = lines[15], lines[14]
    lines[12], lines[13] = lines[13], lines[12]
    exchanged = Template(person.template.points, tuple(lines))
    np.testing.assert_allclose(np.sort(nose_outline(exchanged), axis=0), np.sort(outline, axis=0))


@pytest.mark.parametrize("who", ["person", "dark_person"])
def test_hair_is_what_remains(who, request, agreement):
    """Not the shirt, not the neck, not the ears, not the wall."""
    someone = request.getfixturevalue(who)
    labels = labels_of_photo(someone.levels, someone.template)
    hair, parts = named(labels, "hair"), someone.parts
    ears = np.maximum(parts["ear_left"], parts["ear_right"]) > 0
    truth = (parts["hair"] > 0) & ~ears & (parts["neck"] == 0) & (parts["shirt"] == 0)
    assert agreement(hair, truth) > 0.85
    for name in ("neck", "shirt", "ear_left"):
        assert hair[parts[name] > 0].mean() < 0.1, name
    assert not labels[:20, :40].any(), "the wall is background"
    assert (labels[(parts["shirt"] > 0) & ~truth] == 0).mean() > 0.95


def test_a_bald_head_is_skin(person):
    image = person.image.copy()
    hair = person.parts["hair"] > 0
    smooth = np.random.default_rng(0).normal(0, 0.008, image.shape).astype(np.float32)
    image[hair] = (np.array((0.78, 0.58, 0.49)) + smooth)[hair]
    levels = (image.clip(0, 1) * 255).astype(np.uint8)
    labels = labels_of_photo(levels, person.template)
    assert not named(labels, "hair").any()
    above = hair & (np.arange(300)[:, None] < 70)
    assert named(labels, "skin")[above].mean() > 0.9


def test_a_beard_is_skin(person):
    image = person.image.copy()
    y = np.arange(300)[:, None]
    beard = (person.parts["face"] > 0) & (y > 212) & (person.parts["lips"] == 0)
    image[beard] = (0.12, 0.09, 0.07)
    labels = labels_of_photo((image * 255).astype(np.uint8), person.template)
    assert named(labels, "skin")[beard].mean() > 0.97


def test_a_fringe_is_hair_down_to_the_brows(person):
    image = person.image.copy()
    y, x = np.mgrid[:300, :260]
    fringe = (person.parts["face"] > 0) & (y < 98) & (x < 125)
    strands = np.random.default_rng(3).normal(0, 0.06, (300, 260, 1))
    image[fringe] = (np.array((0.12, 0.09, 0.07)) + strands)[fringe]
    labels = labels_of_photo((image.clip(0, 1) * 255).astype(np.uint8), person.template)
    inner = fringe & (y < 90)
    assert named(labels, "hair")[inner].mean() > 0.85
    assert named(labels, "skin")[(y > 80) & (y < 95) & (x > 140) & (x < 160)].mean() > 0.95


def test_a_wall_that_is_not_plain_is_refused(person):
    image = np.where((person.parts["hair"] + person.parts["face"])[..., None] > 0, person.image, 0)
    noise = np.random.default_rng(0).random((300, 260, 3), dtype=np.float32)
    scene = np.where(image > 0, image, noise).astype(np.float32)
    with pytest.raises(NotPlain, match="not plain"):
        parse_portrait(scene, person.template)


def test_photos_are_reduced_with_their_landmarks(person):
    image, template = reduced(person.levels, person.template, 0.5)
    assert image.shape == (150, 130, 3) and image.max() <= 1
    np.testing.assert_allclose(template.points, (person.template.points + 0.5) / 2 - 0.5)

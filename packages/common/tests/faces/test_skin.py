from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from retouch_common.faces.geometry import (
    geometry_from_landmarks,
    geometry_from_mesh,
    geometry_from_template,
)
from retouch_common.faces.mesh import EYES
from retouch_common.faces.skin import plain_background, skin_maps
from retouch_common.photo.filters import dilate
from retouch_common.synthesis.preparation import prepare_face

from .test_mesh import drawn_mesh

if TYPE_CHECKING:
    from ..conftest import Person

FEATURES = ("eye_left", "eye_right", "brow_left", "brow_right", "lips")


def inner_face(person: Person) -> np.ndarray:
    features = np.maximum.reduce([dilate(person.parts[name], 14) for name in FEATURES])
    nose = np.zeros_like(features)
    nose[145:190, 100:160] = 1.0
    return dilate(person.parts["face"], -12) * (1 - np.maximum(features, nose)) > 0


@pytest.mark.parametrize("who", ["person", "dark_person"])
@pytest.mark.parametrize("source", ["template", "landmarks"])
def test_skin_is_found_and_features_are_left_out(who: str, source: str, request: pytest.FixtureRequest) -> None:
    person: Person = request.getfixturevalue(who)
    height, width = person.image.shape[:2]
    if source == "template":
        geometry = geometry_from_template(person.template, height, width)
    else:
        geometry = geometry_from_landmarks(person.landmarks, (62, 65, 136, 175), height, width)
    maps = skin_maps(person.image, geometry)
    for name in (*FEATURES, "hair", "shirt"):
        inside = dilate(person.parts[name], -2) > 0
        assert maps.skin[inside].mean() < 0.02, name
        assert maps.cleanable[inside].mean() < 0.005, name
    assert maps.skin[inner_face(person)].mean() > 0.8
    assert (maps.skin - maps.cleanable).min() > -0.3 and maps.cleanable.sum() < maps.skin.sum()
    background = np.zeros(maps.skin.shape, dtype=bool)
    background[:20] = background[:, :20] = True
    assert maps.skin[background].max() == 0.0
    certain = maps.other[dilate(person.parts["shirt"], -8) > 0].mean()
    assert certain > (0.8 if source == "template" else 0.2)  # without a template the neck's end is a guess
    assert maps.other[person.parts["face"] > 0].max() < 0.1


def test_a_plain_background_is_cut_out(person: Person) -> None:
    geometry = geometry_from_template(person.template, *person.image.shape[:2])
    matte = plain_background(person.image, geometry)
    assert matte[:20].mean() > 0.95
    assert matte[dilate(person.parts["face"], -5) > 0].max() < 0.05
    assert matte[dilate(person.parts["hair"], -3) > 0].mean() < 0.1


def test_a_lively_background_is_not(person: Person) -> None:
    generator = np.random.default_rng(0)
    lively = generator.random(person.image.shape, dtype=np.float32)
    geometry = geometry_from_template(person.template, *person.image.shape[:2])
    assert plain_background(lively, geometry).max() == 0.0


def face_with_stubble() -> tuple[np.ndarray, np.ndarray]:
    """Return a mesh and an image of plain skin, rough on the chin."""
    generator = np.random.default_rng(0)
    image = np.full((500, 500, 3), (0.78, 0.58, 0.47), dtype=np.float32)
    image += generator.normal(0.0, 0.004, image.shape).astype(np.float32)
    chin = np.zeros((500, 500), bool)
    chin[295:] = True
    image[chin] += generator.normal(-0.03, 0.05, (chin.sum(), 1)).astype(np.float32)
    return drawn_mesh((250.0, 220.0), 100.0), np.clip(image, 0.0, 1.0)


def test_blemishes_may_be_drawn_up_to_the_eyes_and_on_stubble() -> None:
    points, image = face_with_stubble()
    maps = skin_maps(image, geometry_from_mesh(points, 500, 500))
    eyes = [points[list(eye)].mean(axis=0).round().astype(int) for eye in EYES]
    for x, y in eyes:
        assert maps.drawable[y, x] == 0.0 == maps.skin[y, x]
        below = y + 20, x  # an eye's half height is 9 pixels
        assert maps.drawable[below] > 0.9 and maps.skin[below] < 0.1
    beneath_the_lips = 362, 250
    assert maps.drawable[beneath_the_lips] > 0.5 and maps.skin[beneath_the_lips] < 0.1
    assert maps.cleanable[beneath_the_lips] < 0.1
    assert (maps.drawable >= maps.skin).all()
    assert maps.drawable[:40].max() == 0.0


def test_portraits_are_prepared_with_or_without_skin_near_features() -> None:
    points, image = face_with_stubble()
    levels = np.rint(255 * image).astype(np.uint8)
    drawable, certain = (prepare_face(levels, points, near_features=near) for near in (True, False))
    assert drawable is not None and certain is not None
    beneath_the_lips = 181, 125  # maps have half the size
    assert drawable.maps[beneath_the_lips][0] > 127 and certain.maps[beneath_the_lips][0] < 25
    assert np.array_equal(drawable.image, certain.image)

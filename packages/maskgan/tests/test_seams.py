"""Bringing drawn faces back: what is filled, where edits act, that nothing else changes."""

import numpy as np
import pytest
from maskgan.seams import HAIR, Repainted, edited_region, hair_matte, soft_change, with_detail
from retouch_common.faces.alignment import FaceSquare, whole_square
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.sources import ArraySource

S = 64


def labels_with_mouth(left=24):
    labels = np.ones((S, S), np.uint8)
    labels[40:46, left : left + 16] = 8
    return labels


def random_picture(seed):
    return np.random.default_rng(seed).random((S, S, 3), dtype=np.float32)


def test_no_edit_has_no_region():
    labels = labels_with_mouth()
    assert not edited_region(labels, labels).any()


def test_region_covers_what_was_and_what_is_to_be():
    region = edited_region(labels_with_mouth(20), labels_with_mouth(28))
    assert (region[41:45, 20:28] > 0.99).all() and (region[41:45, 36:44] > 0.99).all()
    assert not region[:32].any() and not region[:, :8].any()


def test_another_appearance_keeps_the_detail():
    """By hand: hair drawn 0.3 darker makes the photograph's hair 0.3 darker, strand by strand."""
    labels = labels_with_mouth()
    photo, drawn = random_picture(0) / 2 + 0.5, random_picture(1)
    region = edited_region(labels, labels)
    darker = drawn - np.float32(0.3) * (labels == 8)[..., None]
    assert np.allclose(with_detail(photo, labels, drawn, darker, region), photo + (darker - drawn), atol=1e-6)


def test_hair_beyond_its_labels_changes_with_it():
    """By hand: hair that reaches two pixels farther than its labels, or less far, changes as far as it reaches."""
    labels = np.zeros((S, S), np.uint8)
    labels[:, :30] = HAIR
    change = np.float32(0.5) * (labels == HAIR)[..., None].repeat(3, axis=2)
    for end in (29, 31):
        photo = np.full((S, S, 3), 0.9, np.float32)
        photo[:, :end] = 0.1
        soft = soft_change(photo, labels, change)
        assert np.allclose(soft[:, :end], 0.5, atol=0.05) and np.allclose(soft[:, end:], 0, atol=0.05)


def test_hair_of_the_colour_of_its_surroundings_ends_where_its_labels_do():
    labels = np.zeros((S, S), np.uint8)
    labels[:, :30] = HAIR
    matte = hair_matte(np.full((S, S, 3), 0.4, np.float32), labels)
    assert np.allclose(matte[:, :26], 1) and np.allclose(matte[:, 34:], 0)
    assert (matte[:, 29] > 0.5).all() and (matte[:, 30] < 0.5).all()


def test_detail_stays_where_nothing_is_edited():
    photo, drawn, labels = random_picture(0), random_picture(1), labels_with_mouth()
    assert np.allclose(with_detail(photo, labels, drawn, drawn, np.zeros((S, S), np.float32)), photo, atol=1e-6)
    everywhere = np.ones((S, S), np.float32)
    assert np.allclose(with_detail(photo, labels, drawn, drawn, everywhere), drawn, atol=1e-6)


def test_an_edit_takes_the_light_of_its_surroundings():
    """By hand: a photograph 0.2 brighter than the network's picture of it makes the edit 0.2 brighter."""
    drawn = np.full((S, S, 3), 0.4, np.float32)
    region = np.zeros((S, S), np.float32)
    region[24:40, 24:40] = 1
    edited = drawn.copy()
    edited[24:40, 24:40] = 0.1
    result = with_detail(drawn + np.float32(0.2), labels_with_mouth(), drawn, edited, region)
    assert np.allclose(result[28:36, 28:36], 0.3, atol=1e-3)
    assert np.allclose(result[:20], 0.6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inside_the_edit_the_photograph_is_painted_over(dtype):
    """Fine detail of the photograph stays outside and is gone inside."""
    largest = np.iinfo(dtype).max
    photo = np.random.default_rng(0).integers(0, largest, (S, S, 3), dtype=dtype, endpoint=True)
    region = np.zeros((S, S), np.float32)
    region[24:40, 24:40] = 1
    picture = np.full((S, S, 3), 0.5, np.float32)
    layer = Repainted(whole_square(S, S), picture, np.zeros((S, S, 3), np.float32), region, S, S, int(largest))
    result = np.concatenate(list(pasted_rows(ArraySource(photo), [layer])))
    assert np.array_equal(result[:22], photo[:22])
    assert np.abs(result[28:36, 28:36].astype(int) - largest / 2).max() <= 1


def test_a_turned_face_in_a_larger_photograph():
    photo = np.full((200, 300, 3), 100, np.uint8)
    square = FaceSquare((150.0, 100.0), 120.0, np.radians(20))
    change = np.full((S, S, 3), 0.1, np.float32)
    layer = Repainted(square, change, change, np.zeros((S, S), np.float32), 200, 300, 255)
    result = np.concatenate(list(pasted_rows(ArraySource(photo), [layer])))
    assert np.abs(result[100, 150].astype(float) - 125.5).max() < 1
    assert result[5, 5].tolist() == [100, 100, 100]

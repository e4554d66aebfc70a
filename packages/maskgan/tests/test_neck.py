"""Necks and ears in the colour of the face, on a drawn face."""

import torch
from maskgan.neck import neck_matte, recoloured, skin_colour

SIDE = 64
SKIN, WALL = (0.8, 0.55, 0.42), (0.2, 0.35, 0.5)


def drawn_face(skin=SKIN, second=SKIN):
    """A face with a darker neck, before a wall with a patch of another colour that touches nothing of the person."""
    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    labels[:, 8:40, 20:44] = 1
    picture = torch.tensor(WALL).view(1, 3, 1, 1).repeat(1, 1, SIDE, SIDE)
    picture[:, :, 8:40, 20:44] = torch.tensor(skin).view(3, 1, 1)
    picture[:, :, 40:, 26:38] = 0.7 * torch.tensor(skin).view(3, 1, 1)
    picture[:, :, 50:60, 52:62] = torch.tensor(second).view(3, 1, 1)
    generator = torch.Generator().manual_seed(0)
    noisy = picture + 0.02 * torch.randn(picture.shape, generator=generator)
    return 2 * noisy.clamp(0, 1) - 1, labels


def test_the_neck_is_found_and_neither_wall_nor_face_are():
    picture, labels = drawn_face()
    matte = neck_matte(picture, labels)[0, 0]
    assert matte[42:56, 28:36].mean() > 0.6
    assert matte[:, :16].max() < 0.1 and not matte[labels[0] == 1].any()


def test_skin_that_is_not_connected_with_the_face_is_somebody_elses():
    picture, labels = drawn_face()
    assert neck_matte(picture, labels)[0, 0, 52:58, 54:60].max() < 0.1


def test_a_neck_takes_the_change_of_the_face_by_hand():
    """A face half as bright makes the neck half as bright, and nothing else."""
    picture, labels = drawn_face()
    before = skin_colour(picture, labels)
    assert torch.allclose(before[0], torch.tensor(SKIN), atol=0.01)
    changed = recoloured(picture, neck_matte(picture, labels), before, before / 2)
    neck, was = (((p[0, :, 44:54, 29:35] + 1) / 2).mean(dim=(1, 2)) for p in (changed, picture))
    assert torch.allclose(neck, was / 2, atol=0.06)
    assert torch.equal(changed[:, :, :40, :16], picture[:, :, :40, :16])


def test_the_same_colour_changes_nothing_and_no_skin_is_grey():
    picture, labels = drawn_face()
    colour = skin_colour(picture, labels)
    assert torch.allclose(recoloured(picture, neck_matte(picture, labels), colour, colour), picture, atol=1e-5)
    assert skin_colour(picture, torch.zeros_like(labels)).tolist() == [[0.5, 0.5, 0.5]]
    assert not neck_matte(picture, torch.zeros_like(labels)).any()

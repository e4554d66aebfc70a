"""Windows, centres and placement by hand-counted cases."""

import numpy as np
import pytest
import torch
from maskgan.components import (
    COMPONENTS,
    centres,
    crop,
    enlarged,
    feature_corner,
    masks,
    one_hot,
    place,
    warnings_of,
    window_corner,
)
from maskgan.config import COMPONENT_NAMES

EYE_LEFT, EYE_RIGHT, MOUTH, SKIN, HAIR = COMPONENTS


def labels_of(*boxes, side=256):
    """(label, left, top, right, bottom) rectangles on background; right and bottom are not part of them."""
    labels = torch.zeros(1, side, side, dtype=torch.long)
    for label, left, top, right, bottom in boxes:
        labels[:, top:bottom, left:right] = label
    return labels


def test_sizes_are_the_papers():
    """Section 4, width x height: 48x32, 48x32, 144x80, 256x256, 256x256."""
    assert COMPONENT_NAMES == ("eye_left", "eye_right", "mouth", "skin", "hair")
    assert [component.size(256) for component in COMPONENTS] == [(32, 48), (32, 48), (80, 144), (256, 256), (256, 256)]
    assert [component.feature_size(256) for component in COMPONENTS] == [(8, 12), (8, 12), (20, 36), (64, 64), (64, 64)]
    assert MOUTH.size(64) == (20, 36) and MOUTH.feature_size(64) == (5, 9)


def test_every_label_but_background_belongs_to_one_component():
    everything = torch.arange(11).repeat(11, 1)[None]
    count = masks(everything).sum(dim=1)
    assert count[0, 0].tolist() == [0] + [1] * 10
    assert EYE_LEFT.labels == (4,) and EYE_RIGHT.labels == (5,) and MOUTH.labels == (7, 8, 9)
    assert SKIN.labels == (1, 2, 3, 6) and HAIR.labels == (10,)


def test_centres_are_the_middles_of_the_boxes():
    """Columns 88 to 110 are [88, 111], whose middle is 99.5; an outlier widens the box and moves the middle."""
    labels = labels_of((4, 88, 112, 111, 121), (7, 100, 170, 140, 180), (9, 110, 180, 150, 191))
    xy, present = centres(labels)
    assert xy[0, 0].tolist() == [99.5, 116.5]
    assert xy[0, 2].tolist() == [125.0, 180.5]
    assert present.tolist() == [[True, False, True, False, False]]
    labels[0, 255, 255] = 4
    assert centres(labels)[0][0, 0].tolist() == [(88 + 256) / 2, (112 + 256) / 2]


def test_missing_components_have_their_canonical_centre():
    xy, present = centres(torch.zeros(2, 256, 256, dtype=torch.long))
    assert not present.any()
    assert xy[0].tolist() == [[96, 116], [160, 116], [128, 184], [128, 128], [128, 128]]
    assert centres(torch.zeros(1, 64, 64, dtype=torch.long))[0][0, 2].tolist() == [32, 46]


def test_crops_are_windows_without_resizing():
    picture = torch.rand(2, 3, 256, 256)
    corner = window_corner(EYE_LEFT, torch.tensor([[99.5, 116.5], [100.0, 50.0]]), 256)
    assert corner.tolist() == [[76, 101], [76, 34]]  # 99.5 - 24 + 0.5, 116.5 - 16 + 0.5, rounded down
    window = crop(picture, EYE_LEFT, corner)
    assert torch.equal(window[0], picture[0, :, 101:133, 76:124])
    assert torch.equal(window[1], picture[1, :, 34:66, 76:124])


def test_windows_beyond_the_border_hold_zeros():
    picture = torch.ones(1, 1, 256, 256)
    window = crop(picture, EYE_LEFT, window_corner(EYE_LEFT, torch.tensor([[10.0, 250.0]]), 256))
    # The corner is (-14, 234): 34 columns and 22 rows lie inside.
    assert window[0, 0, :22, 14:].eq(1).all() and window.sum() == 22 * 34
    far = crop(picture, EYE_LEFT, torch.tensor([[900, -900]]))
    assert far.eq(0).all() and far.shape == (1, 1, 32, 48)


def test_snapped_windows_move_by_up_to_two_pixels():
    for x in torch.arange(60, 70, 0.5):
        centre = torch.tensor([[float(x), 116.0]])
        free, snapped = (window_corner(MOUTH, centre, 256, snap=snap)[0, 0].item() for snap in (False, True))
        assert snapped % 4 == 0 and abs(snapped + 72 - x) <= 2 and abs(free + 72 - x) <= 0.5


def test_features_are_placed_at_a_quarter_of_the_centre():
    """int(c / 4 + 0.5): 99.5 goes to 25, 116.5 to 29; 12 x 8 features start 6 and 4 before."""
    corner = feature_corner(EYE_LEFT, torch.tensor([[99.5, 116.5]]), 256)
    assert corner.tolist() == [[19, 25]]
    feature = torch.rand(1, 5, 8, 12)
    placed = place(feature, corner, 64)
    assert placed.shape == (1, 5, 64, 64)
    assert torch.equal(placed[:, :, 25:33, 19:31], feature)
    assert placed.sum().item() == pytest.approx(feature.sum().item(), rel=1e-5)


def test_placement_clips_at_the_border():
    feature = torch.arange(96.0).reshape(1, 1, 8, 12) + 1
    placed = place(feature, feature_corner(EYE_LEFT, torch.tensor([[0.0, 254.0]]), 256), 64)
    # Corner (-6, 60): the right half of the columns, the first four rows.
    assert torch.equal(placed[:, :, 60:, :6], feature[:, :, :4, 6:])
    assert (placed != 0).sum() == 24


def test_every_sample_has_its_own_place():
    feature, xy = torch.rand(3, 2, 8, 12), torch.tensor([[96.0, 116.0], [40.0, 60.0], [200.0, 30.0]])
    together = place(feature, feature_corner(EYE_LEFT, xy, 256), 64)
    for n in range(3):
        alone = place(feature[n : n + 1], feature_corner(EYE_LEFT, xy[n : n + 1], 256), 64)
        assert torch.equal(together[n : n + 1], alone)


def test_cropping_and_placing_pass_gradients():
    picture = torch.rand(1, 1, 256, 256, requires_grad=True)
    crop(picture, EYE_LEFT, torch.tensor([[-10, 5]])).sum().backward()
    assert picture.grad[0, 0, 5:37, :38].eq(1).all() and picture.grad.sum() == 32 * 38
    feature = torch.rand(1, 1, 8, 12, requires_grad=True)
    (2 * place(feature, torch.tensor([[-3, 4]]), 64)).sum().backward()
    assert feature.grad[..., 3:].eq(2).all() and feature.grad[..., :3].eq(0).all()


def test_snapped_features_come_back_to_where_they_were():
    """A window reduced by four and placed again is the picture reduced by four, wherever the component is."""
    picture = torch.rand(1, 1, 256, 256)
    reduced = torch.nn.functional.avg_pool2d(picture, 4)
    for x in (90.0, 91.0, 92.5, 93.0):
        centre = torch.tensor([[x, 117.0]])
        window = crop(picture, EYE_LEFT, window_corner(EYE_LEFT, centre, 256, snap=True))
        placed = place(torch.nn.functional.avg_pool2d(window, 4), feature_corner(EYE_LEFT, centre, 256), 64)
        assert torch.allclose(placed[placed != 0], reduced[placed != 0])


def test_enlarged_eyes_and_mouths():
    """A mouth of 40 x 20 around (128, 184) enlarged 1.1 times measures 44 x 22; skin stays."""
    labels = labels_of((1, 60, 60, 200, 240), (8, 108, 174, 148, 194))
    larger = enlarged(labels, 1.1)
    rows, columns = np.nonzero(larger[0].numpy() == 8)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (106, 150, 173, 195)
    assert torch.equal(larger == 0, labels == 0)
    assert enlarged(labels, 1.0) is labels
    assert torch.equal(enlarged(labels_of((1, 60, 60, 200, 240)), 1.1), labels_of((1, 60, 60, 200, 240)))


def test_one_hot():
    planes = one_hot(torch.tensor([[[0, 10], [3, 3]]]))
    assert planes.shape == (1, 11, 2, 2) and planes.sum() == 4
    assert planes[0, 10].tolist() == [[0, 1], [0, 0]] and planes[0, 3].tolist() == [[0, 0], [1, 1]]


def test_warnings_name_what_is_missing_or_too_large():
    complete = labels_of((1, 60, 60, 200, 240), (10, 60, 20, 200, 60), (4, 88, 112, 111, 121), (5, 145, 112, 168, 121))
    complete[:, 175:190, 105:150] = 8
    complete = complete[0].numpy().astype(np.uint8)
    assert warnings_of(complete) == []
    bald = np.where(complete == 10, 0, complete)
    assert [line.split(":")[0] for line in warnings_of(bald)] == ["no hair"]
    wide = complete.copy()
    wide[112:121, 70:125] = 4
    (line,) = warnings_of(wide)
    assert line.startswith("the left eye measures 55 x 9 pixels, its window 48 x 32")
    assert len(warnings_of(np.zeros((256, 256), np.uint8))) == 1

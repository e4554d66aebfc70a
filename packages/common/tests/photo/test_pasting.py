import numpy as np
import pytest
from retouch_common.faces.alignment import FaceSquare, whole_square
from retouch_common.faces.pasting import AlignedLayer, changed_rows
from retouch_common.photo.pasting import map_rows, pasted_rows
from retouch_common.photo.sources import ArraySource


def grey(height=300, width=400, dtype=np.uint8, value=100):
    return np.full((height, width, 3), value, dtype)


def layer(square, change, image):
    change = np.broadcast_to(np.float32(change), (64, 64, 3)) if np.ndim(change) == 0 else change
    return AlignedLayer(square, np.asarray(change, np.float32), *image.shape[:2])


def pasted(image, layers, protect=None):
    protect = None if protect is None else ArraySource(protect)
    return np.concatenate(list(pasted_rows(ArraySource(image), layers, protect=protect)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_change_covers_the_square_and_nothing_else(dtype):
    image, square = grey(dtype=dtype), FaceSquare((200.0, 160.0), 120.0, 0.5)
    change = pasted(image, [layer(square, 20, image)]).astype(int) - image
    y, x = np.mgrid[:300, :400] + 0.5
    u, v = square.from_photo(x, y)
    inside = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    assert (change[inside <= 0] == 0).all()
    assert (change[inside >= 1 / 16] == 20).all()
    assert change.min() == 0 and change.max() == 20


@pytest.mark.parametrize("side", [30.0, 64.0, 100.0, 250.0])
def test_a_change_comes_to_its_place(side):
    """A blob of the aligned face lies where the square says, at every scale, with its height kept."""
    square, image = FaceSquare((190.0, 150.0), side, -0.4), grey()
    v, u = (np.mgrid[:64, :64] + 0.5) / 64
    blob = 80 * np.exp(-((u - 0.3) ** 2 + (v - 0.6) ** 2) / (2 * 0.08**2))
    change = (
        pasted(image, [layer(square, blob[..., None].repeat(3, axis=2), image)])[..., 0].astype(float) - image[..., 0]
    )
    y, x = np.mgrid[:300, :400] + 0.5
    centre = np.array([(x * change).sum(), (y * change).sum()]) / change.sum()
    np.testing.assert_allclose(centre, square.to_photo(np.array(0.3), np.array(0.6)), atol=0.2)
    assert change.sum() / side**2 == pytest.approx(blob.sum() / 64**2, rel=0.03)


def test_overlapping_faces_share_their_pixels():
    image = grey()
    layers = [
        layer(FaceSquare((180.0, 150.0), 120.0, 0.3), 20, image),
        layer(FaceSquare((220.0, 150.0), 120.0), 20, image),
    ]
    change = pasted(image, layers).astype(int) - image
    assert change.max() == 20 and (change[140:160, 190:210] == 20).all()


def test_a_face_beside_another_takes_nothing_from_it():
    """Squares overlap far beyond the faces: what is another's background, or does not change, has no say."""
    image, skin = grey(), np.zeros((64, 64), np.float32)
    skin[16:48, 16:48] = 1.0
    left, right = FaceSquare((160.0, 150.0), 120.0), FaceSquare((220.0, 150.0), 120.0)
    confined = np.full((64, 64, 3), 0.2, np.float32) * skin[..., None]
    alone = np.concatenate(list(changed_rows(ArraySource(image), [(left, confined, skin)])))
    assert abs(int((alone.astype(int) - image).max()) - 51) <= 1
    for other in ((confined, skin), (np.zeros_like(confined), None)):
        both = np.concatenate(list(changed_rows(ArraySource(image), [(left, confined, skin), (right, *other)])))
        assert np.array_equal(both[:, :180], alone[:, :180])
    unconfined = np.concatenate(
        list(changed_rows(ArraySource(image), [(left, confined, None), (right, confined, None)]))
    )
    assert not np.array_equal(unconfined[:, :180], alone[:, :180]), "the squares do overlap there"


def test_no_change_keeps_every_bit():
    image = np.random.default_rng(0).integers(0, 65536, (300, 400, 3)).astype(np.uint16)
    assert np.array_equal(pasted(image, [layer(FaceSquare((200.0, 150.0), 180.0, 0.3), 0, image)]), image)


def test_values_stay_in_range():
    image = grey(value=250)
    assert pasted(image, [layer(FaceSquare((200.0, 150.0), 100.0), 90, image)]).max() == 255
    assert pasted(image, [layer(FaceSquare((200.0, 150.0), 100.0), -999, image)]).min() == 0


def test_protected_pixels_stay_and_half_protected_ones_half():
    image = grey(dtype=np.uint16, value=9000)
    protect = np.zeros((300, 400, 3), np.uint8)
    protect[:, 200:], protect[:100] = 255, 51
    change = pasted(image, [layer(FaceSquare((200.0, 150.0), 400.0), 100, image)], protect).astype(int) - 9000
    assert (change[:, 200:][100:] == 0).all()
    assert (change[100:200, 50:200] == 100).all()
    assert (change[50:100, 50:350] == 80).all()
    with pytest.raises(ValueError, match="has 4x4 pixels and the photo has 400x300"):
        pasted(image, [], protect[:4, :4])


def test_an_aligned_picture_changes_up_to_its_edges():
    image = grey(64, 64)
    change = np.random.default_rng(0).integers(-50, 50, (64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(pasted(image, [layer(whole_square(64, 64), change, image)]), image + change)


def test_maps_lie_where_the_faces_are():
    square = FaceSquare((200.0, 150.0), 128.0)
    values = np.zeros((64, 64, 1), np.float32)
    values[:32] = 200
    small = AlignedLayer(FaceSquare((200.0, 250.0), 20.0), np.full((64, 64, 1), 90, np.float32), 300, 400)
    levels = np.concatenate(list(map_rows(300, 400, [AlignedLayer(square, values, 300, 400), small])))
    assert levels.shape == (300, 400, 1) and levels.dtype == np.uint8
    assert (levels[90:140, 140:260] == 200).all() and (levels[160:200, 140:260] == 0).all()
    assert levels[250, 200] == 90 and (levels[:80] == 0).all() and (levels[:, :130] == 0).all()

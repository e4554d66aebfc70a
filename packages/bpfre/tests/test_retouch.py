"""Photographs in memory: the network's difference on aligned faces, pasted back."""

import numpy as np
import pytest
import torch
from bpfre import retouch
from bpfre.retouch import RetouchedFace, Retoucher
from retouch_common.faces.alignment import FaceSquare, align, face_square
from retouch_common.faces.face import Face
from retouch_common.inference import face_plan
from retouch_common.inference.faces import NOISE_LEVEL, changed_face_rows

UNKNOWN = np.full((5, 2), np.nan, np.float32)


def face(x, y, w, h):
    return Face((x, y, w, h), 1.0, UNKNOWN)


def photo(height, width, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    values = 0.5 + 0.3 * np.sin(x[..., None] / 19 + y[..., None] / 31 + np.arange(3))
    values = values + np.random.default_rng(0).normal(0, 0.02, values.shape)
    return np.rint(values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def retoucher(busy_model):
    return Retoucher(busy_model(), device="cpu", precision="fp32")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("stage", ["coarse", "refined"])
def test_an_aligned_face_of_the_networks_size_gets_its_very_output(busy_model, dtype, stage):
    model, image = busy_model(), photo(64, 64, dtype)
    result = Retoucher(model, device="cpu", precision="fp32", stage=stage)(image, aligned=True, confine=False)
    largest = np.iinfo(dtype).max
    with torch.no_grad():
        raw = torch.from_numpy(image.astype(np.float32) / largest).permute(2, 0, 1)[None]
        change = (model(raw, stage=stage).result - raw)[0].permute(1, 2, 0).double().numpy()
    change[np.abs(change) <= NOISE_LEVEL] = 0
    expected = np.rint(image + change * largest).clip(0, largest)
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= (1 if dtype == np.uint8 else 8)
    assert np.abs(result.astype(int) - image).max() > 0.02 * largest


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [30, 64, 200])  # of the face's square: smaller, as large, larger than the network's
def test_nothing_changes_outside_the_faces_square(retoucher, dtype, side):
    image = photo(300, 400, dtype)
    found = face(150.0, 120.0, 0.53 * side, 0.72 * side)
    result = retoucher(image, faces=[found], confine=False)
    x, y, w, h = face_square(found, 300, 400).bounds(300, 400)
    assert w <= side + 2 and h <= side + 2
    changed = (result != image).any(axis=2)
    assert changed[y : y + h, x : x + w].mean() > 0.2
    changed[y : y + h, x : x + w] = False
    assert not changed.any()


def test_a_large_face_gets_the_smooth_difference_and_keeps_its_own_detail(retoucher):
    image = photo(512, 512, np.uint16)
    square = FaceSquare((256.0, 256.0), 500.0)
    (found,) = retoucher.retouch_faces(retouch.ArraySource(image), [square])
    assert found.change.shape == (64, 64, 3)
    change = np.concatenate(list(changed_face_rows(retouch.ArraySource(image), [found]))).astype(int) - image
    steps = np.abs(np.diff(change, axis=1)).max()
    assert np.abs(np.diff(image.astype(int), axis=1)).max() > 3000 and np.abs(change).max() > 1000
    assert steps < np.abs(np.diff(found.change, axis=1)).max() * 65535 / 3


def test_a_turned_face_is_retouched_as_if_it_were_upright(retoucher):
    """Turned by a right angle, no pixel needs interpolation, and both photographs get the same result."""
    upright = photo(120, 160)
    turned = np.ascontiguousarray(np.rot90(upright, -1))  # clockwise
    squares = FaceSquare((70.0, 60.0), 64.0), FaceSquare((120 - 60.0, 70.0), 64.0, np.pi / 2)

    def run(image, square):
        source = retouch.ArraySource(image)
        return np.concatenate(list(changed_face_rows(source, retoucher.retouch_faces(source, [square]))))

    expected = np.rot90(run(upright, squares[0]), -1)
    assert (expected != turned).any()
    assert np.abs(run(turned, squares[1]).astype(int) - expected).max() <= 1


def test_the_detector_is_asked_unless_faces_are_given(retoucher, monkeypatch):
    image = photo(200, 200, np.uint16)
    seen = []

    def detect(shown):
        seen.append(shown)
        return [face(60.0, 60.0, 50.0, 70.0)]

    monkeypatch.setattr(face_plan, "detect_faces", detect)
    found = retoucher(image)
    assert seen[0].dtype == np.uint8 and np.array_equal(seen[0], image >> 8)
    assert np.array_equal(found, retoucher(image, faces=[face(60.0, 60.0, 50.0, 70.0)]))
    assert len(seen) == 1
    assert np.array_equal(retoucher(image, faces=[]), image)
    monkeypatch.setattr(face_plan, "detect_faces", lambda shown: [])
    with pytest.raises(ValueError, match="no face was found"):
        retoucher(image)


@pytest.mark.parametrize("stage", ["coarse", "refined"])
def test_faces_in_batches_are_those_one_by_one(busy_model, monkeypatch, stage):
    image = photo(300, 400, np.uint16)
    squares = [FaceSquare((60.0 + 70 * i, 200.0 - 30 * i), 60.0 + 9 * i, 0.2 * i) for i in range(5)]
    retoucher = Retoucher(busy_model(), device="cpu", precision="fp32", stage=stage)
    alone = retoucher.retouch_faces(retouch.ArraySource(image), squares)
    network, seen = retoucher.network, []
    monkeypatch.setattr(retoucher, "batch_size", 3)
    monkeypatch.setattr(
        network, "forward", lambda x, stage: seen.append(len(x)) or type(network).forward(network, x, stage=stage)
    )
    together = retoucher.retouch_faces(retouch.ArraySource(image), squares)
    assert seen == [3, 2]
    assert len({face.change.tobytes() for face in alone}) == 5
    for one, other in zip(alone, together, strict=True):
        assert one.square == other.square
        # either side of the threshold is right for a change that lies on it
        assert np.abs(one.change - other.change).max() < NOISE_LEVEL + 1e-4
        assert np.abs(one.change - other.change).mean() < 1e-5
        np.testing.assert_allclose(one.attention_coarse, other.attention_coarse, atol=1e-5)
        assert (other.attention_refined is None) == (stage == "coarse")


@pytest.mark.parametrize("certainty", [0.1, 0.9])
def test_broad_changes_are_limited_where_the_map_is_uncertain(retoucher, monkeypatch, certainty):
    size = retoucher.network.config.size
    change, certain = np.full((size, size, 3), 0.1, np.float32), np.full((size, size), certainty, np.float32)
    found = RetouchedFace(FaceSquare((60.0, 60.0), 30.0, 0.0), change, certain, None)
    monkeypatch.setattr(type(retoucher), "skin", lambda face, points: np.ones(face.shape[:2], np.float32))
    confined = retoucher._confine(found, np.full((size, size, 3), 0.5, np.float32))
    assert confined.change.max() == pytest.approx(0.1 if certainty > 0.5 else retouch.UNCERTAIN, abs=1e-5)


def test_strength_scales_the_difference(retoucher):
    image, faces = photo(200, 200, np.uint16), [face(60.0, 60.0, 50.0, 70.0)]
    assert np.array_equal(retoucher(image, faces=faces, strength=0.0), image)
    full = retoucher(image, faces=faces).astype(int) - image
    half = retoucher(image, faces=faces, strength=0.5).astype(int) - image
    free = (image + full > 0) & (image + full < 65535)
    assert np.abs(full / 2 - half)[free].max() <= 1
    with pytest.raises(ValueError, match="strength"):
        retoucher(image, faces=faces, strength=1.5)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.float32])
def test_protected_pixels_keep_their_bits(retoucher, kind):
    image, faces = photo(200, 200, np.uint16), [face(60.0, 60.0, 80.0, 100.0)]
    keep = np.zeros((200, 200), kind)
    keep[90:120] = np.iinfo(kind).max if kind in (np.uint8, np.uint16) else 1
    result, free = retoucher(image, faces=faces, protect=keep), retoucher(image, faces=faces)
    assert np.array_equal(result[90:120], image[90:120])
    assert (free[90:120] != image[90:120]).any()
    assert np.array_equal(result[keep == 0], free[keep == 0])
    for wrong in (keep[:50], keep[..., None], keep.astype(np.int64)):
        with pytest.raises(ValueError, match="protect"):
            retoucher(image, faces=faces, protect=wrong)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_mask_of_zeros_and_ones_protects(retoucher, kind):
    image, faces = photo(200, 200), [face(60.0, 60.0, 80.0, 100.0)]
    keep = np.zeros((200, 200), bool)
    keep[90:120] = True
    expected = retoucher(image, faces=faces, protect=keep)
    assert np.array_equal(retoucher(image, faces=faces, protect=keep.astype(kind)), expected)


def test_attention_lies_on_the_faces(retoucher, busy_model):
    image, faces = photo(200, 260), [face(60.0, 60.0, 50.0, 70.0)]
    maps = retoucher.attention(image, faces=faces)
    x, y, w, h = face_square(faces[0], 200, 260).bounds(200, 260)
    for M in (maps.coarse, maps.refined):
        assert M.shape == (200, 260) and M.dtype == np.float32
        assert M[y : y + h, x : x + w].mean() > 0.05 and M.max() <= 1
        assert M.sum() == M[y : y + h, x : x + w].sum()
    coarse = Retoucher(busy_model(), device="cpu", stage="coarse").attention(image, faces=faces)
    assert coarse.refined is None and coarse.coarse is not None
    none = Retoucher(busy_model(attention=False), device="cpu").attention(image, faces=faces)
    assert none.coarse is None and none.refined is None


def test_the_map_is_the_networks(retoucher, busy_model):
    image = photo(64, 64)
    found = retoucher.attention(image, aligned=True).coarse
    with torch.no_grad():
        maps = busy_model()(torch.from_numpy(image / 255).float().permute(2, 0, 1)[None]).attention_coarse
    assert np.abs(found - retouch.merged_map(maps, 64)[0, 0].numpy()).max() < 2 / 255


def test_faces_partly_outside_the_photo_are_retouched(retoucher):
    image = photo(120, 120)
    result = retoucher(image, faces=[face(-30.0, -20.0, 60.0, 80.0)])
    assert (result != image).any() and np.array_equal(result[90:], image[90:])


def test_the_face_the_network_sees_is_the_aligned_one(retoucher, monkeypatch):
    image, seen = photo(300, 300), []
    network = retoucher.network
    monkeypatch.setattr(retoucher, "network", lambda shown, stage: seen.append(shown) or network(shown, stage=stage))
    retoucher.network.config = network.config
    found = face(100.0, 90.0, 70.0, 90.0)
    retoucher(image, faces=[found])
    expected = align(image, face_square(found, 300, 300), 64)
    np.testing.assert_array_equal(seen[0][0].permute(1, 2, 0).numpy(), expected)


def test_wrong_arguments_are_refused(busy_model):
    retoucher = Retoucher(busy_model(), device="cpu")
    with pytest.raises(ValueError, match="uint8 or uint16"):
        retoucher(np.zeros((64, 64, 3), np.float32), aligned=True)
    with pytest.raises(ValueError, match="a square image"):
        retoucher(photo(64, 80), aligned=True)
    with pytest.raises(ValueError, match="are mutually exclusive"):
        retoucher(photo(64, 64), aligned=True, faces=[])
    with pytest.raises(ValueError, match="lies outside the photo"):
        retoucher(photo(64, 64), faces=[face(100.0, 0.0, 9.0, 9.0)])
    with pytest.raises(ValueError, match="stage must be"):
        Retoucher(busy_model(), device="cpu", stage="fine")
    with pytest.raises(ValueError, match="backend must be"):
        Retoucher(busy_model(), device="cpu", backend="OpenVINO")
    with pytest.raises(ValueError, match="no decoder"):
        Retoucher(busy_model(decoder=False), device="cpu", stage="coarse")
    with pytest.raises(ValueError, match="nothing-like-this"):
        Retoucher("nothing-like-this")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(busy_model):
    image = photo(64, 64)
    cpu, cuda = (Retoucher(busy_model(), device=d, precision="fp32")(image, aligned=True) for d in ("cpu", "cuda"))
    assert np.abs(cpu.astype(int) - cuda).max() <= 2


def test_weights_that_explode_are_refused(busy_model):
    model = busy_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e12
    with pytest.raises(ValueError, match="the network's output holds NaN or infinite values"):
        Retoucher(model, device="cpu", precision="fp32")(photo(64, 64), aligned=True, confine=False)

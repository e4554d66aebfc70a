"""Retouching by stripes and tiles equals the network on the whole photograph."""

import abpn.streaming
import numpy as np
import pytest
import torch
from abpn.blend_pyramid import box_mean
from abpn.config import PRESETS
from abpn.model import ABPN
from abpn.retouch import Retoucher
from retouch_common.config import apply_overrides


def busy_model(**changes) -> ABPN:
    """A tiny network whose random weights change every pixel visibly."""
    torch.manual_seed(0)
    overrides = {f"model.{name}": value for name, value in changes.items()}
    model = ABPN(apply_overrides(PRESETS["tiny"], overrides).model)
    for module in (model.blend_pyramid, model.local_retouching.retouching_branch.modules_up[-1]):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def photo(height: int, width: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype=dtype, endpoint=True)


def whole(model: ABPN, image: np.ndarray) -> np.ndarray:
    """The network on the whole photograph, rounded to its levels."""
    largest = np.iinfo(image.dtype).max
    tensor = torch.from_numpy(image.astype(np.float32) / largest).permute(2, 0, 1)[None]
    with torch.inference_mode():
        result = model(tensor).results[0]
    return (result.clamp(0, 1) * largest).round()[0].permute(1, 2, 0).numpy().astype(np.int64)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles and a reduced copy small enough that modest photographs are cut many times."""
    monkeypatch.setattr(abpn.streaming, "TILE", 64)
    monkeypatch.setattr(abpn.streaming, "COARSE_PIXELS", 5000)
    monkeypatch.setattr(abpn.streaming, "STREAM_PIXELS", 20000)


@pytest.mark.parametrize("size", [(256, 256), (301, 203), (97, 513), (640, 131)])
@pytest.mark.parametrize("changes", [{}, {"pyramid": "burt"}, {"blend": "convolutional"}])
def test_tiles_equal_the_whole_photograph(small_tiles, size, changes):
    model, image = busy_model(**changes), photo(*size)
    expected = whole(model, image)
    found = Retoucher(model, device="cpu", precision="fp32", postprocess=False)(image).astype(np.int64)
    assert np.abs(expected - image).mean() > 2  # the comparison is about something
    assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 1e-4


def test_sixteen_bits_agree_to_an_eight_bit_level(small_tiles):
    model, image = busy_model(), photo(211, 190, np.uint16)
    found = Retoucher(model, device="cpu", precision="fp32", postprocess=False)(image)
    assert found.dtype == np.uint16
    assert np.abs(found.astype(np.int64) - whole(model, image)).max() <= 257


def test_half_precision_stays_within_two_levels(small_tiles):
    model, image = busy_model(), photo(256, 192)
    exact = Retoucher(model, device="cpu", precision="fp32")(image).astype(np.int64)
    half = Retoucher(model, device="cpu", precision="bf16")(image).astype(np.int64)
    assert np.abs(exact - half).mean() < 0.5


@pytest.mark.parametrize("certain", [True, False])
def test_broad_changes_are_limited_where_the_mask_is_uncertain(certain):
    model, image = busy_model(), np.full((70, 100, 3), 128, np.uint8)
    branch = model.local_retouching.mask_branch.head
    torch.nn.init.zeros_(branch.weight)
    torch.nn.init.constant_(branch.bias, 9.0 if certain else -9.0)
    for name, parameter in model.local_retouching.retouching_branch.modules_up[-1].named_parameters():
        if name.endswith("bias"):
            torch.nn.init.constant_(parameter, 0.3)
    paper = Retoucher(model, device="cpu", precision="fp32", postprocess=False)(image).astype(np.int64)
    found = Retoucher(model, device="cpu", precision="fp32")(image).astype(np.int64)
    assert np.abs(paper - image).mean() > 20
    assert np.abs(found - paper).max() <= 1 if certain else np.abs(found - image).mean() < 10


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_untrained_network_changes_no_bit(dtype):
    model, image = ABPN.from_preset("tiny"), photo(150, 201, dtype)
    assert np.array_equal(Retoucher(model, device="cpu")(image), image)


def test_no_strength_changes_no_bit_and_half_strength_half_of_it():
    model, image = busy_model(), np.full((128, 128, 3), 128, np.uint8)
    retoucher = Retoucher(model, device="cpu", precision="fp32")
    assert np.array_equal(retoucher(image, strength=0.0), image)
    full = retoucher(image).astype(int) - 128
    half = retoucher(image, strength=0.5).astype(int) - 128
    assert np.abs(full).max() > 2
    assert np.abs(full / 2 - half).max() <= 1


def test_stripes_come_in_order_and_cover_the_photograph(small_tiles):
    image = photo(900, 70)

    class Source:
        height, width, dtype = 900, 70, np.dtype(np.uint8)

        def read_rows(self, y0, y1):
            assert 0 <= y0 < y1 <= 900
            return image[y0:y1]

    stripes = list(Retoucher(ABPN.from_preset("tiny"), device="cpu").stripes(Source()))
    assert len(stripes) > 3
    assert np.array_equal(np.concatenate(stripes), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 3), (65, 64)])
def test_the_smallest_photographs(size):
    image = photo(*size)
    assert Retoucher(busy_model(), device="cpu")(image).shape == image.shape


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_photograph_is_refused(image):
    with pytest.raises(ValueError, match="uint8 or uint16"):
        Retoucher(ABPN.from_preset("tiny"), device="cpu")(image)


def test_weights_that_explode_are_refused():
    model = busy_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1e12
    with pytest.raises(ValueError, match="the network's output holds NaN or infinite values"):
        Retoucher(model, device="cpu", precision="fp32")(photo(80, 80))


def test_a_strength_beyond_one_is_refused():
    with pytest.raises(ValueError, match="strength"):
        Retoucher(ABPN.from_preset("tiny"), device="cpu")(photo(8, 8), strength=1.5)


def test_mask_covers_the_photograph():
    image = photo(301, 203)
    mask = Retoucher(busy_model(), device="cpu").mask(image)
    assert mask.shape == (301, 203) and 0 <= mask.min() <= mask.max() <= 1
    with pytest.raises(ValueError, match="no mask branch"):
        Retoucher(busy_model(mask_branch=False), device="cpu").mask(image)


@pytest.mark.parametrize(("size", "levels"), [(256, 0), (512, 1), (1024, 2), (2048, 3), (4096, 4), (20000, 6)])
def test_levels_follow_table_3(size, levels):
    assert ABPN.from_preset("tiny").num_levels(size // 4, size // 8) == levels  # tiny's thumbnail is 64, not 256


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(small_tiles):
    model, image = busy_model(), photo(256, 192)
    cpu = Retoucher(model, device="cpu", precision="fp32")(image).astype(np.int64)
    cuda = Retoucher(model, device="cuda", precision="fp32")(image).astype(np.int64)
    assert np.abs(cpu - cuda).max() <= 1


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_box_mean_is_average_pooling(factor):
    image = torch.rand(1, 3, 24, 40).contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.avg_pool2d(image, factor)
    assert torch.allclose(box_mean(image, factor), expected, atol=1e-6)


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    Retoucher(ABPN.from_preset("tiny"), device="cpu")(np.zeros((300, 200, 3), np.uint8))
    assert torch.get_num_threads() == before


def test_what_goes_wrong_in_a_tile_is_raised(monkeypatch):
    retoucher = Retoucher(ABPN.from_preset("tiny"), device="cpu")
    monkeypatch.setattr(retoucher.model.blend_pyramid, "forward", lambda B, images: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retoucher(np.zeros((300, 200, 3), np.uint8))

"""Metrics against independent computations; LPIPS with random weights of AlexNet's architecture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import retouch_common.metrics.quality as quality
import skimage.color
import skimage.metrics
import torch
import torchvision
from retouch_common.metrics.protocols import METRICS, PROTOCOLS
from retouch_common.metrics.quality import (
    LPIPS,
    average_precision,
    counts,
    delta_e,
    mean_metrics,
    psnr,
    ssim,
    ssim_uniform,
    true_mask,
)


@pytest.fixture
def pair():
    """Two images of 8-bit levels, 47x61, that differ a little."""
    generator = np.random.default_rng(0)
    a = generator.integers(0, 256, (47, 61, 3))
    b = np.clip(a + generator.integers(-9, 10, a.shape), 0, 255)
    return a, b


def tensor(levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(levels.astype(np.float32) / 255).permute(2, 0, 1)


def test_psnr_is_that_of_the_levels(pair):
    a, b = pair
    expected = 10 * math.log10(255**2 / np.mean((a - b) ** 2))
    assert psnr(tensor(a), tensor(b)) == pytest.approx(expected, abs=1e-4)


def test_psnr_by_hand():
    """Five levels everywhere: 20 log10(255 / 5)."""
    flat = torch.full((3, 4, 6), 100 / 255)
    assert psnr(flat + 5 / 255, flat) == pytest.approx(34.1514, abs=1e-3)


def test_masks_that_do_not_fit_are_refused(pair):
    a, b = map(tensor, pair)
    with pytest.raises(ValueError, match="mask is empty"):
        psnr(a, b, torch.zeros(1, 1, 47, 61, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be bool"):
        psnr(a, b, torch.ones(1, 1, 47, 61))


def test_psnr_rounds_to_levels_and_clips(pair):
    a, b = (np.clip(image, 1, 254) for image in pair)
    exact = psnr(tensor(a), tensor(b))
    assert psnr(tensor(a) + 0.4 / 255, tensor(b)) == pytest.approx(exact, abs=1e-5)
    white = torch.ones(3, 16, 16)
    assert psnr(white * 1.7, white) == 100.0


def test_equal_images_have_the_ceiling_not_infinity(pair):
    assert psnr(tensor(pair[0]), tensor(pair[0])) == 100.0


def test_ssim_equals_scikit_images(pair):
    a, b = pair
    expected = skimage.metrics.structural_similarity(
        a / 255, b / 255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=2
    )
    assert ssim(tensor(a), tensor(b)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("band", [1, 7, 30])
def test_ssim_in_bands_equals_the_whole(monkeypatch, pair, band):
    a, b = map(tensor, pair)
    whole = ssim(a, b)
    monkeypatch.setattr(quality, "BAND", band)
    assert ssim(a, b) == pytest.approx(whole, abs=1e-6)


def test_ssim_of_equal_images_is_one(pair):
    assert ssim(tensor(pair[0]), tensor(pair[0])) == pytest.approx(1, abs=1e-6)
    assert ssim_uniform(tensor(pair[0]), tensor(pair[0])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("band", [9, 512])
def test_uniform_ssim_is_scikit_images_default_on_signed_pictures(monkeypatch, pair, band):
    monkeypatch.setattr(quality, "BAND", band)
    a, b = (2 * image / 255 - 1 for image in pair)
    a = a * 1.03  # what a network makes may leave the range
    expected = skimage.metrics.structural_similarity(a, b, data_range=2.0, channel_axis=2)
    found = ssim_uniform(torch.from_numpy((a + 1) / 2).permute(2, 0, 1), torch.from_numpy((b + 1) / 2).permute(2, 0, 1))
    assert found == pytest.approx(expected, abs=1e-7)


def test_unrounded_psnr_is_scikit_images_on_signed_pictures(pair):
    a, b = (2 * image.astype(np.float32) / 255 - 1 for image in pair)
    a = a * 1.03 + 0.3 / 255
    expected = skimage.metrics.peak_signal_noise_ratio(b, a)  # range 2, as b reaches below 0
    halves = (torch.from_numpy((image + 1) / 2).permute(2, 0, 1) for image in (a, b))
    assert psnr(*halves, rounded=False) == pytest.approx(expected, abs=1e-3)


def test_presets_give_other_figures_for_the_same_pictures(pair):
    raw, output, target = tensor(pair[0]), tensor(pair[0]) * 1.02, tensor(pair[1])
    tables = {name: protocol.measure(output, raw, target) for name, protocol in PROTOCOLS.items()}
    for name, preset in PROTOCOLS.items():
        assert {preset.psnr, preset.ssim, f"{preset.psnr}-inside", f"{preset.psnr}-outside"} <= set(tables[name])
        assert set(tables[name]) <= set(METRICS)
    assert tables["wang"]["psnr-rgb"] == tables["bpfre-group"]["psnr-rgb"]
    assert tables["wang"]["psnr-rgb"] != pytest.approx(tables["png8"]["psnr-rgb8"], abs=1e-3)
    similarities = [tables[name][preset.ssim] for name, preset in PROTOCOLS.items()]
    assert len({round(value, 6) for value in similarities}) == 3


def test_average_precision_by_hand():
    """Four pixels, two of them changed, found first and third: precision 1/1 and 2/3."""
    raw = torch.full((3, 2, 2), 0.5)
    target = raw.clone()
    target[:, 0, :] += 0.1
    found = torch.tensor([[0.9, 0.3], [0.5, 0.1]])
    assert average_precision(found, raw, target) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(found, raw, raw) is None


def test_colour_difference_equals_scikit_images(pair):
    a, b = pair
    expected = skimage.color.deltaE_cie76(skimage.color.rgb2lab(a / 255), skimage.color.rgb2lab(b / 255)).mean()
    assert delta_e(tensor(a), tensor(b)) == pytest.approx(expected, rel=1e-3)


def test_error_inside_and_outside_the_true_mask(pair):
    target = pair[0].clip(10, 245)
    raw = target.copy()
    raw[10:20, 5:25, 1] += 4  # inside: four levels in one channel
    raw[30:40] += 3  # three levels are still outside
    mask = true_mask(tensor(raw), tensor(target))
    assert mask.sum() == 200 and mask[0, 0, 10:20, 5:25].all()
    figures = PROTOCOLS["png8"].measure(tensor(raw), tensor(raw), tensor(target))
    assert figures["psnr-rgb8-inside"] == pytest.approx(10 * math.log10(255**2 / (16 / 3)), abs=1e-3)
    outside = 61 * 10 * 9 / (47 * 61 - 200)
    assert figures["psnr-rgb8-outside"] == pytest.approx(10 * math.log10(255**2 / outside), abs=1e-3)
    assert figures["de76-inside"] > figures["de76-outside"] > 0
    better = raw.copy()
    better[10:20, 5:25] = target[10:20, 5:25]
    assert PROTOCOLS["png8"].measure(tensor(better), tensor(raw), tensor(target))["psnr-rgb8-inside"] == 100.0


def test_what_has_no_value_is_left_out(pair):
    image = tensor(pair[0])
    figures = PROTOCOLS["png8"].measure(image, image, image)
    assert "psnr-rgb8-inside" not in figures and "lpips-alex-v0.1" not in figures
    assert figures["psnr-rgb8"] == 100.0


def test_means_are_over_the_images_that_have_the_figure():
    images = [{"psnr-rgb8": 30.0, "psnr-rgb8-inside": 20.0}, {"psnr-rgb8": 50.0}]
    assert mean_metrics(images) == {"psnr-rgb8": 40.0, "psnr-rgb8-inside": 20.0}
    assert counts(images) == {"psnr-rgb8": 2, "psnr-rgb8-inside": 1}


def test_every_figure_has_a_protocol_that_says_what_was_compared(pair):
    figures = PROTOCOLS["png8"].measure(tensor(pair[0]), tensor(pair[0]), tensor(pair[1]))
    assert set(figures) <= set(METRICS)
    for name, protocol in METRICS.items():
        assert protocol.name == name
        for word in ("range", "colour", "quantisation", "window", "resolution", "average"):
            assert f"{word}: " in protocol.description
    assert METRICS["psnr-rgb8"].at(1024).name == "psnr-rgb8@1024"
    assert "1024" in METRICS["psnr-rgb8"].at(1024).description


@pytest.mark.parametrize("metric", [psnr, ssim, delta_e])
def test_shapes_that_do_not_fit_are_refused(metric):
    with pytest.raises(ValueError, match="differ in shape"):
        metric(torch.rand(3, 32, 32), torch.rand(3, 32, 33))
    with pytest.raises(ValueError, match="expected one image"):
        metric(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("metric", [quality.psnr, quality.ssim, quality.ssim_uniform, quality.true_mask])
def test_nan_is_refused_and_no_perfect_result(metric):
    sound, broken = (torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    broken[0, 3, 4] = float("nan")
    for images in ((broken, sound), (sound, broken)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            metric(*images)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.rand(3, 10, 40), torch.rand(3, 10, 40))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_lpips_without_weights_says_which_file_goes_where(cache):
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth") as error:
        LPIPS()
    assert str(cache) in str(error.value)


def test_lpips_refuses_a_file_that_only_has_the_name(cache):
    torch.save({"features.0.weight": torch.zeros(1)}, cache / quality.ALEXNET_FILE)
    with pytest.raises(ValueError, match="checksum"):
        LPIPS()
    other = cache / "other.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match=r"features\.0\.bias is missing"):
        LPIPS(other)
    other.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a file of weights"):
        LPIPS(other)


def test_lpips_uses_the_given_convolutions(tmp_path, monkeypatch):
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet(weights=None)
    file = tmp_path / "stand-in.pth"
    torch.save({name: value for name, value in alexnet.state_dict().items() if "features" in name}, file)
    distance = LPIPS(file)
    a, b = torch.rand(3, 64, 64), torch.rand(3, 64, 64)
    assert distance(a, a) == 0.0
    # the definition, with torchvision's own network: unit features, squared difference, linear weights, mean
    shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
    x, y = ((quality.quantise(image[None]) * 2 - 1 - shift) / scale for image in (a, b))
    expected, taken = 0.0, 0
    for place, layer in enumerate(alexnet.features):
        x, y = layer(x), layer(y)
        if place in (1, 4, 7, 9, 11):
            unit_x, unit_y = (value / (value.norm(dim=1, keepdim=True) + 1e-10) for value in (x, y))
            weights = distance.network.lins[taken].model[-1].weight
            expected += float((weights * (unit_x - unit_y).square()).sum(1).mean())
            taken += 1
    assert distance(a, b) == pytest.approx(expected, rel=1e-4)

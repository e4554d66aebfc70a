"""Each convention against scikit-image or a hand calculation."""

import math

import numpy as np
import pytest
import torch
from retouch_common.metrics.conventions import CONVENTIONS, float_psnr, uniform_ssim
from skimage.data import astronaut
from skimage.metrics import structural_similarity


@pytest.fixture(scope="module")
def pictures():
    target = torch.from_numpy(astronaut()[100:180, 150:240]).permute(2, 0, 1) / 255
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    return target + 0.03 * noise, target  # not clamped


def arrays(*images):
    return [image.permute(1, 2, 0).double().numpy() for image in images]


def test_the_groups_ssim_is_scikit_images(pictures):
    a, b = (2 * array - 1 for array in arrays(*pictures))
    expected = structural_similarity(a, b, data_range=2, channel_axis=-1)
    assert CONVENTIONS["bpfre-group"].ssim(*pictures) == pytest.approx(expected, abs=1e-9)
    # the borders that scikit-image leaves out of its mean are those that the windows do not fill
    assert uniform_ssim(*pictures) != pytest.approx(expected, abs=1e-4)


def test_wangs_ssim_is_scikit_images_with_his_options(pictures):
    a, b = (array.clip(0, 1) for array in arrays(*pictures))
    expected = structural_similarity(
        a, b, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert CONVENTIONS["wang"].ssim(*pictures) == pytest.approx(expected, abs=1e-6)


def test_png8_rounds_to_what_a_file_holds(pictures):
    a, b = (np.rint(array.clip(0, 1) * 255) / 255 for array in arrays(*pictures))
    assert CONVENTIONS["png8"].psnr(*pictures) == pytest.approx(-10 * math.log10(np.square(a - b).mean()), abs=1e-4)


def test_unclamped_psnr_by_hand():
    target = torch.full((3, 8, 8), 0.95)
    assert float_psnr(target + 0.1, target) == pytest.approx(20, abs=1e-5)
    assert CONVENTIONS["png8"].psnr(target + 0.1, target) > 25  # clamped at white
    assert float_psnr(target, target) == 100


def test_conventions_differ(pictures):
    values = [convention.measure(*pictures)["ssim"] for convention in CONVENTIONS.values()]
    assert len({round(value, 5) for value in values}) == 3

"""The Fréchet distance by hand, and FID's insistence on the real Inception. No Inception weights are at hand here:
the network's plumbing is tested with random ones, whose distance is never called FID."""

import importlib.util

import pytest
import torch
from retouch_common.metrics import distribution
from retouch_common.metrics.distribution import FID, FIDUnavailable, FrechetDistance
from torch import nn


class MeanColour(nn.Module):
    """Three features: the mean level of each channel."""

    num_features = 3

    def forward(self, image):
        return image.float().mean(dim=(2, 3))


def flat(*levels):
    return torch.tensor(levels).reshape(3, 1, 1).expand(3, 8, 8) / 255


def test_frechet_distance_by_hand():
    """Means 10 apart in one channel; variances 50 against 200 in another: 10² + (√50 − √200)²."""
    distance = FrechetDistance(MeanColour())
    for level in (95, 105):
        distance.add(flat(60, level, 30), real=True)
    for level in (90, 110):
        distance.add(flat(70, level, 30), real=False)
    assert distance.images == 2
    assert distance.value() == pytest.approx(100 + (50**0.5 - 200**0.5) ** 2, rel=1e-4)


def test_equal_sets_have_no_distance():
    distance = FrechetDistance(MeanColour())
    for level in (10, 90, 200):
        for real in (True, False):
            distance.add(flat(level, 2, 255 - level), real=real)
    assert distance.value() == pytest.approx(0, abs=1e-3)


def test_a_single_picture_has_no_covariance():
    distance = FrechetDistance(MeanColour())
    distance.add(flat(1, 2, 3), real=True)
    distance.add(flat(1, 2, 3), real=False)
    with pytest.raises(ValueError, match="at least two images"):
        distance.value()


@pytest.mark.parametrize("there", [True, False])
def test_without_the_real_weights_there_is_no_fid(tmp_path, monkeypatch, there):
    pytest.importorskip("torch_fidelity")
    file = tmp_path / distribution.INCEPTION_FILES[0]
    if there:
        torch.save({"fc.weight": torch.zeros(1)}, file)
    with pytest.raises(FIDUnavailable, match="SHA-256" if there else "no such file"):
        FID(file)


def test_without_torch_fidelity_there_is_no_fid(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FIDUnavailable, match="pip install"):
        FID(tmp_path / "any.pth")


def test_the_network_takes_a_files_weights(tmp_path, monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: pytest.fail("downloaded"))
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
    torch.save({}, tmp_path / "empty.pth")
    torch.manual_seed(0)
    distance = FrechetDistance(distribution._inception(tmp_path / "empty.pth"))
    for seed in range(4):
        image = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(seed))
        distance.add(image, real=seed < 2)
    assert distance.metric.real_features_sum.shape == (2048,)
    assert distance.images == 2

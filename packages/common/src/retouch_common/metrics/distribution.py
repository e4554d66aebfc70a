"""Fréchet distance between the Gaussians of the features of two sets of images.

It is FID only with the Inception network of 2015, the one all papers use.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

from retouch_common.files import sha256
from retouch_common.metrics.quality import LEVELS, check_pair, quantise

INCEPTION_FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FEW = 2048  # images: with fewer than features, the covariance is singular and the distance strongly biased


class FIDUnavailable(ValueError):
    """FID cannot be measured; the message says which file or package is missing."""


class FrechetDistance:
    """Fréchet distance between two sets of images, computed by torchmetrics.

    Args:
        features: Maps (N, 3, H, W) uint8 images to (N, D).
        device: Where to compute.
    """

    def __init__(self, features: nn.Module, *, device: str | torch.device = "cpu") -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self.device = torch.device(device)
        self.metric = FrechetInceptionDistance(feature=features, normalize=False).to(self.device)

    @torch.inference_mode()
    def add(self, image: torch.Tensor, *, real: bool) -> None:
        """Add a (3, H, W) image in [0, 1], rounded to 8 bits, to the real or the fake images."""
        check_pair(image, image)
        levels = (quantise(image) * LEVELS).round().to(self.device, torch.uint8)
        self.metric.update(levels[None], real=real)

    @property
    def images(self) -> int:
        """Number of images in the smaller set."""
        return int(min(self.metric.real_features_num_samples, self.metric.fake_features_num_samples))

    def value(self) -> float:
        """Return the distance; ValueError if one of the sets has fewer than two images."""
        if self.images < 2:
            raise ValueError(f"a Fréchet distance needs at least two images in each set, not {self.images}")
        return max(float(self.metric.compute()), 0.0)


class FID(FrechetDistance):
    """The Fréchet Inception distance (Heusel et al., 2017), 2048 features, torchmetrics on torch-fidelity's network.

    Args:
        weights: The network's weights: torch-fidelity's or pytorch-fid's file, which are the same.
        device: Where to compute.

    Raises:
        FIDUnavailable: torch-fidelity is not installed, or the file is missing or another one. Nothing is downloaded.
    """

    def __init__(self, weights: str | Path, *, device: str | torch.device = "cpu") -> None:
        if importlib.util.find_spec("torch_fidelity") is None:
            raise FIDUnavailable("FID needs torch-fidelity; install it with: pip install 'retouch-common[fid]'")
        path = Path(weights)
        if not path.is_file():
            raise FIDUnavailable(
                f"{path}: no such file; FID needs the weights of Inception, {' or '.join(INCEPTION_FILES)}, "
                "as torch-fidelity and pytorch-fid release them"
            )
        if sha256(path) != INCEPTION_SHA256:
            raise FIDUnavailable(
                f"{path}: not the weights of Inception, whose SHA-256 is {INCEPTION_SHA256}; with others the distance "
                "would not be FID"
            )
        super().__init__(_inception(path), device=device)

    def another(self) -> FID:
        """Return an empty metric that shares the network."""
        other = FID.__new__(FID)
        FrechetDistance.__init__(other, self.metric.inception, device=self.device)
        return other

    @property
    def description(self) -> str:
        """Implementation and number of images, to report beside the metric."""
        from importlib.metadata import version

        few = f"; strongly biased below {FEW} images" if self.images < FEW else ""
        return (
            f"FID: torchmetrics {version('torchmetrics')} with torch-fidelity {version('torch-fidelity')}, "
            f"Inception {INCEPTION_SHA256[:8]}, 2048 features, antialiased to 299 x 299, "
            f"{self.images} images a set{few}"
        )


def _inception(path: Path) -> nn.Module:
    """Load torch-fidelity's Inception with antialiasing; refuse what is not a plain dictionary of tensors."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity itself would unpickle anything
    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    network.num_features = 2048
    return network

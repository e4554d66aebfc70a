"""PatchGAN discriminator and the usual adversarial losses.

Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017: every logit of the
discriminator rates one patch of the image, 70 x 70 pixels with three strided layers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

Kind = Literal["bce", "hinge", "lsgan"]


class PatchDiscriminator(nn.Module):
    """PatchGAN: 4x4 convolutions, ``num_layers`` with stride 2 and two with stride 1, to logits.

    Args:
        in_channels: 3 for images, 6 for images with their condition.
        width: Channels of the first layer; they double up to 8 times that.
        num_layers: Strided layers; 3 gives 70 x 70 patches, 1 gives 16 x 16.
        norm: Normalisation of all layers but the first and the last.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        width: int = 64,
        num_layers: int = 3,
        norm: Literal["batch", "instance", "none"] = "batch",
    ):
        super().__init__()
        if norm not in ("batch", "instance", "none"):
            raise ValueError(f"norm '{norm}' is not one of batch, instance, none")
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        channels = width
        for layer in range(1, num_layers + 1):
            wider = width * min(2**layer, 8)
            stride = 2 if layer < num_layers else 1
            layers.append(nn.Conv2d(channels, wider, 4, stride, 1, bias=norm == "none"))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(wider))
            elif norm == "instance":
                layers.append(nn.InstanceNorm2d(wider))
            layers.append(nn.LeakyReLU(0.2))
            channels = wider
        layers.append(nn.Conv2d(channels, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 1, h, w), large for real patches, of images (N, C, H, W)."""
        return self.layers(image)


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor, *, kind: Kind) -> torch.Tensor:
    """Return the discriminator's loss, averaged over all patches.

    "bce": -log σ(real) - log(1 - σ(fake)); "hinge": max(0, 1 - real) + max(0, 1 + fake);
    "lsgan": ½ (real - 1)² + ½ fake².
    """
    real, fake = real_logits.float(), fake_logits.float()
    if kind == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "lsgan":
        return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()
    raise ValueError(f"adversarial loss '{kind}' is not one of bce, hinge, lsgan")


def generator_loss(fake_logits: torch.Tensor, *, kind: Kind) -> torch.Tensor:
    """Return the generator's loss, averaged over all patches.

    "bce": -log σ(fake), the non-saturating form; "hinge": -fake; "lsgan": ½ (fake - 1)².
    """
    fake = fake_logits.float()
    if kind == "bce":
        return F.softplus(-fake).mean()
    if kind == "hinge":
        return -fake.mean()
    if kind == "lsgan":
        return 0.5 * (fake - 1).square().mean()
    raise ValueError(f"adversarial loss '{kind}' is not one of bce, hinge, lsgan")


def _initialise(module: nn.Module) -> None:
    """Initialise weights from N(0, 0.02) and scales of normalisations from N(1, 0.02), as in the paper's code."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)

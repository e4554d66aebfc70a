"""Networks that people use for retouching and restoring portraits, with random weights, on which no time depends.

GFPGAN, RestoreFormer and CodeFormer are those of spandrel; the two others have no package.
"""

from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LPTN(nn.Module):
    """Laplacian pyramid translation network with the sizes of its paper.

    Liang, Zeng, Zhang. "High-Resolution Photorealistic Image Translation in Real-Time: A Laplacian Pyramid Translation
    Network." CVPR 2021: three levels, five residual blocks for the low band, three for the masks of the high bands.
    """

    def __init__(self, levels: int = 3, low_blocks: int = 5, high_blocks: int = 3, width: int = 64) -> None:
        super().__init__()
        self.levels = levels
        self.low = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.InstanceNorm2d(16), nn.LeakyReLU()),
            *(nn.Conv2d(16, width, 3, padding=1), nn.LeakyReLU()),
            *(_Residual(width) for _ in range(low_blocks)),
            *(nn.Conv2d(width, 16, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(16, 3, 3, padding=1)),
        )
        self.mask = nn.Sequential(
            *(nn.Conv2d(9, width, 3, padding=1), nn.LeakyReLU()),
            *(_Residual(width) for _ in range(high_blocks)),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        self.refine_mask = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, 16, 1), nn.LeakyReLU(), nn.Conv2d(16, 1, 1)) for _ in range(levels)
        )
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("kernel", torch.outer(taps, taps).repeat(3, 1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Translate images (N, 3, H, W), H and W multiples of 2^levels."""
        bands = []
        for _ in range(self.levels):
            small = self._blur(image)[..., ::2, ::2]
            bands.append(image - self._expand(small))
            image = small
        low = torch.tanh(image + self.low(image))
        enlarged = [F.interpolate(x, scale_factor=2.0) for x in (image, low)]
        mask = self.mask(torch.cat([bands[-1], *enlarged], dim=1))
        for level, (band, refine) in enumerate(zip(reversed(bands), self.refine_mask, strict=True)):
            mask = refine(F.interpolate(mask, scale_factor=2.0) if level else mask)
            low = self._expand(low) + band * mask
        return low

    def _blur(self, image: Tensor) -> Tensor:
        return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), self.kernel.to(image.dtype), groups=3)

    def _expand(self, image: Tensor) -> Tensor:
        sparse = image.new_zeros(*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3])
        sparse[..., ::2, ::2] = image
        return 4 * self._blur(sparse)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class UNet(nn.Module):
    """The U-Net with batch normalisation of ModelScope's skin retoucher: 64 to 512 filters, four halvings."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        outputs = (*widths[:-2], widths[0])  # of the steps up, finest first, but for the last
        self.up = nn.ModuleList(
            _twice(widths[i] + widths[i + 1 if i + 2 == len(widths) else i], outputs[max(i - 1, 0)])
            for i in reversed(range(len(widths) - 1))
        )
        self.head = nn.Conv2d(widths[0], 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Retouch images (N, 3, H, W), H and W multiples of 16."""
        skips: list[Tensor] = []
        x = image
        for index, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if index else x)
            skips.append(x)
        x = skips.pop()
        for block in self.up:
            larger = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = block(torch.cat([skips.pop(), larger], dim=1))
        return torch.sigmoid(self.head(x))


def _twice(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def gfpgan() -> nn.Module:
    """GFPGAN 1.3 and 1.4 (Wang et al., CVPR 2021)."""
    return import_module("spandrel.architectures.GFPGAN.__arch.gfpganv1_clean_arch").GFPGANv1Clean()


def restoreformer() -> nn.Module:
    """RestoreFormer (Wang et al., CVPR 2022)."""
    return import_module("spandrel.architectures.RestoreFormer.__arch.restoreformer_arch").RestoreFormer()


def codeformer() -> nn.Module:
    """CodeFormer (Zhou et al., NeurIPS 2022)."""
    return import_module("spandrel_extra_arches.architectures.CodeFormer.__arch.codeformer").CodeFormer()


FACE = 512
PEERS = {
    # name: constructor, whether it takes photographs of any size rather than aligned faces of 512 pixels
    "LPTN": (LPTN, True),
    "U-Net of ModelScope's size": (UNet, True),
    "GFPGAN": (gfpgan, False),
    "RestoreFormer": (restoreformer, False),
    "CodeFormer": (codeformer, False),
}

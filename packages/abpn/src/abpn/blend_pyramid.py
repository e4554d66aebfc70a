"""The adaptive blend pyramid layer (Lei et al., "ABPN", CVPR 2022, section 4.3, Eq. 5).

The thumbnail's blend layer is upsampled level by level. At each level a small refining module adds detail from the
upsampled layer and the high frequencies of the photograph.

Shapes: level i of an image of height h and width w is (N, 3, h / 2^i, w / 2^i).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abpn.config import PyramidKernel

Mean = Callable[[Tensor, int], Tensor]


def up(x: Tensor) -> Tensor:
    """Double height and width by bilinear interpolation (the ``up`` of Eq. 5)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def blur(image: Tensor, border: Literal["reflect", "replicate"] = "reflect") -> Tensor:
    """Smooth with the five-tap filter of Burt and Adelson's pyramid, (N, C, H, W)."""
    from kornia.filters import filter2d

    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=image.dtype, device=image.device) / 16
    return filter2d(image, torch.outer(taps, taps)[None], border_type=border)


def box_mean(image: Tensor, factor: int) -> Tensor:
    """Return the mean over factor x factor pixels of (1, C, H, W) in channels-last order.

    Four times as fast as ``avg_pool2d`` on images of few channels: rows are summed, then multiplied by a small matrix.
    """
    _, channels, height, width = image.shape
    rows = image.permute(0, 2, 3, 1).reshape(height // factor, factor, width * channels)
    summed = rows[:, 0].clone()
    for offset in range(1, factor):
        summed += rows[:, offset]
    mean = torch.eye(channels, device=image.device).repeat(factor, 1) / factor**2
    reduced = summed.view(-1, factor * channels) @ mean
    return reduced.view(1, height // factor, width // factor, channels).permute(0, 3, 1, 2)


def down(image: Tensor, kernel: PyramidKernel = "box", *, mean: Mean = F.avg_pool2d) -> Tensor:
    """Halve height and width, which must be even.

    Args:
        image: (N, C, H, W).
        kernel: "box" averages 2x2 pixels; "burt" smooths the image with :func:`blur` first.
        mean: Averages 2x2 pixels; :func:`box_mean` is faster for one image in channels-last order.
    """
    if kernel == "burt":
        # Reflection of two pixels needs sides of at least three.
        image = blur(image, "reflect" if min(image.shape[-2:]) > 2 else "replicate")
    return mean(image, 2)


def image_pyramid(
    image: Tensor, num_levels: int, kernel: PyramidKernel = "box", *, mean: Mean = F.avg_pool2d
) -> list[Tensor]:
    """Return P_I = [I_0, ..., I_l].

    Args:
        image: I_0, (N, C, H, W), height and width multiples of 2^l.
        num_levels: l.
        kernel: See :func:`down`.
        mean: See :func:`down`.

    Raises:
        ValueError: If a side is not a multiple of 2^l.
    """
    height, width = image.shape[-2:]
    step = 2**num_levels
    if height % step or width % step:
        raise ValueError(f"{height}x{width} pixels cannot be halved {num_levels} times; pad to multiples of {step}")
    images = [image]
    for _ in range(num_levels):
        images.append(down(images[-1], kernel, mean=mean))
    return images


class RefiningModule(nn.Module):
    """B_i = phi_2(h(phi_1(Cat(up(B_{i+1}), H_i)))) + up(B_{i+1}) (Eq. 5).

    phi_1 and phi_2 are 3x3 convolutions, h is a leaky ReLU of slope 0.2. phi_2 starts at zero, so that an untrained
    module is bilinear interpolation.

    Args:
        width: Filters of phi_1; 16 in the paper.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.phi_1 = nn.Conv2d(6, width, 3, padding=1)
        self.phi_2 = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.phi_2.weight)
        nn.init.zeros_(self.phi_2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Refine x = Cat(up(B_{i+1}), H_i), (N, 6, H, W), to B_i, (N, 3, H, W)."""
        dtype = self.phi_1.weight.dtype  # half precision if the convolutions were converted
        detail = F.leaky_relu(self.phi_1(x.to(dtype)), 0.2, inplace=True)
        return x[:, :3] + self.phi_2(detail)


class BlendPyramid(nn.Module):
    """The expansion of the blend layer from the thumbnail to the photograph.

    The paper does not say whether the levels have refining modules of their own. One shared module is used here:
    a photograph may then have any number of levels, more than in training too.

    Args:
        width: Filters of the refining module's first convolution.
        refine: False leaves the refining module out ("without RM" of Table 2): bilinear enlargement alone.
    """

    def __init__(self, width: int = 16, refine: bool = True) -> None:
        super().__init__()
        self.refining = RefiningModule(width) if refine else None

    def expand(self, B: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return B_i from B_{i+1}, I_i (``fine``) and I_{i+1} (``coarse``): one level of Eq. 5."""
        if self.refining is None:
            return up(B)
        x = up(torch.cat([B, coarse], dim=1))  # one interpolation of six channels is twice as fast as two of three
        x[:, 3:] = fine - x[:, 3:]  # H_i
        return self.refining(x)

    def forward(self, B: Tensor, images: Sequence[Tensor]) -> list[Tensor]:
        """Expand the blend layer level by level.

        Args:
            B: B_l, (N, 3, H / 2^l, W / 2^l).
            images: [I_0, ..., I_l].

        Returns:
            [B_0, ..., B_l].
        """
        blends = [B]
        for fine, coarse in zip(reversed(images[:-1]), reversed(images[1:]), strict=True):
            blends.append(self.expand(blends[-1], fine, coarse))
        return blends[::-1]

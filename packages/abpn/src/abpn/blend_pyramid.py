"""The adaptive blend pyramid layer (Lei et al., "ABPN", CVPR 2022, section 4.3, Eq. 5).

The blend layer found on the thumbnail is enlarged level by level. At each level a tiny refining module sees the
enlarged layer and the high frequencies of the photograph at that size, and adds what the thumbnail could not know.

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
    """Mean over factor x factor pixels; (1, C, H, W) in channels-last order.

    Sums of whole rows and a multiplication by a small matrix take a quarter of the time of ``avg_pool2d``, which is
    made for many channels.
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
        kernel: "box" takes the mean of 2x2 pixels, which makes a stripe of a photograph equal to the same
            stripe of the whole; "burt" smooths the image with :func:`blur` before.
        mean: Takes the means of 2x2 pixels, :func:`box_mean` for single images in channels-last order.
    """
    if kernel == "burt":
        # Reflection needs two pixels beyond the edge, which the smallest images do not have.
        image = blur(image, "reflect" if min(image.shape[-2:]) > 2 else "replicate")
    return mean(image, 2)


def image_pyramid(
    image: Tensor, num_levels: int, kernel: PyramidKernel = "box", *, mean: Mean = F.avg_pool2d
) -> list[Tensor]:
    """P_I = [I_0, ..., I_l].

    Args:
        image: I_0, (N, C, H, W), height and width multiples of 2^l.
        num_levels: l, the number of downsamplings.
        kernel: See :func:`down`.
        mean: See :func:`down`.

    Raises:
        ValueError: If a side is no multiple of 2^l.
    """
    step = 2**num_levels
    if image.shape[-2] % step or image.shape[-1] % step:
        raise ValueError(
            f"an image of {image.shape[-2]}x{image.shape[-1]} has no {num_levels} halvings; "
            f"pad it to multiples of {step}"
        )
    images = [image]
    for _ in range(num_levels):
        images.append(down(images[-1], kernel, mean=mean))
    return images


class RefiningModule(nn.Module):
    """B_i = phi_2(h(phi_1(Cat(up(B_{i+1}), H_i)))) + up(B_{i+1}) (Eq. 5).

    phi_1 and phi_2 are 3x3 convolutions with ``width`` and 3 filters, h is a leaky ReLU of slope 0.2. phi_2 starts
    at zero, so an untrained module is plain bilinear enlargement.

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
        dtype = self.phi_1.weight.dtype  # half precision where the caller converted the convolutions
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
        """One level of Eq. 5: from B_{i+1} and the images I_i (``fine``) and I_{i+1} (``coarse``) to B_i."""
        if self.refining is None:
            return up(B)
        x = up(torch.cat([B, coarse], dim=1))  # one interpolation of six channels, twice as fast as two of three
        x[:, 3:] = fine - x[:, 3:]  # H_i
        return self.refining(x)

    def forward(self, B: Tensor, images: Sequence[Tensor]) -> list[Tensor]:
        """Expand the blend layer through every level.

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

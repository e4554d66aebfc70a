"""The adaptive blend pyramid layer (Lei et al., "ABPN", CVPR 2022, section 4.3, Eq. 5).

The blend layer found on the thumbnail is enlarged level by level. At each level a tiny refining module sees the
enlarged layer and the high frequencies of the photograph at that size, and adds what the thumbnail could not know.

Shapes: level i of an image of height h and width w is (N, 3, h / 2^i, w / 2^i).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abpn.config import PyramidKernel


def up(x: Tensor) -> Tensor:
    """Double height and width by bilinear interpolation (the ``up`` of Eq. 5)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def down(image: Tensor, kernel: PyramidKernel = "box") -> Tensor:
    """Halve height and width, which must be even.

    Args:
        image: (N, C, H, W).
        kernel: "box" takes the mean of 2x2 pixels, which makes a stripe of a photograph equal to the same
            stripe of the whole; "burt" is the five-tap filter of Burt and Adelson's pyramid.
    """
    if kernel == "burt":
        from kornia.geometry.transform import pyrdown

        # Reflection needs two pixels beyond the edge, which the smallest images do not have.
        border = "reflect" if min(image.shape[-2:]) > 2 else "replicate"
        return pyrdown(image, border_type=border)
    return F.avg_pool2d(image, 2)


def image_pyramid(image: Tensor, num_levels: int, kernel: PyramidKernel = "box") -> list[Tensor]:
    """P_I = [I_0, ..., I_l].

    Args:
        image: I_0, (N, C, H, W), height and width multiples of 2^l.
        num_levels: l, the number of downsamplings.
        kernel: See :func:`down`.

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
        images.append(down(images[-1], kernel))
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

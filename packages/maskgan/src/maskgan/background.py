"""Section 3.1, background fusing: E_b encodes the target's background, G_b fuses it with the foreground.

Copying the background instead "causes noticeable boundary artifacts": it contains the neck, and the hair's mask is
never perfect. Settings 1 and 2 of section 4.1 do so (:class:`Pasting`).

Shapes: images (N, 3, S, S) in [-1, 1]; the foreground (N, C, S / fold, S / fold); the background's mask (N, 1, S, S),
1 where the label is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgan.config import Norm
from maskgan.layers import ToImage, convolution, outer_kernel, res_blocks


class BackgroundFusion(nn.Module):
    """E_b and G_b.

    Args:
        width: Channels of G_m's output and of E_b's features.
        fold: Side of the pixel blocks folded into channels.
        num_blocks: Residual blocks of G_b.
        norm: Normalisation of G_b.
        as_image: Bring the foreground to RGB before fusing, as in the paper's text; the official code fuses features.
        residual: Add G_b's output to the target's background.
    """

    def __init__(self, width: int, fold: int, *, num_blocks: int, norm: Norm, as_image: bool, residual: bool) -> None:
        super().__init__()
        self.fold, self.residual = fold, residual
        kernel = outer_kernel(fold)
        self.E_b = nn.Conv2d(3 * fold**2, width, kernel, padding=kernel // 2)
        self.to_picture = ToImage(width, kernel, fold) if as_image else None
        foreground = 3 * fold**2 if as_image else width
        self.G_b = nn.Sequential(
            convolution(width + foreground, width, 1, norm),
            *res_blocks(width, num_blocks, norm),
            ToImage(width, kernel, fold),
        )

    def forward(self, foreground: Tensor, target: Tensor, background: Tensor) -> Tensor:
        """Fuse G_m's output with the background of the target x^t; return (N, 3, S, S)."""
        if self.to_picture is not None:
            foreground = F.pixel_unshuffle(self.to_picture(foreground), self.fold)
        behind = self.E_b(F.pixel_unshuffle(target * background, self.fold))
        behind = behind * F.avg_pool2d(background, self.fold)
        result = self.G_b(torch.cat([behind, foreground], dim=1))
        if self.residual:
            # Paper: G_b generates all pixels.
            # Here: it need not learn to copy.
            result = (target * background + result).clamp(-1, 1)
        return result


class Pasting(nn.Module):
    """The foreground as an image, pasted over the target: settings 1 and 2.

    Args:
        width: Channels of G_m's output.
        fold: Side of the pixel blocks folded into channels.
    """

    def __init__(self, width: int, fold: int) -> None:
        super().__init__()
        self.to_picture = ToImage(width, outer_kernel(fold), fold)

    def forward(self, foreground: Tensor, target: Tensor, background: Tensor) -> Tensor:
        """See :meth:`BackgroundFusion.forward`."""
        return torch.where(background > 0.5, target, self.to_picture(foreground))

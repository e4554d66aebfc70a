"""Section 3.1, background fusing: E_b reads the target's background, G_b makes one picture of it and the foreground.

Copying the background instead "causes noticeable boundary artifacts": the neck belongs to it, and the hair's mask is
never perfect. Settings 1 and 2 of section 4.1 do so (:class:`Pasting`).

Shapes: pictures (N, 3, S, S) in [-1, 1]; the foreground (N, C, S / fold, S / fold); the background's mask
(N, 1, S, S), 1 where the label is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgan.config import ModelConfig
from maskgan.layers import ToPicture, blocks, convolution, outer_kernel


class BackgroundFusion(nn.Module):
    """E_b and G_b.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fold, self.residual = config.fold, config.background_residual
        width, kernel = config.foreground_width, outer_kernel(config.fold)
        self.E_b = nn.Conv2d(3 * config.fold**2, width, kernel, padding=kernel // 2)
        # The paper's text hands a foreground picture over, the official code G_m's features.
        self.to_picture = ToPicture(width, kernel, config.fold) if config.foreground == "picture" else None
        foreground = width if self.to_picture is None else 3 * config.fold**2
        self.G_b = nn.Sequential(
            convolution(width + foreground, width, 1, config.norm),
            *blocks(width, config.background_blocks, config.norm),
            ToPicture(width, kernel, config.fold),
        )

    def forward(self, foreground: Tensor, target: Tensor, background: Tensor) -> Tensor:
        """The result, (N, 3, S, S).

        Args:
            foreground: G_m's.
            target: x^t.
            background: Its mask.
        """
        if self.to_picture is not None:
            foreground = F.pixel_unshuffle(self.to_picture(foreground), self.fold)
        behind = self.E_b(F.pixel_unshuffle(target * background, self.fold))
        behind = behind * F.avg_pool2d(background, self.fold)
        result = self.G_b(torch.cat([behind, foreground], dim=1))
        if self.residual:
            # Paper: G_b makes all pixels.
            # Here: what it need not change it need not learn to copy.
            result = (target * background + result).clamp(-1, 1)
        return result


class Pasting(nn.Module):
    """The foreground as a picture, and the target's own pixels around it: settings 1 and 2.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.to_picture = ToPicture(config.foreground_width, outer_kernel(config.fold), config.fold)

    def forward(self, foreground: Tensor, target: Tensor, background: Tensor) -> Tensor:
        """As :meth:`BackgroundFusion.forward`."""
        return torch.where(background > 0.5, target, self.to_picture(foreground))

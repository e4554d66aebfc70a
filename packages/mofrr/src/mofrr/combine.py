"""Section 3.2, the Combine Module: the final picture from X and the experts' pictures, Eq. 2.

A U-Net over fixed slots: X, the shared expert's change of it, and for every operation its expert's change and a map of
how much it counts, its share. The slot of an inactive expert is 0. What the U-Net answers, 0 at the start, is added to
X, or to X and the changes of all active experts, each as much as it counts: then a face with one operation begins as
well as its expert makes it. A slot's first convolution is a module of its own: with a new operation, the others'
weights stay as they are.

Shapes: (N, 3, H, W) in [-1, 1], sides any; shares (N, operations) from 0 to 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.config import ModelConfig
from mofrr.denoiser import group_norm, zero


class Combine(nn.Module):
    """The Combine Module.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.multiple = 2**config.combine_depth
        self.width = config.combine_channels
        self.adds_changes = config.combine_base == "experts"
        widths = [config.combine_channels * min(2**level, 16) for level in range(config.combine_depth + 1)]
        self.picture = nn.Conv2d(3, self.width, 3, padding=1)
        self.shared = nn.Conv2d(3, self.width, 3, padding=1, bias=False) if config.shared else None
        self.slots = nn.ModuleDict({name: self._slot() for name in config.operations})
        self.down = nn.ModuleList(_DoubleConv(a, b) for a, b in zip([self.width, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            _DoubleConv(a + b, b) for a, b in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.last = zero(nn.Conv2d(widths[0], 3, 3, padding=1))

    def _slot(self) -> nn.Conv2d:
        return nn.Conv2d(4, self.width, 3, padding=1, bias=False)

    def add_slot(self, name: str) -> None:
        """A slot for a new operation; it starts at 0, so that nothing changes before it is trained."""
        self.slots[name] = zero(self._slot())

    def forward(self, X: Tensor, shared: Tensor | None, experts: dict[str, Tensor], shares: Tensor) -> Tensor:
        """Y^, (N, 3, H, W), unclamped.

        Args:
            X: Retouched.
            shared: Y^_se; None for a network without the shared expert.
            experts: Y^_M by operation, any value where the share is 0; an operation may be left out where all are.
            shares: Columns in the order of the slots.
        """
        height, width = X.shape[-2:]
        f, base = self.picture(X), X
        if self.shared is not None and shared is not None:
            f = f + self.shared(shared - X)
        for column, (name, slot) in enumerate(self.slots.items()):
            if name in experts:
                share = shares[:, column].view(-1, 1, 1, 1).to(X)
                change = torch.where(share > 0, share * (experts[name] - X), torch.zeros_like(X))
                f = f + slot(torch.cat([change, share.expand(-1, 1, height, width)], dim=1))
                if self.adds_changes:
                    base = base + change
        f = F.pad(f, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        skips = []
        for level, part in enumerate(self.down):
            f = part(F.avg_pool2d(f, 2) if level else f)
            skips.append(f)
        skips.pop()
        for part in self.up:
            f = part(torch.cat([F.interpolate(f, scale_factor=2.0, mode="bilinear"), skips.pop()], dim=1))
        return base + self.last(f)[..., :height, :width].float()


class _DoubleConv(nn.Sequential):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
        )

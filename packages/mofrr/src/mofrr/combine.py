"""Section 3.2, the Combine Module: the final image from X and the experts' images, Eq. 2.

A U-Net over fixed slots: X, the shared expert's change of it, and for each operation its expert's change and a map of
its share. The slot of an inactive expert is 0. The output, 0 at the start, is added to X, or to X and the changes of
all active experts times their shares: a face with one operation then starts at what its expert achieves. Each slot has
its own first convolution, so that adding an operation keeps the weights of the others.

Shapes: (N, 3, H, W) in [-1, 1], sides any; shares (N, operations) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.config import ModelConfig
from mofrr.denoiser import group_norm, zero


class Combine(nn.Module):
    """The Combine Module.

    Args:
        operations: Names of the slots.
        channels: Channels at the finest resolution.
        depth: Number of downsamplings.
        shared: Whether there is a slot of the shared expert.
        add_changes: Add the output to X and the experts' changes instead of X.
    """

    def __init__(
        self, operations: Sequence[str], *, channels: int, depth: int, shared: bool, add_changes: bool
    ) -> None:
        super().__init__()
        self.multiple, self.width, self.add_changes = 2**depth, channels, add_changes
        widths = [channels * min(2**level, 16) for level in range(depth + 1)]
        self.picture = nn.Conv2d(3, channels, 3, padding=1)
        self.shared = nn.Conv2d(3, channels, 3, padding=1, bias=False) if shared else None
        self.slots = nn.ModuleDict({name: self._slot() for name in operations})
        self.down = nn.ModuleList(_DoubleConv(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            _DoubleConv(a + b, b) for a, b in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.last = zero(nn.Conv2d(channels, 3, 3, padding=1))

    @classmethod
    def from_config(cls, config: ModelConfig) -> Combine:
        """Return the untrained Combine Module of a model configuration."""
        return cls(
            config.operations,
            channels=config.combine_channels,
            depth=config.combine_depth,
            shared=config.shared,
            add_changes=config.combine_base == "experts",
        )

    def _slot(self) -> nn.Conv2d:
        return nn.Conv2d(4, self.width, 3, padding=1, bias=False)

    def add_slot(self, name: str) -> None:
        """Add a slot of a new operation; it starts at 0 and changes nothing before it is trained."""
        self.slots[name] = zero(self._slot())

    def forward(self, X: Tensor, shared: Tensor | None, experts: dict[str, Tensor], shares: Tensor) -> Tensor:
        """Return Y^, (N, 3, H, W), unclamped.

        Args:
            X: Retouched.
            shared: Y^_se; None without the shared expert.
            experts: Y^_M by operation, any value where the share is 0; operations that are inactive on all faces may
                be missing.
            shares: Columns in the order of the slots; gates (bool) are shares of 0 and 1.
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
                if self.add_changes:
                    base = base + change
        f = F.pad(f, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        skips = []
        for level, block in enumerate(self.down):
            f = block(F.avg_pool2d(f, 2) if level else f)
            skips.append(f)
        skips.pop()
        for block in self.up:
            f = block(torch.cat([F.interpolate(f, scale_factor=2.0, mode="bilinear"), skips.pop()], dim=1))
        return base + self.last(f)[..., :height, :width].float()


class _DoubleConv(nn.Sequential):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
        )

"""The noise predictor: a U-Net that knows the time (Ho, Jain, Abbeel, NeurIPS 2020; attention as scaled dot products).

Shapes: x (N, C_in, H, W) with sides that are multiples of 2^(resolutions - 1); t (N,) integers; the answer (N, C_out,
H, W).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Denoiser(nn.Module):
    """The U-Net.

    Args:
        channels_in: C_in, of the noisy picture and its conditions together.
        channels_out: C_out.
        channels: Channels at the finest resolution.
        multipliers: Of ``channels`` at every resolution, finest first.
        blocks: Residual blocks at each resolution.
        attention_levels: Resolutions, counted from 0, whose blocks attend; the middle always does.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention_levels: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.channels = channels
        time = 4 * channels
        self.time = nn.Sequential(nn.Linear(channels, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        widths = [channels * m for m in multipliers]

        self.down = nn.ModuleList()
        skips = [channels]
        width = channels
        for level, wanted in enumerate(widths):
            for _ in range(blocks):
                self.down.append(_Block(width, wanted, time, attends=level in attention_levels))
                width = wanted
                skips.append(width)
            if level < len(widths) - 1:
                self.down.append(_Halve(width))
                skips.append(width)
        self.middle = nn.ModuleList([_Block(width, width, time, attends=True), _Block(width, width, time)])
        self.up = nn.ModuleList()
        for level, wanted in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(_Block(width + skips.pop(), wanted, time, attends=level in attention_levels))
                width = wanted
            if level:
                self.up.append(_Double(width))
        self.last = nn.Sequential(group_norm(width), nn.SiLU(), zero(nn.Conv2d(width, channels_out, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The answer at time t."""
        e = self.time(sinusoids(t, self.channels))
        x = self.first(x)
        skips = [x]
        for part in self.down:
            x = part(x, e)
            skips.append(x)
        for part in self.middle:
            x = part(x, e)
        for part in self.up:
            x = part(x if isinstance(part, _Double) else torch.cat([x, skips.pop()], dim=1), e)
        return self.last(x)


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of times or places t at geometrically spaced frequencies, (N, width); width even."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in up to 32 groups of at least 4 channels."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if g == 1 or (channels % g == 0 and channels >= 4 * g))
    return nn.GroupNorm(groups, channels)


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a layer at 0, so that what it adds to starts unchanged."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _Block(nn.Module):
    """Two convolutions with the time between them, a shortcut, and attention over pixels if wanted."""

    def __init__(self, channels_in: int, channels: int, time: int, *, attends: bool = False) -> None:
        super().__init__()
        self.before = nn.Sequential(group_norm(channels_in), nn.SiLU(), nn.Conv2d(channels_in, channels, 3, padding=1))
        self.time = nn.Linear(time, 2 * channels)
        self.norm = group_norm(channels)
        self.after = nn.Sequential(nn.SiLU(), zero(nn.Conv2d(channels, channels, 3, padding=1)))
        self.shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        self.attention = _SelfAttention(channels) if attends else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.time(F.silu(e))[:, :, None, None].chunk(2, dim=1)
        y = self.norm(self.before(x)) * (1 + scale) + shift
        return self.attention(self.shortcut(x) + self.after(y))


class _SelfAttention(nn.Module):
    """Every pixel attends to every other; one head per 64 channels. The attention map is never stored."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 64)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(-1, -2).reshape(n, c, h, w))


class _Halve(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(x)


class _Double(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

"""The noise predictor: a time-conditioned U-Net (Ho, Jain, Abbeel, NeurIPS 2020).

The time embedding scales and shifts the features, as in Nichol, Dhariwal, "Improved DDPM", ICML 2021.

Shapes: x (N, C_in, H, W), sides multiples of 2^(resolutions - 1); t (N,) integers; output (N, C_out, H, W).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Denoiser(nn.Module):
    """Time-conditioned U-Net.

    Args:
        in_channels: C_in, of the noisy image and its conditions.
        out_channels: C_out.
        channels: Channels at the finest resolution.
        multipliers: Multiples of ``channels`` at each resolution, finest first.
        blocks: Residual blocks at each resolution.
        attention_levels: Indices of the resolutions with self-attention; the bottleneck always has it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
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
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        widths = [channels * m for m in multipliers]

        self.down = nn.ModuleList()
        skips = [channels]
        width = channels
        for level, level_channels in enumerate(widths):
            for _ in range(blocks):
                self.down.append(_Block(width, level_channels, time, attention=level in attention_levels))
                width = level_channels
                skips.append(width)
            if level < len(widths) - 1:
                self.down.append(_Downsample(width))
                skips.append(width)
        self.middle = nn.ModuleList([_Block(width, width, time, attention=True), _Block(width, width, time)])
        self.up = nn.ModuleList()
        for level, level_channels in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(_Block(width + skips.pop(), level_channels, time, attention=level in attention_levels))
                width = level_channels
            if level:
                self.up.append(_Upsample(width))
        self.last = nn.Sequential(group_norm(width), nn.SiLU(), zero(nn.Conv2d(width, out_channels, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the prediction at time t."""
        e = self.time(sinusoids(t, self.channels))
        x = self.first(x)
        skips = [x]
        for layer in self.down:
            x = layer(x, e)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, e)
        for layer in self.up:
            x = layer(x if isinstance(layer, _Upsample) else torch.cat([x, skips.pop()], dim=1), e)
        return self.last(x)


def sinusoids(t: Tensor, width: int) -> Tensor:
    """Return sinusoidal encodings of timesteps or positions t, (N, width); ``width`` is even."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with up to 32 groups of at least 4 channels."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if g == 1 or (channels % g == 0 and channels >= 4 * g))
    return nn.GroupNorm(groups, channels)


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Initialise a layer with zeros, so that its residual branch starts as the identity. Modified in place."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _Block(nn.Module):
    """Residual block with scale and shift by the time embedding, and optional self-attention."""

    def __init__(self, in_channels: int, channels: int, time: int, *, attention: bool = False) -> None:
        super().__init__()
        self.before = nn.Sequential(group_norm(in_channels), nn.SiLU(), nn.Conv2d(in_channels, channels, 3, padding=1))
        self.time = nn.Linear(time, 2 * channels)
        self.norm = group_norm(channels)
        self.after = nn.Sequential(nn.SiLU(), zero(nn.Conv2d(channels, channels, 3, padding=1)))
        self.shortcut = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else nn.Identity()
        self.attention = _SelfAttention(channels) if attention else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.time(F.silu(e))[:, :, None, None].chunk(2, dim=1)
        y = self.norm(self.before(x)) * (1 + scale) + shift
        return self.attention(self.shortcut(x) + self.after(y))


class _SelfAttention(nn.Module):
    """Self-attention over pixels, with heads of 64 channels or, where these do not divide, more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in range(max(1, channels // 64), 0, -1) if channels % heads == 0)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(attended.transpose(-1, -2).reshape(n, c, h, w))


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(x)


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

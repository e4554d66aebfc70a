"""The context-aware local retouching layer (Lei et al., "ABPN", CVPR 2022, section 4.2, Fig. 3 and 4).

One encoder serves two branches. The mask prediction branch (MPB) predicts where to retouch; the local retouching branch
(LRB) retouches, guided by that mask in each of its local attentive modules (LAM).

Shapes: the thumbnail I_l is (N, 3, h, w) with h and w multiples of 64; F_i is (N, c_i, h / 2^i, w / 2^i), F_0 is
I_l itself; the mask M is (N, 1, h / 4, w / 4). ``widths`` are c_1 ... c_6, and c_0 is 3.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from retouch_common.layers.gated import GatedConv2d, gate
from retouch_common.ranges import to_signed
from torch import Tensor, nn

from abpn.blend_pyramid import up
from abpn.config import Attention


def conv_block(in_channels: int, out_channels: int, *, stride: int = 1, leak: float = 0.0) -> nn.Sequential:
    """3x3 convolution, batch normalisation and (leaky) ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(leak) if leak else nn.ReLU(),
    )


class MutualEncoder(nn.Module):
    """Six convolution blocks of stride 2, whose outputs are the pyramid P_F."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        channels = [3, *widths]
        self.blocks = nn.ModuleList(conv_block(c_in, c_out, stride=2) for c_in, c_out in itertools.pairwise(channels))

    def forward(self, thumbnail: Tensor) -> list[Tensor]:
        """Return [F_0, ..., F_6]."""
        # Paper: "F_skip0 = I_0". Here: 2 I_l - 1, the encoder's input, since I_0 has another size unless l = 0.
        features = [thumbnail]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features


class MaskPredictionBranch(nn.Module):
    """Four convolution blocks with skip connections from F_6 up to a quarter of the thumbnail, and a 1x1 head."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        c = [3, *widths]
        self.blocks = nn.ModuleList(conv_block(c[i + 1] + c[i], c[i], leak=0.2) for i in (5, 4, 3, 2))
        self.head = nn.Conv2d(c[2], 1, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map [F_0, ..., F_6] to the mask's logits, (N, 1, h / 4, w / 4)."""
        x = features[6]
        for block, skip in zip(self.blocks, (features[5], features[4], features[3], features[2]), strict=True):
            x = block(torch.cat([up(x), skip], dim=1))
        return self.head(x)


class LocalAttentiveModule(GatedConv2d):
    """LAM (Fig. 4): a gated convolution that selects between new features and the encoder's.

    out = h(conv(x)) * g + h(conv_skip(F_skip)) * (1 - g) with x = Cat(F, F_skip, M) and g = sigmoid(gate(x)).

    Paper: a figure and no formula. Here: that of an unused block in the authors' ModelScope code (``GatedConvBNActiv2``
    of skin_retouching), which fits the figure, but with a batch normalisation for each path instead of a shared one.

    Args:
        in_channels: Channels of the features F from the level below.
        skip_channels: Channels of the encoder's features F_skip.
        out_channels: Channels of the output.
        last: Omit normalisation and activation, since the output is an image.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, last: bool = False) -> None:
        super().__init__(in_channels + skip_channels + 1, out_channels, 3, padding=1, bias=last)
        self.conv_skip = nn.Conv2d(skip_channels, out_channels, 3, padding=1, bias=last)
        self.norm, self.norm_skip, self.activation = _output_stage(out_channels, last)

    def forward(self, x: Tensor, skip: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Combine features x, skip features and soft mask, all (N, ., h, w) of one size."""
        x = torch.cat([x, skip, mask], dim=1)
        new, logits = self.convolve(x)
        kept = self.activation(self.norm_skip(self.conv_skip(skip)))
        return gate(self.activation(self.norm(new)), logits, kept)

    def zero_output(self) -> None:
        """Set all parameters to 0, and so the output."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class ProbabilisticContextBlock(nn.Module):
    """PCB, Table 2's alternative to LAM (Wang et al., "VCNet", ECCV 2020, section 3.2).

    out = h(conv_1x1(x) + PCN(conv(h(conv(x))), M)) with x = Cat(F, F_skip) and an ELU h, as in VCNet's code.

    Paper: "we replace LAM with PCB proposed in VCNet". Here: its input includes F_skip, as LAM's does, although VCNet
    has no skip connections. The last block, whose output is an image, has neither PCN nor activation, as VCNet's last
    convolution. Arguments as of :class:`LocalAttentiveModule`.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, last: bool = False) -> None:
        super().__init__()
        channels = in_channels + skip_channels
        self.conv_1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out_channels, 1)
        self.norm = None if last else ProbabilisticContextNorm(out_channels)

    def forward(self, x: Tensor, skip: Tensor, mask: Tensor) -> Tensor:
        """Combine features x and skip features, given the soft mask, all (N, ., h, w) of one size."""
        x = torch.cat([x, skip], dim=1)
        residual = self.conv_2(F.elu(self.conv_1(x)))
        if self.norm is None:
            return self.shortcut(x) + residual
        return F.elu(self.shortcut(x) + self.norm(residual, mask))

    def zero_output(self) -> None:
        """Set the parameters that make the output 0 to 0, and no others, so that all of them are trained."""
        for layer in (self.conv_2, self.shortcut):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)


class ProbabilisticContextNorm(nn.Module):
    """PCN of VCNet: move the statistics of what the mask covers to those of its surroundings.

    PCN(X, M) = (beta T(X, M) + (1 - beta) X) M + X (1 - M), where T = (X - mu_M) / sigma_M * sigma_V + mu_V has the
    channel-wise mean and standard deviation weighted by V = 1 - M instead of by M, and beta, one number per channel, is
    predicted by squeeze-and-excitation.
    """

    def __init__(self, channels: int, *, squeeze: int = 8, eps: float = 1e-5) -> None:
        super().__init__()
        hidden = max(4, channels // squeeze)
        # VCNet: ReLU. Here: leaky, so that none of the few hidden units can die.
        self.beta = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LeakyReLU(0.2), nn.Conv2d(hidden, channels, 1))
        self.eps = eps

    def forward(self, X: Tensor, mask: Tensor) -> Tensor:
        """Normalise features (N, C, h, w) inside a soft mask (N, 1, h, w)."""
        beta = torch.sigmoid(self.beta(X.mean(dim=(2, 3), keepdim=True)))
        inside, outside = self._moments(X, mask), self._moments(X, 1 - mask)
        transferred = (X - inside[0]) / inside[1] * outside[1] + outside[0]
        return X + mask * beta * (transferred - X).to(X.dtype)

    def _moments(self, X: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and standard deviation of every channel in fp32, (N, C, 1, 1)."""
        X, weight = X.float(), weight.float()  # sums of many pixels
        total = weight.sum(dim=(2, 3), keepdim=True) + self.eps
        mean = (weight * X).sum(dim=(2, 3), keepdim=True) / total
        variance = (weight * (X - mean).square()).sum(dim=(2, 3), keepdim=True) / total
        return mean, (variance + self.eps).sqrt()


def _output_stage(channels: int, last: bool) -> tuple[nn.Module, nn.Module, nn.Module]:
    if last:
        return nn.Identity(), nn.Identity(), nn.Identity()
    return nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)


class LocalRetouchingBranch(nn.Module):
    """Six LAMs from F_6 up to the size of the thumbnail, the last of which outputs an image.

    Args:
        widths: c_1 ... c_6.
        attention: "lam", or "pcb" for Table 2's ablation.
    """

    def __init__(self, widths: Sequence[int], attention: Attention = "lam") -> None:
        super().__init__()
        c = [3, *widths]
        module = LocalAttentiveModule if attention == "lam" else ProbabilisticContextBlock
        self.modules_up = nn.ModuleList(module(c[i + 1], c[i], c[i], last=i == 0) for i in (5, 4, 3, 2, 1, 0))

    def forward(self, features: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Map [F_0, ..., F_6] and M to an image of the thumbnail's size."""
        x = features[6]
        if x.is_contiguous(memory_format=torch.channels_last):
            # A tensor of one channel counts as channels-first and makes each torch.cat below copy to channels-first and
            # back, a tenth of a training step. The clone gets channels-last strides.
            mask = mask.clone(memory_format=torch.channels_last)
        masks = _mask_pyramid(mask)
        for level, module in zip((5, 4, 3, 2, 1, 0), self.modules_up, strict=True):
            x = module(up(x), features[level], masks[level])
        return x


def _mask_pyramid(mask: Tensor) -> list[Tensor]:
    """Resize M, which has the size of level 2, to levels 0 ... 5."""
    masks = [up(up(mask)), up(mask), mask]
    for _ in range(3):
        masks.append(F.avg_pool2d(masks[-1], 2))
    return masks


class LocalRetouchingLayer(nn.Module):
    """LRL: maps I_l to the retouched thumbnail R_l and the mask's logits.

    Args:
        widths: c_1 ... c_6.
        mask_branch: False omits MPB ("without MPB" of Table 2); the LAMs then get a mask of ones.
        attention: "lam" or "pcb".
        residual: Predict R_l - I_l, 0 at the start, instead of R_l as in the paper.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        mask_branch: bool = True,
        attention: Attention = "lam",
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = MutualEncoder(widths)
        self.mask_branch = MaskPredictionBranch(widths) if mask_branch else None
        self.retouching_branch = LocalRetouchingBranch(widths, attention)
        self.residual = residual
        if residual:
            self.retouching_branch.modules_up[-1].zero_output()  # type: ignore[operator]

    def forward(self, thumbnail: Tensor) -> tuple[Tensor, Tensor | None]:
        """Retouch I_l.

        Args:
            thumbnail: I_l, (N, 3, h, w) in [0, 1], h and w multiples of 64.

        Returns:
            R_l, (N, 3, h, w), unclamped, and the logits of M, (N, 1, h / 4, w / 4), or None without MPB.
        """
        # Paper: input range not stated. Here: [-1, 1] inside the layer.
        dtype = next(self.encoder.parameters()).dtype  # half precision if the convolutions were converted
        features = self.encoder(to_signed(thumbnail).to(dtype))
        if self.mask_branch is not None:
            logits = self.mask_branch(features)
            mask = torch.sigmoid(logits)
        else:
            # Paper: what the LAMs get without MPB is not stated. Here: a mask of ones.
            logits, mask = None, torch.ones_like(features[2][:, :1])
        retouched = self.retouching_branch(features, mask).to(thumbnail.dtype)
        return thumbnail + retouched if self.residual else retouched, logits

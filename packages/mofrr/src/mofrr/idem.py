"""Section 3.3, IDEM: the condition of the noise predictor, Eq. 3-5, by multi-scale channel attention (MCA).

Dai, Gieseke, Oehmcke, Wu, Barnard. "Attentional Feature Fusion." WACV 2021, for MCA.

Paper: the pixels themselves are mixed. R^ is then an elementwise convex combination of z, x_LL and y_t, and cannot be
the residual y_LL - x_LL, which is near 0 where all three are not. Here (``idem_width`` > 0): each is lifted to
channels, and the mixture is projected to the residual.

Shapes: x_LL and y_t (N, 3, h, w) in [-1, 1] nominally; z (N,) in [0, 1].
"""

import torch
from torch import Tensor, nn

from mofrr.denoiser import group_norm, zero


class MCA(nn.Module):
    """Multi-scale channel attention: sigmoid(local(x) + global(x)), (N, C, h, w) in [0, 1].

    Dai et al. use batch normalisation after both convolutions, which pooled features of a single image do not allow;
    here group normalisation after the first.

    Paper: whether Eq. 3 and 4 share one is not stated. Here: one for each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = self._branch(channels)
        self.glob = self._branch(channels)

    @staticmethod
    def _branch(channels: int) -> nn.Sequential:
        hidden = max(4, channels // 4)
        return nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.GroupNorm(1, hidden), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the weight of every value."""
        return torch.sigmoid(self.local(x) + self.glob(x.mean(dim=(2, 3), keepdim=True)))


class IDEM(nn.Module):
    """Eq. 3-5.

    Args:
        width: Channels to which the inputs are lifted; 0 mixes pixels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lifts = bool(width)
        if width:
            self.lift_x = nn.Conv2d(3, width, 3, padding=1)
            self.lift_y = nn.Conv2d(3, width, 3, padding=1)
            self.lift_z = nn.Conv2d(1, width, 1)
            self.project = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                group_norm(width),
                nn.SiLU(),
                zero(nn.Conv2d(width, 3, 3, padding=1)),
            )
        self.mca_first, self.mca_second = MCA(width or 3), MCA(width or 3)

    def forward(self, x_LL: Tensor, y_t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x~ = (x_LL, R^), (N, 6, h, w), and R^, (N, 3, h, w)."""
        x, y, z = x_LL, y_t, z.view(-1, 1, 1, 1).to(x_LL)
        if self.lifts:
            x, y, z = self.lift_x(x), self.lift_y(y), self.lift_z(z)
        m = self.mca_first(z + x)
        f = m * x + (1 - m) * z  # Eq. 3
        m = self.mca_second(f + y)
        r = m * y + (1 - m) * f  # Eq. 4
        if self.lifts:
            r = self.project(r)
        return torch.cat([x_LL, r], dim=1), r  # Eq. 5

"""The adaptive blend module and its reverse (Lei et al., "ABPN", CVPR 2022, section 4.3, Eq. 1-4).

The adaptive blend module (ABM) applies a *blend layer* B to an image I with a learned quadratic blend mode. The blend
is linear in B, so the reverse module (R-ABM) recovers the layer from an image and its retouched version. The layer is
smooth and sparse, so it can be upsampled cheaply and applied to a larger version of the photograph.

Shapes: I, B, R are (N, 3, H, W); images range over [0, 1], blend layers are unbounded.
"""

import torch
from torch import Tensor, nn

from abpn.config import BlendMode

MIN_SLOPE = 0.1  # lower bound of D(I) in the neutral blend, so that Eq. 4 never divides by 0

# Table 2's fixed modes as special cases of Eq. 3: (j_0, j_1, j_2), (k_0, k_1, k_2).
_COEFFICIENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "rgb": ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)),  # R = B
    "addition": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),  # R = I + B
    "soft_light": ((0.0, 2.0, -2.0), (0.0, 0.0, 1.0)),  # R = (1 - 2B) I^2 + 2BI, Pegtop's formula
}


def polynomial(coefficients: Tensor, I: Tensor) -> Tensor:
    """Evaluate sum_i coefficients_i g(I, i), where g(I, i) of Eq. 2 is the i-th Hadamard power of I."""
    return coefficients[0] + I * (coefficients[1] + I * coefficients[2])


class AdaptiveBlend(nn.Module):
    """ABM (Eq. 3) and R-ABM (Eq. 4) with one shared pair of coefficient vectors j and k.

    Args:
        mode: "adaptive" learns j and k, initialised as soft light; "rgb", "addition" and "soft_light" fix them (the
            rows of Table 2).
        eps: Smallest magnitude of the divisor of Eq. 4.
    """

    def __init__(self, mode: BlendMode = "adaptive", eps: float = 1e-3) -> None:
        super().__init__()
        j, k = _COEFFICIENTS["soft_light" if mode == "adaptive" else mode]
        learned = mode == "adaptive"
        self.j = nn.Parameter(torch.tensor(j), requires_grad=learned)
        self.k = nn.Parameter(torch.tensor(k), requires_grad=learned)
        self.eps = eps

    def forward(self, I: Tensor, B: Tensor) -> Tensor:
        """Apply the blend layer: R = sum_i (j_i B + k_i) I^i (Eq. 3)."""
        return polynomial(self.j, I) * B + polynomial(self.k, I)

    def change(self, I: Tensor, B: Tensor) -> Tensor:
        """Return R - I."""
        return self(I, B) - I

    def reverse(self, I: Tensor, R: Tensor) -> Tensor:
        """Recover the blend layer: B = (R - sum_i k_i I^i) / sum_i j_i I^i (Eq. 4).

        Exact where the divisor is at least ``eps`` in magnitude.
        """
        D = polynomial(self.j, I)
        # Paper: divides by D, which soft light makes 0 at black and white.
        # Here: |D| is held at eps or above and its sign kept, so that B stays finite.
        D = torch.where(D.abs() < self.eps, torch.where(D < 0, -self.eps, self.eps), D)
        return (R - polynomial(self.k, I)) / D


class NeutralBlend(nn.Module):
    """The blend R = I + D(I) B with D(I) = j_0 + j_1 I + j_2 I^2, at least ``MIN_SLOPE``.

    Paper: j and k of Eq. 3 are free, so in general no blend layer leaves the image unchanged.
    Here: k = (0, 1, 0). The layer B = 0 leaves the image unchanged bit for bit, and since D stays away from 0, every
    layer is recovered up to rounding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.j = nn.Parameter(torch.tensor([0.25, 1.0, -1.0]))

    def slope(self, I: Tensor) -> Tensor:
        """Return D(I), (N, 3, H, W)."""
        return polynomial(self.j, I).clamp(min=MIN_SLOPE)

    def forward(self, I: Tensor, B: Tensor) -> Tensor:
        """Apply the blend layer (Eq. 3 with neutral k)."""
        return I + self.change(I, B)

    def change(self, I: Tensor, B: Tensor) -> Tensor:
        """Return R - I, without the rounding error of adding and subtracting I."""
        return self.slope(I) * B

    def negligible(self, change: float) -> float:
        """Return the largest |B| at which |R - I| is at most ``change`` for every image in [0, 1]."""
        slope = self.slope(torch.linspace(0, 1, 257, device=self.j.device)).max()
        # One hundredth less, for rounding and for slopes between the sampled values of I.
        return 0.99 * change / float(slope)

    def reverse(self, I: Tensor, R: Tensor) -> Tensor:
        """Recover the blend layer (Eq. 4 with neutral k)."""
        return (R - I) / self.slope(I)


class ConvolutionalBlend(nn.Module):
    """Table 2's "Convs": two networks of three 1x1 convolutions in place of Eq. 3 and Eq. 4.

    They are not inverses of each other, which is the paper's point.

    Paper: widths and activation not stated. Here: 16 filters and a leaky ReLU of slope 0.2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.apply_layer = _pixelwise_network()
        self.recover_layer = _pixelwise_network()

    def forward(self, I: Tensor, B: Tensor) -> Tensor:
        """Apply the blend layer with a network of (I, B)."""
        return self.apply_layer(torch.cat([I, B], dim=1))

    def change(self, I: Tensor, B: Tensor) -> Tensor:
        """Return R - I."""
        return self(I, B) - I

    def reverse(self, I: Tensor, R: Tensor) -> Tensor:
        """Estimate the blend layer with a network of (I, R)."""
        return self.recover_layer(torch.cat([I, R], dim=1))


def _pixelwise_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(6, 16, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 16, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 3, 1),
    )


def make_blend(mode: BlendMode) -> AdaptiveBlend | NeutralBlend | ConvolutionalBlend:
    """Build the blend of a row of Table 2, or the neutral one."""
    if mode == "neutral":
        return NeutralBlend()
    if mode == "convolutional":
        return ConvolutionalBlend()
    return AdaptiveBlend(mode)

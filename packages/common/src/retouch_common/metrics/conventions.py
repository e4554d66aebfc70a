"""PSNR and SSIM as different papers compute them, by name; figures of different conventions never share a column.

On one set of pictures the third decimal of SSIM depends on the convention, which is as much as methods differ by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from retouch_common.metrics import quality
from retouch_common.metrics.protocols import PSNR_CEILING, SSIM_K, SSIM_SIGMA, SSIM_WINDOW

UNIFORM_WINDOW = 7  # pixels


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A way to compute PSNR and SSIM of one picture.

    Attributes:
        name: Its name in tables and JSON.
        description: Range, quantisation and window.
        psnr: From output and target, (3, H, W) in [0, 1], to dB, at most 100.
        ssim: The same to the similarity.
    """

    name: str
    description: str
    psnr: Callable[[torch.Tensor, torch.Tensor], float]
    ssim: Callable[[torch.Tensor, torch.Tensor], float]

    def measure(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
        """Both figures, as "psnr" and "ssim"."""
        return {"psnr": self.psnr(output, target), "ssim": self.ssim(output, target)}


def float_psnr(output: torch.Tensor, target: torch.Tensor) -> float:
    """PSNR of (3, H, W) pictures as they are, neither clamped nor rounded, for a range of 1; at most 100 dB."""
    error = float((output.double() - target.double()).square().mean())
    return min(PSNR_CEILING, -10 * float(torch.log10(torch.tensor(max(error, 1e-300)))))


def gaussian_ssim(output: torch.Tensor, target: torch.Tensor) -> float:
    """SSIM with the 11 x 11 Gaussian window of Wang et al. (2004), clamped to [0, 1], not rounded."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    border = SSIM_WINDOW // 2
    _, similarity = structural_similarity_index_measure(
        output.double().clamp(0, 1)[None], target.double().clamp(0, 1)[None], sigma=SSIM_SIGMA, data_range=1.0,
        k1=SSIM_K[0], k2=SSIM_K[1], return_full_image=True,
    )  # fmt: skip
    return float(torch.as_tensor(similarity)[..., border:-border, border:-border].mean())


def uniform_ssim(output: torch.Tensor, target: torch.Tensor, *, data_range: float = 1.0) -> float:
    """SSIM with a uniform 7 x 7 window and the sample covariance, scikit-image's default; mean over channels.

    Args:
        output: (3, H, W), any range, neither clamped nor rounded.
        target: The same shape.
        data_range: Largest possible difference.
    """
    x, y = output.double()[:, None], target.double()[:, None]
    n = UNIFORM_WINDOW**2

    def mean(image: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(image, UNIFORM_WINDOW, stride=1)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = (n / (n - 1) * (mean(a * b) - ma * mb) for a, b, ma, mb in
                   ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my)))  # fmt: skip
    c1, c2 = ((k * data_range) ** 2 for k in SSIM_K)
    similarity = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(similarity.mean())


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention(
            name="png8",
            description="clamped and rounded to 8 bits, RGB; SSIM: 11 x 11 Gaussian window",
            psnr=quality.psnr,
            ssim=quality.ssim,
        ),
        Convention(
            name="wang",
            description="PSNR as computed, SSIM clamped to [0, 1], not rounded, RGB; SSIM: 11 x 11 Gaussian window",
            psnr=float_psnr,
            ssim=gaussian_ssim,
        ),
        Convention(
            name="bpfre-group",
            description="on [-1, 1] with a range of 2, neither clamped nor rounded, RGB; SSIM: uniform 7 x 7 window, "
            "sample covariance",
            # A range of 2 on [-1, 1] is a range of 1 on [0, 1] to PSNR; SSIM's means are others.
            psnr=float_psnr,
            ssim=lambda output, target: uniform_ssim(2 * output - 1, 2 * target - 1, data_range=2.0),
        ),
    )
}
"""By name: "png8" is the headline of this project, "wang" the common one, "bpfre-group" that of BPFRe's authors."""

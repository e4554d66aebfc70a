"""Section 3.4: the losses, one function each, and the terms of every kind of expert.

Paper: squared norms. Here: means over pixels and channels, so that weights do not depend on the image size.
"""

import torch
import torch.nn.functional as F
from kornia.metrics import ssim
from retouch_common.losses.reconstruction import total_variation
from retouch_common.ranges import to_unit
from torch import Tensor

from mofrr.config import NUM_DEGREES, LossConfig
from mofrr.degree import expected_degree
from mofrr.sampling import ExpertOutput
from mofrr.wavefrr import WaveFRROutput

HIGH, TV, L1 = 0.1, 0.01, 1.0  # lambda_1, lambda_2 and the weight of L_hyb's first term


def idem_loss(residual: Tensor, true_residual: Tensor) -> Tensor:
    """L_IDEM = |R^ - (y_LL - x_LL)|^2."""
    return F.mse_loss(residual.float(), true_residual)


def simple_loss(output: Tensor, target: Tensor) -> Tensor:
    """L_simple = |epsilon - epsilon_theta|^2, or the same for x0 and v."""
    return F.mse_loss(output.float(), target)


def high_loss(high: list[Tensor], true_high: list[Tensor]) -> Tensor:
    """First term of L_high, |y^_H - y_H|^2, mean over levels."""
    return torch.stack([F.mse_loss(band.float(), true) for band, true in zip(high, true_high, strict=True)]).mean()


def tv_loss(high: list[Tensor]) -> Tensor:
    """Second term of L_high, TV(y^_H), mean over levels."""
    return torch.stack([total_variation(band, reduction="mean") for band in high]).mean()


def l1_loss(restored: Tensor, Y: Tensor, weight: Tensor | None = None) -> Tensor:
    """First term of L_hyb, |Y - Y^|, of images (N, 3, H, W) in [-1, 1], weighted by ``weight`` (N,)."""
    return _mean((restored.float() - Y).abs(), weight)


def ssim_loss(restored: Tensor, Y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Second term of L_hyb, 1 - SSIM (Gaussian window of 11); arguments as of :func:`l1_loss`."""
    # In [0, 1], since SSIM compares mean lightness. With channels last a CPU takes a quarter of the time.
    restored, Y = (to_unit(image.float()).contiguous(memory_format=torch.channels_last) for image in (restored, Y))
    with torch.autocast(restored.device.type, enabled=False):  # its variances are differences of close numbers
        similarity = ssim(restored, Y, window_size=11, max_val=1.0, padding="valid")
    return _mean(1 - similarity, weight)


def router_loss(logits: Tensor, applied: Tensor) -> Tensor:
    """L_class of the router: binary cross entropy of each operation; the paper's formula fits the estimators only."""
    return F.binary_cross_entropy_with_logits(logits.float(), applied.float())


def degree_loss(logits: Tensor, degree: Tensor) -> Tensor:
    """L_class of a degree estimator: cross entropy of logits (N, 5) and degrees (N,) from 1 to 5."""
    return F.cross_entropy(logits.float(), degree - 1)


def order_loss(logits: Tensor, degree: Tensor) -> Tensor:
    """Squared error of the expected degree, since the cross entropy ignores the order of the classes."""
    return F.mse_loss(NUM_DEGREES * expected_degree(logits), degree.float())


def expert_losses(passed: WaveFRROutput, Y: Tensor) -> dict[str, Tensor]:
    """Return the unweighted terms of L_freq + L_space of an expert, by name."""
    terms = shared_losses(passed, Y) | {"high": high_loss(passed.high, passed.true_high), "tv": tv_loss(passed.high)}
    return terms if passed.residual is None else terms | {"idem": idem_loss(passed.residual, passed.true_residual)}


def shared_losses(passed: ExpertOutput, Y: Tensor) -> dict[str, Tensor]:
    """Return the unweighted terms that every expert has, by name."""
    return {
        "simple": simple_loss(passed.output, passed.target),
        "l1": l1_loss(passed.restored, Y, passed.weight),
        "ssim": ssim_loss(passed.restored, Y, passed.weight),
    }


def combine_losses(result: Tensor, Y: Tensor) -> dict[str, Tensor]:
    """Return the unweighted terms of L_hyb of the final image, by name."""
    return {"l1": l1_loss(result, Y), "ssim": ssim_loss(result, Y)}


def weighted_sum(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Return the sum of a stage's terms times their weights."""
    weights = {"class": 1.0, "high": HIGH, "tv": TV, "l1": L1} | vars(config)
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def _mean(error: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of errors (N, C, H, W), weighted by (N,)."""
    each = error.mean(dim=(1, 2, 3))
    return each.mean() if weight is None else (weight * each).mean()

"""The training objective (Lei et al., "ABPN", CVPR 2022, section 4.4, Eq. 6).

L = l1 L_mse + l2 L_perc + l3 L_adv + l4 L_dice + l5 L_tv, plus the additional terms of :class:`abpn.config.LossConfig`.

Shapes: level i of the results, targets and photographs is (N, 3, H / 2^i, W / 2^i).
"""

import torch
import torch.nn.functional as F
from retouch_common.losses.adversarial import PatchDiscriminator, generator_loss
from retouch_common.losses.perceptual import PerceptualLoss
from retouch_common.losses.reconstruction import emphasis_weight, psnr_loss, total_variation
from retouch_common.losses.region import difference_mask, soft_dice_loss
from retouch_common.ranges import to_signed
from retouch_common.weights import read_vgg
from torch import Tensor, nn

from abpn.blend_pyramid import image_pyramid
from abpn.config import LossConfig, PyramidKernel
from abpn.model import ABPNOutput

# A pixel belongs to the true mask if one of its channels changes by more. Metrics count from CHANGED_LEVELS of
# retouch_common.losses.region on; the bundled weights were trained with this, and the golden losses are of it.
MASK_THRESHOLD = 0.02


class JointLoss(nn.Module):
    """Eq. 6, the loss of the generator.

    Args:
        config: Weights and reduction.
        pyramid: Kernel of the target's pyramid; the same as the model's.

    Raises:
        ValueError: If the perceptual weight is not 0 and VGG-16's weights are not available.
    """

    def __init__(self, config: LossConfig, pyramid: PyramidKernel = "box") -> None:
        super().__init__()
        self.config = config
        self.pyramid = pyramid
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual:
            self.perceptual = PerceptualLoss(state_dict=read_vgg("vgg16", config.perceptual_weights or None))

    def forward(
        self, output: ABPNOutput, target: Tensor, discriminator: PatchDiscriminator | None = None
    ) -> dict[str, Tensor]:
        """Compute every term of nonzero weight, and their weighted sum.

        Args:
            output: Model output.
            target: Retouched photographs, (N, 3, H, W) in [0, 1], H and W multiples of 2^l.
            discriminator: Discriminator of I_0 and R_0; needed if the adversarial weight is not 0.

        Returns:
            Scalars by name: "loss", the weighted sum, and the terms in use, unweighted: "mse", "l1", "psnr",
            "perceptual", "adversarial", "dice", "bce", "tv".
        """
        config = self.config
        targets = image_pyramid(target, len(output.images) - 1, self.pyramid)
        terms: dict[str, Tensor] = {}
        if config.mse or config.l1 or config.psnr:
            terms |= self._reconstruction(output, targets)
        if self.perceptual is not None:
            # Paper: layers not stated. Here: relu1_2, relu2_2 and relu3_3 of VGG-16, of R_l clamped to [0, 1].
            terms["perceptual"] = self.perceptual(_supervised(output)[-1].clamp(0, 1), targets[-1])
        if config.adversarial:
            assert discriminator is not None
            pair = with_condition(output.images[0], output.results[0])
            terms["adversarial"] = generator_loss(discriminator(pair), kind="bce")
        if output.mask_logits is not None and (config.dice or config.bce):
            terms |= self._mask(output.mask_logits, output.images[-1], targets[-1])
        if config.tv:
            terms["tv"] = torch.stack([total_variation(B, reduction=config.reduction) for B in output.blends]).sum()
        loss = sum((getattr(config, name) * term for name, term in terms.items()), target.new_zeros(()))
        return {"loss": loss, **terms}

    def _reconstruction(self, output: ABPNOutput, targets: list[Tensor]) -> dict[str, Tensor]:
        """Sum the errors over the levels, with larger weights where blemishes are."""
        mse, l1, psnr = [], [], []
        for R, R_gt, I in zip(_supervised(output), targets, output.images, strict=True):
            mask = difference_mask(I, R_gt, threshold=MASK_THRESHOLD)
            weight = emphasis_weight(mask, self.config.mask_emphasis)
            error = R - R_gt
            mse.append(_reduce(weight * error.square(), self.config.reduction))
            l1.append(_reduce(weight * error.abs(), self.config.reduction))
            psnr.append(psnr_loss(R, R_gt, weight))
        sums = {"mse": mse, "l1": l1, "psnr": psnr}
        return {name: torch.stack(values).sum() for name, values in sums.items() if getattr(self.config, name)}

    def _mask(self, logits: Tensor, thumbnail: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compare the predicted mask with the thresholded difference of I_l and its target (section 4.2).

        A pixel of M belongs to the true mask if any of its 4x4 pixels in the thumbnail does.
        """
        # Paper: "applying a threshold to it", not which, and M is a quarter of I_l's size. Here: 0.02, and the maximum.
        true_mask = difference_mask(thumbnail, target, threshold=MASK_THRESHOLD)
        height, width = logits.shape[-2:]
        padding = (0, 4 * width - true_mask.shape[-1], 0, 4 * height - true_mask.shape[-2])
        true_mask = F.max_pool2d(F.pad(true_mask, padding), 4)
        terms = {}
        if self.config.dice:
            terms["dice"] = soft_dice_loss(torch.sigmoid(logits), true_mask)
        if self.config.bce:
            terms["bce"] = F.binary_cross_entropy_with_logits(logits, true_mask)
        return terms


def with_condition(image: Tensor, result: Tensor) -> Tensor:
    """Return I_0 and a result or target, (N, 3, H, W) in [0, 1] each, as the discriminator's input in [-1, 1]."""
    return to_signed(torch.cat([image, result], dim=1))


def _supervised(output: ABPNOutput) -> list[Tensor]:
    """Return [R_0, ..., R_l] of the losses: R_l as LRL outputs it, unless it is the result itself (l = 0).

    Through ABM and R-ABM, R_l has no gradient where D(I_l) is 0, and with two networks it is no image.
    """
    levels = output.results[:-1]
    return [*levels, output.retouched_thumbnail] if levels else output.results


def _reduce(error: Tensor, reduction: str) -> Tensor:
    """Return the mean, or the sum over each image and the mean over the batch (the paper's squared norm)."""
    return error.mean() if reduction == "mean" else error.flatten(1).sum(1).mean()

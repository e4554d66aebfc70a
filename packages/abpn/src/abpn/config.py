"""Configuration of ABPN: one frozen dataclass per concern, and the named presets.

``abpn-train --preset recommended --set model.blend=soft_light`` starts from a preset and overrides a field.
"""

from dataclasses import dataclass, field
from typing import Literal

from retouch_common.training.config import TrainConfig as BaseTrainConfig

BlendMode = Literal["rgb", "addition", "soft_light", "convolutional", "adaptive", "neutral"]
PyramidKernel = Literal["box", "burt"]
Attention = Literal["lam", "partial"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the network is.

    Attributes:
        thumbnail: Long side in pixels that the local retouching layer works at; decides l from a photo's size.
        widths: Channels c_1 ... c_6 of the mutual encoder; the branches mirror them.
        refine_width: Filters of the refining module's first convolution.
        refine: Use the refining module (False: Table 2 without RM).
        mask_branch: Use the mask prediction branch (False: Table 2 without MPB).
        attention: "lam", or "partial" for Table 2's partial-convolution block.
        blend: Blend mode: Table 2's rows, or "neutral".
        min_slope: Lower bound of D(I) in the neutral blend.
        pyramid: Downsampling kernel, "box" or Burt and Adelson's "burt".
        residual: The retouching branch predicts R_l - I_l instead of R_l.
    """

    thumbnail: int = 256
    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    refine_width: int = 16
    refine: bool = True
    mask_branch: bool = True
    attention: Attention = "lam"
    blend: BlendMode = "neutral"
    min_slope: float = 0.1
    pyramid: PyramidKernel = "box"
    residual: bool = True

    def __post_init__(self) -> None:
        if len(self.widths) != 6 or min(self.widths) < 1:
            raise ValueError(f"model.widths must be six positive numbers, not {self.widths}")
        if self.thumbnail < 64:
            raise ValueError(f"model.thumbnail must be at least 64, not {self.thumbnail}")
        if self.attention == "partial" and not self.mask_branch:
            raise ValueError("model.attention=partial needs the mask of model.mask_branch=true")
        if not 0 < self.min_slope <= 1:
            raise ValueError(f"model.min_slope must lie in (0, 1], not {self.min_slope}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and reductions of Eq. 6, and the terms the presets add to it.

    Attributes:
        mse: lambda_1, multi-scale squared error over R_0 ... R_l.
        l1: Multi-scale absolute error; not in the paper.
        psnr: Logarithm of the squared error of each sample, as PSNR has it, summed over the levels; makes faint
            blemishes count as much as bold ones; not in the paper.
        psnr_floor: Added to the squared error before the logarithm.
        reduction: "mean" over pixels and channels, or "sum" over them (the paper's norm) and mean over the batch;
            also for the total variation.
        mask_emphasis: The reconstruction terms weigh a retouched pixel 1 + mask_emphasis times an untouched one.
        perceptual: lambda_2, VGG features of R_l.
        perceptual_weights: File of torchvision's VGG weights; empty looks in torch.hub's cache.
        adversarial: lambda_3, patch discriminator on R_0.
        dice: lambda_4, soft dice of the mask.
        bce: Binary cross-entropy of the mask; not in the paper.
        tv: lambda_5, total variation of every blend layer.
        mask_threshold: A pixel belongs to the true mask if a channel changes by more than this.
    """

    mse: float = 1.0
    l1: float = 0.0
    psnr: float = 0.0
    psnr_floor: float = 3e-4
    reduction: Literal["mean", "sum"] = "mean"
    mask_emphasis: float = 0.0
    perceptual: float = 0.1
    perceptual_weights: str = ""
    adversarial: float = 0.1
    dice: float = 1.0
    bce: float = 0.0
    tv: float = 0.1
    mask_threshold: float = 0.02


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """How the network is trained; see :class:`retouch_common.training.config.TrainConfig` for what is not listed.

    Attributes:
        size: Side in pixels of the training samples.
        fit: How photographs become samples: "crop" takes pieces of them as they are, "whole" reduces and pads them.
        levels: l is drawn from these, step by step.
        thumbnail: Largest side of the thumbnails in training; where l is small the crops are cut to it, so that every
            step costs about the same. 0 cuts nothing.
    """

    size: int = 1024
    fit: Literal["crop", "whole"] = "crop"
    levels: tuple[int, ...] = (2,)
    thumbnail: int = 0
    lr: float = 5e-4
    schedule: Literal["constant", "cosine", "step"] = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 2 ** max(self.levels):
            raise ValueError(f"train.size={self.size} is not a multiple of 2**{max(self.levels)} (train.levels)")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Model, loss and training together: what a run directory records.

    Attributes:
        model: The network.
        loss: Eq. 6.
        train: The optimisation.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


# Losses of the presets that need no weights but their own.
_SELF_CONTAINED = LossConfig(
    mse=100.0, l1=10.0, mask_emphasis=2.0, perceptual=0.0, adversarial=0.0, dice=0.1, bce=0.1, tv=0.0
)

PRESETS: dict[str, Config] = {
    # The equations as printed and the widths that match the paper's cost.
    "paper": Config(
        model=ModelConfig(blend="adaptive", pyramid="burt", residual=False),
        train=TrainConfig(fit="whole"),
    ),
    # The paper's network with the neutral blend and a residual branch, trained for fidelity.
    "recommended": Config(
        model=ModelConfig(),
        loss=LossConfig(mse=100.0, l1=10.0, mask_emphasis=2.0, perceptual=0.1, adversarial=0.0, bce=0.1, tv=0.001),
        train=TrainConfig(
            levels=(1, 2, 2, 3),
            lr=5e-4,
            schedule="cosine",
            warmup=500,
            clip=1.0,
            ema=0.999,
            precision="bf16",
            channels_last=True,
        ),
    ),
    # The bundled weights.
    "small": Config(
        model=ModelConfig(thumbnail=512, widths=(24, 48, 64, 96, 128, 128)),
        loss=LossConfig(
            mse=200.0,
            l1=2.0,
            mask_emphasis=3.0,
            perceptual=0.0,
            adversarial=0.0,
            dice=0.5,
            bce=0.5,
            tv=0.0,
        ),
        train=TrainConfig(
            steps=20_000,
            batch_size=6,
            size=384,
            levels=(1, 1, 1, 0, 2),
            thumbnail=192,
            lr=2e-3,
            schedule="cosine",
            warmup=200,
            clip=1.0,
            ema=0.998,
            precision="bf16",
            channels_last=True,
            workers=1,
            log_every=20,
            sheet_every=400,
            checkpoint_every=200,
        ),
    ),
    # For tests: a training step takes a fraction of a second on a CPU.
    "tiny": Config(
        model=ModelConfig(thumbnail=64, widths=(4, 8, 8, 12, 12, 12), refine_width=8),
        loss=_SELF_CONTAINED,
        train=TrainConfig(
            steps=20,
            batch_size=2,
            size=64,
            levels=(1,),
            lr=2e-3,
            schedule="cosine",
            clip=1.0,
            ema=0.9,
            workers=0,
            log_every=1,
            sheet_every=10,
            checkpoint_every=10,
        ),
    ),
}

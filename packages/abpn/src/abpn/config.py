"""Configuration of ABPN and its presets.

``abpn-train --preset recommended --set model.blend=soft_light`` starts from a preset and overrides a field.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from retouch_common.training.config import TrainConfig as BaseTrainConfig

BlendMode = Literal["rgb", "addition", "soft_light", "convolutional", "adaptive", "neutral"]
PyramidKernel = Literal["box", "burt"]
Attention = Literal["lam", "pcb"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of the network.

    Attributes:
        thumbnail: Long side of the thumbnail in pixels; with the photograph's size it decides l.
        widths: Channels c_1 ... c_6 of the mutual encoder; the branches mirror them.
        refine_width: Filters of the refining module's first convolution.
        refine: Use the refining module (False: Table 2 without RM).
        mask_branch: Use the mask prediction branch (False: Table 2 without MPB).
        attention: "lam", or "pcb" for Table 2's probabilistic context blocks.
        blend: A blend mode of Table 2, or "neutral".
        pyramid: "box", means of 2x2 pixels, or "burt", REDUCE and EXPAND of Burt and Adelson.
        residual: Let the retouching branch predict R_l - I_l instead of R_l.
    """

    RETIRED: ClassVar[dict[str, Any]] = {"min_slope": 0.1}  # abpn.blend.MIN_SLOPE

    thumbnail: int = 256
    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    refine_width: int = 16
    refine: bool = True
    mask_branch: bool = True
    attention: Attention = "lam"
    blend: BlendMode = "neutral"
    pyramid: PyramidKernel = "box"
    residual: bool = True

    def __post_init__(self) -> None:
        if len(self.widths) != 6 or min(self.widths) < 1:
            raise ValueError(f"model.widths must be six positive numbers, not {self.widths}")
        if not 64 <= self.thumbnail <= 4096:
            raise ValueError(f"model.thumbnail must lie between 64 and 4096, not at {self.thumbnail}")
        if self.attention == "pcb" and not self.mask_branch:
            raise ValueError("model.attention=pcb needs the mask of model.mask_branch=true")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss weights of Eq. 6 and of terms that are not in the paper.

    Attributes:
        mse: lambda_1, squared error of R_0 ... R_l.
        l1: Absolute error of R_0 ... R_l; not in the paper.
        psnr: log10 of each sample's squared error, summed over the levels, so that faint blemishes count as much as
            strong ones; not in the paper.
        reduction: Of squared and absolute error and total variation: "mean" over pixels and channels, or "sum" over
            them (the paper's norm) and mean over the batch.
        mask_emphasis: Retouched pixels weigh 1 + mask_emphasis times as much as others in the reconstruction terms.
        perceptual: lambda_2, VGG features of R_l.
        perceptual_weights: File of torchvision's VGG-16 weights; if empty, they are looked up in torch.hub's cache.
        adversarial: lambda_3, patch discriminator on R_0.
        dice: lambda_4, soft Dice loss of the mask.
        bce: Binary cross-entropy of the mask; not in the paper.
        tv: lambda_5, total variation of every blend layer.
    """

    RETIRED: ClassVar[dict[str, Any]] = {
        "psnr_floor": 3e-4,
        "mask_threshold": 0.02,
        "emphasis_on": "retouched",
    }

    mse: float = 1.0
    l1: float = 0.0
    psnr: float = 0.0
    reduction: Literal["mean", "sum"] = "mean"
    mask_emphasis: float = 0.0
    perceptual: float = 0.1
    perceptual_weights: str = ""
    adversarial: float = 0.1
    dice: float = 1.0
    bce: float = 0.0
    tv: float = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """Training; see :class:`retouch_common.training.config.TrainConfig` for the other options.

    Attributes:
        size: Side of the training samples in pixels.
        fit: "crop" takes random crops of photographs, "whole" resizes and pads them.
        levels: Values of l, one of which is drawn for every step.
        thumbnail: Largest side of a training thumbnail; samples are center-cropped to it, so that steps with a small l
            cost no more than others. 0 keeps whole samples.
        schedule: Also "step": divide the learning rate by ten after ``step_at_epoch`` or ``step_at``.
        step_at_epoch: Passes over the training data; 0 counts ``step_at`` steps instead.
        step_at: See ``step_at_epoch``.
    """

    size: int = 1024
    fit: Literal["crop", "whole"] = "crop"
    levels: tuple[int, ...] = (2,)
    thumbnail: int = 0
    step_at_epoch: int = 0
    step_at: int = 50_000
    lr: float = 5e-4
    schedule: Literal["constant", "cosine", "step"] = "step"  # type: ignore[assignment]  # one more

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_at_epoch < 0:
            raise ValueError(f"train.step_at_epoch must be at least 0, not {self.step_at_epoch}")
        if not self.levels or min(self.levels) < 0:
            raise ValueError(f"train.levels must be numbers from 0 on, not {self.levels}")
        if self.thumbnail < 0:
            raise ValueError(f"train.thumbnail must be at least 0, not {self.thumbnail}")
        if self.size % 2 ** max(self.levels):
            raise ValueError(f"train.size={self.size} is not a multiple of 2**{max(self.levels)} (train.levels)")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Model, loss and training: what a run directory records."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


# Without terms that need other networks.
_SELF_CONTAINED = LossConfig(
    mse=100.0, l1=10.0, mask_emphasis=2.0, perceptual=0.0, adversarial=0.0, dice=0.1, bce=0.1, tv=0.0
)

PRESETS: dict[str, Config] = {
    # The equations as printed, with means for the norms of Eq. 6, and widths that match the paper's times.
    "paper": Config(
        model=ModelConfig(blend="adaptive", pyramid="burt", residual=False),
        train=TrainConfig(fit="whole", step_at_epoch=100),
    ),
    # The same widths with the neutral blend, a residual branch and a pyramid of means, trained for fidelity.
    "recommended": Config(
        loss=LossConfig(mse=100.0, l1=10.0, mask_emphasis=2.0, adversarial=0.0, bce=0.1, tv=0.001),
        train=TrainConfig(
            levels=(1, 2, 2, 3),
            schedule="cosine",
            warmup=500,
            clip=1.0,
            ema=0.999,
            precision="auto",
            channels_last=True,
        ),
    ),
    # The bundled weights.
    "small": Config(
        model=ModelConfig(thumbnail=512, widths=(24, 48, 64, 96, 128, 128)),
        loss=replace(_SELF_CONTAINED, mse=200.0, l1=2.0, mask_emphasis=2.0, dice=0.5, bce=0.5),
        train=TrainConfig(
            steps=20_000,
            batch_size=6,
            size=384,
            levels=(1, 1, 1, 0, 1, 1, 1, 2),
            thumbnail=192,
            lr=2e-3,
            schedule="cosine",
            warmup=200,
            clip=1.0,
            ema=0.998,
            precision="auto",
            channels_last=True,
            workers=1,
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

"""Configuration of the face parser and its presets."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from retouch_common.parsing.labels import NUM_CLASSES
from retouch_common.training.config import TrainConfig as BaseTrainConfig


@dataclass(frozen=True, kw_only=True)
class ParsingConfig:
    """Architecture of the network.

    Attributes:
        size: Side in pixels of the faces in training; others can be parsed, too.
        channels: Channels after each downsampling.
        blocks: Residual blocks at every resolution of encoder and decoder; 0 is pix2pix's U-Net.
        dropout: Dropout probability in the three innermost decoder steps.
    """

    size: int = 256
    channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    blocks: int = 0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"model.channels must be at least two positive numbers, not {self.channels}")
        if self.blocks < 0 or not 0 <= self.dropout < 1:
            raise ValueError("model.blocks must not be negative, and model.dropout lies in [0, 1)")
        if self.size < self.multiple:
            raise ValueError(f"model.size must be at least {self.multiple} for {len(self.channels)} downsamplings")

    @property
    def multiple(self) -> int:
        """Sides of images are padded to multiples of this."""
        return 2 ** len(self.channels)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The cross entropy of Eq. 7.

    Attributes:
        class_weights: Weights of the 11 classes; empty weighs all pixels equally, as the paper does.
        dice: Weight of :func:`retouch_common.parsing.losses.dice_loss`, which the paper does not have.
    """

    class_weights: tuple[float, ...] = ()
    dice: float = 0.0

    def __post_init__(self) -> None:
        if self.class_weights and (len(self.class_weights) != NUM_CLASSES or min(self.class_weights) < 0):
            raise ValueError(f"loss.class_weights must be {NUM_CLASSES} numbers of at least 0, or none")
        if self.dice < 0:
            raise ValueError(f"loss.dice must not be negative, not {self.dice}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """Options of training; see :class:`retouch_common.training.config.TrainConfig` for those not listed.

    Attributes:
        augmentation: "strong", "paper" (mirroring, shift, scale and rotation) or "none".
        extra: Folder with images/ and labels/, all of it used for training, e.g. drawn faces.
        teacher: Weights of a parser that labels what a mesh leaves open (hair) where it is confident; empty leaves such
            pixels out of the loss.
        half: Write the weights as float16; networks compute in float32 all the same.
    """

    RETIRED: ClassVar[dict[str, Any]] = {"step_at": 50_000}

    steps: int = 40_000
    augmentation: Literal["strong", "paper", "none"] = "strong"
    extra: str = ""
    teacher: str = ""
    batch_size: int = 16
    betas: tuple[float, ...] = (0.5, 0.999)
    half: bool = False
    sheet_every: int = 2000


@dataclass(frozen=True, kw_only=True)
class Config:
    """Model, loss and training: what a run directory records."""

    model: ParsingConfig = field(default_factory=ParsingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


PRESETS: dict[str, Config] = {
    # pix2pix's U-Net and optimiser; the paper does not give the length of training.
    "paper": Config(train=TrainConfig(augmentation="paper")),
    # About the same width with residual blocks, averaged weights and strong augmentation; for a GPU.
    "recommended": Config(
        model=ParsingConfig(channels=(48, 96, 192, 256, 256, 256), blocks=1, dropout=0.0),
        train=TrainConfig(
            lr=1e-3,
            betas=(0.9, 0.999),
            schedule="cosine",
            warmup=500,
            clip=1.0,
            ema=0.999,
            precision="auto",
            channels_last=True,
        ),
    ),
    # The bundled weights: three and a half million parameters, trained on a single core.
    "small": Config(
        model=ParsingConfig(channels=(16, 32, 64, 112, 160, 192), blocks=1, dropout=0.0),
        loss=LossConfig(class_weights=(1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 1.0, 2.0, 2.0, 2.0, 1.0), dice=0.5),
        train=TrainConfig(
            steps=10_000,
            batch_size=8,
            lr=3e-3,
            betas=(0.9, 0.999),
            schedule="cosine",
            warmup=100,
            clip=1.0,
            ema=0.998,
            precision="auto",
            channels_last=True,
            workers=1,
            half=True,
            sheet_every=1000,
            checkpoint_every=100,
        ),
    ),
    # For tests: a training step takes a fraction of a second on a CPU.
    "tiny": Config(
        model=ParsingConfig(size=64, channels=(8, 16, 16), blocks=1, dropout=0.0),
        train=TrainConfig(
            steps=20,
            batch_size=4,
            lr=1e-2,
            betas=(0.9, 0.999),
            ema=0.9,
            workers=0,
            log_every=1,
            sheet_every=10,
            checkpoint_every=10,
        ),
    ),
}

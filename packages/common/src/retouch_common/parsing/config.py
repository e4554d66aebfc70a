"""Configuration of the face parser: one frozen dataclass per concern, and the named presets."""

from dataclasses import dataclass, field
from typing import Literal

from retouch_common.parsing.labels import NUM_CLASSES
from retouch_common.training.config import TrainConfig as BaseTrainConfig


@dataclass(frozen=True, kw_only=True)
class ParsingConfig:
    """What the network is.

    Attributes:
        size: Side in pixels of the faces that training shows; others can be parsed, too.
        channels: Channels after each halving.
        blocks: Residual blocks at every size on either way; 0 is pix2pix's U-Net.
        dropout: Share of features that training drops in the two innermost steps upwards.
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
            raise ValueError(f"model.size must be at least {self.multiple} for {len(self.channels)} halvings")

    @property
    def multiple(self) -> int:
        """Sides of pictures are padded to multiples of this."""
        return 2 ** len(self.channels)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The cross entropy of Eq. 7.

    Attributes:
        class_weights: One for each of the 11 classes; empty weighs all pixels alike, as the paper does.
        dice: Weight of :func:`retouch_common.parsing.losses.dice_loss` beside it, which the paper does not have.
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
    """How the network is trained; see :class:`retouch_common.training.config.TrainConfig` for what is not listed.

    Attributes:
        augmentation: "strong", as the bundled weights are trained, "paper": mirroring, shift, scale and rotation, or
            "none".
        extra: More faces with labels, all of them for training, e.g. drawn ones: a folder with images/ and labels/.
        teacher: Weights of a parser trained before, which labels what a mesh leaves open (hair) where it is sure; empty
            leaves such pixels out of the loss.
        half: Write the weights as float16, in half the space; networks compute in float32 all the same.
    """

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
    """Model, loss and training together: what a run directory records.

    Attributes:
        model: The network.
        loss: Eq. 7.
        train: The optimisation.
    """

    model: ParsingConfig = field(default_factory=ParsingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


PRESETS: dict[str, Config] = {
    # pix2pix's U-Net and optimiser; how long the authors trained theirs is not said.
    "paper": Config(train=TrainConfig(augmentation="paper")),
    # The same width with residual blocks, averaged weights and strong augmentation; for a GPU.
    "recommended": Config(
        model=ParsingConfig(channels=(48, 96, 192, 256, 256, 256), blocks=1, dropout=0.0),
        train=TrainConfig(
            lr=1e-3,
            betas=(0.9, 0.999),
            schedule="cosine",
            warmup=500,
            clip=1.0,
            ema=0.999,
            precision="bf16",
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
            precision="bf16",
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

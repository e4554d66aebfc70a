"""Configuration of BPFRe: one frozen dataclass per concern, and the named presets.

``bpfre-train --preset recommended --set model.generator=false`` starts from a preset and overrides a field. The
ablations of Table 1 are ``model.decoder=false``, ``model.generator=false`` and ``model.attention=false``.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from retouch_common.training.config import TrainConfig as BaseTrainConfig

Norm = Literal["group", "batch", "none"]
Activation = Literal["prelu", "leaky"]
Residual = Literal["none", "add"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the network is.

    Attributes:
        size: S, side in pixels of the faces it sees: 256, 512 or 1024 (or less, for tests).
        patch: Pixels are folded into channels, patch x patch at a time, before the first layer, and unfolded after
            the last. 1 is the paper's network; 2 computes a 512 face at the cost of a 256 one.
        channel_base: A layer at r x r has min(channel_base / r, max_channels) channels.
        max_channels: See ``channel_base``.
        style_dim: Length of the latent code and of the style code.
        mapping_layers: Layers of the MLP between them.
        attention_width: Filters of the hidden layers of the attention modules.
        attention_norm: Normalise the features, channel by channel and picture by picture, before h_map.
        norm: Normalisation of the U-Net's blocks: "group", "batch" (pSp's) or "none".
        activation: Of the U-Net's blocks: "prelu" (pSp's) or "leaky", which makes a training step an eighth shorter.
        parameters: alpha and beta of Eq. 1 for every "pixel", or for every pixel and "channel".
        weight_activation: Of h_weight's last layer, "linear" or "sigmoid".
        refined_input: Picture that A^{D2G} reads its parameters from: the first stage's "coarse", or "raw".
        residual: "add" makes both stages predict a change of their input picture; "none" the picture itself.
        detach_coarse: Keep the second stage's gradients out of the first, as Eq. 12 is written; the latent code then
            gets its gradient through a linear layer of the generator alone.
        decoder: False: Table 1 without A^{E2D} and D_deco; the generator gets the encoder's features.
        generator: False: Table 1 without A^{D2G} and G; the U-Net plays against the discriminator.
        attention: False: Table 1 without both attention modules.
        discriminator_base: ``channel_base`` of the discriminator.
        discriminator_max: ``max_channels`` of the discriminator.
    """

    size: int = 512
    patch: int = 1
    channel_base: int = 32768
    max_channels: int = 512
    style_dim: int = 512
    mapping_layers: int = 8
    attention_width: int = 32
    attention_norm: bool = False
    norm: Norm = "group"
    activation: Activation = "prelu"
    parameters: Literal["pixel", "channel"] = "pixel"
    weight_activation: Literal["linear", "sigmoid"] = "linear"
    refined_input: Literal["coarse", "raw"] = "coarse"
    residual: Residual = "add"
    detach_coarse: bool = False
    decoder: bool = True
    generator: bool = True
    attention: bool = True
    discriminator_base: int = 32768
    discriminator_max: int = 512

    def __post_init__(self) -> None:
        if self.size < 32 or self.size & (self.size - 1):
            raise ValueError(f"model.size must be a power of two from 32 on, not {self.size}")
        if self.patch not in (1, 2, 4):
            raise ValueError(f"model.patch must be 1, 2 or 4, not {self.patch}")
        if not (self.decoder or self.generator):
            raise ValueError("model.decoder=false and model.generator=false leave nothing that makes a picture")

    @property
    def finest(self) -> int:
        """Side of the finest feature maps."""
        return self.size // self.patch

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the feature maps, finest first, down to 4."""
        return tuple(2**k for k in range(self.finest.bit_length() - 1, 1, -1))

    def channels(self, resolution: int) -> int:
        """Channels of the U-Net and the generator at a resolution."""
        return max(4, min(self.channel_base // resolution, self.max_channels))

    def discriminator_channels(self, resolution: int) -> int:
        """Channels of the discriminator at a resolution."""
        return max(4, min(self.discriminator_base // resolution, self.discriminator_max))


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of Eq. 4-12, all 1 in the paper but lambda.

    Attributes:
        pixel: L1 terms of Eq. 6 and 9.
        perceptual: VGG terms of Eq. 6 and 9.
        perceptual_weights: File of torchvision's VGG-19 weights; empty looks in torch.hub's cache.
        perceptual_normalise: Normalise pictures as ImageNet's before the VGG; the group's later code does not.
        psnr: Logarithm of each sample's squared error in both stages; makes faint changes count. Not in the paper.
        psnr_floor: Added to the squared error before the logarithm.
        emphasis: L1 and ``psnr`` weigh a retouched pixel 1 + emphasis times an untouched one; 0 in the paper.
        identity: lambda of Eq. 6: any retouched picture must come out of the first stage as it went in.
        blemish: Eq. 4 and 5.
        blemish_distance: "l1", or "cross_entropy", whose gradient does not vanish with M: blemishes cover a
            fiftieth of the pixels, so that L1 first drives M to 0 everywhere.
        difference: The true map Delta: "contrast" (per image min-max, then 2 sigmoid(50 d) - 1) or "raw".
        difference_floor: Least range of that min-max, in [0, 1]: what is unclear is not amplified to noise.
        adversarial: Eq. 10 and 11.
        saturating: The generator minimises log(1 - D), as Eq. 11 is printed, instead of -log D.
        r1: gamma of the gradient penalty on retouched pictures; 0 leaves it out.
        r1_every: Steps between penalties, each r1_every times as heavy.
    """

    pixel: float = 1.0
    perceptual: float = 1.0
    perceptual_weights: str = ""
    perceptual_normalise: bool = True
    psnr: float = 0.0
    psnr_floor: float = 3e-4
    emphasis: float = 0.0
    identity: float = 0.001
    blemish: float = 1.0
    blemish_distance: Literal["l1", "cross_entropy"] = "l1"
    difference: Literal["contrast", "raw"] = "contrast"
    difference_floor: float = 4 / 255
    adversarial: float = 1.0
    saturating: bool = False
    r1: float = 10.0
    r1_every: int = 16


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """How the network is trained; see :class:`retouch_common.training.config.TrainConfig` for what is not listed.

    A step takes ``batch_size`` pairs and as many unpaired pictures of each kind.

    Attributes:
        task: "retouching", or "inpainting" of white brush strokes (section 4.7).
        paired_fraction: Share of the pairs that are used as pairs; of the others, raw and retouched pictures are
            shuffled apart and used without their partners.
        unpaired_every: Steps between those in which unpaired pictures and the discriminator take part.
        unet_lr: Learning rate of the U-Net, as a share of ``lr``: it is deep, and its layers are not equalised.
    """

    task: Literal["retouching", "inpainting"] = "retouching"
    paired_fraction: float = 1.0
    steps: int = 120_000
    batch_size: int = 2
    unpaired_every: int = 1
    lr: float = 2e-3
    unet_lr: float = 0.1
    betas: tuple[float, ...] = (0.0, 0.99)
    step_at: int = 100_000
    ema: float = 0.998
    workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.paired_fraction <= 1:
            raise ValueError(f"train.paired_fraction must lie above 0 and at most at 1, not {self.paired_fraction}")
        if self.unpaired_every < 1:
            raise ValueError(f"train.unpaired_every must be at least 1, not {self.unpaired_every}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Model, loss and training together: what a run directory records.

    Attributes:
        model: The networks.
        loss: Eq. 4-12.
        train: The optimisation.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


# The bundled weights: 512 pixels, finest features at 128, no weights but its own.
_SMALL = Config(
    model=ModelConfig(
        patch=4,
        channel_base=4096,
        max_channels=80,
        style_dim=80,
        mapping_layers=4,
        attention_width=16,
        attention_norm=True,
        norm="none",
        activation="leaky",
        discriminator_base=2048,
        discriminator_max=64,
    ),
    loss=LossConfig(
        pixel=2.0,
        perceptual=0.0,
        psnr=1.0,
        emphasis=8.0,
        identity=0.5,
        blemish=10.0,
        blemish_distance="cross_entropy",
        difference_floor=1.0,
        adversarial=0.05,
        r1=1.0,
        r1_every=8,
    ),
    train=TrainConfig(
        paired_fraction=1.0,
        steps=8000,
        batch_size=4,
        unpaired_every=16,
        lr=2e-3,
        unet_lr=0.25,
        betas=(0.9, 0.99),
        schedule="cosine",
        warmup=200,
        clip=1.0,
        precision="bf16",
        channels_last=True,
        workers=1,
        sheet_every=400,
        checkpoint_every=200,
    ),
)

PRESETS: dict[str, Config] = {
    # The equations as printed: pictures instead of changes, every weight 1.
    "paper": Config(model=ModelConfig(residual="none")),
    # Changes instead of pictures, and a pixel term that outweighs the game.
    "recommended": Config(
        model=ModelConfig(attention_norm=True),
        loss=LossConfig(pixel=10.0, adversarial=0.1, identity=0.1),
        train=TrainConfig(schedule="cosine", warmup=500, clip=1.0, precision="bf16", channels_last=True),
    ),
    "small": _SMALL,
    # The bundled weights for inpainting (section 4.7): 256 pixels, finest features at 128.
    "inpainting": Config(
        model=replace(_SMALL.model, size=256, patch=2),
        loss=replace(_SMALL.loss, emphasis=4.0),
        train=replace(_SMALL.train, task="inpainting"),
    ),
    # For tests: a training step takes a fraction of a second on a CPU.
    "tiny": Config(
        model=ModelConfig(
            size=64,
            channel_base=512,
            max_channels=16,
            style_dim=16,
            mapping_layers=2,
            attention_width=4,
            discriminator_base=256,
            discriminator_max=16,
        ),
        loss=LossConfig(pixel=10.0, perceptual=0.0, adversarial=0.01, r1=1.0, r1_every=2),
        train=TrainConfig(
            steps=20,
            lr=5e-3,
            unet_lr=1.0,
            betas=(0.9, 0.99),
            ema=0.9,
            workers=0,
            log_every=1,
            sheet_every=10,
            checkpoint_every=10,
        ),
    ),
}

"""Configuration of BPFRe and its presets.

``bpfre-train --preset recommended --set model.generator=false`` starts from a preset and overrides a field. The
ablations of Table 1 are ``model.decoder=false``, ``model.generator=false`` and ``model.attention=false``.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from retouch_common.training.config import TrainConfig as BaseTrainConfig

Norm = Literal["group", "batch", "none"]
Activation = Literal["prelu", "leaky"]
Residual = Literal["none", "add"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of the networks.

    Attributes:
        size: S, side of the faces in pixels: 256, 512 or 1024 (less in tests).
        patch: Pixels are folded into channels, patch x patch, before the first layer and unfolded after the last. 1 is
            the paper's network; 2 processes a 512 face at the cost of a 256 one.
        channel_base: Layers at r x r have min(channel_base / r, max_channels) channels.
        max_channels: See ``channel_base``.
        style_dim: Length of the latent code and of the style.
        mapping_layers: Layers of the mapping network.
        attention_width: Filters of the hidden layers of the attention modules.
        attention_norm: Normalise the features of each image, channel by channel, before h_map.
        norm: Normalisation of the U-Net's blocks: "group", "batch" (pSp's) or "none".
        activation: Of the U-Net's blocks: "prelu" (pSp's), or "leaky", with which a training step takes an eighth less.
        refined_input: Image for alpha and beta of A^{D2G}: the first stage's ("coarse") or "raw".
        residual: Stages predict an image ("none") or a change of their input image ("add").
        detach_coarse: Stop gradients from the second stage into the first, as Eq. 12 is written; of the encoder, only
            the linear layer of the latent code is then trained by the second stage. No effect without the decoder,
            where nothing else would train the encoder.
        decoder: False: Table 1 without A^{E2D} and D_deco; the generator gets the encoder's features.
        generator: False: Table 1 without A^{D2G} and G; the U-Net is trained against the discriminator.
        attention: False: Table 1 without both attention modules.
        discriminator_base: ``channel_base`` of the discriminator.
        discriminator_max: ``max_channels`` of the discriminator.
    """

    RETIRED: ClassVar[dict[str, Any]] = {
        "parameters": "pixel",
        "weight_activation": "linear",
    }  # of the attention modules

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
        if self.size // self.patch < 16:
            raise ValueError(f"model.size={self.size} is too small for model.patch={self.patch}: no map is supervised")
        if not (self.decoder or self.generator):
            raise ValueError("model.decoder=false and model.generator=false leave nothing that makes an image")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the feature maps, finest first, down to 4."""
        return tuple(2**k for k in range((self.size // self.patch).bit_length() - 1, 1, -1))

    @property
    def channels(self) -> dict[int, int]:
        """Channels of the U-Net and the generator by resolution, finest first."""
        return {r: max(4, min(self.channel_base // r, self.max_channels)) for r in self.resolutions}

    @property
    def discriminator_channels(self) -> dict[int, int]:
        """Channels of the discriminator by resolution, finest first."""
        return {r: max(4, min(self.discriminator_base // r, self.discriminator_max)) for r in self.resolutions}


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of Eq. 12, all 1 in the paper except lambda.

    Attributes:
        pixel: L1 terms of Eq. 6 and 9.
        perceptual: VGG terms of Eq. 6 and 9.
        perceptual_weights: File of torchvision's VGG-19 weights; if empty, they are looked up in torch.hub's cache.
        psnr: log10 of each sample's squared error, both stages, which gives weight to faint changes; not in the paper.
        emphasis: In the L1 and ``psnr`` terms, retouched pixels weigh 1 + emphasis times as much as others; 0 in the
            paper.
        identity: lambda of Eq. 6: the first stage should reproduce retouched images.
        blemish: Eq. 4 and 5.
        blemish_distance: "l1" or "cross_entropy". Blemishes cover about 2 % of the pixels, so that L1 first drives M
            to 0 everywhere, where its gradient vanishes.
        difference: The target Delta of M: "contrast" (stretched to each image's range, then 2 sigmoid(50 d) - 1) or
            "raw".
        difference_floor: Smallest range that is stretched, in [0, 1], so that noise is not amplified.
        adversarial: Eq. 10 and 11.
        saturating: Let the generator minimise log(1 - D), as Eq. 11 is printed, instead of -log D.
        detach_map: Stop the gradient of Eq. 11 into M; otherwise, as printed, it shapes M regardless of the truth.
        r1: gamma of the gradient penalty on retouched images; 0 switches it off.
        r1_every: Steps between penalties, each of r1_every times the weight.
    """

    RETIRED: ClassVar[dict[str, Any]] = {
        "psnr_floor": 3e-4,
        "perceptual_normalise": True,
        "emphasis_on": "retouched",
    }

    pixel: float = 1.0
    perceptual: float = 1.0
    perceptual_weights: str = ""
    psnr: float = 0.0
    emphasis: float = 0.0
    identity: float = 0.001
    blemish: float = 1.0
    blemish_distance: Literal["l1", "cross_entropy"] = "l1"
    difference: Literal["contrast", "raw"] = "contrast"
    difference_floor: float = 4 / 255
    adversarial: float = 1.0
    saturating: bool = False
    detach_map: bool = True
    r1: float = 10.0
    r1_every: int = 16


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """Training; see :class:`retouch_common.training.config.TrainConfig` for the other options.

    A step takes ``batch_size`` pairs and as many unpaired raw and retouched images.

    Attributes:
        task: "retouching", or "inpainting" of white brush strokes (section 4.7).
        paired_fraction: Share of the pairs used as pairs; the others are split into unpaired raw and retouched images.
        unpaired_every: Unpaired images and the discriminator take part in every so many steps.
        unet_lr: Learning rate of the U-Net as a factor of ``lr``; it is deep, and its layers are not equalised.
    """

    RETIRED: ClassVar[dict[str, Any]] = {"step_at": 100_000}

    task: Literal["retouching", "inpainting"] = "retouching"
    paired_fraction: float = 1.0
    steps: int = 120_000
    batch_size: int = 2
    unpaired_every: int = 1
    lr: float = 2e-3
    unet_lr: float = 0.1
    betas: tuple[float, ...] = (0.0, 0.99)
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
    """Model, loss and training: what a run directory records."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


# The bundled weights: 512 pixels, finest features at 128, no perceptual loss.
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
        emphasis=3.0,
        identity=0.5,
        blemish=10.0,
        blemish_distance="cross_entropy",
        difference_floor=1.0,
        adversarial=0.05,
        r1=4.0,
        r1_every=8,
    ),
    train=TrainConfig(
        steps=8000,
        batch_size=4,
        unpaired_every=16,
        unet_lr=0.25,
        betas=(0.9, 0.99),
        schedule="cosine",
        warmup=200,
        clip=1.0,
        precision="auto",
        channels_last=True,
        workers=1,
        sheet_every=400,
        checkpoint_every=200,
    ),
)

PRESETS: dict[str, Config] = {
    # The equations as printed: stages predict images, Eq. 12's parameter sets are apart, M is compared with
    # |x_raw - x_ret| and shaped by Eq. 11, every weight is 1 and all networks have one learning rate.
    "paper": Config(
        model=ModelConfig(residual="none", detach_coarse=True),
        loss=LossConfig(difference="raw", saturating=True, detach_map=False),
        train=TrainConfig(unet_lr=1.0),
    ),
    # Stages predict changes, and the pixel term outweighs the adversarial one.
    "recommended": Config(
        model=ModelConfig(attention_norm=True),
        loss=LossConfig(pixel=10.0, adversarial=0.1, identity=0.1),
        train=TrainConfig(schedule="cosine", warmup=500, clip=1.0, precision="auto", channels_last=True),
    ),
    "small": _SMALL,
    # Inpainting (section 4.7): 256 pixels, finest features at 128.
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
        loss=LossConfig(pixel=10.0, perceptual=0.0, adversarial=0.01, r1=4.0, r1_every=2),
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

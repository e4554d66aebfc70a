"""Configuration: one frozen dataclass per concern, and the named presets.

``maskgan-train --preset recommended --set model.norm=batch`` starts from a preset and overrides a field. The settings
of section 4.1 are ``SETTING_1`` and ``SETTING_2``; Table 2 without the face parsing network is ``loss.parsing=0``.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from retouch_common.training.config import TrainConfig as BaseTrainConfig

Norm = Literal["batch", "group", "instance", "none"]
Adversarial = Literal["bce", "hinge", "lsgan"]

COMPONENT_NAMES = ("eye_left", "eye_right", "mouth", "skin", "hair")
"""The paper's five components, in its order; :mod:`maskgan.components` knows all about them."""

_PASTED = {"model.background": "pasted", "model.background_residual": False, "model.background_blocks": 0}

SETTING_1 = {"model.embedding": "global", **_PASTED}
"""Section 4.1, setting 1, as overrides: one auto-encoder for the whole face, the background pasted."""

SETTING_2 = {"model.embedding": "local", **_PASTED}
"""Section 4.1, setting 2: an auto-encoder for every component, the background pasted."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the networks are.

    Attributes:
        size: S, side in pixels of the aligned faces; a power of two from 64 on.
        embedding: "local", an auto-encoder for every component, or "global", one for the face.
        background: "fused" by E_b and G_b, or "pasted" over the foreground picture.
        foreground: What G_m gives to G_b: its "features", as the official code has it, or a "picture".
        mask_eyes: Only the eyes themselves are cut out; False leaves what surrounds them in their windows.
        missing: A component that is not there has a "zero" feature (hair: a zero code, so that bald is something to
            learn), or is cut out and placed at its "canonical" place nevertheless.
        whole_windows: The windows of skin and hair, as large as the picture, lie at the middle of their "box" like the
            others, or are the "picture".
        surroundings: What surrounds skin and hair in their windows is "zero", or they are "continued" there: then codes
            know their colours all over the face, wherever a mask asks for them.
        snap: Windows start at multiples of four pixels, so that features come back to exactly where they were cut out.
        enlarge: Factor by which eyes and mouth are larger in the labels that E_m and the discriminators see.
        code: Lengths of the codes of left eye, right eye, mouth, skin and hair; the last one is the global code's.
        code_grid: 0: codes are vectors. Else a code is a map: this many cells per side for skin and hair, the last maps
            of the encoders, 2 x 3 and 5 x 9, for eyes and mouth; ``code`` counts all its numbers.
        hidden: Units between an encoder's last map and a vector code.
        variational: Codes are sampled in training: a variational auto-encoder.
        fold: Pictures are folded into channels, fold x fold pixels at a time, before the first layers and unfolded
            after the last. 1 is the paper's network.
        width: Channels of the encoders' first layer; they double up to ``max_width``.
        max_width: See ``width``.
        local_blocks: Residual blocks after every layer of the encoders and decoders that changes the resolution.
        features: Channels of a component's features at a quarter of the resolution.
        picture_decoder: "own": G_local's picture decoders start from the codes as the paper's; "features": they are
            two layers on the feature decoders' results.
        generator_width: Channels of E_m's and G_m's features at a quarter of the resolution.
        generator_blocks: Residual blocks of G_m.
        mask_skips: G_m also sees E_m's finer features.
        foreground_width: Channels of G_m's and E_b's features at full resolution.
        background_blocks: Residual blocks of G_b.
        background_residual: G_b's result is added to the target's background.
        upsampling: "transposed" convolutions of 4 x 4, or "nearest" neighbours and a convolution of 3 x 3.
        norm: Normalisation of all layers but the outermost.
        discriminators: 1, or 2: one for paired and one for unpaired data.
        discriminator_scales: Each has half the side of the one before.
        discriminator_width: Channels of the discriminators' first layer.
        discriminator_layers: Their strided layers.
        discriminator_norm: Their normalisation: "batch", "instance", "spectral" (of weights) or "none".
    """

    size: int = 256
    embedding: Literal["local", "global"] = "local"
    background: Literal["fused", "pasted"] = "fused"
    foreground: Literal["features", "picture"] = "features"
    mask_eyes: bool = True
    missing: Literal["zero", "canonical"] = "zero"
    whole_windows: Literal["box", "picture"] = "box"
    surroundings: Literal["zero", "continued"] = "zero"
    snap: bool = False
    enlarge: float = 1.0
    code: tuple[int, ...] = (512, 512, 512, 512, 512)
    code_grid: int = 0
    hidden: int = 1024
    variational: bool = False
    fold: Literal[1, 2, 4] = 1
    width: int = 64
    max_width: int = 512
    local_blocks: int = 0
    features: int = 256
    picture_decoder: Literal["own", "features"] = "own"
    generator_width: int = 256
    generator_blocks: int = 9
    mask_skips: bool = False
    foreground_width: int = 64
    background_blocks: int = 0
    background_residual: bool = False
    upsampling: Literal["transposed", "nearest"] = "transposed"
    norm: Norm = "batch"
    discriminators: Literal[1, 2] = 1
    discriminator_scales: int = 2
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_norm: Literal["batch", "instance", "spectral", "none"] = "batch"

    def __post_init__(self) -> None:
        if self.size < 64 or self.size & (self.size - 1):
            raise ValueError(f"model.size must be a power of two from 64 on, not {self.size}")
        if len(self.code) != 5 or min(self.code) < 1:
            raise ValueError(f"model.code must be five lengths from 1 on, not {self.code}")
        grid = self.code_grid
        if grid < 0 or grid & (grid - 1) or grid > self.size // 8:
            raise ValueError(f"model.code_grid must be 0 or a power of two up to {self.size // 8}, not {grid}")
        if grid:
            for length, cells in zip(self.code, (6, 6, 45, grid**2, grid**2), strict=True):
                if length % cells:
                    raise ValueError(f"model.code: {length} numbers cannot be spread over {cells} cells")
        if self.enlarge < 1:
            raise ValueError(f"model.enlarge must be at least 1, not {self.enlarge}")
        if self.background == "pasted" and (self.background_residual or self.background_blocks):
            raise ValueError("model.background=pasted has no G_b: background_residual and background_blocks must be 0")
        if self.discriminator_scales < 1:
            raise ValueError(f"model.discriminator_scales must be at least 1, not {self.discriminator_scales}")
        for name in ("width", "max_width", "features", "generator_width", "foreground_width"):
            if getattr(self, name) < 4:
                raise ValueError(f"model.{name} must be at least 4, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of Eq. 9 and what the paper leaves open about its terms. Squared errors are halves of means, not sums.

    Attributes:
        local: lambda_local of Eq. 1, mean over the components that are there; 10 in the paper.
        reconstruction: lambda_global of Eq. 2, on paired data only; 1 in the paper.
        distance: Of Eq. 2 and ``region``: "l2" as printed, or "l1".
        region: Eq. 2 once more for every component's pixels alone, on paired data; not in the paper.
        region_weights: Of left eye, right eye, mouth, skin and hair in that.
        appearance: On unpaired data, of every component's mean colour and deviation, which are to be the source's; not
            in the paper.
        background: On unpaired data, of the target's background, which is to come back; not in the paper.
        adversarial: lambda_GD of Eq. 6, 1 in the paper.
        kind: "bce": Eq. 3 and 4; "hinge" or "lsgan".
        feature_matching: lambda_FM of Eq. 6, on paired data only. The paper does not state it; 10 is the official
            code's and pix2pixHD's.
        feature_distance: Of Eq. 5: "l2" as printed, or "l1" as the official code has it.
        parsing: lambda_GP of Eq. 8, 1 in the paper; 0 trains without a face parser (Table 2).
        parsing_on: Data for Eq. 8: "both" kinds, or the "unpaired" alone.
        parsing_weights: Of the 11 classes in Eq. 8; empty weighs them alike.
        perceptual: Of VGG-19's features of the foregrounds, on paired data; not in the paper.
        perceptual_weights: File of torchvision's VGG-19 weights; empty looks in torch.hub's cache.
        kl: Of the codes' divergence from the standard normal distribution, with ``model.variational``.
        r1: gamma of the gradient penalty on real pictures; 0 leaves it out.
        r1_every: One of so many passes of a discriminator has the penalty, so many times as heavy.
    """

    local: float = 10.0
    reconstruction: float = 1.0
    distance: Literal["l2", "l1"] = "l2"
    region: float = 0.0
    region_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    appearance: float = 0.0
    background: float = 0.0
    adversarial: float = 1.0
    kind: Adversarial = "bce"
    feature_matching: float = 10.0
    feature_distance: Literal["l2", "l1"] = "l2"
    parsing: float = 1.0
    parsing_on: Literal["both", "unpaired"] = "both"
    parsing_weights: tuple[float, ...] = ()
    perceptual: float = 0.0
    perceptual_weights: str = ""
    kl: float = 0.0
    r1: float = 0.0
    r1_every: int = 16

    def __post_init__(self) -> None:
        if len(self.region_weights) != 5:
            raise ValueError(f"loss.region_weights must be five numbers, not {self.region_weights}")
        if len(self.parsing_weights) not in (0, 11):
            raise ValueError(f"loss.parsing_weights must be empty or 11 numbers, not {self.parsing_weights}")
        if self.r1_every < 1:
            raise ValueError(f"loss.r1_every must be at least 1, not {self.r1_every}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """How the networks are trained; see :class:`retouch_common.training.config.TrainConfig` for what is not listed.

    Attributes:
        pairing: The (1+1) strategy of section 3.3: "alternate" paired and unpaired steps, or "overlap": unpaired data
            in every step, and paired data besides in every second one, as the official code has it.
        parser: Weights of the frozen face parser: bundled name, path or hub id. Eq. 8 needs them.
        augment: Turn, move, mirror and recolour faces a little, and change backgrounds.
        moved: Share of paired samples whose source is the same portrait held otherwise, with parts hidden; not in the
            paper.
        neck: In unpaired data, the neck and the ears that the target's background shows have the colour of the source's
            skin; not in the paper.
        discriminator_lr: Of the discriminators, as a share of ``lr``.
    """

    pairing: Literal["alternate", "overlap"] = "alternate"
    parser: str = "small"
    steps: int = 200_000
    batch_size: int = 4
    augment: bool = True
    moved: float = 0.0
    neck: bool = False
    discriminator_lr: float = 1.0
    betas: tuple[float, ...] = (0.5, 0.999)
    step_at: int = 100_000
    sheet_every: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.moved <= 1:
            raise ValueError(f"train.moved must lie between 0 and 1, not {self.moved}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Model, loss and training together: what a run directory records.

    Attributes:
        model: The networks.
        loss: Eq. 1-9.
        train: The optimisation.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.loss.kl and not self.model.variational:
            raise ValueError("loss.kl needs model.variational=true")
        if self.loss.parsing and not self.train.parser:
            raise ValueError("loss.parsing needs a face parser: name its weights in train.parser, or set it to 0")


# What works on fewer faces: spatial codes, no checkerboards, masks seen at full resolution, backgrounds not learnt.
_MODERN = ModelConfig(
    whole_windows="picture",
    surroundings="continued",
    snap=True,
    code=(96, 96, 180, 512, 512),
    code_grid=8,
    fold=2,
    local_blocks=1,
    picture_decoder="features",
    mask_skips=True,
    background_residual=True,
    upsampling="nearest",
    norm="none",
    discriminator_norm="spectral",
)

PRESETS: dict[str, Config] = {
    # The equations as printed, with the official code's layers where the paper is silent.
    "paper": Config(),
    # What the official code does; its weights contain the factors inside its losses, and twice those of squares,
    # of which Eq. 1 and 2 take halves.
    "official": Config(
        model=ModelConfig(
            mask_eyes=False,
            missing="canonical",
            whole_windows="picture",
            enlarge=1.1,
            variational=True,
            discriminators=2,
        ),
        loss=LossConfig(
            local=10_000.0,
            reconstruction=40.0,
            region=40.0,
            region_weights=(1.0, 1.0, 1.0, 0.5, 0.5),
            feature_distance="l1",
            parsing=100.0,
            parsing_on="unpaired",
            perceptual=30.0,
        ),
        train=TrainConfig(pairing="overlap"),
    ),
    # One GPU and some thousand faces.
    "recommended": Config(
        model=replace(
            _MODERN,
            code=(192, 192, 720, 1024, 1024),
            max_width=384,
            features=128,
            background_blocks=1,
            norm="group",
        ),
        loss=LossConfig(reconstruction=40.0, region=4.0, appearance=4.0, background=4.0, kind="hinge", r1=1.0),
        train=TrainConfig(
            batch_size=16,
            moved=0.5,
            neck=True,
            schedule="cosine",
            warmup=500,
            clip=1.0,
            ema=0.999,
            precision="bf16",
            channels_last=True,
        ),
    ),
    # The bundled weights: a few million parameters, trained on a CPU.
    "small": Config(
        model=replace(
            _MODERN,
            code=(192, 192, 720, 4096, 4096),
            code_grid=16,
            width=32,
            max_width=96,
            features=32,
            generator_width=96,
            generator_blocks=4,
            foreground_width=32,
            background_blocks=1,
            discriminator_width=32,
        ),
        loss=LossConfig(
            local=20.0,
            reconstruction=100.0,
            region=10.0,
            appearance=10.0,
            background=40.0,
            kind="hinge",
            parsing_on="unpaired",
            r1=1.0,
        ),
        train=TrainConfig(
            steps=20_000,
            batch_size=4,
            moved=0.5,
            neck=True,
            lr=1e-3,
            discriminator_lr=0.3,
            betas=(0.5, 0.99),
            schedule="cosine",
            warmup=200,
            clip=1.0,
            ema=0.999,
            precision="bf16",
            channels_last=True,
            workers=0,
            sheet_every=1000,
            checkpoint_every=100,
        ),
    ),
    # For tests: a training step takes a fraction of a second on a CPU.
    "tiny": Config(
        model=replace(
            _MODERN,
            size=64,
            code=(6, 6, 45, 16, 16),
            code_grid=4,
            width=4,
            max_width=8,
            features=4,
            generator_width=8,
            generator_blocks=1,
            foreground_width=4,
            discriminator_width=4,
            discriminator_layers=2,
        ),
        loss=LossConfig(
            local=20.0,
            reconstruction=100.0,
            region=10.0,
            appearance=20.0,
            background=40.0,
            adversarial=0.1,
            kind="hinge",
            r1=1.0,
        ),
        train=TrainConfig(
            steps=20,
            moved=0.5,
            neck=True,
            lr=2e-3,
            betas=(0.9, 0.99),
            ema=0.9,
            workers=0,
            log_every=1,
            sheet_every=10,
            checkpoint_every=10,
        ),
    ),
}

"""Configuration of model, losses and training, and the named presets.

``maskgan-train --preset recommended --set model.norm=batch`` starts from a preset and overrides an option. The settings
of section 4.1 are ``SETTING_1`` and ``SETTING_2``; Table 2 without the face parsing network is ``loss.parsing=0``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from retouch_common.training.config import TrainConfig as BaseTrainConfig

Norm = Literal["batch", "group", "instance", "none"]
Upsampling = Literal["transposed", "nearest"]
DiscriminatorNorm = Literal["batch", "instance", "spectral", "none"]
Adversarial = Literal["bce", "hinge", "lsgan"]

COMPONENT_NAMES = ("eye_left", "eye_right", "mouth", "skin", "hair")
"""The paper's five components in its order; :mod:`maskgan.components` describes them."""

_PASTED = {"model.background": "pasted", "model.background_residual": False, "model.background_blocks": 0}

SETTING_1 = {"model.embedding": "global", **_PASTED}
"""Overrides of section 4.1, setting 1: one auto-encoder for the whole face, the background pasted."""

SETTING_2 = {"model.embedding": "local", **_PASTED}
"""Overrides of section 4.1, setting 2: an auto-encoder for every component, the background pasted."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of the generator and the discriminators.

    Attributes:
        size: S, side of the aligned faces in pixels; a power of two, at least 64.
        embedding: "local", an auto-encoder for every component, or "global", one for the face.
        background: "fused" by E_b and G_b, or "pasted" around the foreground image.
        foreground: What G_m passes to G_b: "features", as in the official code, or a "picture".
        mask_eyes: Mask everything but the eyes in their windows.
        missing: A missing component has a "zero" feature (hair: a zero code, since baldness is to be learnt), or is
            cut out and placed at its "canonical" position anyway.
        whole_windows: Windows of skin and hair, as large as the image, are centred on the component's "box" or cover
            the "picture".
        surroundings: Pixels around skin and hair in their windows are "zero", or the component is "continued" there
            smoothly, so that its code knows its colours wherever a mask asks for it.
        snap: Align windows to multiples of four pixels, so that features return exactly to where they were cut out.
        enlarge: Factor by which eyes and mouth are enlarged in the labels that E_m and the discriminators see.
        code: Code lengths of left eye, right eye, mouth, skin and hair; the last is also the global code's.
        code_grid: 0: codes are vectors. Otherwise codes are maps: this many cells per side for skin and hair, the
            encoders' last maps, 2 x 3 and 5 x 9, for eyes and mouth; ``code`` counts all values.
        variational: Sample codes in training, as a variational auto-encoder does.
        fold: Fold blocks of fold x fold pixels into channels before the first layers and unfold them after the last;
            1 is the paper's network.
        width: Channels of the encoders' first layer; doubled at every layer up to ``max_width``.
        max_width: See ``width``.
        local_blocks: Residual blocks after every down- or upsampling layer of the auto-encoders.
        features: Channels of a component's features at a quarter of the resolution.
        picture_decoder: "own": G_local decodes component images from codes, as in the paper; "features": a head of two
            layers on the decoded features.
        generator_width: Channels of E_m's and G_m's features at a quarter of the resolution.
        generator_blocks: Residual blocks of G_m.
        mask_skips: Skip connections from E_m's finer features to G_m.
        foreground_width: Channels of G_m's and E_b's features at full resolution.
        background_blocks: Residual blocks of G_b.
        background_residual: Add G_b's output to the target's background.
        upsampling: "transposed" convolutions of 4 x 4, or "nearest" neighbours and a convolution of 3 x 3.
        norm: Normalisation of all layers but the outermost.
        discriminators: 1, or 2: one for paired and one for unpaired data.
        discriminator_width: Channels of the discriminators' first layer.
        discriminator_layers: Strided layers of the discriminators.
        discriminator_norm: Normalisation of the discriminators; "spectral" normalises weights.
    """

    RETIRED: ClassVar[Mapping[str, Any]] = {"hidden": 1024, "discriminator_scales": 2}

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
    upsampling: Upsampling = "transposed"
    norm: Norm = "batch"
    discriminators: Literal[1, 2] = 1
    discriminator_width: int = 64
    discriminator_layers: int = 3
    discriminator_norm: DiscriminatorNorm = "batch"

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096 or self.size & (self.size - 1):
            raise ValueError(f"model.size must be a power of two from 64 to 4096, not {self.size}")
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
        for name in ("width", "max_width", "features", "generator_width", "foreground_width"):
            if getattr(self, name) < 4:
                raise ValueError(f"model.{name} must be at least 4, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and forms of the terms of Eq. 9. Squared errors are halves of means, not sums.

    Attributes:
        local: lambda_local of Eq. 1, a sum over the components present; 10 in the paper.
        reconstruction: lambda_global of Eq. 2, on paired data only; 1 in the paper.
        region: Eq. 2 once more over every component's pixels, on paired data; not in the paper.
        region_weights: Weights of left eye, right eye, mouth, skin and hair in ``region``.
        appearance: On unpaired data, distance of every component's mean colour and deviation from the source's; not in
            the paper.
        background: On unpaired data, reconstruction of the target's background; not in the paper.
        adversarial: lambda_GD of Eq. 6, 1 in the paper.
        kind: Adversarial loss: "bce" is Eq. 3 and 4; "hinge" or "lsgan".
        feature_matching: lambda_FM of Eq. 6, on paired data only. The paper does not state it; 10 is the official
            code's and pix2pixHD's.
        feature_distance: Distance of Eq. 5: "l2" as printed, or "l1" as in the official code.
        parsing: lambda_GP of Eq. 8, 1 in the paper; 0 trains without a face parser (Table 2).
        parsing_on: Data for Eq. 8: "both" kinds, or "unpaired" only.
        perceptual: Distance of VGG-19 features of the foregrounds, on paired data; not in the paper.
        perceptual_weights: File of torchvision's VGG-19 weights; empty uses torch.hub's cache.
        r1: gamma of the gradient penalty on real images; 0 disables it.
    """

    RETIRED: ClassVar[Mapping[str, Any]] = {"distance": "l2", "parsing_weights": (), "kl": 0.0, "r1_every": 16}

    local: float = 10.0
    reconstruction: float = 1.0
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
    perceptual: float = 0.0
    perceptual_weights: str = ""
    r1: float = 0.0

    def __post_init__(self) -> None:
        if len(self.region_weights) != 5:
            raise ValueError(f"loss.region_weights must be five numbers, not {self.region_weights}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """Options of training; see :class:`retouch_common.training.config.TrainConfig` for those not listed.

    Attributes:
        pairing: The (1+1) strategy of section 3.3: "alternate" paired and unpaired steps, or "overlap": unpaired data
            in every step and paired data also in every second one, as in the official code; or "paired" data only.
        parser: Weights of the frozen face parser of Eq. 8: bundled name, path or hub id.
        augment: Rotate, shift, mirror and recolour training faces slightly and replace backgrounds; not in the paper.
        moved: Share of paired samples whose source is the same portrait in another pose with parts hidden; not in the
            paper.
        neck: In unpaired data, give neck and ears in the target's background the colour of the source's skin; not in
            the paper.
        discriminator_lr: Learning rate of the discriminators relative to ``lr``.
        adversarial_warmup: Steps at the start in which only the discriminators learn from the adversarial loss.
    """

    RETIRED: ClassVar[Mapping[str, Any]] = {"step_at": 100_000}

    pairing: Literal["alternate", "overlap", "paired"] = "alternate"
    parser: str = "small"
    steps: int = 200_000
    batch_size: int = 4
    augment: bool = True
    moved: float = 0.0
    neck: bool = False
    discriminator_lr: float = 1.0
    adversarial_warmup: int = 0
    betas: tuple[float, ...] = (0.5, 0.999)
    sheet_every: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.moved <= 1:
            raise ValueError(f"train.moved must lie between 0 and 1, not {self.moved}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Configuration of a run, as its directory records it.

    Attributes:
        model: Architecture.
        loss: Terms of Eq. 9.
        train: Optimisation.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.loss.parsing and not self.train.parser:
            raise ValueError("loss.parsing needs a face parser: name its weights in train.parser, or set it to 0")


# For few faces: spatial codes, no checkerboards, masks at full resolution, backgrounds copied.
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
    # The equations as printed, with the official code's layer sizes where the paper is silent.
    "paper": Config(train=TrainConfig(augment=False)),
    # More of the official code; its weights contain the factors inside its losses, and twice those of squares, of which
    # Eq. 1 and 2 take halves. Its weights of classes, layers and components are not followed.
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
        train=TrainConfig(pairing="overlap", augment=False),
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
            clip=50.0,  # an outlier guard: at 1 every step had the same length, whatever the weights of its losses
            ema=0.999,
            precision="auto",
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
            discriminator_norm="none",  # spectral normalisation keeps them at chance in a short training
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
            clip=50.0,  # an outlier guard: at 1 every step had the same length, whatever the weights of its losses
            ema=0.999,
            precision="auto",
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

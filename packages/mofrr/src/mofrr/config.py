"""Configuration of MoFRR and its presets.

``mofrr-train router --preset recommended --set model.levels=1`` starts from a preset and overrides a field. The rows of
Table 4 are ``model.idem=false``, ``model.degree=false``, ``model.hfcam=false``, ``model.shared=false``,
``model.router=false`` and, for the single WaveFRR, all of ``SINGLE``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from retouch_common.config import apply_overrides
from retouch_common.training.config import TrainConfig as BaseTrainConfig

OPERATIONS = ("white", "smooth", "lift", "eye")
"""Whitening, smoothing, face lifting and eye enlarging, in the paper's order."""

NUM_DEGREES = 5
"""Degrees of an operation, from 1 (light) to 5 (heavy)."""

SINGLE = {
    "model.operations": ["all"],
    "model.router": False,
    "model.degree": False,
    "model.shared": False,
    "model.combine": False,
}
"""Overrides of Table 4's "single WaveFRR": one expert of all operations is the whole network."""


PATCH = 8  # side of HFCAM's patches in pixels of the band: 4096 tokens for a face of 1024 pixels at one level
SHARED_UNSHUFFLE = 4  # the shared expert's pixel unshuffling: at full resolution a step costs 16 times as much


BackboneName = Literal["resnet50", "resnet18", "subbands", "subbands-traces", "subbands-traces-imagenet", "mam"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of the network.

    Attributes:
        size: Side of the aligned training faces in pixels; a multiple of ``multiple``.
        operations: Names of the retouching operations; each has an expert.
        backbone: Of the router: torchvision's "resnet50" or "resnet18", "mam" (:mod:`mofrr.mam`), "subbands"
            (:mod:`mofrr.subband_cnn`), "subbands-traces", which also sees :mod:`mofrr.traces`, or
            "subbands-traces-imagenet", beside which stands a network trained on ImageNet
            (:mod:`mofrr.efficientnet`).
        degree_backbone: Likewise, of the degree estimators; "router" takes the router's, and starts from its weights.
        backbone_size: Side in pixels to which faces are resized for the backbones.
        levels: Levels of the wavelet transform; the last low band is diffused.
        idem_width: Channels in which IDEM mixes its inputs; 0 mixes the pixels themselves, as Eq. 3-5 are printed.
        degree_map: Also give the degree to the noise predictor, as a constant map.
        channels: Channels of the noise predictor at its finest resolution.
        multipliers: Multiples of ``channels`` at each resolution, finest first.
        blocks: Residual blocks at each resolution.
        attention_levels: Indices of the resolutions with self-attention; the bottleneck always has it.
        T: Number of diffusion timesteps.
        zero_terminal_snr: Rescale the schedule so that the last timestep is pure noise.
        prediction: Target of the noise predictor: "epsilon", "x0" or "v".
        residual: With "x0", predict the change of the retouched low band.
        steps: DDIM steps.
        spacing: Timesteps of sampling: "leading" from 0, as in DDIM's code, or "trailing" from the last, whose noise
            level is the one that sampling starts from; see :func:`retouch_common.diffusion.ddim.sampling_times`.
        clip: Clamp the estimated y_0 to [-1, 1] in every sampling step.
        warm_start: Sample from the noised retouched band instead of pure noise.
        attention_width: Token width of HFCAM.
        attention_heads: Attention heads of HFCAM.
        refine_all: HFCAM's convolutions see both bands besides the attention output, which is all the paper gives them.
        shared_channels: As ``channels``, for the shared expert.
        shared_multipliers: As ``multipliers``, for the shared expert.
        combine_channels: Channels of the Combine Module at its finest resolution.
        combine_depth: Number of its downsamplings.
        combine_base: What its output is added to: the "input", or the input and the changes of all active "experts".
        router: False activates every expert on every face.
        degree: False has no degree estimators; the degree is 0.
        idem: False leaves out IDEM.
        hfcam: False keeps the high bands of the input.
        shared: False leaves out the shared expert.
        always_shared: The shared expert and the Combine Module also work on faces in which the router finds nothing, as
            in the paper, instead of leaving them as they are.
        combine: False returns the output of the only expert.
    """

    RETIRED: ClassVar[dict[str, Any]] = {
        "threshold": 0.5,
        "schedule": "linear",
        "patch": PATCH,
        "query": "low",
        "shared_unshuffle": SHARED_UNSHUFFLE,
        "gates": "binary",
    }

    size: int = 512
    operations: tuple[str, ...] = OPERATIONS
    backbone: BackboneName = "resnet50"
    degree_backbone: Literal["router"] | BackboneName = "router"
    backbone_size: int = 512
    levels: int = 2
    idem_width: int = 32
    degree_map: bool = True
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (2,)
    T: int = 1000
    zero_terminal_snr: bool = False
    prediction: Literal["epsilon", "x0", "v"] = "epsilon"
    residual: bool = False
    steps: int = 10
    spacing: Literal["leading", "trailing"] = "trailing"
    clip: bool = True
    warm_start: bool = True
    attention_width: int = 256
    attention_heads: int = 8
    refine_all: bool = True
    shared_channels: int = 64
    shared_multipliers: tuple[int, ...] = (1, 2, 3, 4)
    combine_channels: int = 32
    combine_depth: int = 4
    combine_base: Literal["input", "experts"] = "input"
    router: bool = True
    degree: bool = True
    idem: bool = True
    hfcam: bool = True
    shared: bool = True
    always_shared: bool = False
    combine: bool = True

    def __post_init__(self) -> None:
        if len(set(self.operations)) != len(self.operations) or not all(n.isidentifier() for n in self.operations):
            raise ValueError(f"model.operations must be different plain names, not {', '.join(self.operations)}")
        if self.router and not self.operations:
            raise ValueError("model.router=true needs model.operations to find")
        if self.degree and "all" in self.operations:
            raise ValueError("model.operations=[all] needs model.degree=false: there is no degree of everything")
        if not self.combine and (len(self.operations) != 1 or self.router or self.shared):
            raise ValueError("model.combine=false needs exactly one operation, model.router=false, model.shared=false")
        if self.levels < 1:
            raise ValueError(f"model.levels must be at least 1, not {self.levels}")
        if self.attention_width % 4 or self.attention_width % self.attention_heads:
            raise ValueError(
                f"model.attention_width must be a multiple of 4 and of model.attention_heads={self.attention_heads}, "
                f"not {self.attention_width}"
            )
        if any(name.startswith("subbands") for name in self.backbones) and self.backbone_size % 32:
            raise ValueError(
                f"model.backbone_size must be a multiple of 32 for model.backbone=subbands, not {self.backbone_size}"
            )
        if any(name.endswith("imagenet") for name in self.backbones) and self.backbone_size % 128:
            raise ValueError(
                "model.backbone_size must be a multiple of 128 for model.backbone=subbands-traces-imagenet, "
                f"not {self.backbone_size}"
            )
        if max(self.size, self.backbone_size) > 4096:
            raise ValueError(f"model.size={self.size} and model.backbone_size={self.backbone_size}: at most 4096")
        if self.size % self.multiple:
            raise ValueError(f"model.size must be a multiple of {self.multiple}, not {self.size}")
        if self.residual and self.prediction != "x0":
            raise ValueError("model.residual=true needs model.prediction=x0")
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError("model.zero_terminal_snr=true needs model.prediction=x0 or v")
        if not 1 <= self.steps <= self.T:
            raise ValueError(f"model.steps must lie between 1 and model.T={self.T}, not at {self.steps}")

    @property
    def estimator_backbone(self) -> str:
        """Name of the degree estimators' backbone."""
        return self.backbone if self.degree_backbone == "router" else self.degree_backbone

    @property
    def backbones(self) -> set[str]:
        """Names of the backbones in use."""
        used = [self.backbone] * self.router + [self.estimator_backbone] * self.degree
        return set(used)

    @property
    def traces(self) -> bool:
        """Whether a backbone sees the photograph's traces."""
        return any("traces" in name for name in self.backbones)

    @property
    def multiple(self) -> int:
        """Multiple to which sides of images are padded, so that every network can downsample its features."""
        wavelets = 2**self.levels * 2 ** (len(self.multipliers) - 1)
        bands = 2**self.levels * PATCH if self.hfcam else 1
        shared = SHARED_UNSHUFFLE * 2 ** (len(self.shared_multipliers) - 1) if self.shared else 1
        return math.lcm(wavelets, bands, shared, 2**self.combine_depth if self.combine else 1)

    def columns(self, names: Sequence[str]) -> list[bool]:
        """Return for each operation whether it is among ``names``.

        Raises:
            ValueError: A name is not an operation.
        """
        unknown = sorted(set(names) - set(self.operations))
        if unknown:
            raise ValueError(f"unknown expert {', '.join(unknown)}; choose from {', '.join(self.operations)}")
        return [name in names for name in self.operations]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses of section 3.4; those that never vary are constants of :mod:`mofrr.losses`.

    Attributes:
        idem: L_IDEM; 1 in the paper.
        simple: L_simple, on the noise predictor's output.
        ssim: SSIM term of L_hyb.
        order: Squared error of the expected degree, of the degree estimators; 0 in the paper.
        rollout: Low band of L_space: "one_step", the x0 estimate at time t, weighted by abar_t; "full", all DDIM steps
            with gradients through them, as in the paper; "last", in half of the steps the last DDIM step after the
            others without gradients, so that it learns from their errors, else as "one_step".
    """

    RETIRED: ClassVar[dict[str, Any]] = {"high": 0.1, "tv": 0.01, "l1": 1.0}

    idem: float = 0.1
    simple: float = 1.0
    ssim: float = 1.0
    order: float = 1.0
    rollout: Literal["one_step", "full", "last"] = "one_step"


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """Training of a stage; see :class:`retouch_common.training.config.TrainConfig` for what is not listed.

    ``init`` names weights of the whole network, from which the stage's part is taken.

    Attributes:
        styles: Styles of retouching for faces: data; empty takes all. Leave one out for a cross-generator test.
        apis: Programs that retouched the images of a folder, see :data:`mofrr.retouching_ffhq.APIS`; empty takes all.
            Table 3 leaves out "portrait".
        shared_faces: Faces of the shared expert's training: "mixed", with 0 to 4 operations, or "multi", with at least
            two.
        only: Train only the weights that belong to this operation, which was added to a trained network, and keep
            those of ``init`` for everything else; empty trains all.
    """

    RETIRED: ClassVar[dict[str, Any]] = {"checkpointing": True, "drop_experts": 0.1, "step_at": 100_000}

    styles: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    shared_faces: Literal["mixed", "multi"] = "mixed"
    steps: int = 200_000
    only: str = ""
    batch_size: int = 16
    lr: float = 1e-4
    ema: float = 0.9999
    sheet_every: int = 2000


@dataclass(frozen=True, kw_only=True)
class Config:
    """Configuration of a run, as its directory records it.

    Attributes:
        model: Architecture.
        loss: Losses of section 3.4.
        train: Optimisation.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        only = self.train.only
        if only and only not in self.model.operations:
            raise ValueError(f"train.only={only} is none of model.operations ({', '.join(self.model.operations)})")
        if only and not self.train.init:
            raise ValueError(f"train.only={only} needs the rest of the network: name its weights with --init")


PRESETS: dict[str, Config] = {
    # The equations as printed.
    "paper": Config(
        model=ModelConfig(
            size=1024,
            backbone="mam",
            degree_backbone="resnet50",
            levels=1,
            idem_width=0,
            degree_map=False,
            T=200,
            spacing="leading",
            clip=False,
            warm_start=False,
            refine_all=False,
            always_shared=True,
        ),
        loss=LossConfig(idem=1.0, order=0.0, rollout="full"),
        train=TrainConfig(shared_faces="multi"),
    ),
    # What works best on one GPU.
    "recommended": Config(
        model=ModelConfig(combine_base="experts"),
        train=TrainConfig(schedule="cosine", warmup=500, clip=1.0, precision="auto", channels_last=True),
    ),
    # The bundled weights.
    "small": Config(
        model=ModelConfig(
            size=256,
            backbone="subbands-traces-imagenet",
            backbone_size=256,
            levels=1,
            channels=16,
            blocks=1,
            attention_levels=(3,),
            zero_terminal_snr=True,
            prediction="x0",
            residual=True,
            steps=2,
            warm_start=False,
            attention_width=64,
            attention_heads=4,
            shared_channels=24,
            shared_multipliers=(1, 2, 3),
            combine_channels=12,
            combine_base="experts",
        ),
        loss=LossConfig(rollout="last"),
        train=TrainConfig(
            steps=3000,
            batch_size=8,
            lr=1e-3,
            schedule="cosine",
            warmup=100,
            clip=1.0,
            ema=0.998,
            precision="auto",
            channels_last=True,
            workers=1,
            sheet_every=500,
            checkpoint_every=100,
        ),
    ),
    # For tests: a training step takes a fraction of a second on a CPU.
    "tiny": Config(
        model=ModelConfig(
            size=64,
            backbone="subbands-traces",
            backbone_size=64,
            levels=1,
            idem_width=4,
            channels=8,
            multipliers=(1, 2),
            blocks=1,
            attention_levels=(),
            T=50,
            zero_terminal_snr=True,
            prediction="x0",
            residual=True,
            steps=2,
            warm_start=False,
            attention_width=16,
            attention_heads=2,
            shared_channels=8,
            shared_multipliers=(1, 2),
            combine_channels=4,
            combine_depth=2,
        ),
        train=TrainConfig(
            steps=20,
            batch_size=4,
            lr=2e-3,
            ema=0.9,
            workers=0,
            log_every=1,
            sheet_every=10,
            checkpoint_every=10,
        ),
    ),
}

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "router": {"train.steps": 1500, "train.batch_size": 16, "train.lr": 5e-4, "train.sheet_every": 500},
        "degree": {"train.steps": 400, "train.batch_size": 16, "train.sheet_every": 200},
        "expert": {"train.steps": 500, "train.sheet_every": 200, "loss.simple": 10.0, "loss.ssim": 0.3},
        "shared": {"train.steps": 1200, "train.sheet_every": 400, "loss.simple": 10.0, "loss.ssim": 0.3},
        "combine": {"train.steps": 150, "train.sheet_every": 50, "loss.ssim": 0.3},
        "baseline": {"loss.ssim": 0.3},
    },
}
"""Overrides of presets for kinds of stages, by preset and kind."""

PIX2PIX: dict[str, Any] = {"train.lr": 2e-4, "train.betas": [0.5, 0.999]}
"""Overrides of all presets for the baseline pix2pix: Adam as in section 3.3 of its paper."""


def stage_presets(stage: str) -> dict[str, Config]:
    """Return the presets for a stage ("router", "degree-white", ...), with its overrides."""
    kind, published = stage.partition("-")[0], PIX2PIX if stage == "baseline-pix2pix" else {}
    return {
        name: apply_overrides(preset, RECIPES.get(name, {}).get(kind, {}) | published)
        for name, preset in PRESETS.items()
    }

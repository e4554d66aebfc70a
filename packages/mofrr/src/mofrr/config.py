"""Configuration of MoFRR: one frozen dataclass per concern, and the named presets.

``mofrr-train router --preset recommended --set model.levels=1`` starts from a preset and overrides a field. The rows of
Table 4 are ``model.idem=false``, ``model.degree=false``, ``model.hfcam=false``, ``model.shared=false``,
``model.router=false`` and, for the single WaveFRR, all of ``SINGLE``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from retouch_common.config import apply_overrides
from retouch_common.training.config import TrainConfig as BaseTrainConfig

OPERATIONS = ("white", "smooth", "lift", "eye")
"""Whitening, smoothing, face lifting and eye enlarging, in the paper's order."""

NUM_DEGREES = 5
"""Degrees of an operation, 1 to 5, the heaviest."""

SINGLE = {
    "model.operations": ["all"],
    "model.router": False,
    "model.degree": False,
    "model.shared": False,
    "model.combine": False,
}
"""Table 4's "single WaveFRR" as overrides: one expert for everything is the whole network."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the network is.

    Attributes:
        size: Side in pixels of the aligned faces that training shows; a multiple of ``multiple``.
        operations: Names of the retouching operations, each with an expert.
        backbone: Of the router and the degree estimators: torchvision's "resnet50" or "resnet18", "mam", the ResNet
            with multi-granularity attention of RetouchingFFHQ, "subbands", :mod:`mofrr.subband_cnn`, or
            "subbands-traces", the same with :mod:`mofrr.traces`.
        backbone_size: Side in pixels to which faces are reduced for them.
        threshold: An operation is there if the router's probability is above.
        levels: Levels of the wavelet transform; diffusion works on the last low band.
        idem_width: Channels in which IDEM mixes its inputs; 0 mixes the pixels themselves, as Eq. 3-5 are printed.
        degree_map: The noise predictor also sees the degree, as a constant map.
        channels: Channels of the noise predictor at its finest resolution.
        multipliers: Of ``channels`` at each of its resolutions.
        blocks: Residual blocks at each resolution.
        attention_levels: Resolutions, counted from 0, whose blocks attend; the middle always does.
        schedule: "linear" or "cosine".
        T: Times of the schedule.
        zero_terminal_snr: The last time is noise alone.
        prediction: What the noise predictor answers: "epsilon", "x0" or "v".
        residual: With "x0": the answer is added to the retouched low band.
        steps: DDIM steps.
        spacing: Of the DDIM times, "leading" or "trailing".
        warm_start: Sample from the noised retouched band instead of from noise.
        patch: Side of HFCAM's patches in pixels of the band.
        attention_width: Width of HFCAM's tokens.
        attention_heads: Heads of HFCAM.
        query: HFCAM asks with the restored "low" band, as Eq. 8 has it, or with the "high" bands.
        refine_all: HFCAM's convolutions see both bands beside what was attended to; the paper's see that alone.
        shared_unshuffle: The shared expert sees pixels folded into channels, this many by this many.
        shared_channels: As ``channels``, of the shared expert.
        shared_multipliers: As ``multipliers``, of the shared expert.
        combine_channels: Channels of the Combine Module's finest features.
        combine_depth: Number of its halvings.
        combine_base: What its answer is added to: the "input", or the input and the changes of all active "experts".
        gates: How much of an active expert's change counts: all of it ("binary"), or as much as the router is sure
            ("probability"), which is the least squared error that a right probability allows.
        router: False: every expert works on every face.
        degree: False: no degree estimators; the degree is 0 everywhere.
        idem: False: without IDEM.
        hfcam: False: the high bands stay as they are.
        shared: False: without the shared expert.
        combine: False: the only expert's picture is the result.
    """

    size: int = 512
    operations: tuple[str, ...] = OPERATIONS
    backbone: Literal["resnet50", "resnet18", "subbands", "subbands-traces", "mam"] = "resnet50"
    backbone_size: int = 512
    threshold: float = 0.5
    levels: int = 2
    idem_width: int = 32
    degree_map: bool = True
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (2,)
    schedule: Literal["linear", "cosine"] = "linear"
    T: int = 1000
    zero_terminal_snr: bool = False
    prediction: Literal["epsilon", "x0", "v"] = "epsilon"
    residual: bool = False
    steps: int = 10
    spacing: Literal["leading", "trailing"] = "trailing"
    warm_start: bool = True
    patch: int = 8
    attention_width: int = 256
    attention_heads: int = 8
    query: Literal["low", "high"] = "low"
    refine_all: bool = True
    shared_unshuffle: int = 4
    shared_channels: int = 64
    shared_multipliers: tuple[int, ...] = (1, 2, 3, 4)
    combine_channels: int = 32
    combine_depth: int = 4
    combine_base: Literal["input", "experts"] = "input"
    gates: Literal["binary", "probability"] = "binary"
    router: bool = True
    degree: bool = True
    idem: bool = True
    hfcam: bool = True
    shared: bool = True
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
        if self.backbone.startswith("subbands") and self.backbone_size % 32:
            raise ValueError(
                f"model.backbone_size must be a multiple of 32 for model.backbone=subbands, not {self.backbone_size}"
            )
        if self.size % self.multiple:
            raise ValueError(f"model.size must be a multiple of {self.multiple}, not {self.size}")
        if self.residual and self.prediction != "x0":
            raise ValueError("model.residual=true needs model.prediction=x0")
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError("model.zero_terminal_snr=true needs model.prediction=x0 or v")
        if not 1 <= self.steps <= self.T:
            raise ValueError(f"model.steps must lie between 1 and model.T={self.T}, not at {self.steps}")

    @property
    def multiple(self) -> int:
        """Sides of pictures are padded to multiples of this, so that every network can halve its features."""
        wavelets = 2**self.levels * 2 ** (len(self.multipliers) - 1)
        bands = 2**self.levels * self.patch if self.hfcam else 1
        shared = self.shared_unshuffle * 2 ** (len(self.shared_multipliers) - 1) if self.shared else 1
        return math.lcm(wavelets, bands, shared, 2**self.combine_depth if self.combine else 1)

    def columns(self, names: Sequence[str]) -> list[bool]:
        """Which of the operations are among the names.

        Raises:
            ValueError: A name is no operation.
        """
        unknown = sorted(set(names) - set(self.operations))
        if unknown:
            raise ValueError(f"no expert {', '.join(unknown)}; there are {', '.join(self.operations)}")
        return [name in names for name in self.operations]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses of section 3.4.

    Attributes:
        idem: L_IDEM; 1 in the paper.
        simple: L_simple, on what the noise predictor answers.
        high: lambda_1, squared error of the high bands.
        tv: lambda_2, total variation of the high bands.
        l1: First half of L_hyb.
        ssim: Second half of L_hyb.
        rollout: Where L_space gets the low band from: "one_step", the picture that the answer at time t implies,
            weighted by abar_t; "full", all DDIM steps, with gradients through them as in the paper; or "last", every
            other time the last DDIM step after the others, so that it learns from their errors, else as "one_step".
    """

    idem: float = 0.1
    simple: float = 1.0
    high: float = 0.1
    tv: float = 0.01
    l1: float = 1.0
    ssim: float = 1.0
    rollout: Literal["one_step", "full", "last"] = "one_step"


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseTrainConfig):
    """How a stage is trained; see :class:`retouch_common.training.config.TrainConfig` for what is not listed.

    ``init`` names weights of the whole network, of which the stage's part is what begins.

    Attributes:
        styles: Styles of retouching for faces: data; empty takes all. What is left out is for a cross-generator test.
        only: Train nothing but what this operation has for itself, everything else comes from ``init`` and stays as it
            is: for an operation that was added to a trained network; empty trains all.
        checkpointing: Compute activations of sampled steps again instead of keeping them (``loss.rollout=full``).
        drop_experts: Probability that an active expert's picture is withheld from the Combine Module.
    """

    styles: tuple[str, ...] = ()
    steps: int = 200_000
    only: str = ""
    batch_size: int = 16
    lr: float = 1e-4
    step_at: int = 100_000
    ema: float = 0.9999
    checkpointing: bool = True
    drop_experts: float = 0.1
    sheet_every: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop_experts < 1:
            raise ValueError(f"train.drop_experts must lie in [0, 1), not at {self.drop_experts}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Model, loss and training together: what a run directory records.

    Attributes:
        model: The networks.
        loss: Section 3.4.
        train: The optimisation.
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
    # The equations as printed: one level, pixels mixed as they are, noise predicted, gradients through the sampler.
    "paper": Config(
        model=ModelConfig(
            size=1024,
            backbone="mam",
            levels=1,
            idem_width=0,
            degree_map=False,
            T=200,
            warm_start=False,
            refine_all=False,
        ),
        loss=LossConfig(idem=1.0, rollout="full"),
    ),
    # Two levels, lifted IDEM, a warm start; fits one GPU.
    "recommended": Config(
        model=ModelConfig(combine_base="experts", gates="probability"),
        train=TrainConfig(schedule="cosine", warmup=500, clip=1.0, precision="bf16", channels_last=True),
    ),
    # The bundled weights: answers a change of the retouched band, a few steps, nine million parameters in all.
    "small": Config(
        model=ModelConfig(
            size=256,
            backbone="subbands-traces",
            backbone_size=256,
            levels=1,
            channels=16,
            multipliers=(1, 2, 3, 4),
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
            gates="probability",
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
            precision="bf16",
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
        "router": {"train.steps": 6000, "train.batch_size": 16, "train.lr": 2e-3, "train.sheet_every": 1000},
        "degree": {"train.steps": 1200, "train.batch_size": 16, "train.sheet_every": 400},
        "expert": {"train.steps": 2000, "train.sheet_every": 500, "loss.simple": 10.0, "loss.ssim": 0.3},
        "shared": {"train.steps": 3000, "train.sheet_every": 1000, "loss.simple": 10.0, "loss.ssim": 0.3},
        "combine": {"train.steps": 1500, "train.sheet_every": 500, "loss.ssim": 0.3},
    },
}
"""What differs from a preset in some kinds of stages, by preset and kind."""


def stage_presets(kind: str) -> dict[str, Config]:
    """Return the presets for a kind of stages ("router", "degree", …): with what it has of its own in RECIPES."""
    return {name: apply_overrides(preset, RECIPES.get(name, {}).get(kind, {})) for name, preset in PRESETS.items()}

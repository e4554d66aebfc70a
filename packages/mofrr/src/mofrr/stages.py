"""Section 3.4, the stages of training: data, prerequisites and losses of each part.

    router            faces with 0-4 operations and those of the degree stages, which were applied
    degree-OPERATION  faces with that operation only, how strongly; may start from the router's backbone
    expert-OPERATION  the same faces and their originals; needs degree-OPERATION
    shared            faces with 0-4 or 2-4 operations and their originals
    combine           faces with 0-4 operations; needs all others, which stay as they are
    baseline-NAME     the same; for comparison, not part of the network

A batch holds ``retouched`` and ``original`` (N, 3, S, S) in [0, 1], ``traces`` (N, C, G, G), ``applied`` (N,
operations) of 0 and 1, and ``degree`` (N,), 1 to 5, for the degree stages.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, ClassVar, cast

import torch
from retouch_common.ranges import to_signed
from torch import Tensor, nn

from mofrr.backbones import Backbone
from mofrr.baselines import BASELINES, build_baseline
from mofrr.config import NUM_DEGREES, Config, ModelConfig
from mofrr.data import Kind, RetouchedFaces, open_retouched_faces
from mofrr.degree import DegreeEstimator, expected_degree
from mofrr.losses import combine_losses, degree_loss, expert_losses, order_loss, router_loss, shared_losses
from mofrr.model import Consultation, MoFRR, to_unit
from mofrr.router import THRESHOLD, Router
from mofrr.sampling import Diffusion
from mofrr.wavefrr import WaveFRR

Batch = dict[str, Tensor]
Rows = list[dict[str, Tensor]]

SHEET_ROWS = 6
DIFFUSION = tuple(option.name for option in fields(Diffusion))
FALSE_SHARE = 0.015  # false positive rate of the finished router for each operation, on validation faces
DROP_EXPERTS = 0.1  # probability that the Combine Module does not see an active expert, so that it relies on no slot


class Stage(ABC):
    """Training of one part of the network.

    Args:
        config: Of the run.
        operation: The operation of a degree or expert stage, the name of a baseline; empty for the other kinds.
    """

    kind: ClassVar[str]
    """First word of the name, and its name on the command line."""
    attribute: ClassVar[str]
    """Attribute of the network with the part, or the parts by operation."""
    validation_batches: ClassVar[int] = 12
    calibration_batches: ClassVar[int] = 0
    """Batches of validation faces for :meth:`calibrate`; 0 skips it."""
    depends_on: ClassVar[tuple[str, ...]]
    """What its part depends on: attributes of the model configuration."""

    def __init__(self, config: Config, operation: str = "") -> None:
        self.config, self.operation = config, operation

    @property
    def name(self) -> str:
        """Name of its directory: "router", "degree-white"."""
        return f"{self.kind}-{self.operation}" if self.operation else self.kind

    @property
    def faces(self) -> Kind:
        """Kind of faces, see :func:`mofrr.data.open_retouched_faces`."""
        return "mixed"

    def needs(self) -> "list[Stage]":
        """Return the stages that must be finished before."""
        return []

    def open_data(self, spec: str) -> tuple[RetouchedFaces, RetouchedFaces]:
        """Open training and validation faces."""
        model, cfg = self.config.model, self.config.train
        train, dev = (
            open_retouched_faces(
                spec, size=model.size, split=split, seed=cfg.seed, operations=model.operations, kind=self.faces,
                operation=self.operation, styles=cfg.styles, apis=cfg.apis,
            )
            for split in ("train", "dev")
        )  # fmt: skip
        return train, dev

    @property
    def path(self) -> str:
        """Path of the part in the network: "router", "estimators.white"."""
        return f"{self.attribute}.{self.operation}".rstrip(".")

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the part of the network that is trained."""
        return model.get_submodule(self.path)

    def initialize(self, model: MoFRR, given: Collection[str]) -> None:  # noqa: B027 - most parts stay as they were built
        """Initialise the part from those that the stage needs. Modified in place.

        Args:
            model: The whole network.
            given: Names of its tensors that ``train.init`` gave, which stay as they are.
        """

    def fits(self, other: ModelConfig) -> bool:
        """Return whether a part that was trained under another model configuration is usable in this one."""
        own = self.config.model
        return all(getattr(own, name) == getattr(other, name) for name in self.depends_on)

    def trained_parameters(self, part: nn.Module) -> list[nn.Parameter]:
        """Return the parameters to optimise: all, or with ``train.only`` those that belong to that operation."""
        only = self.config.train.only
        if not only or self.operation == only:
            return list(part.parameters())
        return [parameter for name, parameter in part.named_parameters() if only in name.split(".")]

    @abstractmethod
    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the unweighted loss terms by name.

        Args:
            model: The whole network; the parts that the stage needs are trained.
            part: The trained part, as the runner prepared it.
            batch: See the module.
            generator: Source of randomness.
        """

    @abstractmethod
    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return metrics on fixed validation faces, and rows of an image sheet.

        Args:
            model: The whole network.
            part: The averaged weights of the part, in evaluation mode.
            batches: Of the validation split.
        """

    def calibrate(self, part: nn.Module, batches: Sequence[Batch]) -> None:  # noqa: B027 - most stages need none
        """Adjust the finished part to validation faces. Modified in place."""


class RouterStage(Stage):
    """The router."""

    kind = attribute = "router"
    depends_on = ("size", "operations", "backbone", "backbone_size")
    validation_batches = 75  # metrics are cheaper than images
    calibration_batches = 150

    @property
    def faces(self) -> Kind:
        """Mixed ones, and those of the other stages, which are made anyway."""
        return "every"

    def initialize(self, model: MoFRR, given: Collection[str]) -> None:
        """Load weights trained on ImageNet if the backbone has such a network. Modified in place."""
        _load_imagenet(cast(Router, self.part_of(model)).backbone, self.path, given)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return L_class."""
        return {"class": router_loss(part(batch["retouched"], batch["traces"]), batch["applied"])}

    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return true and false positive rates of each operation, and the share of untouched faces left untouched."""
        logits, applied = self._logits(part, batches)
        found = torch.sigmoid(logits) > THRESHOLD
        metrics = {}
        for i, name in enumerate(self.config.model.operations):
            for title, faces in ((f"val_found_{name}", applied[:, i]), (f"val_false_{name}", ~applied[:, i])):
                metrics[title] = float(found[faces, i].float().mean()) if faces.any() else 0.0
        clean = ~applied.any(dim=1)
        untouched = float((~found[clean]).all(dim=1).float().mean()) if clean.any() else 0.0
        return metrics | {"val_untouched": untouched}, []

    def calibrate(self, part: nn.Module, batches: Sequence[Batch]) -> None:
        """Shift the logits so that few validation faces are false positives. Modified in place."""
        logits, applied = self._logits(part, batches)
        level = torch.tensor(THRESHOLD).logit()
        for column, (name, head) in enumerate(cast(Router, part).heads.items()):
            others = logits[~applied[:, column], column]
            if len(others) and self.config.train.only in ("", name):
                bias = cast(Any, head).answer.bias
                bias.data -= (others.quantile(1 - FALSE_SHARE, interpolation="higher") - level).to(bias)

    def _logits(self, part: nn.Module, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """Return logits and applied operations (bool) of all faces, (faces, operations)."""
        logits = torch.cat([part(batch["retouched"], batch["traces"]).float() for batch in batches])
        return logits, torch.cat([batch["applied"] for batch in batches]) > 0


class DegreeStage(Stage):
    """The degree estimator of an operation."""

    kind, attribute = "degree", "estimators"
    depends_on = ("size", "estimator_backbone", "backbone_size")
    validation_batches = 40

    @property
    def faces(self) -> Kind:
        """Those with its operation only."""
        return "single"

    @property
    def starts_from_router(self) -> bool:
        """Whether its backbone starts as a copy of the router's."""
        model = self.config.model
        return model.router and model.estimator_backbone == model.backbone

    def needs(self) -> list[Stage]:
        """Return the router if it starts from its backbone."""
        return [RouterStage(self.config)] if self.starts_from_router else []

    def open_data(self, spec: str) -> tuple[RetouchedFaces, RetouchedFaces]:
        """Open training and validation faces; degrees are quantiles of the training faces."""
        train, dev = super().open_data(spec)
        train.degree_edges = dev.degree_edges = train.measured_edges()
        return train, dev

    def initialize(self, model: MoFRR, given: Collection[str]) -> None:
        """Copy the router's backbone, else load weights trained on ImageNet. Modified in place."""
        backbone = cast(DegreeEstimator, self.part_of(model)).backbone
        if model.router is not None and self.starts_from_router:
            copied = model.router.backbone.state_dict().items()
            missing = {name: value for name, value in copied if f"{self.path}.backbone.{name}" not in given}
            backbone.load_state_dict(missing, strict=False)
        else:
            _load_imagenet(backbone, self.path, given)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return L_class and the order term."""
        logits = part(batch["retouched"], batch["traces"])
        # Paper: cross entropy alone. Here: also the error of the expected degree, since classes are ordered.
        return {"class": degree_loss(logits, batch["degree"]), "order": order_loss(logits, batch["degree"])}

    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return the accuracy, exact and within one degree, and the mean error in degrees."""
        logits = torch.cat([part(b["retouched"], b["traces"]).float() for b in batches])
        degree = torch.cat([b["degree"] for b in batches])
        distance = (logits.argmax(dim=1) + 1 - degree).abs()
        return {
            "val_accuracy": float((distance == 0).float().mean()),
            "val_within_one": float((distance <= 1).float().mean()),
            "val_degree_error": float((NUM_DEGREES * expected_degree(logits) - degree).abs().mean()),
        }, []


class RestoringStage(Stage):
    """A stage whose part outputs images, which is validated by PSNR."""

    @abstractmethod
    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return the part's images in inference, (N, 3, S, S) in [-1, 1]."""

    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return the PSNR of input and output, and rows of an image sheet."""
        errors: dict[str, list[Tensor]] = {"identity": [], "output": []}
        rows: Rows = []
        for number, batch in enumerate(batches):
            image, Y = batch["retouched"], batch["original"]
            restored = to_unit(self.restored(model, part, batch, [number] * len(image)))
            for name, output in (("identity", image), ("output", restored)):
                errors[name] += list((output - Y).square().mean(dim=(1, 2, 3)))
            amplified = (0.5 + 2 * (restored - image)).clamp(0, 1)
            images = {"retouched": image, "restored": restored, "original": Y, "change": amplified}
            rows += [{name: view[i].cpu() for name, view in images.items()} for i in range(len(image))]
        # Unretouched faces come back without an error: an infinite PSNR has no mean.
        means = {name: torch.stack(values).clamp(min=1e-5) for name, values in errors.items()}
        metrics = {f"val_psnr_{name}": float((-10 * values.log10()).mean()) for name, values in means.items()}
        return metrics, rows[:SHEET_ROWS]

    def _noise(
        self, X: Tensor, diffusion: Diffusion, shape: Sequence[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, list[int] | None, bool]:
        """Draw timesteps, noise, seeds of a rollout or None, and whether only its last step is trained."""
        t = diffusion.times(len(X), generator)
        noise = torch.randn(tuple(shape), generator=generator)
        rollout = self.config.loss.rollout
        last = rollout == "last" and bool(torch.rand(1, generator=generator) < 0.5)
        seeds = _seeds(X, generator) if last or (rollout == "full" and self.kind == "expert") else None
        return t.to(X.device), noise.to(X), seeds, last


class ExpertStage(RestoringStage):
    """The expert of an operation, WaveFRR."""

    kind, attribute = "expert", "experts"
    depends_on = (
        "size", "degree", "degree_map", "levels", "idem", "idem_width", "channels", "multipliers", "blocks",
        "attention_levels", "hfcam", "attention_width", "attention_heads", "refine_all", *DIFFUSION,
    )  # fmt: skip

    @property
    def faces(self) -> Kind:
        """Those with its operation only; all for the expert of all operations (Table 4's single WaveFRR)."""
        return "mixed" if self.operation == "all" else "single"

    def needs(self) -> list[Stage]:
        """Return the operation's degree estimator."""
        return [DegreeStage(self.config, self.operation)] if self.config.model.degree else []

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the terms of L_freq + L_space."""
        X, Y = to_signed(batch["retouched"]), to_signed(batch["original"])
        expert = cast(WaveFRR, model.experts[self.operation])
        z = model.degree(self.operation, batch["retouched"], batch["traces"])
        t, noise, seeds, last = self._noise(X, expert.diffusion, expert.low_size(X), generator)
        return expert_losses(part(X, Y, z, t, noise, rollout=seeds, last_only=last), Y)

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^_M."""
        z = model.degree(self.operation, batch["retouched"], batch["traces"])
        return part.restore(to_signed(batch["retouched"]), z, seeds)


class SharedStage(RestoringStage):
    """The shared expert."""

    kind = attribute = "shared"
    depends_on = ("size", "shared_channels", "shared_multipliers", "blocks", *DIFFUSION)

    @property
    def faces(self) -> Kind:
        """Those of ``train.shared_faces``."""
        # Paper: "subset B", which it does not define; `paper` takes the images with several operations.
        return self.config.train.shared_faces

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return L_simple and the terms of L_hyb."""
        X, Y = to_signed(batch["retouched"]), to_signed(batch["original"])
        assert model.shared is not None
        t, noise, seeds, _ = self._noise(X, model.shared.diffusion, X.shape, generator)
        return shared_losses(part(X, Y, t, noise, rollout=seeds), Y)

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^_se."""
        return part.restore(to_signed(batch["retouched"]), seeds)


class CombineStage(RestoringStage):
    """The Combine Module, on the outputs of router and experts."""

    kind = attribute = "combine"
    depends_on = tuple(option.name for option in fields(ModelConfig))  # it learns from the outputs of all others

    def needs(self) -> list[Stage]:
        """Return all others."""
        return [stage for stage in stages_of(self.config) if stage.kind != self.kind]

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the terms of L_hyb, with the router's gates and some experts withheld."""
        seeds = _seeds(batch["retouched"], generator)
        found = model.consult(batch["retouched"], seeds=seeds, traces=batch["traces"])
        kept = torch.rand(found.gates.shape, generator=generator) >= DROP_EXPERTS
        output = _combine(part, found, found.gates & kept.to(found.gates.device))
        return combine_losses(output, to_signed(batch["original"]))

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^."""
        found = model.consult(batch["retouched"], seeds=seeds, traces=batch["traces"])
        return _combine(part, found, found.gates)


class BaselineStage(RestoringStage):
    """A baseline, see :mod:`mofrr.baselines`."""

    kind = "baseline"

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return a new network, which is not part of ``model``."""
        return build_baseline(self.operation, model.config)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the terms of L_hyb."""
        return combine_losses(part(to_signed(batch["retouched"])), to_signed(batch["original"]))

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return its output."""
        return part(to_signed(batch["retouched"]))


def stages_of(config: Config) -> list[Stage]:
    """Return the stages of a configuration in training order.

    With ``train.only``: those of that operation, and router and Combine Module, of which its head and slot are trained.
    """
    model, only = config.model, config.train.only
    operations = [only] if only else model.operations
    return [
        *([RouterStage(config)] if model.router else []),
        *(DegreeStage(config, name) for name in operations if model.degree),
        *(ExpertStage(config, name) for name in operations),
        *([SharedStage(config)] if model.shared and not only else []),
        *([CombineStage(config)] if model.combine else []),
    ]


def known_stages(config: Config) -> dict[str, Stage]:
    """Return the stages of a configuration and the baselines, by name."""
    baselines = (BaselineStage(config, name) for name in BASELINES)
    return {stage.name: stage for stage in [*stages_of(config), *baselines]}


def _load_imagenet(backbone: Backbone, path: str, given: Collection[str]) -> None:
    """Load the backbone's weights trained on ImageNet, if it has some, unless ``given``. Modified in place."""
    if backbone.pretrained is not None and not any(name.startswith(f"{path}.backbone.pretrained.") for name in given):
        backbone.pretrained.load_imagenet()


def _seeds(images: Tensor, generator: torch.Generator) -> list[int]:
    return torch.randint(2**31, (len(images),), generator=generator).tolist()


def _combine(combine: Any, found: Consultation, gates: Tensor) -> Tensor:
    """Return the combined images in [-1, 1]; faces that it does not work on stay as they are."""
    output = combine(found.X, found.shared, found.experts, gates)
    return torch.where(found.active.view(-1, 1, 1, 1), output, found.X)

"""Section 3.4, the stages of training: what each part learns from, what must be trained before it, and its losses.

    router            faces with 0-4 operations, which of them were applied
    degree-OPERATION  faces with that operation, how strongly; begins with the router's backbone
    expert-OPERATION  the same faces and their originals; needs degree-OPERATION
    shared            faces with 0-4 operations and their originals
    combine           the same; needs all others, which stay as they are
    baseline-NAME     the same; what MoFRR is compared with, and not part of it

A batch holds ``retouched`` and ``original`` (N, 3, S, S) in [0, 1], ``traces`` (N, C, G, G), ``applied`` (N,
operations) of 0 and 1, and ``degree`` (N,), 1 to 5, for the degree stages.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from mofrr.baselines import BASELINES, build_baseline
from mofrr.config import NUM_DEGREES, Config
from mofrr.data import RetouchedFaces, open_data
from mofrr.degree import DegreeEstimator, expected_degree
from mofrr.losses import (
    combine_losses,
    degree_loss,
    expert_losses,
    order_loss,
    router_loss,
    shared_losses,
    weighted_sum,
)
from mofrr.model import Consultation, MoFRR, to_unit
from mofrr.router import Router
from mofrr.wavefrr import WaveFRR

Batch = dict[str, Tensor]
Rows = list[dict[str, Tensor]]

SHEET_ROWS = 6
FALSE_SHARE = 0.015  # of faces without an operation that the finished router takes for faces with it


class Stage(ABC):
    """What one part of the network learns.

    Args:
        config: Of the run.
        operation: The operation of a degree or expert stage, the name of a baseline; empty for the other kinds.
    """

    kind: ClassVar[str]
    """First word of the name, and what the command line calls it."""
    validation_batches: ClassVar[int] = 12

    def __init__(self, config: Config, operation: str = "") -> None:
        self.config, self.operation = config, operation

    @property
    def name(self) -> str:
        """Of its folder: "router", "degree-white"."""
        return f"{self.kind}-{self.operation}" if self.operation else self.kind

    @property
    def command(self) -> str:
        """Arguments of ``mofrr-train``."""
        return f"{self.kind} --operation {self.operation}" if self.operation else self.kind

    @property
    def faces(self) -> str:
        """What faces it is shown: "mixed", or "single:OPERATION" for those with that operation alone."""
        return "mixed"

    @property
    def calibration_batches(self) -> int:
        """Batches of validation faces that :meth:`calibrate` is given; 0 leaves it out."""
        return 0

    def needs(self) -> "list[Stage]":
        """Return the stages that must be finished before."""
        return []

    def open_data(self, spec: str) -> tuple[RetouchedFaces, RetouchedFaces]:
        """Open the faces for training and for validation, see :func:`mofrr.data.open_data`."""
        model, cfg = self.config.model, self.config.train
        train, dev = (
            open_data(
                spec, size=model.size, split=split, seed=cfg.seed, operations=model.operations, kind=self.faces,
                styles=cfg.styles,
            )
            for split in ("train", "dev")
        )  # fmt: skip
        return train, dev

    @abstractmethod
    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the part of the network that is trained, ready to begin."""

    def trained_parameters(self, part: nn.Module) -> list[nn.Parameter]:
        """Return what the optimiser steps: all, or with ``train.only`` what that operation has for itself."""
        only = self.config.train.only
        if not only or self.operation == only:
            return list(part.parameters())
        return [parameter for name, parameter in part.named_parameters() if only in name.split(".")]

    @abstractmethod
    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the loss terms by name, unweighted.

        Args:
            model: The whole network; what the stage needs is trained already.
            part: What is trained, as the runner prepared it.
            batch: See the module.
            generator: Of times, noise and withheld experts.
        """

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return what is minimised."""
        return torch.stack(list(terms.values())).sum()

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
    """The router: which operations were applied."""

    kind = "router"
    validation_batches = 75  # metrics are cheaper than images

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the router."""
        return cast(nn.Module, model.router)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute L_class."""
        return {"class": router_loss(part(batch["retouched"], batch["traces"]), batch["applied"])}

    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return how many of an operation's faces are found, and how many of the others are taken for such."""
        found = torch.cat([torch.sigmoid(part(b["retouched"], b["traces"]).float()) for b in batches])
        found = found > self.config.model.threshold
        applied = torch.cat([b["applied"] for b in batches]) > 0
        metrics = {}
        for i, name in enumerate(self.config.model.operations):
            for title, faces in ((f"val_found_{name}", applied[:, i]), (f"val_false_{name}", ~applied[:, i])):
                metrics[title] = float(found[faces, i].float().mean()) if faces.any() else 0.0
        clean = ~applied.any(dim=1)
        untouched = float((~found[clean]).all(dim=1).float().mean()) if clean.any() else 0.0
        return metrics | {"val_untouched": untouched}, []

    @property
    def calibration_batches(self) -> int:
        """None with a threshold of 0 or 1, where logits count for nothing."""
        return 150 if 0 < self.config.model.threshold < 1 else 0

    def calibrate(self, part: nn.Module, batches: Sequence[Batch]) -> None:
        """Shift the logits so that few validation faces are taken for what they are not. Modified in place."""
        logits = torch.cat([part(batch["retouched"], batch["traces"]).float() for batch in batches])
        applied = torch.cat([batch["applied"] for batch in batches]) > 0
        level = torch.tensor(self.config.model.threshold).logit()
        for column, (name, head) in enumerate(cast(Router, part).heads.items()):
            others = logits[~applied[:, column], column]
            if len(others) and self.config.train.only in ("", name):
                bias = cast(Any, head).answer.bias
                bias.data -= (others.quantile(1 - FALSE_SHARE, interpolation="higher") - level).to(bias)


class DegreeStage(Stage):
    """The degree estimator of an operation."""

    kind = "degree"
    validation_batches = 40

    @property
    def faces(self) -> str:
        """Those with its operation alone."""
        return f"single:{self.operation}"

    def needs(self) -> list[Stage]:
        """Return the router, whose backbone it begins with."""
        return [RouterStage(self.config)] if self.config.model.router else []

    def open_data(self, spec: str) -> tuple[RetouchedFaces, RetouchedFaces]:
        """Open the faces; degrees are quantiles of the training faces."""
        train, dev = super().open_data(spec)
        train.degree_edges = dev.degree_edges = train.measured_edges()
        return train, dev

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the estimator, with the router's backbone unless the run begins with weights."""
        estimator = cast(DegreeEstimator, model.estimators[self.operation])
        if model.router is not None and not self.config.train.init:
            estimator.backbone.load_state_dict(model.router.backbone.state_dict())
        return estimator

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute L_class and its order term."""
        logits = part(batch["retouched"], batch["traces"])
        # Paper: cross entropy alone. Here: classes have an order, and being off by one is better than by two.
        return {"class": degree_loss(logits, batch["degree"]), "order": order_loss(logits, batch["degree"])}

    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return the accuracy, exact and within one degree, and the mean error in degrees."""
        logits = torch.cat([part(b["retouched"], b["traces"]).float() for b in batches])
        degree = torch.cat([b["degree"] for b in batches])
        return {
            "val_accuracy": float((logits.argmax(dim=1) + 1 == degree).float().mean()),
            "val_within_one": float(((logits.argmax(dim=1) + 1 - degree).abs() <= 1).float().mean()),
            "val_degree_error": float((NUM_DEGREES * expected_degree(logits) - degree).abs().mean()),
        }, []


class RestoringStage(Stage):
    """A stage whose part makes images: its terms have weights, and it is validated by PSNR."""

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum."""
        return weighted_sum(terms, self.config.loss)

    @abstractmethod
    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^ as the part would make it, (N, 3, S, S) in [-1, 1]."""

    def validate(self, model: MoFRR, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], Rows]:
        """Return PSNR beside that of doing nothing, and rows of an image sheet."""
        errors: dict[str, list[Tensor]] = {"identity": [], "output": []}
        rows: Rows = []
        for number, batch in enumerate(batches):
            image, Y = batch["retouched"], batch["original"]
            restored = to_unit(self.restored(model, part, batch, [number] * len(image)))
            for name, output in (("identity", image), ("output", restored)):
                errors[name] += list((output - Y).square().mean(dim=(1, 2, 3)))
            amplified = (0.5 + 2 * (restored - image)).clamp(0, 1)
            shown = {"retouched": image, "restored": restored, "original": Y, "change": amplified}
            rows += [{name: images[i].cpu() for name, images in shown.items()} for i in range(len(image))]
        # Unretouched faces come back without an error; what is infinite in dB cannot be averaged.
        means = {name: torch.stack(values).clamp(min=1e-5) for name, values in errors.items()}
        metrics = {f"val_psnr_{name}": float((-10 * values.log10()).mean()) for name, values in means.items()}
        return metrics, rows[:SHEET_ROWS]

    def _samples_last(self, generator: torch.Generator) -> bool:
        """Draw whether this time the last step of sampling is trained."""
        return self.config.loss.rollout == "last" and bool(torch.rand(1, generator=generator) < 0.5)


class ExpertStage(RestoringStage):
    """The expert of an operation, WaveFRR."""

    kind = "expert"

    @property
    def faces(self) -> str:
        """Those with its operation alone; the expert of everything (Table 4's single WaveFRR) sees everything."""
        return "mixed" if self.operation == "all" else f"single:{self.operation}"

    def needs(self) -> list[Stage]:
        """Return the operation's degree estimator."""
        return [DegreeStage(self.config, self.operation)] if self.config.model.degree else []

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the expert."""
        return model.experts[self.operation]

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the terms of L_freq + L_space."""
        X, Y = _signed(batch["retouched"]), _signed(batch["original"])
        expert = cast(WaveFRR, model.experts[self.operation])
        z = model.degree(self.operation, batch["retouched"], batch["traces"])
        t = expert.diffusion.times(len(X), generator)
        noise = torch.randn(expert.low_size(X), generator=generator)
        last = self._samples_last(generator)
        rollout = _seeds(X, generator) if last or self.config.loss.rollout == "full" else None
        passed = part(
            X, Y, z, t.to(X.device), noise.to(X),
            rollout=rollout, checkpointing=self.config.train.checkpointing, last_only=last,
        )  # fmt: skip
        return expert_losses(passed, Y)

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^_M."""
        z = model.degree(self.operation, batch["retouched"], batch["traces"])
        return part.restore(_signed(batch["retouched"]), z, seeds)


class SharedStage(RestoringStage):
    """The shared expert."""

    kind = "shared"

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the shared expert."""
        return cast(nn.Module, model.shared)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute L_simple and L_hyb."""
        X, Y = _signed(batch["retouched"]), _signed(batch["original"])
        assert model.shared is not None
        t = model.shared.diffusion.times(len(X), generator)
        noise = torch.randn(X.shape, generator=generator)
        rollout = _seeds(X, generator) if self._samples_last(generator) else None
        return shared_losses(part(X, Y, t.to(X.device), noise.to(X), rollout=rollout), Y)

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^_se."""
        return part.restore(_signed(batch["retouched"]), seeds)


class CombineStage(RestoringStage):
    """The Combine Module, on what router and experts say."""

    kind = "combine"

    def needs(self) -> list[Stage]:
        """Return all others."""
        return [stage for stage in stages_of(self.config) if stage.kind != self.kind]

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return the Combine Module."""
        return cast(nn.Module, model.combine)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute L_hyb by the router's own gates, with some experts withheld so that no slot is relied upon."""
        seeds = _seeds(batch["retouched"], generator)
        found = model.consult(batch["retouched"], seeds=seeds, traces=batch["traces"])
        kept = torch.rand(found.gates.shape, generator=generator) >= self.config.train.drop_experts
        return combine_losses(_combined(part, found, found.shares * kept.to(found.shares)), _signed(batch["original"]))

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return Y^."""
        found = model.consult(batch["retouched"], seeds=seeds, traces=batch["traces"])
        return _combined(part, found, found.shares)


class BaselineStage(RestoringStage):
    """A baseline, see :mod:`mofrr.baselines`."""

    kind = "baseline"

    def part_of(self, model: MoFRR) -> nn.Module:
        """Return a new network; it is no part of the whole."""
        return build_baseline(self.operation, model.config)

    def terms(self, model: MoFRR, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute L_hyb."""
        return combine_losses(part(_signed(batch["retouched"])), _signed(batch["original"]))

    def restored(self, model: MoFRR, part: Any, batch: Batch, seeds: list[int]) -> Tensor:
        """Return its output."""
        return part(_signed(batch["retouched"]))


def stages_of(config: Config) -> list[Stage]:
    """Return all stages of a configuration, in the order in which they can be trained.

    With ``train.only`` those of that operation, and router and Combine Module, of which its head and slot are trained.
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


def _signed(image: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return 2 * image - 1


def _seeds(images: Tensor, generator: torch.Generator) -> list[int]:
    return torch.randint(2**31, (len(images),), generator=generator).tolist()


def _combined(combine: Any, found: Consultation, shares: Tensor) -> Tensor:
    """What the Combine Module makes of faces, in [-1, 1]; as in use, one without any operation stays as it is."""
    made = combine(found.X, found.shared, found.experts, shares)
    return torch.where(found.active.view(-1, 1, 1, 1), made, found.X)

"""Section 3.4, the stages of training: what each part learns from, and what must be trained before it.

    router            faces with 0-4 operations, which of them were applied
    degree-OPERATION  faces with that operation, how strongly; begins with the router's backbone
    expert-OPERATION  the same faces and their originals; needs degree-OPERATION
    shared            faces with 0-4 operations and their originals
    combine           the same; needs all others, which stay as they are
    baseline-NAME     the same; what MoFRR is compared with, and not part of it

A batch holds ``retouched`` and ``original`` (N, 3, S, S) in [0, 1], ``traces`` (N, C, G, G), ``applied`` (N,
operations) of 0 and 1, and ``degree`` (N,), 1 to 5, for the degree stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mofrr.baselines import build_baseline
from mofrr.config import NUM_DEGREES, Config
from mofrr.degree import expected_degree
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

Batch = dict[str, Tensor]


def stage_names(config: Config) -> list[str]:
    """All stages of a configuration, in the order in which they can be trained.

    With ``train.only`` those of that operation, and router and Combine Module, of which its head and slot are trained.
    """
    model, only = config.model, config.train.only
    operations = [only] if only else model.operations
    return [
        *(["router"] if model.router else []),
        *(f"degree-{name}" for name in operations if model.degree),
        *(f"expert-{name}" for name in operations),
        *(["shared"] if model.shared and not only else []),
        *(["combine"] if model.combine else []),
    ]


def needs(stage: str, config: Config) -> list[str]:
    """The stages that must be finished before a stage can be trained."""
    if stage == "combine":
        return [name for name in stage_names(config) if name != "combine"]
    if stage.startswith("degree-") and config.model.router:
        return ["router"]
    if stage.startswith("expert-") and config.model.degree:
        return [stage.replace("expert-", "degree-")]
    return []


def faces_for(stage: str) -> str:
    """What faces a stage is shown: "mixed", or "single:OPERATION" for those with that operation alone."""
    kind, _, operation = stage.partition("-")
    # The expert of everything (Table 4's single WaveFRR) sees everything.
    return f"single:{operation}" if kind in ("degree", "expert") and operation != "all" else "mixed"


def part_of(model: MoFRR, stage: str) -> nn.Module:
    """The part of the network that a stage trains; a baseline is made anew."""
    kind, _, operation = stage.partition("-")
    if kind == "baseline":
        return build_baseline(operation, model.config)
    part: nn.Module | None = {"router": model.router, "shared": model.shared, "combine": model.combine}.get(kind)
    if kind == "degree":
        part = model.estimators[operation]
    elif kind == "expert":
        part = model.experts[operation]
    assert part is not None
    return part


def trained_parameters(part: nn.Module, stage: str, config: Config) -> list[nn.Parameter]:
    """The parameters that a stage trains: all, or with ``train.only`` what that operation has for itself."""
    only = config.train.only
    if not only or stage in (f"degree-{only}", f"expert-{only}"):
        return list(part.parameters())
    return [parameter for name, parameter in part.named_parameters() if only in name.split(".")]


@dataclass
class Stage:
    """A stage's losses and pictures.

    Attributes:
        name: See the module.
        config: Of the run.
        model: The whole network; what the stage needs is trained already.
    """

    name: str
    config: Config
    model: MoFRR

    def losses(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The stage's terms by name, unweighted, and "loss", their weighted sum.

        Args:
            part: What is trained, as the runner prepared it.
            batch: See the module.
            generator: Of times, noise and dropped experts.
        """
        kind = self.name.partition("-")[0]
        terms: dict[str, Tensor] = getattr(self, f"_{kind}")(part, batch, generator)
        if kind in ("router", "degree"):
            return terms | {"loss": torch.stack(list(terms.values())).sum()}
        return terms | {"loss": weighted_sum(terms, self.config.loss)}

    def _router(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return {"class": router_loss(part(batch["retouched"], batch["traces"]), batch["applied"])}

    def _degree(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        logits = part(batch["retouched"], batch["traces"])
        # Paper: cross entropy alone. Here: classes have an order, and being off by one is better than by two.
        return {"class": degree_loss(logits, batch["degree"]), "order": order_loss(logits, batch["degree"])}

    def _expert(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
        operation = self.name.partition("-")[2]
        expert = self.model.experts[operation]
        z = self.model.degree(operation, batch["retouched"], batch["traces"])
        t = expert.diffusion.times(len(X), generator)  # type: ignore[union-attr, operator]
        noise = torch.randn(expert.low_size(X), generator=generator)  # type: ignore[operator]
        last = self._samples_last(generator)
        rollout = self._seeds(X, generator) if last or self.config.loss.rollout == "full" else None
        passed = part(
            X, Y, z, t.to(X.device), noise.to(X),
            rollout=rollout, checkpointing=self.config.train.checkpointing, last_only=last,
        )  # fmt: skip
        return expert_losses(passed, Y)

    def _samples_last(self, generator: torch.Generator) -> bool:
        """Whether this time the last step of sampling is trained."""
        return self.config.loss.rollout == "last" and bool(torch.rand(1, generator=generator) < 0.5)

    def _seeds(self, X: Tensor, generator: torch.Generator) -> list[int]:
        return torch.randint(2**31, (len(X),), generator=generator).tolist()

    def _shared(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
        assert self.model.shared is not None
        t = self.model.shared.diffusion.times(len(X), generator)
        noise = torch.randn(X.shape, generator=generator)
        rollout = self._seeds(X, generator) if self._samples_last(generator) else None
        return shared_losses(part(X, Y, t.to(X.device), noise.to(X), rollout=rollout), Y)

    def _combine(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The router's own gates, as later, with some experts withheld so that no slot is relied upon."""
        seeds = self._seeds(batch["retouched"], generator)
        found = self.model.consult(batch["retouched"], seeds=seeds, traces=batch["traces"])
        kept = torch.rand(found.gates.shape, generator=generator) >= self.config.train.drop_experts
        return combine_losses(_combined(part, found, found.shares * kept.to(found.shares)), 2 * batch["original"] - 1)

    def _baseline(self, part: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return combine_losses(part(2 * batch["retouched"] - 1), 2 * batch["original"] - 1)

    @torch.no_grad()
    def validate(self, part: nn.Module, batches: Sequence[Batch]) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Figures on fixed pictures, and rows of a picture sheet.

        Args:
            part: The averaged weights of the part.
            batches: Of the validation split.
        """
        kind, _, operation = self.name.partition("-")
        if kind == "router":
            return self._accuracy(part, batches), []
        if kind == "degree":
            return self._degree_error(part, batches), []
        errors: dict[str, list[Tensor]] = {"identity": [], "output": []}
        rows = []
        for number, batch in enumerate(batches):
            image, Y = batch["retouched"], batch["original"]
            restored = self._restored(kind, operation, part, batch, seed=number)
            for name, picture in (("identity", image), ("output", restored)):
                errors[name] += list((picture - Y).square().mean(dim=(1, 2, 3)))
            amplified = (0.5 + 2 * (restored - image)).clamp(0, 1)
            shown = {"retouched": image, "restored": restored, "original": Y, "change": amplified}
            rows += [{name: picture[i].cpu() for name, picture in shown.items()} for i in range(len(image))]
        # Unretouched pictures come back without an error; what is infinite in dB cannot be averaged.
        means = {name: torch.stack(values).clamp(min=1e-5) for name, values in errors.items()}
        return {f"val_psnr_{name}": float((-10 * values.log10()).mean()) for name, values in means.items()}, rows[:6]

    def _restored(self, kind: str, operation: str, part: Any, batch: Batch, seed: int) -> Tensor:
        """The picture as the part would make it."""
        image, traces = batch["retouched"], batch["traces"]
        X, seeds = 2 * image - 1, [seed] * len(image)
        if kind == "expert":
            restored = part.restore(X, self.model.degree(operation, image, traces), seeds)
        elif kind == "shared":
            restored = part.restore(X, seeds)
        elif kind == "baseline":
            restored = part(X)
        else:
            found = self.model.consult(image, seeds=seeds, traces=traces)
            restored = _combined(part, found, found.shares)
        return to_unit(restored)

    def _accuracy(self, part: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """How many of an operation's faces are found, and how many of the others are taken for such."""
        found = torch.cat([torch.sigmoid(part(b["retouched"], b["traces"]).float()) for b in batches])
        found = found > self.config.model.threshold
        applied = torch.cat([b["applied"] for b in batches]) > 0
        figures = {}
        for i, name in enumerate(self.config.model.operations):
            for title, faces in ((f"val_found_{name}", applied[:, i]), (f"val_false_{name}", ~applied[:, i])):
                figures[title] = float(found[faces, i].float().mean()) if faces.any() else 0.0
        clean = ~applied.any(dim=1)
        return figures | {"val_untouched": float((~found[clean]).all(dim=1).float().mean()) if clean.any() else 0.0}

    def _degree_error(self, part: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        logits = torch.cat([part(b["retouched"], b["traces"]).float() for b in batches])
        degree = torch.cat([b["degree"] for b in batches])
        return {
            "val_accuracy": float((logits.argmax(dim=1) + 1 == degree).float().mean()),
            "val_within_one": float(((logits.argmax(dim=1) + 1 - degree).abs() <= 1).float().mean()),
            "val_degree_error": float((NUM_DEGREES * expected_degree(logits) - degree).abs().mean()),
        }


def _combined(combine: Any, found: Consultation, shares: Tensor) -> Tensor:
    """What the Combine Module makes of faces, in [-1, 1]; as in use, one without any operation stays as it is."""
    made = combine(found.X, found.shared, found.experts, shares)
    return torch.where(found.active.view(-1, 1, 1, 1), made, found.X)

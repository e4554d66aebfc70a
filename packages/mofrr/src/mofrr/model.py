"""MoFRR: a mixture of diffusion models that restores the face before it was retouched, in the order of Fig. 3.

Liu, Ying, Qian, Li, Zhang, Liu, Zhang. "MoFRR: Mixture of Diffusion Models for Face Retouching Restoration." ICCV 2025.

A router finds the operations that were applied; for each an expert, guided by an estimate of the operation's degree,
undoes it; a shared expert works on every retouched face; the Combine Module makes one image of all.

Shapes: images are (N, 3, H, W), in [0, 1] at the interface and in [-1, 1] inside.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, cast

import torch
from retouch_common import ranges
from retouch_common.pretrained import Pretrained
from torch import Tensor, nn

from mofrr.combine import Combine
from mofrr.config import PRESETS, ModelConfig
from mofrr.degree import DegreeEstimator, expected_degree
from mofrr.router import THRESHOLD, Router
from mofrr.shared import SharedExpert
from mofrr.traces import image_traces
from mofrr.wavefrr import WaveFRR

SEED_STRIDE = 7919  # between the seeds of a face's samples: neighbouring seeds share no sample


@dataclass(frozen=True, kw_only=True)
class Consultation:
    """Outputs of router and experts, for the Combine Module.

    Attributes:
        X: The faces, (N, 3, H, W) in [-1, 1].
        probabilities: Of the router, (N, operations); 1 without a router.
        gates: Active experts, (N, operations) bool.
        degrees: Expected degree over 5, (N, operations); 0 for inactive experts.
        experts: Y^_M by operation, (N, 3, H, W), nominally in [-1, 1]; X where the expert is inactive.
        shared: Y^_se likewise; None without the shared expert.
        active: Faces that the Combine Module works on, (N,) bool; the others stay as they are.
    """

    X: Tensor
    probabilities: Tensor
    gates: Tensor
    degrees: Tensor
    experts: dict[str, Tensor]
    shared: Tensor | None
    active: Tensor


@dataclass(frozen=True, kw_only=True)
class Restoration(Consultation):
    """Output of :meth:`MoFRR.restore`; X and all images are in [0, 1].

    Attributes:
        result: Y^, (N, 3, H, W).
        operations: Names of the columns.
    """

    result: Tensor
    operations: tuple[str, ...]


class MoFRR(Pretrained):
    """The whole network.

    Args:
        config: Architecture; by default that of the preset "recommended".
    """

    presets, bundled = PRESETS, resources.files("mofrr") / "weights"
    tags = ("face-retouching-restoration", "image-to-image")

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PRESETS["recommended"].model
        self.router = Router(config.operations, config.backbone, config.backbone_size) if config.router else None
        self.estimators = nn.ModuleDict(
            {name: self._estimator() for name in config.operations} if config.degree else {}
        )
        self.experts = nn.ModuleDict({name: WaveFRR.from_config(config) for name in config.operations})
        self.shared = SharedExpert.from_config(config) if config.shared else None
        self.combine = Combine.from_config(config) if config.combine else None

    @property
    def always_active(self) -> bool:
        """Whether the Combine Module also works on faces in which the router finds nothing."""
        return self.shared is not None and self.config.always_shared

    def _estimator(self) -> DegreeEstimator:
        return DegreeEstimator(self.config.estimator_backbone, self.config.backbone_size)

    def forward(self, image: Tensor) -> Tensor:
        """Return Y^ with seed 0; both are (N, 3, H, W) in [0, 1]."""
        return self.restore(image).result

    @torch.no_grad()
    def restore(self, image: Tensor, **options: Any) -> Restoration:
        """Restore faces.

        An image's result depends on its seed, not on the other images of the batch. An expert runs once, on the images
        for which it is active.

        Args:
            image: X, (N, 3, H, W) in [0, 1].
            **options: Of :meth:`consult`.

        Raises:
            ValueError: Unknown experts, or another number of seeds than images.
        """
        found = self.consult(image, **options)
        result, active = image.float(), found.active.nonzero()[:, 0]
        if len(active):
            working = {
                name: found.experts[name][active]
                for column, name in enumerate(self.config.operations)
                if found.gates[:, column].any()
            }
            if self.combine is None:
                (output,) = working.values()
            else:
                shared = None if found.shared is None else found.shared[active]
                output = self.combine(found.X[active], shared, working, found.gates[active])
            result = result.index_copy(0, active, to_unit(output))
        images = {
            "X": image.float(),
            "experts": {name: to_unit(output) for name, output in found.experts.items()},
            "shared": None if found.shared is None else to_unit(found.shared),
        }
        return Restoration(**vars(found) | images, result=result, operations=self.config.operations)

    @torch.no_grad()
    def consult(
        self,
        image: Tensor,
        *,
        seeds: int | Sequence[int] = 0,
        steps: int | None = None,
        experts: Sequence[str] | None = None,
        samples: int = 1,
        traces: Tensor | None = None,
    ) -> Consultation:
        """Run router and experts, everything before the Combine Module.

        Args:
            image: X, (N, 3, H, W) in [0, 1].
            seeds: One for all images, or one for each.
            steps: DDIM steps; None for the configuration's.
            experts: Operations to undo; None asks the router.
            samples: Number of samples that each expert averages: closer to the truth, and smoother.
            traces: Of the photographs that the images were cut from (:mod:`mofrr.traces`), (N, C, G, G); None if the
                images are those photographs.

        Raises:
            ValueError: Unknown experts, or another number of seeds than images.
        """
        seeds = [seeds] * len(image) if isinstance(seeds, int) else list(seeds)
        if len(seeds) != len(image):
            raise ValueError(f"{len(image)} images need as many seeds, not {len(seeds)}")
        if traces is None and self.config.traces:
            traces = image_traces(image)
        probabilities, gates = self._route(image, traces, experts)
        X = ranges.to_signed(image.float())
        degrees = torch.zeros_like(probabilities)

        def average(restore: Callable[[list[int]], Tensor], active: Tensor) -> Tensor:
            """Return X with the active images replaced by the mean of their samples."""
            own = [seeds[i] for i in active.tolist()]
            outputs = [restore([seed + SEED_STRIDE * number for seed in own]) for number in range(samples)]
            return X.index_copy(0, active, torch.stack(outputs).mean(dim=0))

        outputs = dict.fromkeys(self.config.operations, X)
        for column, name in enumerate(self.config.operations):
            active = gates[:, column].nonzero()[:, 0]
            if len(active):
                z = degrees[active, column] = self.degree(
                    name, image[active], None if traces is None else traces[active]
                )
                expert = cast(WaveFRR, self.experts[name])
                outputs[name] = average(partial(expert.restore, X[active], z, steps=steps), active)
        is_active = gates.any(dim=1) | self.always_active
        shared, active = None, is_active.nonzero()[:, 0]
        if self.shared is not None:
            shared = average(partial(self.shared.restore, X[active], steps=steps), active) if len(active) else X
        return Consultation(
            X=X,
            probabilities=probabilities,
            gates=gates,
            degrees=degrees,
            experts=outputs,
            shared=shared,
            active=is_active,
        )

    def _route(self, image: Tensor, traces: Tensor | None, experts: Sequence[str] | None) -> tuple[Tensor, Tensor]:
        """Return the router's probabilities and the gates of the experts (bool), (N, operations)."""
        probabilities = torch.ones(len(image), len(self.config.operations), device=image.device)
        if self.router is not None:
            probabilities = torch.sigmoid(self.router(image, traces).float())
        gates = probabilities > THRESHOLD
        if experts is not None:
            gates = torch.tensor(self.config.columns(experts), device=image.device).expand(len(image), -1)
        return probabilities, gates

    def degree(self, name: str, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Return the degree z of an operation, (N,) in [0, 1]; 0 without degree estimators."""
        if not self.config.degree:
            return torch.zeros(len(image), device=image.device)
        return expected_degree(self.estimators[name](image, traces))

    def add_operation(self, name: str) -> None:
        """Add the parts of a new operation: router head, degree estimator, expert and slot of the Combine Module.

        Existing weights and their outputs stay as they are; ``mofrr-train`` trains the new parts.

        Raises:
            ValueError: The operation exists, the name is not an identifier, or there is no Combine Module.
        """
        if self.combine is None:
            raise ValueError("a network without a Combine Module has one expert only (model.combine=false)")
        device = next(self.parameters()).device
        self.config = dataclasses.replace(self.config, operations=(*self.config.operations, name))
        if self.router is not None:
            self.router.add_head(name)
        if self.config.degree:
            estimator = self._estimator()
            if self.router is not None and self.config.estimator_backbone == self.config.backbone:
                estimator.backbone.load_state_dict(self.router.backbone.state_dict())
            self.estimators[name] = estimator
        self.experts[name] = WaveFRR.from_config(self.config)
        self.combine.add_slot(name)
        self.to(device).train(self.training)


def to_unit(image: Tensor) -> Tensor:
    """Map images from [-1, 1] to [0, 1], clamped."""
    return ranges.to_unit(image.float()).clamp(0, 1)

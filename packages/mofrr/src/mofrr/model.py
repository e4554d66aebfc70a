"""MoFRR: a mixture of diffusion models that restores the face before it was retouched, in the order of Fig. 3.

Liu, Ying, Qian, Li, Zhang, Liu, Zhang. "MoFRR: Mixture of Diffusion Models for Face Retouching Restoration." ICCV 2025.

A router says which operations were applied; for each of them an expert, guided by an estimate of the operation's
degree, undoes it; a shared expert works on every retouched face; the Combine Module makes one picture of all.

Shapes: pictures are (N, 3, H, W), in [0, 1] at the interface and in [-1, 1] inside.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources

import torch
from retouch_common import ranges
from retouch_common.pretrained import Pretrained
from torch import Tensor, nn

from mofrr.combine import Combine
from mofrr.config import PRESETS, ModelConfig
from mofrr.degree import DegreeEstimator, expected_degree
from mofrr.router import Router
from mofrr.shared import SharedExpert
from mofrr.traces import picture_traces
from mofrr.wavefrr import WaveFRR

SEED_STRIDE = 7919  # between the seeds of a face's samples: neighbouring seeds have no sample in common


@dataclass(frozen=True)
class Consultation:
    """What router and experts say of faces, for the Combine Module.

    Attributes:
        X: The faces, (N, 3, H, W) in [-1, 1].
        probabilities: As in :class:`Restoration`, like the next three.
        gates: Which experts worked.
        shares: How much of their changes counts.
        degrees: How strongly each operation was applied.
        experts: Y^_M by operation, (N, 3, H, W) in [-1, 1] nominally, unclamped; X where the expert did not work.
        shared: Y^_se likewise; None without the shared expert.
    """

    X: Tensor
    probabilities: Tensor
    gates: Tensor
    shares: Tensor
    degrees: Tensor
    experts: dict[str, Tensor]
    shared: Tensor | None

    @property
    def active(self) -> Tensor:
        """The faces on which any expert worked, (N,) bool."""
        return self.gates.any(dim=1)


@dataclass(frozen=True)
class Restoration:
    """What :meth:`MoFRR.restore` finds and makes.

    Attributes:
        result: Y^, (N, 3, H, W) in [0, 1].
        operations: Names of the columns below.
        probabilities: Of the router, (N, operations); 1 everywhere without a router.
        gates: Which experts worked, (N, operations) bool.
        shares: How much of their changes counts, (N, operations) in [0, 1]; 0 where no expert worked.
        degrees: Expected degree over 5, (N, operations); 0 where no expert worked.
        experts: Y^_M by operation, (N, 3, H, W) in [0, 1]: X where the expert did not work.
        shared: Y^_se likewise; None without the shared expert.
    """

    result: Tensor
    operations: tuple[str, ...]
    probabilities: Tensor
    gates: Tensor
    shares: Tensor
    degrees: Tensor
    experts: dict[str, Tensor]
    shared: Tensor | None


class MoFRR(
    Pretrained,
    library_name="mofrr",
    tags=["face-retouching-restoration", "image-to-image"],
    license="apache-2.0",
):
    """The whole network.

    Args:
        config: Its configuration; the preset "recommended" by default.
    """

    presets, bundled = PRESETS, resources.files("mofrr") / "weights"

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PRESETS["recommended"].model
        self.router = Router(config) if config.router else None
        self.estimators = nn.ModuleDict(
            {name: DegreeEstimator(config) for name in config.operations} if config.degree else {}
        )
        self.experts = nn.ModuleDict({name: WaveFRR(config) for name in config.operations})
        self.shared = SharedExpert(config) if config.shared else None
        self.combine = Combine(config) if config.combine else None

    def forward(self, image: Tensor) -> Tensor:
        """Y^ of pictures, both (N, 3, H, W) in [0, 1], with seed 0."""
        return self.restore(image).result

    @torch.no_grad()
    def restore(
        self,
        image: Tensor,
        *,
        seeds: int | Sequence[int] = 0,
        steps: int | None = None,
        experts: Sequence[str] | None = None,
        samples: int = 1,
        traces: Tensor | None = None,
    ) -> Restoration:
        """Restore faces; an expert sees only those pictures for which the router activates it, all in one batch.

        A picture's result depends on its seed, not on the other pictures of the batch.

        Args:
            image: X, (N, 3, H, W) in [0, 1].
            seeds: One for all pictures, or one for each.
            steps: DDIM steps; None for the configuration's.
            experts: Operations to undo whatever the router says; None asks the router.
            samples: Pictures that every expert samples and averages: closer to the truth, and smoother.
            traces: Of the photographs that the pictures were cut from (:mod:`mofrr.traces`), (N, C, G, G); None if the
                pictures are those photographs.

        Raises:
            ValueError: Unknown experts, or another number of seeds than pictures.
        """
        found = self.consult(image, seeds=seeds, steps=steps, experts=experts, samples=samples)
        result, active = image.float(), found.active.nonzero()[:, 0]
        if len(active):
            working = {
                name: found.experts[name][active]
                for column, name in enumerate(self.config.operations)
                if found.gates[:, column].any()
            }
            if self.combine is None:
                (made,) = working.values()
            else:
                shared = None if found.shared is None else found.shared[active]
                made = self.combine(found.X[active], shared, working, found.shares[active])
            result = result.index_copy(0, active, to_unit(made))
        return Restoration(
            result=result,
            operations=self.config.operations,
            probabilities=found.probabilities,
            gates=found.gates,
            shares=found.shares,
            degrees=found.degrees,
            experts={name: to_unit(picture) for name, picture in found.experts.items()},
            shared=None if found.shared is None else to_unit(found.shared),
        )

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
        """Everything that comes before the Combine Module; arguments and errors as for :meth:`restore`."""
        seeds = [seeds] * len(image) if isinstance(seeds, int) else list(seeds)
        if len(seeds) != len(image):
            raise ValueError(f"{len(image)} pictures need as many seeds, not {len(seeds)}")
        if traces is None and self.config.backbone == "subbands-traces" and (self.config.router or self.config.degree):
            traces = picture_traces(image)
        probabilities = self._probabilities(image, traces)
        gates = probabilities > self.config.threshold if experts is None else self._chosen(experts, image)
        # Paper: an expert's picture counts or not. Here, with gates="probability": as much as the router is sure.
        sure = self.config.gates == "probability" and experts is None
        shares = gates * probabilities if sure else gates.to(probabilities)
        X = ranges.to_signed(image.float())
        degrees = torch.zeros_like(probabilities)

        def averaged(restore: Callable[[list[int]], Tensor], active: Tensor) -> Tensor:
            """X, with the mean of several samples, each with seeds of its own, in the place of some pictures."""
            own = [seeds[i] for i in active.tolist()]
            taken = [restore([seed + SEED_STRIDE * number for seed in own]) for number in range(samples)]
            return X.index_copy(0, active, torch.stack(taken).mean(dim=0))

        pictures = dict.fromkeys(self.config.operations, X)
        for column, name in enumerate(self.config.operations):
            active = gates[:, column].nonzero()[:, 0]
            if len(active):
                z = degrees[active, column] = self.degree(
                    name, image[active], None if traces is None else traces[active]
                )
                expert = self.experts[name]
                assert isinstance(expert, WaveFRR)
                pictures[name] = averaged(partial(expert.restore, X[active], z, steps=steps), active)
        shared, active = None, gates.any(dim=1).nonzero()[:, 0]
        if self.shared is not None:
            shared = averaged(partial(self.shared.restore, X[active], steps=steps), active) if len(active) else X
        return Consultation(
            X=X,
            probabilities=probabilities,
            gates=gates,
            shares=shares,
            degrees=degrees,
            experts=pictures,
            shared=shared,
        )

    def degree(self, name: str, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """The degree z of an operation, (N,) in [0, 1]; 0 without degree estimators."""
        if not self.config.degree:
            return torch.zeros(len(image), device=image.device)
        return expected_degree(self.estimators[name](image, traces))

    def add_operation(self, name: str) -> None:
        """Make room for a new operation: a head of the router, an estimator, an expert, a slot of the Combine Module.

        What there was keeps its weights and its answers; ``mofrr-train`` trains the new parts.

        Raises:
            ValueError: There is such an operation, the name is none, or the network has no Combine Module.
        """
        if self.combine is None:
            raise ValueError("a network without a Combine Module has one expert only (model.combine=false)")
        device = next(self.parameters()).device
        self.config = dataclasses.replace(self.config, operations=(*self.config.operations, name))
        if self.router is not None:
            self.router.add_head(name)
        if self.config.degree:
            self.estimators[name] = DegreeEstimator(self.config)
        self.experts[name] = WaveFRR(self.config)
        self.combine.add_slot(name)
        self.to(device).train(self.training)

    def _probabilities(self, image: Tensor, traces: Tensor | None) -> Tensor:
        if self.router is None:
            return torch.ones(len(image), len(self.config.operations), device=image.device)
        return torch.sigmoid(self.router(image, traces).float())

    def _chosen(self, experts: Sequence[str], image: Tensor) -> Tensor:
        row = torch.tensor(self.config.columns(experts), device=image.device)
        return row.expand(len(image), -1)


def to_unit(picture: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], clamped."""
    return ranges.to_unit(picture.float()).clamp(0, 1)

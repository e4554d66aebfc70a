"""Eq. 9 and section 3.3: which terms act in which situation, and their weights."""

from collections.abc import Callable

import torch
from retouch_common.losses.perceptual import VGG19_LAYERS, PerceptualLoss
from retouch_common.parsing.losses import parsing_loss
from retouch_common.ranges import to_unit
from retouch_common.weights import read_vgg
from torch import Tensor, nn

from maskgan.config import LossConfig
from maskgan.discriminator import Discriminators, Situation
from maskgan.losses import (
    appearance_loss,
    background_loss,
    discriminator_loss,
    feature_matching_loss,
    global_loss,
    local_loss,
    region_loss,
    sigmoid_loss,
)
from maskgan.model import MaskGANOutput

Parser = Callable[[Tensor], Tensor]
"""P_F: images (N, 3, S, S) in [0, 1] to logits (N, 11, S, S), differentiable."""


def situations(step: int, pairing: str) -> tuple[Situation, ...]:
    """Return the data of a step: the (1+1) strategy of section 3.3.

    Args:
        step: From 1 on.
        pairing: "alternate": paired data in odd steps, unpaired data in even ones; "overlap": unpaired data in all
            steps, after paired data in the odd ones; "paired": no unpaired data, for a first stage without adversary.

    Raises:
        ValueError: Unknown strategy.
    """
    odd = step % 2 == 1
    if pairing == "alternate":
        return ("paired",) if odd else ("unpaired",)
    if pairing == "overlap":
        return ("paired", "unpaired") if odd else ("unpaired",)
    if pairing == "paired":
        return ("paired",)
    raise ValueError(f"pairing '{pairing}' is not one of alternate, overlap, paired")


class Objective(nn.Module):
    """The terms of Eq. 9, by name and unweighted, and their weighted sum.

    Args:
        config: Weights and forms.
        parser: P_F, trained, frozen and in evaluation mode; not a submodule.

    Raises:
        ValueError: A term with a weight lacks the parser or VGG-19's weights.
    """

    def __init__(self, config: LossConfig, parser: Parser | None) -> None:
        super().__init__()
        if config.parsing and parser is None:
            raise ValueError("loss.parsing needs a trained face parser; set it to 0 to train without")
        if isinstance(parser, nn.Module) and (parser.training or any(p.requires_grad for p in parser.parameters())):
            raise ValueError("the face parser must be frozen and in evaluation mode")
        self.config = config
        self._parser = (parser,)  # in a tuple, so that its weights are not this module's
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual:
            state = read_vgg("vgg19", config.perceptual_weights or None)
            self.perceptual = PerceptualLoss("vgg19", state_dict=state, layers=VGG19_LAYERS, distance="l1")
        self.weights = {
            "local": config.local,
            "reconstruction": config.reconstruction,
            "region": config.region,
            "appearance": config.appearance,
            "background": config.background,
            "sigmoid": config.adversarial,  # Eq. 6: L_GD = L_sigmoid + lambda_FM L_FM
            "feature_matching": config.adversarial * config.feature_matching,
            "parsing": config.parsing,
            "perceptual": config.perceptual,
        }

    def forward(
        self,
        output: MaskGANOutput,
        target: Tensor,
        target_labels: Tensor,
        situation: Situation,
        discriminators: Discriminators | None = None,
        source: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms that act in a situation.

        Args:
            output: The generator's.
            target: x^t; the ground truth where the data are paired.
            target_labels: m^t.
            situation: "paired": all of Eq. 9; "unpaired": lambda_global and lambda_FM are zero.
            discriminators: Frozen; None omits the adversarial terms.
            source: x^s and m^s of unpaired data; None omits the appearance term.
        """
        config, paired = self.config, situation == "paired"
        terms: dict[str, Tensor] = {}
        if output.reconstructions and config.local:
            terms["local"] = local_loss(output.reconstructions, output.windows, output.codes.present)
        if paired and config.reconstruction:
            terms["reconstruction"] = global_loss(output.image, target)
        if paired and config.region:
            terms["region"] = region_loss(output.image, target, target_labels, config.region_weights)
        if paired and self.perceptual is not None:
            face = (target_labels != 0)[:, None]
            terms["perceptual"] = self.perceptual(to_unit(output.image) * face, to_unit(target) * face)
        if not paired and source is not None and config.appearance:
            terms["appearance"] = appearance_loss(output.image, target_labels, *source)
        if not paired and config.background:
            terms["background"] = background_loss(output.image, target_labels, target)
        if discriminators is not None and config.adversarial:
            fake = discriminators(output.image, target_labels, situation)
            terms["sigmoid"] = sigmoid_loss(fake.logits, config.kind)
            if paired and config.feature_matching:
                with torch.no_grad():
                    real = discriminators(target, target_labels, situation)
                terms["feature_matching"] = feature_matching_loss(fake.features, real.features, config.feature_distance)
        parser = self._parser[0]
        if config.parsing and parser is not None and (config.parsing_on == "both" or not paired):
            terms["parsing"] = parsing_loss(parser(to_unit(output.image)), target_labels)
        return terms

    def discriminator(
        self,
        discriminators: Discriminators,
        image: Tensor,
        target: Tensor,
        target_labels: Tensor,
        situation: Situation,
    ) -> Tensor:
        """Return Eq. 3, the discriminators' loss on x^t and on G(…) = ``image``, which gets no gradient."""
        real = discriminators(target, target_labels, situation)
        fake = discriminators(image.detach(), target_labels, situation)
        return discriminator_loss(real.logits, fake.logits, self.config.kind)

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return Eq. 9, the weighted sum of the given terms."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

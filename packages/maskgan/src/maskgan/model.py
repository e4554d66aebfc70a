"""MaskGAN: portraits drawn anew after a mask, with the appearance of any person's parts, in the order of Fig. 2.

Gu, Bao, Yang, Chen, Wen, Yuan. "Mask-Guided Portrait Editing with Conditional GANs." CVPR 2019.

Every component of the source is encoded on its own (a), its features are placed where the target's mask has that
component and become the foreground (b), which is fused with the target's background (c).

Shapes: pictures (N, 3, S, S) in [-1, 1]; labels (N, S, S) long, of retouch_common.parsing.labels.CLASSES; codes (N, D).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import torch
from retouch_common.pretrained import Pretrained
from torch import Tensor, nn

from maskgan.background import BackgroundFusion, Pasting
from maskgan.components import (
    COMPONENTS,
    FEATURE_STRIDE,
    Component,
    centres,
    crop,
    enlarged,
    feature_corner,
    masks,
    one_hot,
    place,
    window_corner,
)
from maskgan.config import COMPONENT_NAMES, PRESETS, ModelConfig
from maskgan.filling import filled
from maskgan.layers import initialise
from maskgan.local_embedding import FACE, AutoEncoder, sampled
from maskgan.mask_guided import MaskEncoder, MaskGuidedGenerator

BUNDLED = resources.files("maskgan") / "weights"


@dataclass(frozen=True)
class Codes:
    """The appearance of faces.

    Attributes:
        values: By component, (N, D); zeros where the component is missing. With a global embedding: "face" alone.
        present: Which components the faces have, (N, 5) bool in the order of COMPONENTS. A missing one, but hair, adds
            nothing to the generator's features: it draws what the mask asks for without any appearance given.
    """

    values: Mapping[str, Tensor]
    present: Tensor

    def shows(self, name: str) -> bool:
        """Whether all the faces have a component."""
        return bool(self.present[:, COMPONENT_NAMES.index(name)].all())


@dataclass(frozen=True)
class MaskGANOutput:
    """What :meth:`MaskGAN.forward` finds and makes.

    Attributes:
        image: G(x^s, m^s, x^t, m^t), (N, 3, S, S) in [-1, 1].
        codes: Of the source; with a variational model in training they are samples.
        windows: x_i^s by component, (N, 3, h, w) in [-1, 1]: what G_local is to make again.
        reconstructions: What it makes, by component; empty with a global embedding.
        statistics: Mean and logarithmic variance of the codes by component; empty unless the model is variational.
    """

    image: Tensor
    codes: Codes
    windows: Mapping[str, Tensor]
    reconstructions: Mapping[str, Tensor]
    statistics: Mapping[str, tuple[Tensor, Tensor]]


class MaskGAN(
    Pretrained,
    library_name="maskgan",
    tags=["portrait-editing", "image-to-image"],
    license="apache-2.0",
):
    """The whole framework G.

    Args:
        config: Its configuration; the preset "recommended" by default.
    """

    presets, bundled = PRESETS, BUNDLED

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PRESETS["recommended"].model
        self.parts = COMPONENTS if config.embedding == "local" else (FACE,)
        self.embedding = nn.ModuleDict(
            {part.name: AutoEncoder(part, config, picture=config.embedding == "local") for part in self.parts}
        )
        self.E_m = MaskEncoder(config)
        self.G_m = MaskGuidedGenerator(config)
        self.fusion = BackgroundFusion(config) if config.background == "fused" else Pasting(config)
        initialise(self, config.norm)

    def forward(
        self,
        source: Tensor,
        source_labels: Tensor,
        target: Tensor,
        target_labels: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> MaskGANOutput:
        """Draw the source's appearance after the target's mask, before the target's background.

        Args:
            source: x^s.
            source_labels: m^s.
            target: x^t, of which only the background is seen.
            target_labels: m^t.
            generator: Of the samples of a variational model in training.
        """
        self._check(source, source_labels)
        self._check(target, target_labels)
        windows = self.windows(source, source_labels)
        present = centres(source_labels)[1]
        values, statistics = {}, {}
        for name, window in windows.items():
            mean, log_variance = self._coder(name).encode(window)
            value = mean
            if log_variance is not None:
                statistics[name] = (mean, log_variance)
                value = sampled(mean, log_variance, generator) if self.training else mean
            values[name] = self._without_missing(name, value, present)
        codes = Codes(values, present)
        features = self._features(codes)
        pictures = {name: self._coder(name).picture(values[name], features[name]) for name in windows}
        return MaskGANOutput(
            image=self._compose(codes, features, target, target_labels),
            codes=codes,
            windows=windows,
            reconstructions={name: picture for name, picture in pictures.items() if picture is not None},
            statistics=statistics,
        )

    def encode(self, image: Tensor, labels: Tensor) -> Codes:
        """The appearance of faces; a variational model answers the mean.

        Args:
            image: x^s, (N, 3, S, S) in [-1, 1].
            labels: m^s, (N, S, S) long.
        """
        self._check(image, labels)
        present = centres(labels)[1]
        windows = self.windows(image, labels)
        values = {name: self._coder(name).encode(window)[0] for name, window in windows.items()}
        return Codes({name: self._without_missing(name, value, present) for name, value in values.items()}, present)

    def generate(self, codes: Codes, target: Tensor, target_labels: Tensor) -> Tensor:
        """Draw faces of an appearance after a mask.

        Args:
            codes: Of :meth:`encode`; every component may come from another face.
            target: x^t, (N, 3, S, S) in [-1, 1], of which only the background is seen.
            target_labels: m^t, (N, S, S) long.

        Returns:
            (N, 3, S, S) in [-1, 1].

        Raises:
            ValueError: The codes are not of this model.
        """
        self._check(target, target_labels)
        for part in self.parts:
            value, length = codes.values.get(part.name), self._coder(part.name).code
            if value is None or tuple(value.shape) != (len(target), length):
                raise ValueError(f"the code of {part.name} must have shape {(len(target), length)}, as encode gives it")
        return self._compose(codes, self._features(codes), target, target_labels)

    def windows(self, image: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """x_i, the components of faces, cut out and masked as configured.

        Args:
            image: (N, 3, S, S) in [-1, 1].
            labels: (N, S, S) long.

        Returns:
            By component (N, 3, h, w), 0 (mid-grey) where there is nothing of it.
        """
        if self.config.embedding == "global":
            return {FACE.name: image * (labels != 0)[:, None]}
        xy, _ = centres(labels)
        where = masks(labels)
        found = {}
        for number, component in enumerate(COMPONENTS):
            eye = component.name.startswith("eye")
            shown = where[:, number, None].to(image.dtype)
            picture = image * shown if self.config.mask_eyes or not eye else image
            if component.whole and self.config.surroundings == "continued":
                picture = filled(picture, shown)
            if component.whole and self.config.whole_windows == "picture":
                found[component.name] = picture
            else:
                corner = window_corner(component, xy[:, number], self.config.size, snap=self.config.snap)
                found[component.name] = crop(picture, component, corner)
        return found

    def conditioning(self, labels: Tensor) -> Tensor:
        """What E_m and the discriminators see of labels, (N, 11, S, S) of zeros and ones."""
        return one_hot(enlarged(labels, self.config.enlarge))

    def _features(self, codes: Codes) -> dict[str, Tensor]:
        found = {}
        for name, value in codes.values.items():
            feature = self._coder(name).features(value)
            # A zero code of hair is a bald head's, and G_m learns what that looks like.
            if self._may_lack(name) and name != "hair":
                feature = feature * codes.present[:, COMPONENT_NAMES.index(name), None, None, None]
            found[name] = feature
        return found

    def _compose(self, codes: Codes, features: Mapping[str, Tensor], target: Tensor, target_labels: Tensor) -> Tensor:
        """Fig. 2 (b) and (c)."""
        xy, present = centres(target_labels)
        placed = [self._place(part, features[part.name], xy, present) for part in self.parts]
        foreground = self.G_m(placed, self.E_m(self.conditioning(target_labels)))
        return self.fusion(foreground, target, (target_labels == 0)[:, None].to(target.dtype))

    def _place(self, part: Component, feature: Tensor, xy: Tensor, present: Tensor) -> Tensor:
        """A component's features at its centre in the target; nothing where the target has no such component."""
        if part is FACE:
            return feature
        number = COMPONENT_NAMES.index(part.name)
        if not (part.whole and self.config.whole_windows == "picture"):
            corner = feature_corner(part, xy[:, number], self.config.size)
            feature = place(feature, corner, self.config.size // FEATURE_STRIDE)
        return feature * present[:, number, None, None, None] if self._may_lack(part.name) else feature

    def _without_missing(self, name: str, value: Tensor, present: Tensor) -> Tensor:
        return value * present[:, COMPONENT_NAMES.index(name), None] if self._may_lack(name) else value

    def _may_lack(self, name: str) -> bool:
        return self.config.missing == "zero" and name != FACE.name

    def _coder(self, name: str) -> AutoEncoder:
        coder = self.embedding[name]
        assert isinstance(coder, AutoEncoder)
        return coder

    def _check(self, image: Tensor, labels: Tensor) -> None:
        side = self.config.size
        if tuple(image.shape[1:]) != (3, side, side) or labels.shape != image[:, 0].shape:
            raise ValueError(
                f"pictures must be (N, 3, {side}, {side}) and labels (N, {side}, {side}), "
                f"not {tuple(image.shape)} and {tuple(labels.shape)}"
            )


def unit(picture: Tensor) -> Tensor:
    """A picture in [-1, 1] brought to [0, 1]."""
    return (picture + 1) / 2

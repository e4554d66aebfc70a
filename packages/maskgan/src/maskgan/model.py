"""MaskGAN: generate portraits after a mask with the appearance of any person's components, in the order of Fig. 2.

Gu, Bao, Yang, Chen, Wen, Yuan. "Mask-Guided Portrait Editing with Conditional GANs." CVPR 2019.

Every component of the source is encoded on its own (a), its features are placed where the target's mask has that
component and become the foreground (b), which is fused with the target's background (c).

Shapes: images (N, 3, S, S) in [-1, 1]; labels (N, S, S) long, of retouch_common.parsing.labels.CLASSES; codes (N, D).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import cast

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
from maskgan.local_embedding import FACE, AutoEncoder, sample_code
from maskgan.mask_guided import MaskEncoder, MaskGuidedGenerator, mask_widths

BUNDLED = resources.files("maskgan") / "weights"


@dataclass(frozen=True)
class Codes:
    """Appearance of faces.

    Attributes:
        values: Codes (N, D) by component, zeros where it is missing; "face" only with a global embedding.
        present: Components that the faces have, (N, 5) bool in the order of COMPONENTS. A missing one, except hair,
            adds nothing to the generator's input: what the mask asks for is generated without a given appearance.
    """

    values: Mapping[str, Tensor]
    present: Tensor

    def shows(self, name: str) -> bool:
        """Return whether all faces have a component."""
        return bool(self.present[:, COMPONENT_NAMES.index(name)].all())


@dataclass(frozen=True)
class MaskGANOutput:
    """Output of :meth:`MaskGAN.forward`.

    Attributes:
        image: G(x^s, m^s, x^t, m^t), (N, 3, S, S) in [-1, 1].
        codes: Codes of the source; samples where the model is variational and in training mode.
        windows: x_i^s by component, (N, 3, h, w) in [-1, 1], the targets of G_local.
        reconstructions: G_local's output by component; empty with a global embedding.
    """

    image: Tensor
    codes: Codes
    windows: Mapping[str, Tensor]
    reconstructions: Mapping[str, Tensor]


class MaskGAN(Pretrained):
    """The whole generator G.

    Args:
        config: Its configuration; the preset "recommended" by default.
    """

    presets, bundled = PRESETS, BUNDLED
    tags = ("portrait-editing", "image-to-image")

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PRESETS["recommended"].model
        self.parts = COMPONENTS if config.embedding == "local" else (FACE,)
        self.embedding = nn.ModuleDict({part.name: AutoEncoder(part, config) for part in self.parts})
        widths, fold, norm = mask_widths(config.generator_width, config.fold), config.fold, config.norm
        self.E_m = MaskEncoder(widths, fold, norm)
        self.G_m = MaskGuidedGenerator(
            len(self.parts) * config.features,
            widths,
            config.foreground_width,
            num_blocks=config.generator_blocks,
            norm=norm,
            upsampling=config.upsampling,
            skips=config.mask_skips,
        )
        self.fusion: BackgroundFusion | Pasting
        if config.background == "fused":
            self.fusion = BackgroundFusion(
                config.foreground_width,
                fold,
                num_blocks=config.background_blocks,
                norm=norm,
                as_image=config.foreground == "picture",
                residual=config.background_residual,
            )
        else:
            self.fusion = Pasting(config.foreground_width, fold)
        initialise(self, norm)

    def forward(
        self,
        source: Tensor,
        source_labels: Tensor,
        target: Tensor,
        target_labels: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> MaskGANOutput:
        """Generate the source's appearance after the target's mask, in front of the target's background.

        Args:
            source: x^s.
            source_labels: m^s.
            target: x^t, of which only the background is used.
            target_labels: m^t.
            generator: Random numbers of a variational model in training mode.
        """
        self._check(target, target_labels)
        windows, codes = self._encode(source, source_labels, sample=self.training, generator=generator)
        features = self._features(codes)
        decoded = {name: self._coder(name).decode_image(codes.values[name], features[name]) for name in windows}
        return MaskGANOutput(
            image=self._compose(features, target, target_labels),
            codes=codes,
            windows=windows,
            reconstructions={name: image for name, image in decoded.items() if image is not None},
        )

    def encode(self, image: Tensor, labels: Tensor) -> Codes:
        """Encode the appearance of faces x^s with labels m^s; a variational model returns the mean."""
        return self._encode(image, labels)[1]

    def generate(self, codes: Codes, target: Tensor, target_labels: Tensor) -> Tensor:
        """Generate faces (N, 3, S, S) in [-1, 1] from codes, of any faces, the background of x^t and the labels m^t.

        Raises:
            ValueError: The codes are not of this model.
        """
        return self.generate_from(self.decode(codes, len(target)), target, target_labels)

    def decode(self, codes: Codes, number: int) -> dict[str, Tensor]:
        """Decode the codes of ``number`` faces to the features of their components, (N, F, h / 4, w / 4).

        Raises:
            ValueError: The codes are not of this model.
        """
        for part in self.parts:
            value, length = codes.values.get(part.name), self._coder(part.name).code
            if value is None or tuple(value.shape) != (number, length):
                raise ValueError(f"the code of {part.name} must have shape {(number, length)}, as encode gives it")
        return self._features(codes)

    def generate_from(self, features: Mapping[str, Tensor], target: Tensor, target_labels: Tensor) -> Tensor:
        """Generate faces as :meth:`generate` does, from decoded codes."""
        self._check(target, target_labels)
        return self._compose(features, target, target_labels)

    def windows(self, image: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cut out and mask the components x_i of faces: (N, 3, h, w) by component, 0 (mid-grey) where it is not."""
        config = self.config
        if config.embedding == "global":
            return {FACE.name: image * (labels != 0)[:, None]}
        xy, _ = centres(labels)
        found = {}
        for number, (component, mask) in enumerate(zip(COMPONENTS, masks(labels).unbind(1), strict=True)):
            shown = mask[:, None].to(image.dtype)
            eye = component.name.startswith("eye")
            window = image * shown if config.mask_eyes or not eye else image
            if component.whole and config.surroundings == "continued":
                window = filled(window, shown)
            if not self._covers_image(component):
                window = crop(window, component, window_corner(component, xy[:, number], config.size, snap=config.snap))
            found[component.name] = window
        return found

    def conditioning(self, labels: Tensor) -> Tensor:
        """Return labels as E_m sees them, (N, 11, S, S), one-hot."""
        return one_hot(enlarged(labels, self.config.enlarge))

    def _encode(
        self, image: Tensor, labels: Tensor, *, sample: bool = False, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Codes]:
        """Fig. 2 (a): windows and codes."""
        self._check(image, labels)
        windows, present = self.windows(image, labels), centres(labels)[1]
        values = {}
        for name, window in windows.items():
            value, log_variance = self._coder(name).encoder(window)
            if sample and log_variance is not None:
                value = sample_code(value, log_variance, generator)
            values[name] = self._zero_missing(name, value, present)
        return windows, Codes(values, present)

    def _features(self, codes: Codes) -> dict[str, Tensor]:
        found = {}
        for name, value in codes.values.items():
            feature = self._coder(name).feature_decoder(value)
            # A zero code of hair stands for baldness, which G_m learns.
            found[name] = feature if name == "hair" else self._zero_missing(name, feature, codes.present)
        return found

    def _compose(self, features: Mapping[str, Tensor], target: Tensor, target_labels: Tensor) -> Tensor:
        """Fig. 2 (b) and (c)."""
        xy, present = centres(target_labels)
        placed = [self._place(part, features[part.name], xy, present) for part in self.parts]
        foreground = self.G_m(placed, self.E_m(self.conditioning(target_labels)))
        return self.fusion(foreground, target, (target_labels == 0)[:, None].to(target.dtype))

    def _place(self, part: Component, feature: Tensor, xy: Tensor, present: Tensor) -> Tensor:
        """Place features at their component's centre in the target; zeros where the target lacks the component."""
        if part is FACE:
            return feature
        if not self._covers_image(part):
            corner = feature_corner(part, xy[:, COMPONENT_NAMES.index(part.name)], self.config.size)
            feature = place(feature, corner, self.config.size // FEATURE_STRIDE)
        return self._zero_missing(part.name, feature, present)

    def _covers_image(self, part: Component) -> bool:
        return part.whole and self.config.whole_windows == "picture"

    def _zero_missing(self, name: str, value: Tensor, present: Tensor) -> Tensor:
        """Return (N, ...) values, zeros where faces lack the component."""
        if self.config.missing == "canonical" or name == FACE.name:
            return value
        return value * present[:, COMPONENT_NAMES.index(name)].reshape(-1, *[1] * (value.ndim - 1))

    def _coder(self, name: str) -> AutoEncoder:
        return cast(AutoEncoder, self.embedding[name])

    def _check(self, image: Tensor, labels: Tensor) -> None:
        side = self.config.size
        if tuple(image.shape[1:]) != (3, side, side) or labels.shape != image[:, 0].shape:
            raise ValueError(
                f"images must be (N, 3, {side}, {side}) and labels (N, {side}, {side}), "
                f"not {tuple(image.shape)} and {tuple(labels.shape)}"
            )

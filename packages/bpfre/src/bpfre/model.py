"""BPFRe, the blemish-aware and progressive face retouching network, in the order of Fig. 2.

Xie, Xue, Xu, Wu, Yu, Wong. "Blemish-aware and Progressive Face Retouching with Limited Paired Data." CVPR 2023.

Stage one, a U-Net, retouches coarsely; stage two, a StyleGAN2 generator fed with the U-Net's features, adds detail.
Between encoder and decoder and between decoder and generator, an attention module locates the blemishes and suppresses
them in the features.

Shapes: x_raw, x~ (coarse) and x^ (refined) are (N, 3, S, S), in [0, 1] at the interface and in [-1, 1] inside; maps M
are (N, 1, r, r) in [0, 1] for every resolution r of the features of at least 8, finest first.
"""

from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, Literal

from retouch_common.pretrained import Pretrained
from retouch_common.ranges import to_signed, to_unit
from torch import Tensor

from bpfre.attention import AttentionPyramid
from bpfre.config import PRESETS, ModelConfig
from bpfre.generator import Generator
from bpfre.unet import Decoder, Encoder

Stage = Literal["coarse", "refined"]


@dataclass(frozen=True)
class BPFReOutput:
    """Output of :class:`BPFRe`.

    Attributes:
        coarse: x~, (N, 3, S, S), nominally in [0, 1], unclamped; None without D_deco.
        refined: x^, likewise; None without G, or if only the first stage was run.
        attention_coarse: M^{E2D} of every scale, (N, 1, r, r), finest first; empty without the module.
        attention_refined: M^{D2G}, likewise.
    """

    coarse: Tensor | None
    refined: Tensor | None
    attention_coarse: list[Tensor]
    attention_refined: list[Tensor]

    @property
    def result(self) -> Tensor:
        """Image of the last stage."""
        result = self.coarse if self.refined is None else self.refined
        assert result is not None
        return result


class BPFRe(Pretrained):
    """Both stages, without the discriminator.

    Args:
        config: Architecture; by default :class:`ModelConfig`'s.
    """

    presets, bundled = PRESETS, resources.files("bpfre") / "weights"
    tags = ("face-retouching", "image-to-image")

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        channels, patch, residual = config.channels, config.patch, config.residual == "add"
        blocks: Any = {"norm": config.norm, "activation": config.activation}
        gates = partial(AttentionPyramid, channels, width=config.attention_width, normalise=config.attention_norm)
        style_dim = config.style_dim if config.generator else None
        self.encoder = Encoder(channels, patch=patch, style_dim=style_dim, **blocks)
        self.attention_coarse = gates() if config.attention and config.decoder else None
        self.decoder = Decoder(channels, patch=patch, residual=residual, **blocks) if config.decoder else None
        self.attention_refined = gates() if config.attention and config.generator else None
        self.generator: Generator | None = None
        if style_dim is not None:
            self.generator = Generator(
                channels,
                patch=patch,
                style_dim=style_dim,
                mapping_layers=config.mapping_layers,
                residual=residual,
            )

    def forward(self, image: Tensor, *, stage: Stage = "refined") -> BPFReOutput:
        """Retouch faces.

        Args:
            image: x_raw, (N, 3, S, S) in [0, 1].
            stage: "coarse" skips the second stage.

        Raises:
            ValueError: If the images are not S x S, or a "coarse" stage is requested of a network without decoder.
        """
        size = self.config.size
        if image.shape[-2:] != (size, size):
            raise ValueError(f"this network takes {size}x{size} pixels, not {image.shape[-1]}x{image.shape[-2]}")
        if stage == "coarse" and self.decoder is None:
            raise ValueError("this network has no decoder (model.decoder=false), and so no coarse stage")
        x = to_signed(image)
        f = f_E = self.encoder(x)
        coarse: Tensor | None = None
        refined: Tensor | None = None
        maps_coarse: list[Tensor] = []
        maps_refined: list[Tensor] = []
        if self.decoder is not None:
            if self.attention_coarse is not None:
                f, maps_coarse = self.attention_coarse(x, f_E)  # Eq. 1-3
            change, f = self.decoder(f)  # Eq. 7
            coarse = self._image(x, change)
        if self.generator is not None and stage == "refined":
            refined, maps_refined = self._second_stage(x, coarse, f_E, f)
        coarse, refined = (None if x is None else to_unit(x.float()) for x in (coarse, refined))
        return BPFReOutput(coarse, refined, maps_coarse, maps_refined)

    def _second_stage(
        self, x: Tensor, coarse: Tensor | None, f_E: dict[int, Tensor], f: dict[int, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return x^ in [-1, 1] and the maps M^{D2G} (Eq. 8)."""
        assert self.generator is not None
        base = x if coarse is None else coarse
        if self.config.detach_coarse and self.decoder is not None:
            f_E = {r: features.detach() for r, features in f_E.items()}
            f = {r: features.detach() for r, features in f.items()}
            base = base.detach()
        maps: list[Tensor] = []
        if self.attention_refined is not None:
            # Paper: not stated. Here: x~, since the map's target is |x~ - x_ret|.
            seen = x if self.config.refined_input == "raw" else base.detach()
            f, maps = self.attention_refined(seen, f)
        return self._image(base, self.generator(self.encoder.code(f_E), f)), maps

    def _image(self, base: Tensor, output: Tensor) -> Tensor:
        # Paper: a stage outputs an image. Here (residual="add"): a change of its input image.
        return base + output if self.config.residual == "add" else output

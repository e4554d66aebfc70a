"""BPFRe, the blemish-aware and progressive face retouching network, in the order of Fig. 2.

Xie, Xue, Xu, Wu, Yu, Wong. "Blemish-aware and Progressive Face Retouching with Limited Paired Data." CVPR 2023.

Stage one is a U-Net that retouches coarsely; stage two a StyleGAN2 generator that is fed with the U-Net's features and
adds detail. Between encoder and decoder and between decoder and generator, an attention module finds the blemishes and
weights the features so that they do not pass.

Shapes: x_raw, x~ (coarse) and x^ (refined) are (N, 3, S, S), in [0, 1] at the interface and in [-1, 1] inside; maps M
are (N, 1, r, r) in [0, 1] for every resolution r of the features, finest first.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Literal

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
    """What a forward pass computes.

    Attributes:
        coarse: x~, (N, 3, S, S), nominally in [0, 1], unclamped; None without D_deco.
        refined: x^, the same; None without G, or where only the first stage was asked for.
        attention_coarse: M^{E2D} of every gated scale, (N, 1, r, r), finest first; empty without the module.
        attention_refined: M^{D2G} likewise.
    """

    coarse: Tensor | None
    refined: Tensor | None
    attention_coarse: list[Tensor]
    attention_refined: list[Tensor]

    @property
    def result(self) -> Tensor:
        """The picture of the last stage there is."""
        result = self.coarse if self.refined is None else self.refined
        assert result is not None
        return result


class BPFRe(
    Pretrained,
    library_name="bpfre",
    tags=["face-retouching", "image-to-image"],
    license="apache-2.0",
):
    """The network without its discriminator.

    Args:
        config: Its configuration; the preset "recommended" by default.
    """

    presets, bundled = PRESETS, resources.files("bpfre") / "weights"

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        channels = {r: config.channels(r) for r in config.resolutions}

        def attention() -> AttentionPyramid:
            return AttentionPyramid(
                channels,
                width=config.attention_width,
                normalise=config.attention_norm,
                parameters=config.parameters,
                weight_activation=config.weight_activation,
            )

        self.encoder = Encoder(config)
        self.attention_coarse = attention() if config.attention and config.decoder else None
        self.decoder = Decoder(config) if config.decoder else None
        self.attention_refined = attention() if config.attention and config.generator else None
        self.generator = Generator(config) if config.generator else None

    def forward(self, image: Tensor, *, stage: Stage = "refined") -> BPFReOutput:
        """Retouch faces.

        Args:
            image: x_raw, (N, 3, S, S) in [0, 1].
            stage: "coarse" leaves the second stage out.

        Raises:
            ValueError: If the pictures are not S x S.
        """
        size = self.config.size
        if image.shape[-2:] != (size, size):
            raise ValueError(f"this network sees {size}x{size} pixels, not {image.shape[-1]}x{image.shape[-2]}")
        x = to_signed(image)
        f = f_E = self.encoder(x)
        coarse, maps_coarse = None, []
        if self.decoder is not None:
            if self.attention_coarse is not None:
                f, maps_coarse = self.attention_coarse(x, f_E)  # Eq. 1-3
            coarse, f = self.decoder(f)  # Eq. 7
            coarse = self._picture(x, coarse)
            if stage == "coarse" and self.generator is not None:
                return BPFReOutput(to_unit(coarse.float()), None, maps_coarse, [])
        if self.generator is None:
            assert coarse is not None
            return BPFReOutput(to_unit(coarse.float()), None, maps_coarse, [])
        if stage == "coarse":
            raise ValueError("this network has no decoder (model.decoder=false), and so no coarse stage")
        refined, maps_refined = self._second_stage(x, coarse, f_E, f)
        first_stage = None if coarse is None else to_unit(coarse.float())
        return BPFReOutput(first_stage, to_unit(refined.float()), maps_coarse, maps_refined)

    def _second_stage(
        self, x: Tensor, coarse: Tensor | None, f_E: dict[int, Tensor], f: dict[int, Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Eq. 8: x^ in [-1, 1] and the maps M^{D2G}."""
        assert self.generator is not None
        base = x if coarse is None else coarse
        if self.config.detach_coarse:
            f_E = {r: features.detach() for r, features in f_E.items()}
            f = {r: features.detach() for r, features in f.items()}
            base = base.detach()
        maps: list[Tensor] = []
        if self.attention_refined is not None:
            # Its target is |x~ - x_ret|, so that x~ is what it should look at (the paper does not say).
            seen = x if self.config.refined_input == "raw" else base.detach()
            f, maps = self.attention_refined(seen, f)
        return self._picture(base, self.generator(self.encoder.code(f_E), f)), maps

    def _picture(self, base: Tensor, output: Tensor) -> Tensor:
        # Paper: the stage's output is the picture. Here (residual="add"): it is the change of its input picture.
        return base + output if self.config.residual == "add" else output

"""Protocols measure images as a group of authors does, and describe how.

Metrics of different protocols never stand in one column. METRICS holds single metrics, PROTOCOLS the sets that make a
table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from retouch_common.losses.region import CHANGED_LEVELS
from retouch_common.metrics import quality
from retouch_common.metrics.quality import (
    BITS,
    PSNR_CEILING,
    SSIM_K,
    SSIM_SIGMA,
    SSIM_WINDOW,
    UNIFORM_WINDOW,
    true_mask,
)

if TYPE_CHECKING:
    from torch import Tensor

    from retouch_common.metrics.quality import LPIPS

Region = Literal["all", "inside", "outside"]  # all pixels, or those inside or outside :func:`quality.true_mask`

_REGIONS = {
    "all": "every pixel counts alike",
    "inside": f"inside: pixels where target and raw differ by more than {CHANGED_LEVELS} levels in a channel",
    "outside": f"outside: pixels where target and raw differ by at most {CHANGED_LEVELS} levels in every channel",
}
_AVERAGES = {"all": "mean of the images' values"} | dict.fromkeys(
    ("inside", "outside"), "mean of the values of the images that have such pixels"
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: In tables and JSON.
        description: Range, colour, quantisation, window, region, resolution and average.
        function: Takes output and target, (3, H, W) in [0, 1] each, a mask (1, 1, H, W) or None, and LPIPS or None;
            returns None where there is no value.
        region: Pixels that count.
    """

    name: str
    description: str
    function: Callable[..., float | None]
    region: Region = "all"

    def at(self, resolution: int) -> Metric:
        """Return the same metric for images resized to ``resolution`` pixels a side."""
        parts = [part for part in self.description.split("; ") if not part.startswith("resolution: ")]
        parts.insert(-1, f"resolution: {resolution}x{resolution}")
        return replace(self, name=f"{self.name}@{resolution}", description="; ".join(parts))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Metrics that belong together in one table.

    Attributes:
        about: Whose convention it is.
        psnr: Name of its PSNR; inside and outside the mask have suffixes.
        ssim: Name of its SSIM.
        lpips: Name of its LPIPS.
        metrics: All metrics in order.
    """

    about: str
    psnr: str
    ssim: str
    lpips: str
    metrics: tuple[Metric, ...]

    def measure(self, output: Tensor, raw: Tensor, target: Tensor, *, lpips: LPIPS | None = None) -> dict[str, float]:
        """Measure one image.

        Args:
            output: Retouched ``raw``, or ``raw`` itself for the identity baseline, (3, H, W) in [0, 1].
            raw: The photograph.
            target: The retoucher's result.
            lpips: The network; None skips LPIPS.

        Returns:
            Metrics by name, without those that have no value (an empty region).

        Raises:
            ValueError: The shapes differ, there are several images, or they are too small.
        """
        inside = true_mask(raw, target)
        masks = {"all": None, "inside": inside, "outside": ~inside}
        found: dict[str, float] = {}
        for metric in self.metrics:
            mask = masks[metric.region]
            value = None if mask is not None and not mask.any() else metric.function(output, target, mask, lpips)
            if value is not None:
                found[metric.name] = value
        return found


def _metric(
    name: str,
    function: Callable[..., float | None],
    *,
    range: str,
    colour: str = "RGB",
    window: str = "none",
    rounded: bool,
    region: Region = "all",
) -> Metric:
    quantisation = f"clamped, rounded to {BITS} bits" if rounded else "none, not clamped either"
    description = (
        f"range: {range}; colour: {colour}; quantisation: {quantisation}; window: {window}; "
        f"region: {_REGIONS[region]}; resolution: the images' own; average: {_AVERAGES[region]}"
    )
    name = name if region == "all" else f"{name}-{region}"
    return Metric(name=name, description=description, function=function, region=region)


def _protocol(about: str, *, psnr: str, ssim: Metric, lpips: str, rounded: bool, colour: bool = False) -> Protocol:
    def errors(region: Region) -> list[Metric]:
        found = [
            _metric(
                psnr,
                lambda output, target, mask, _: quality.psnr(output, target, mask, rounded=rounded),
                range=f"[0, 1], in dB, at most {PSNR_CEILING:g}, which is also what equal images score",
                colour="RGB, squared errors of all channels pooled",
                rounded=rounded,
                region=region,
            )
        ]
        if colour:  # colour differences too
            found.append(
                _metric(
                    "de76",
                    lambda output, target, mask, _: quality.delta_e(output, target, mask),
                    range="CIE 1976 colour difference, 0 where nothing differs",
                    colour="sRGB to CIELAB, D65",
                    rounded=True,
                    region=region,
                )
            )
        return found

    distance = _metric(
        lpips,
        lambda output, target, _, network: None if network is None else network(output, target, rounded=rounded),
        range="[-1, 1] into the network, 0 where nothing differs",
        window="AlexNet's receptive fields, torchvision's ImageNet weights",
        rounded=rounded,
    )
    whole, *more = errors("all")
    metrics = (whole, ssim, *more, *errors("inside"), *errors("outside"), distance)
    return Protocol(about=about, psnr=psnr, ssim=ssim.name, lpips=lpips, metrics=metrics)


def _gaussian_ssim(name: str, *, rounded: bool) -> Metric:
    return _metric(
        name,
        lambda output, target, *_: quality.ssim(output, target, rounded=rounded),
        range="[0, 1], K = {:g}, {:g}".format(*SSIM_K),
        colour="RGB, mean over channels",
        window=f"{SSIM_WINDOW}x{SSIM_WINDOW} Gaussian, sigma {SSIM_SIGMA:g}, wholly inside the image",
        rounded=rounded,
    )


_UNIFORM_SSIM = _metric(
    "ssim-uniform7",
    lambda output, target, *_: quality.ssim_uniform(output, target),
    range="[-1, 1], K = {:g}, {:g} of a range of 2".format(*SSIM_K),
    colour="RGB, mean over channels",
    window=f"{UNIFORM_WINDOW}x{UNIFORM_WINDOW} uniform, sample covariance, wholly inside the image",
    rounded=False,
)

PROTOCOLS = {
    "png8": _protocol(
        "what a saved 8-bit file scores: clamped, rounded; SSIM of Wang et al. (2004)",
        psnr="psnr-rgb8",
        ssim=_gaussian_ssim("ssim-rgb8", rounded=True),
        lpips="lpips-alex-v0.1",
        rounded=True,
        colour=True,
    ),
    "wang": _protocol(
        "not clamped, not rounded; SSIM of Wang et al. (2004)",
        psnr="psnr-rgb",
        ssim=_gaussian_ssim("ssim-gauss11", rounded=False),
        lpips="lpips-alex-v0.1-float",
        rounded=False,
    ),
    "bpfre-group": _protocol(
        "as the public code of BPFRe's authors measures its successors: [-1, 1], not clamped, not rounded, "
        "scikit-image's default SSIM with range 2",
        psnr="psnr-rgb",
        ssim=_UNIFORM_SSIM,
        lpips="lpips-alex-v0.1-float",
        rounded=False,
    ),
}

METRICS = {metric.name: metric for protocol in PROTOCOLS.values() for metric in protocol.metrics} | {
    "average-precision": Metric(
        name="average-precision",
        description="range: [0, 1], area under the precision-recall curve; a map without knowledge has the share of "
        "such pixels; colour: a map of one channel against the pixels where target and raw differ by more than "
        f"{CHANGED_LEVELS} levels in a channel; quantisation: none of the map; window: none; "
        f"region: {_REGIONS['all']}; resolution: the images' own; average: {_AVERAGES['inside']}",
        function=quality.average_precision,
    )
}

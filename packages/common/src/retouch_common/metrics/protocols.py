"""What a figure means: every number stands beside the name of the protocol it was measured by.

Figures of different protocols never stand in one column. PROTOCOLS defines single figures, PRESETS the sets of them
that make a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BITS = 8
LEVELS = 2**BITS - 1  # the largest level
MASK_THRESHOLD = 3  # levels: a pixel is inside if the truth changes a channel of it by more
PSNR_CEILING = 100.0  # dB: what equal pictures score, so that means stay finite
SSIM_WINDOW = 11  # pixels
SSIM_SIGMA = 1.5  # pixels; torchmetrics derives the window from it: 2 * int(3.5 * sigma + 0.5) + 1
SSIM_K = (0.01, 0.03)
UNIFORM_WINDOW = 7  # pixels


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How one figure is measured.

    Attributes:
        name: The figure's name in tables and JSON.
        description: range, colour, quantisation, window, resolution and average, each in a few words.
    """

    name: str
    description: str

    def at(self, resolution: int) -> Protocol:
        """The same for pictures brought to ``resolution`` pixels a side."""
        parts = [part for part in self.description.split("; ") if not part.startswith("resolution: ")]
        parts.insert(-1, f"resolution: {resolution}x{resolution}")
        return replace(self, name=f"{self.name}@{resolution}", description="; ".join(parts))


_ALL = "every pixel counts alike"
_INSIDE = f"inside: pixels where target and raw differ by more than {MASK_THRESHOLD} levels in a channel"
_OUTSIDE = f"outside: pixels where target and raw differ by at most {MASK_THRESHOLD} levels in every channel"
_PER_IMAGE = "average: mean of the images' values"
_PRESENT = "average: mean of the values of the images that have such pixels"
_REGIONS = (("-inside", _INSIDE, _PRESENT), ("-outside", _OUTSIDE, _PRESENT))
_LEVELS = f"clamped, rounded to {BITS} bits"
_NONE = "none, not clamped either"


def _protocol(
    name: str, *, range: str, colour: str, window: str, region: str, average: str, quantisation: str = _LEVELS
) -> Protocol:
    parts = [
        f"range: {range}",
        f"colour: {colour}",
        f"quantisation: {quantisation}",
        f"window: {window}",
        f"region: {region}",
        "resolution: the images' own",
        average,
    ]
    return Protocol(name=name, description="; ".join(parts))


def _psnr(name: str, quantisation: str) -> list[Protocol]:
    """The whole image, inside and outside."""
    return [
        _protocol(
            f"{name}{suffix}",
            range=f"[0, 1], in dB, at most {PSNR_CEILING:g}, which is also what equal images score",
            colour="RGB, squared errors of all channels pooled",
            window="none",
            region=region,
            average=average,
            quantisation=quantisation,
        )
        for suffix, region, average in (("", _ALL, _PER_IMAGE), *_REGIONS)
    ]


def _gaussian_ssim(name: str, quantisation: str) -> Protocol:
    return _protocol(
        name,
        range="[0, 1], K = {:g}, {:g}".format(*SSIM_K),
        colour="RGB, mean over channels",
        window=f"{SSIM_WINDOW}x{SSIM_WINDOW} Gaussian, sigma {SSIM_SIGMA:g}, wholly inside the image",
        region=_ALL,
        average=_PER_IMAGE,
        quantisation=quantisation,
    )


def _lpips(name: str, quantisation: str) -> Protocol:
    return _protocol(
        name,
        range="[-1, 1] into the network, 0 where nothing differs",
        colour="RGB",
        window="AlexNet's receptive fields, torchvision's ImageNet weights",
        region=_ALL,
        average=_PER_IMAGE,
        quantisation=quantisation,
    )


def _de76() -> list[Protocol]:
    return [
        _protocol(
            f"de76{suffix}",
            range="CIE 1976 colour difference, 0 where nothing differs",
            colour="sRGB to CIELAB, D65",
            window="none",
            region=region,
            average=average,
        )
        for suffix, region, average in (("", _ALL, _PER_IMAGE), *_REGIONS)
    ]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        *_psnr("psnr-rgb8", _LEVELS),
        _gaussian_ssim("ssim-rgb8", _LEVELS),
        _lpips("lpips-alex-v0.1", _LEVELS),
        *_de76(),
        *_psnr("psnr-rgb", _NONE),
        _gaussian_ssim("ssim-gauss11", _NONE),
        _protocol(
            "ssim-uniform7",
            range="[-1, 1], K = {:g}, {:g} of a range of 2".format(*SSIM_K),
            colour="RGB, mean over channels",
            window=f"{UNIFORM_WINDOW}x{UNIFORM_WINDOW} uniform, sample covariance, wholly inside the image",
            region=_ALL,
            average=_PER_IMAGE,
            quantisation=_NONE,
        ),
        _lpips("lpips-alex-v0.1-float", _NONE),
        _protocol(
            "average-precision",
            range="[0, 1], area under the precision-recall curve; a map without knowledge has the share of such pixels",
            colour="a map of one channel against the pixels where target and raw differ by more than "
            f"{MASK_THRESHOLD} levels in a channel",
            window="none",
            region=_ALL,
            average=_PRESENT,
            quantisation="none of the map",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Figures that belong together in one table, as a group of authors measures them.

    Attributes:
        name: What a table is headed with.
        about: Whose habit it is.
        psnr: Name of its PSNR in PROTOCOLS; inside and outside the mask have suffixes.
        ssim: Name of its SSIM.
        lpips: Name of its LPIPS.
    """

    name: str
    about: str
    psnr: str
    ssim: str
    lpips: str


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="png8",
            about="what a saved 8-bit file scores: clamped, rounded; SSIM of Wang et al. (2004)",
            psnr="psnr-rgb8",
            ssim="ssim-rgb8",
            lpips="lpips-alex-v0.1",
        ),
        Preset(
            name="wang",
            about="not clamped, not rounded; SSIM of Wang et al. (2004)",
            psnr="psnr-rgb",
            ssim="ssim-gauss11",
            lpips="lpips-alex-v0.1-float",
        ),
        Preset(
            name="bpfre-group",
            about="as the public code of BPFRe's authors measures its successors: [-1, 1], not clamped, not rounded, "
            "scikit-image's default SSIM with range 2",
            psnr="psnr-rgb",
            ssim="ssim-uniform7",
            lpips="lpips-alex-v0.1-float",
        ),
    )
}

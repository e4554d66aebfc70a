"""What a figure means: every number stands beside the name of the protocol it was measured by.

Figures of different protocols never stand in one column.
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


def _protocol(name: str, *, range: str, colour: str, window: str, region: str, average: str) -> Protocol:
    parts = [
        f"range: {range}",
        f"colour: {colour}",
        f"quantisation: rounded to {BITS} bits",
        f"window: {window}",
        f"region: {region}",
        "resolution: the images' own",
        average,
    ]
    return Protocol(name=name, description="; ".join(parts))


def _psnr(suffix: str, region: str, average: str) -> Protocol:
    return _protocol(
        f"psnr-rgb8{suffix}",
        range=f"[0, 1], in dB, {PSNR_CEILING:g} where nothing differs",
        colour="RGB, squared errors of all channels pooled",
        window="none",
        region=region,
        average=average,
    )


def _de76(suffix: str, region: str, average: str) -> Protocol:
    return _protocol(
        f"de76{suffix}",
        range="CIE 1976 colour difference, 0 where nothing differs",
        colour="sRGB to CIELAB, D65",
        window="none",
        region=region,
        average=average,
    )


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _psnr("", _ALL, _PER_IMAGE),
        _psnr("-inside", _INSIDE, _PRESENT),
        _psnr("-outside", _OUTSIDE, _PRESENT),
        _protocol(
            "ssim-rgb8",
            range="[0, 1], K = {:g}, {:g}".format(*SSIM_K),
            colour="RGB, mean over channels",
            window=f"{SSIM_WINDOW}x{SSIM_WINDOW} Gaussian, sigma {SSIM_SIGMA:g}, wholly inside the image",
            region=_ALL,
            average=_PER_IMAGE,
        ),
        _protocol(
            "lpips-alex-v0.1",
            range="[-1, 1] into the network, 0 where nothing differs",
            colour="RGB",
            window="AlexNet's receptive fields, torchvision's ImageNet weights",
            region=_ALL,
            average=_PER_IMAGE,
        ),
        _de76("", _ALL, _PER_IMAGE),
        _de76("-inside", _INSIDE, _PRESENT),
        _de76("-outside", _OUTSIDE, _PRESENT),
    )
}

"""How near a retouched picture is to the retoucher's: PSNR, SSIM, LPIPS, CIE 1976 colour difference.

Pictures are (3, H, W) in [0, 1], one at a time, and are rounded to 8 bits first: what is compared is what a file
would hold. Results are floats. The names of :func:`measure`'s figures are explained in
:data:`retouch_common.metrics.protocols.PROTOCOLS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from retouch_common.losses.region import difference_mask
from retouch_common.metrics.protocols import LEVELS, MASK_THRESHOLD, PSNR_CEILING, SSIM_K, SSIM_SIGMA, SSIM_WINDOW
from retouch_common.weights import sha256

ALEXNET_FILE = "alexnet-owt-7be5be79.pth"  # torchvision's ImageNet weights; the digits begin its SHA-256
BAND = 512  # rows of the SSIM map at a time: the windowed moments of a whole 4096² picture take gigabytes


class LPIPSUnavailable(ValueError):
    """LPIPS cannot be measured; the message says which file to put where."""


def quantise(image: torch.Tensor) -> torch.Tensor:
    """Clamp to [0, 1] and round to 8 bits; any shape, stays in [0, 1], fp32."""
    return (image.float().clamp(0, 1) * LEVELS).round() / LEVELS


def true_mask(raw: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Where the truth changes a channel of (3, H, W) pictures by more than 3 levels, (1, 1, H, W) bool.

    Raises:
        ValueError: The shapes differ, or there are several pictures.
    """
    _check(raw, target)
    threshold = (MASK_THRESHOLD + 0.5) / LEVELS  # between two levels, so that rounding errors play no part
    return difference_mask(quantise(raw)[None], quantise(target)[None], threshold=threshold) > 0


def psnr(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB, at most 100, all channels pooled.

    Args:
        output: (3, H, W) in [0, 1].
        target: The same shape.
        mask: (1, 1, H, W) bool; only these pixels count. None counts all.

    Raises:
        ValueError: The shapes differ, there are several pictures, or the mask is empty.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    output, target = _selected(output, target, mask)
    return min(PSNR_CEILING, float(peak_signal_noise_ratio(output, target, data_range=1.0)))


def ssim(output: torch.Tensor, target: torch.Tensor) -> float:
    """Structural similarity (Wang et al., 2004), mean over channels; at most 1.

    Args:
        output: (3, H, W) in [0, 1], sides of at least 11 pixels.
        target: The same shape.

    Raises:
        ValueError: The shapes differ, there are several pictures, or they are smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(output, target)
    height, width = output.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM's window needs pictures of at least {SSIM_WINDOW} pixels a side, not {width}x{height}")
    output, target = quantise(output)[None], quantise(target)[None]
    border = SSIM_WINDOW // 2  # torchmetrics reflects the picture there; those places do not count
    total = torch.zeros((), dtype=torch.float64, device=output.device)
    for top in range(0, height - 2 * border, BAND):
        band = (..., slice(top, top + BAND + 2 * border), slice(None))
        _, similarity = structural_similarity_index_measure(
            output[band],
            target[band],
            sigma=SSIM_SIGMA,
            data_range=1.0,
            k1=SSIM_K[0],
            k2=SSIM_K[1],
            return_full_image=True,
        )
        total += torch.as_tensor(similarity)[..., border:-border, border:-border].double().sum()
    return float(total) / (3 * (height - 2 * border) * (width - 2 * border))


def delta_e(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Mean CIE 1976 colour difference; about 2 is just visible. Arguments and errors as for :func:`psnr`."""
    from kornia.color import rgb_to_lab

    output, target = _selected(output, target, mask)
    difference = rgb_to_lab(output[:, None]) - rgb_to_lab(target[:, None])  # (3, 1, n)
    return float(difference.norm(dim=0).mean())


class LPIPS:
    """Learned perceptual distance on AlexNet, as its authors calibrated it (Zhang et al., CVPR 2018; version 0.1).

    AlexNet's ImageNet weights come from torch.hub's cache, where torchvision keeps them, or from a given file; the
    calibration comes with the lpips package. Nothing is downloaded and nothing stays random: a number from another
    backbone would not be LPIPS.

    Args:
        weights: torchvision's file of AlexNet's weights; by default looked up in torch.hub's cache.
        device: Where to compute.

    Raises:
        LPIPSUnavailable: The weights are missing or not what they should be; says which file to put where.
    """

    def __init__(self, weights: str | Path | None = None, *, device: str | torch.device = "cpu") -> None:
        state = _read_alexnet(None if weights is None else Path(weights))
        import lpips as package  # after the weights: slow to load

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision by an option's older name
            network = package.LPIPS(net="alex", version="0.1", pretrained=True, pnet_rand=True, verbose=False)
        backbone = {f"{place.split('.', 1)[1]}": place for place in network.net.state_dict()}  # without "sliceN."
        missing = sorted(f"features.{name}" for name in backbone if f"features.{name}" not in state)
        if missing:
            raise LPIPSUnavailable(f"{weights or ALEXNET_FILE}: not AlexNet's weights, {missing[0]} is missing")
        try:
            network.net.load_state_dict({place: state[f"features.{name}"] for name, place in backbone.items()})
        except RuntimeError as error:
            raise LPIPSUnavailable(f"{weights or ALEXNET_FILE}: not AlexNet's weights ({error})") from None
        self.device = torch.device(device)
        self.network = network.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> float:
        """The distance of two (3, H, W) pictures in [0, 1]; 0 for equal ones.

        Raises:
            ValueError: The shapes differ, or there are several pictures.
        """
        _check(output, target)
        a, b = (quantise(image)[None].to(self.device) for image in (output, target))
        return float(self.network(a, b, normalize=True))


def measure(
    output: torch.Tensor, raw: torch.Tensor, target: torch.Tensor, *, lpips: LPIPS | None = None
) -> dict[str, float]:
    """All figures of one picture by the names of their protocols.

    Args:
        output: What the network made of ``raw``; ``raw`` itself gives the row of doing nothing. (3, H, W) in [0, 1].
        raw: The photograph.
        target: The retoucher's.
        lpips: The network; without it there is no such figure.

    Returns:
        Name -> value. What has no value (inside an empty mask, outside a full one) is left out.

    Raises:
        ValueError: The shapes differ, there are several pictures, or they are too small.
    """
    inside = true_mask(raw, target)
    figures = {"psnr-rgb8": psnr(output, target), "ssim-rgb8": ssim(output, target), "de76": delta_e(output, target)}
    for region, mask in (("inside", inside), ("outside", ~inside)):
        if mask.any():
            figures[f"psnr-rgb8-{region}"] = psnr(output, target, mask)
            figures[f"de76-{region}"] = delta_e(output, target, mask)
    if lpips is not None:
        figures["lpips-alex-v0.1"] = lpips(output, target)
    return figures


def mean_figures(images: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's mean over the images that have it; :func:`counts` says how many do."""
    number = counts(images)
    return {name: sum(image[name] for image in images if name in image) / number[name] for name in number}


def counts(images: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """How many images have each figure."""
    names = dict.fromkeys(name for image in images for name in image)
    return {name: sum(name in image for image in images) for name in names}


def _selected(
    output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both pictures rounded, (3, n): all pixels or those of the mask."""
    _check(output, target)
    output, target = quantise(output).flatten(1), quantise(target).flatten(1)
    if mask is None:
        return output, target
    if mask.dtype != torch.bool or mask.numel() != output.shape[1]:
        raise ValueError(f"the mask must be bool, of the pictures' size, not {tuple(mask.shape)} of {mask.dtype}")
    if not mask.any():
        raise ValueError("the mask is empty; there is nothing to compare")
    chosen = mask.flatten()
    return output[:, chosen], target[:, chosen]


def _check(a: torch.Tensor, b: torch.Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures {tuple(a.shape)} and {tuple(b.shape)} differ in shape")
    if a.ndim != 3 or a.shape[0] != 3:
        raise ValueError(f"pictures are measured image by image, (3, H, W), not {tuple(a.shape)}")


def _read_alexnet(path: Path | None) -> Mapping[str, torch.Tensor]:
    file = path or Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE
    if not file.is_file():
        raise LPIPSUnavailable(
            f"LPIPS needs AlexNet's ImageNet weights: put torchvision's {ALEXNET_FILE} at {file} "
            "(TORCH_HOME moves the cache)"
        )
    if file.name == ALEXNET_FILE and not sha256(file).startswith(Path(ALEXNET_FILE).stem.rpartition("-")[2]):
        raise LPIPSUnavailable(f"{file}: damaged, its checksum is not the one in its name; get {ALEXNET_FILE} again")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise LPIPSUnavailable(f"{file}: not a file of weights ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise LPIPSUnavailable(f"{file}: not a file of weights but a {type(state).__name__}")
    return state

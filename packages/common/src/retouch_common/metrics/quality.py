"""PSNR, SSIM, LPIPS and CIE 1976 colour difference of a retouched image and its target.

Images are (3, H, W) in [0, 1], one at a time, rounded to 8 bits first unless ``rounded=False``. Results are floats.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from retouch_common.files import sha256
from retouch_common.losses.region import difference_mask
from retouch_common.ranges import to_signed

BITS = 8
LEVELS = 2**BITS - 1  # the largest level
PSNR_CEILING = 100.0  # dB, of equal images, so that means stay finite
SSIM_WINDOW = 11  # pixels
SSIM_SIGMA = 1.5  # pixels; torchmetrics derives the window from it: 2 * int(3.5 * sigma + 0.5) + 1
SSIM_K = (0.01, 0.03)
UNIFORM_WINDOW = 7  # pixels
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"  # torchvision's ImageNet weights; the digits begin its SHA-256
BAND = 512  # rows of the SSIM map at a time: the windowed moments of a whole 4096² image take gigabytes


class LPIPSUnavailable(ValueError):
    """LPIPS cannot be measured; the message names the missing file."""


def quantise(image: torch.Tensor) -> torch.Tensor:
    """Clamp to [0, 1] and round to 8 bits; return float32 in [0, 1] of the same shape."""
    return (image.float().clamp(0, 1) * LEVELS).round() / LEVELS


def true_mask(raw: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return where the target changes a channel of (3, H, W) images by more than 3 levels, (1, 1, H, W) bool."""
    check_pair(raw, target)
    return difference_mask(quantise(raw)[None], quantise(target)[None]) > 0


def psnr(
    output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None, *, rounded: bool = True
) -> float:
    """Return the peak signal-to-noise ratio in dB, at most 100, of all channels together.

    Args:
        output: (3, H, W) in [0, 1].
        target: The same shape.
        mask: (1, 1, H, W) bool of the pixels that count; None for all.
        rounded: Compare 8-bit levels; False compares the values as they are, also beyond [0, 1].

    Raises:
        ValueError: The shapes differ, there are several images, or the mask is empty.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    output, target = _selected(output, target, mask, rounded)
    return min(PSNR_CEILING, float(peak_signal_noise_ratio(output, target, data_range=1.0)))


def ssim(output: torch.Tensor, target: torch.Tensor, *, rounded: bool = True) -> float:
    """Return the structural similarity (Wang et al., 2004), mean over channels, at most 1.

    Arguments and errors as for :func:`psnr`; the sides must have at least 11 pixels.
    """
    if rounded:
        output, target = quantise(output), quantise(target)
    return _mean_similarity(output, target, SSIM_WINDOW, {"sigma": SSIM_SIGMA, "data_range": 1.0, "k2": SSIM_K[1]})


def ssim_uniform(output: torch.Tensor, target: torch.Tensor) -> float:
    """Return SSIM in [-1, 1] with a uniform 7x7 window, scikit-image's default; neither clamped nor rounded.

    Arguments and errors as for :func:`psnr`; the sides must have at least 7 pixels.
    """
    # Sample covariances are n / (n - 1) times the plain ones; a smaller K2 has the same effect.
    n = UNIFORM_WINDOW**2
    options = {
        "gaussian_kernel": False,
        "kernel_size": UNIFORM_WINDOW,
        "data_range": 2.0,
        "k2": SSIM_K[1] * ((n - 1) / n) ** 0.5,
    }
    return _mean_similarity(to_signed(output.double()), to_signed(target.double()), UNIFORM_WINDOW, options)


def _mean_similarity(output: torch.Tensor, target: torch.Tensor, window: int, options: Mapping[str, Any]) -> float:
    """Return the mean of the SSIM map where the window lies wholly inside the image."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_pair(output, target)
    height, width = output.shape[-2:]
    if min(height, width) < window:
        raise ValueError(f"SSIM's window needs images of at least {window} pixels a side, not {width}x{height}")
    border = window // 2
    total = torch.zeros((), dtype=torch.float64, device=output.device)
    for top in range(0, height - 2 * border, BAND):
        band = (None, slice(None), slice(top, top + BAND + 2 * border))
        _, similarity = structural_similarity_index_measure(
            output[band], target[band], k1=SSIM_K[0], return_full_image=True, **options
        )
        similarity = torch.as_tensor(similarity)
        margin = (similarity.shape[-1] - (width - 2 * border)) // 2  # torchmetrics reflects the image there
        total += similarity[..., margin:-margin, margin:-margin].double().sum()
    return float(total) / (3 * (height - 2 * border) * (width - 2 * border))


def delta_e(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """Return the mean CIE 1976 colour difference; about 2 is just visible. Arguments as for :func:`psnr`."""
    from kornia.color import rgb_to_lab

    output, target = _selected(output, target, mask, rounded=True)
    difference = rgb_to_lab(output[:, None]) - rgb_to_lab(target[:, None])  # (3, 1, n)
    return float(difference.norm(dim=0).mean())


def average_precision(found: torch.Tensor, raw: torch.Tensor, target: torch.Tensor) -> float | None:
    """Return the area under the precision-recall curve of a map of H * W values for the pixels that the target changes.

    Returns None where nothing changes (see :func:`true_mask`).
    """
    from torchmetrics.functional.classification import binary_average_precision

    wanted = true_mask(raw, target)
    if not wanted.any():
        return None
    return float(binary_average_precision(found.flatten().float(), wanted.flatten().long()))


class LPIPS:
    """Learned perceptual distance on AlexNet (Zhang et al., CVPR 2018; version 0.1).

    AlexNet's ImageNet weights come from torch.hub's cache or from a given file, the calibration from the lpips package.
    Nothing is downloaded and nothing stays random.

    Args:
        weights: torchvision's file of AlexNet's weights; by default looked up in torch.hub's cache.
        device: Where to compute.

    Raises:
        LPIPSUnavailable: The weights are missing or wrong; names the file.
    """

    def __init__(self, weights: str | Path | None = None, *, device: str | torch.device = "cpu") -> None:
        state = _read_alexnet(None if weights is None else Path(weights))
        import lpips as package  # after the weights: slow to load

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision by an option's older name
            network = package.LPIPS(net="alex", version="0.1", pretrained=True, pnet_rand=True, verbose=False)
        backbone = {place.split(".", 1)[1]: place for place in network.net.state_dict()}  # without "sliceN."
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
    def __call__(self, output: torch.Tensor, target: torch.Tensor, *, rounded: bool = True) -> float:
        """Return the distance of two (3, H, W) images in [0, 1]; ``rounded`` as in :func:`psnr`."""
        check_pair(output, target)
        a, b = ((quantise(image) if rounded else image.float())[None].to(self.device) for image in (output, target))
        return float(self.network(a, b, normalize=True))


def mean_metrics(images: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's mean over the images that have it; :func:`counts` says how many do."""
    number = counts(images)
    return {name: sum(image[name] for image in images if name in image) / number[name] for name in number}


def counts(images: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Return how many images have each metric."""
    names = dict.fromkeys(name for image in images for name in image)
    return {name: sum(name in image for image in images) for name in names}


def _selected(
    output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None, rounded: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both images, rounded or not, as (3, n): all pixels or those of the mask."""
    check_pair(output, target)
    output, target = ((quantise(image) if rounded else image.float()).flatten(1) for image in (output, target))
    if mask is None:
        return output, target
    if mask.dtype != torch.bool or mask.numel() != output.shape[1]:
        raise ValueError(f"the mask must be bool, of the images' size, not {tuple(mask.shape)} of {mask.dtype}")
    if not mask.any():
        raise ValueError("the mask is empty; there is nothing to compare")
    chosen = mask.flatten()
    return output[:, chosen], target[:, chosen]


def check_pair(a: torch.Tensor, b: torch.Tensor) -> None:
    """Refuse images that differ in shape, are not (3, H, W), or have values that are not finite, with a ValueError."""
    if a.shape != b.shape:
        raise ValueError(f"images {tuple(a.shape)} and {tuple(b.shape)} differ in shape")
    if a.ndim != 3 or a.shape[0] != 3:
        raise ValueError(f"expected one image (3, H, W), got {tuple(a.shape)}")
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):  # NaN would pass every clamp as the best value
        raise ValueError("an image has NaN or infinite values; in fp16 a network may overflow, use another precision")


def _read_alexnet(path: Path | None) -> Mapping[str, torch.Tensor]:
    file = path or Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE
    if not file.is_file():
        raise LPIPSUnavailable(
            f"LPIPS needs AlexNet's ImageNet weights: put torchvision's {ALEXNET_FILE} at {file} "
            "(TORCH_HOME moves the cache)"
        )
    if file.name == ALEXNET_FILE and not sha256(file).startswith(Path(ALEXNET_FILE).stem.rpartition("-")[2]):
        raise LPIPSUnavailable(f"{file}: its checksum is not the one in its name; download {ALEXNET_FILE} again")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise LPIPSUnavailable(f"{file}: not a file of weights ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise LPIPSUnavailable(f"{file}: not a file of weights but a {type(state).__name__}")
    return state

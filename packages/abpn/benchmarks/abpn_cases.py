"""What the benchmarks time: ABPN's stages on the whole image, and the whole from array to array.

Run as a script it carries out one case once, so that a fresh process shows how much memory it takes:

    python abpn_cases.py STAGE SIZE DEVICE PRECISION
"""

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from abpn.blend_pyramid import image_pyramid
from abpn.model import ABPN
from abpn.retouch import Retoucher
from torch import Tensor, nn

PRESET = "small"
STAGES = ("pyramid", "local_retouching", "reverse_blend", "expansion", "blend")
END_TO_END, REFERENCE = "end_to_end", "reference"
CASES = (*STAGES, REFERENCE, END_TO_END)  # the reference first: the whole is set beside it


@dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes:
        call: The work; every call does all of it.
        dtype: Number format of its convolutions.
        levels: l.
        count_flops: Counts floating-point operations, a multiplication and an addition as two. Only when asked: torch's
            counter alone takes hundreds of megabytes.
        num_bytes: Bytes that must cross the memory bus at least: inputs once, outputs once, weights once.
    """

    call: Callable[[], object]
    dtype: torch.dtype
    levels: int
    count_flops: Callable[[], int]
    num_bytes: int


def make_case(stage: str, size: int, device: torch.device, precision: str) -> Case:
    """Build a case on a square image of random pixels; the preset's untrained weights, whose values cost the same."""
    torch.manual_seed(0)
    model = ABPN.from_preset(PRESET).eval().requires_grad_(False)
    l = model.num_levels(size, size)
    if stage in (END_TO_END, REFERENCE):
        return _array_to_array(stage, model, size, l, device, precision)
    prepared = Retoucher(model, device=str(device), precision=precision).model
    I_0 = torch.rand(1, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    images = image_pyramid(I_0, l, model.config.pyramid)
    I_l = images[-1]
    R_l, B_l, B_0 = I_l + 0.01, torch.full_like(I_l, 0.1), torch.full_like(I_0, 0.1)
    calls: dict[str, Callable[[], object]] = {
        "pyramid": lambda: image_pyramid(I_0, l, model.config.pyramid),
        "local_retouching": lambda: prepared.retouch_thumbnail(I_l),
        "reverse_blend": lambda: prepared.blend.reverse(I_l, R_l),
        "expansion": lambda: prepared.blend_pyramid(B_l, images),
        "blend": lambda: prepared.blend(I_0, B_0),
    }
    counters: dict[str, Callable[[], int]] = {
        "pyramid": lambda: sum(4 * image.numel() for image in images[1:]),
        "local_retouching": lambda: _network_flops(model, I_l),
        "reverse_blend": lambda: 8 * I_l.numel(),
        "expansion": lambda: _expansion_flops(model, size, l),
        "blend": lambda: 6 * I_0.numel(),
    }
    moved = {  # pixels' values in fp32
        "pyramid": 4 * sum(image.numel() for image in images),
        "local_retouching": 4 * 2 * I_l.numel() + _bytes(prepared.local_retouching),
        "reverse_blend": 4 * 3 * I_l.numel(),
        "expansion": 4 * sum(2 * image.numel() for image in images),
        "blend": 4 * 3 * I_0.numel(),
    }
    convolution = next(module for module in prepared.modules() if isinstance(module, nn.Conv2d))
    return Case(calls[stage], convolution.weight.dtype, l, counters[stage], moved[stage])


def _array_to_array(stage: str, model: ABPN, size: int, l: int, device: torch.device, precision: str) -> Case:
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)

    def flops() -> int:
        thumbnail = torch.rand(1, 3, size >> l, size >> l)
        return _network_flops(model, thumbnail) + _expansion_flops(model, size, l)

    num_bytes = 2 * photo.nbytes + _bytes(model)
    if stage == REFERENCE:
        model = model.to(device)
        return Case(lambda: plain_retouch(model, photo, device), torch.float32, l, flops, num_bytes)
    retoucher = Retoucher(model, device=str(device), precision=precision)
    convolution = next(module for module in retoucher.model.modules() if isinstance(module, nn.Conv2d))
    return Case(lambda: retoucher(photo), convolution.weight.dtype, l, flops, num_bytes)


def plain_retouch(model: ABPN, photo: np.ndarray, device: torch.device) -> np.ndarray:
    """The reference: the module on the whole photograph as one tensor, eager, channels first, fp32."""
    image = torch.from_numpy(photo).to(device).permute(2, 0, 1)[None].to(torch.float32).contiguous() / 255
    result = model(image).results[0]
    return (result.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).to(torch.uint8).contiguous().cpu().numpy()


def _network_flops(model: ABPN, thumbnail: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ABPN(model.config).eval().retouch_thumbnail(thumbnail.detach().cpu())
    return counter.get_total_flops()


def _expansion_flops(model: ABPN, size: int, l: int) -> int:
    """The refining modules' convolutions; interpolation and sums are a hundredth of them."""
    width = model.config.refine_width if model.config.refine else 0
    return sum(2 * 9 * (6 * width + width * 3) * (size >> level) ** 2 for level in range(l))


def _bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def main() -> None:
    """Carry out one case once and print the memory before and, on a GPU, the device's peak, as JSON."""
    stage, size, name, precision = sys.argv[1:]
    device = torch.device(name)
    case = make_case(stage, int(size), device, precision)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        case.call()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    print(json.dumps({"before": before, "device_before": held, "device_peak": peak}))


if __name__ == "__main__":
    main()

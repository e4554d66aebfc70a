"""What the benchmarks time: ABPN's stages on the whole image, and the whole from array to array.

Run as a script it carries out one case once, so that a fresh process shows how much memory it takes:

    python abpn_cases.py STAGE SIZE DEVICE PRECISION
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from abpn.blend_pyramid import image_pyramid
from abpn.model import ABPN
from abpn.retouch import Retoucher
from retouch_common.testing.benchmarks import Case, num_bytes, run_once
from torch import Tensor, nn

PRESET = "small"
STAGES = ("pyramid", "local_retouching", "reverse_blend", "expansion", "blend")
END_TO_END, REFERENCE = "end_to_end", "reference"
CASES = (*STAGES, REFERENCE, END_TO_END)  # the reference first: the whole is set beside it


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
        "local_retouching": 4 * 2 * I_l.numel() + num_bytes(prepared.local_retouching),
        "reverse_blend": 4 * 3 * I_l.numel(),
        "expansion": 4 * sum(2 * image.numel() for image in images),
        "blend": 4 * 3 * I_0.numel(),
    }
    convolution = next(module for module in prepared.modules() if isinstance(module, nn.Conv2d))
    return Case(calls[stage], convolution.weight.dtype, counters[stage], moved[stage], {"levels": l})


def _array_to_array(stage: str, model: ABPN, size: int, l: int, device: torch.device, precision: str) -> Case:
    photo = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)

    def flops() -> int:
        thumbnail = torch.rand(1, 3, size >> l, size >> l)
        return _network_flops(model, thumbnail) + _expansion_flops(model, size, l)

    moved = 2 * photo.nbytes + num_bytes(model)
    if stage == REFERENCE:
        model = model.to(device)
        return Case(lambda: plain_retouch(model, photo, device), torch.float32, flops, moved, {"levels": l})
    retoucher = Retoucher(model, device=str(device), precision=precision)
    convolution = next(module for module in retoucher.model.modules() if isinstance(module, nn.Conv2d))
    return Case(lambda: retoucher(photo), convolution.weight.dtype, flops, moved, {"levels": l})


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


if __name__ == "__main__":
    stage, size, name, precision = sys.argv[1:]
    run_once(lambda: make_case(stage, int(size), torch.device(name), precision), torch.device(name))

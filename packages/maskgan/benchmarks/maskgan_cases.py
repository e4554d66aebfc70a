"""What the benchmarks time: one face drawn after a mask, as the studio does at every stroke.

Run as a script it carries out one case once, so that a fresh process shows how much memory it takes:

    python maskgan_cases.py PRESET FORM DEVICE PRECISION
"""

import sys

import torch
from maskgan.model import MaskGAN
from retouch_common.devices import resolve_precision
from retouch_common.testing.benchmarks import Case, num_bytes, run_once

NAIVE = "naive"  # the whole network every time, fp32, channels first
FORMS = (NAIVE, "open", "draw")  # the naive form first: the others are set beside it


def make_case(preset: str, form: str, device: torch.device, precision: str) -> Case:
    """Build a case on a random face with a random mask; the preset's untrained weights, whose values cost the same.

    "open" encodes a face and draws it as it is; "draw" draws it after a mask, its appearance known.
    """
    torch.manual_seed(0)
    model = MaskGAN.from_preset(preset).eval().requires_grad_(False).to(device)
    size = model.config.size
    image = 2 * torch.rand(1, 3, size, size, device=device) - 1
    labels = torch.randint(0, 11, (1, size // 16, size // 16), device=device)
    labels = labels.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    about = {"parameters": sum(parameter.numel() for parameter in model.parameters())}

    def flops() -> int:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            model.generate(codes, image, labels) if form == "draw" else model(image, labels, image, labels)
        return counter.get_total_flops()

    codes = model.encode(image, labels)
    if form == NAIVE:
        moved = num_bytes(model) + 3 * num_bytes(image)
        return Case(lambda: model(image, labels, image, labels).image, torch.float32, flops, moved, about)
    dtype = resolve_precision(precision, device)
    model.to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)

    def call() -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            known = model.encode(image, labels) if form == "open" else codes
            return model.generate(known, image, labels)

    return Case(call, dtype, flops, num_bytes(model) + 3 * num_bytes(image), about)


if __name__ == "__main__":
    preset, form, name, precision = sys.argv[1:]
    where = torch.device(name)
    run_once(lambda: make_case(preset, form, where, precision), where)

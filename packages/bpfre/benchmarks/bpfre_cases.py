"""What the benchmarks time: BPFRe's parts on one face, in the order of Fig. 2, and the whole.

Run as a script it carries out one case once, so that a fresh process shows how much memory it takes:

    python bpfre_cases.py PRESET STAGE SIZE DEVICE PRECISION
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from bpfre.config import PRESETS, ModelConfig
from bpfre.model import BPFRe
from retouch_common.inference.network import InferenceModel
from retouch_common.testing.benchmarks import Case, num_bytes, run_once
from retouch_common.testing.modulation import use_grouped
from torch import Tensor

STAGES = ("encoder", "attention_coarse", "decoder", "attention_refined", "generator")
WHOLE, REFERENCE = "whole", "reference"
CASES = (*STAGES, REFERENCE, WHOLE)  # the reference first: the whole is set beside it


def make_case(preset: str, stage: str, size: int, device: torch.device, precision: str) -> Case:
    """Build a case on one face of random pixels; the preset's untrained weights, whose values cost the same."""
    torch.manual_seed(0)
    config = replace(PRESETS[preset].model, size=size)
    model = BPFRe(config).eval().requires_grad_(False)
    x = torch.rand(1, 3, size, size, device=device)
    if stage == REFERENCE:
        model = use_grouped(model).to(device)
        return Case(lambda: model(x), torch.float32, lambda: _flops(config, WHOLE), num_bytes(model, x) + 2 * _bytes(x))
    network = InferenceModel(model, str(device), precision, cast_convolutions=True)
    if stage == WHOLE:
        moved = num_bytes(network, x) + 2 * _bytes(x)
        return Case(lambda: network(x), network.dtype, lambda: _flops(config, WHOLE), moved)
    x = (2 * x - 1).contiguous(memory_format=torch.channels_last)

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, network.dtype, enabled=network.dtype != torch.float32)

    with torch.inference_mode(), autocast():
        parts = stage_calls(network.model, x)
        result = parts[stage]()

    def call() -> object:
        with autocast():
            return parts[stage]()

    module = getattr(network.model, stage)
    return Case(call, network.dtype, lambda: _flops(config, stage), num_bytes(module, _inputs(stage, parts), result))


def stage_calls(model: BPFRe, x: Tensor) -> dict[str, Callable[[], Any]]:
    """Return a call of each part on the outputs of the parts before it, for images x (N, 3, S, S) in [-1, 1]."""
    assert model.attention_coarse and model.decoder and model.attention_refined and model.generator
    attention_coarse, decoder = model.attention_coarse, model.decoder
    attention_refined, generator = model.attention_refined, model.generator
    f_E = model.encoder(x)
    weighted, _ = attention_coarse(x, f_E)
    coarse, f_deco = decoder(weighted)
    weighted_deco, _ = attention_refined(coarse, f_deco)
    code = model.encoder.code(f_E)
    return {
        "encoder": lambda: model.encoder(x),
        "attention_coarse": lambda: attention_coarse(x, f_E),
        "decoder": lambda: decoder(weighted),
        "attention_refined": lambda: attention_refined(coarse, f_deco),
        "generator": lambda: generator(code, weighted_deco),
    }


def _inputs(stage: str, parts: dict[str, Callable[[], Any]]) -> Any:
    """Return the tensors that a part's call refers to."""
    cells = parts[stage].__closure__ or ()
    return [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, Tensor | dict)]


def _flops(config: ModelConfig, stage: str) -> int:
    """Counted on shapes alone."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    with FakeTensorMode(), torch.inference_mode():
        model, x = BPFRe(config).eval(), torch.empty(1, 3, config.size, config.size)
        parts = stage_calls(model, x)
        with FlopCounterMode(display=False) as counter:
            model(x) if stage == WHOLE else parts[stage]()
    return counter.get_total_flops()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


if __name__ == "__main__":
    preset, stage, size, name, precision = sys.argv[1:]
    run_once(lambda: make_case(preset, stage, int(size), torch.device(name), precision), torch.device(name))

"""What the benchmarks time: MoFRR on a few faces, by number of active experts and of DDIM steps.

Run as a script it carries out one case once, so that a fresh process shows how much memory it takes:

    python mofrr_cases.py PRESET ACTIVE STEPS SIZE DEVICE PRECISION
"""

import sys
from dataclasses import replace

import torch
from mofrr.config import OPERATIONS, PRESETS, ModelConfig
from mofrr.inference import InferenceMoFRR
from mofrr.model import MoFRR
from retouch_common.testing.benchmarks import Case, num_bytes, run_once
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

FACES = 4
NAIVE = "naive"  # every expert, one face after the other, fp32, channels first, attention maps in memory
ACTIVE = (NAIVE, "1", "2", "4")  # the naive form first: the others are set beside it


def make_case(preset: str, active: str, steps: int, size: int, device: torch.device, precision: str) -> Case:
    """Build a case on random faces; the preset's untrained weights, whose values cost the same."""
    torch.manual_seed(0)
    config = replace(PRESETS[preset].model, size=size)
    model = MoFRR(config).eval().requires_grad_(False)
    faces = torch.rand(FACES, 3, size, size, device=device)
    experts = OPERATIONS if active == NAIVE else OPERATIONS[: int(active)]
    about = {"faces": FACES, "parameters": sum(parameter.numel() for parameter in model.parameters())}

    def flops() -> int:
        return _flops(config, faces.shape, experts, steps)

    if active == NAIVE:
        model = model.to(device)
        call = lambda: _one_by_one(model, faces, steps)  # noqa: E731
        return Case(call, torch.float32, flops, FACES * num_bytes(model) + 2 * num_bytes(faces), about)
    network = InferenceMoFRR(model, str(device), precision)
    idle = [part for name in OPERATIONS if name not in experts for part in _parts(network.model, name)]
    moved = num_bytes(network) - num_bytes(*idle) + 2 * num_bytes(faces)
    return Case(lambda: network(faces, steps=steps, experts=experts).result, network.dtype, flops, moved, about)


def _one_by_one(model: MoFRR, faces: Tensor, steps: int) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return torch.cat([model.restore(face[None], steps=steps, experts=OPERATIONS).result for face in faces])


def _parts(model: MoFRR, name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    return model.experts[name], model.estimators[name]


def _flops(config: ModelConfig, shape: torch.Size, experts: tuple[str, ...], steps: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    # Really computed, on one face: seeds and gates are values, which shapes alone do not have.
    model, face = MoFRR(config).eval(), torch.rand(1, *shape[1:])
    with FlopCounterMode(display=False) as counter:
        model.restore(face, steps=steps, experts=experts)
    return shape[0] * counter.get_total_flops()


if __name__ == "__main__":
    preset, active, steps, size, name, precision = sys.argv[1:]
    where = torch.device(name)
    run_once(lambda: make_case(preset, active, int(steps), int(size), where, precision), where)

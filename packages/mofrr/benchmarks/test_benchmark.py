"""Speed and memory of MoFRR on four faces, by active experts and DDIM steps, beside the naive form.

``nox -s benchmark`` runs it; :mod:`retouch_common.testing.benchmarks` says what is in the JSON. Every case also has
``seconds_per_face`` and ``times_as_fast_as_naive``: against every expert, one face after the other, fp32, attention
maps in memory, with as many steps in the same run. The preset "small", which the bundled weights have, runs everywhere,
"recommended" on GPUs.
"""

import mofrr_cases
import pytest
import torch
from mofrr_cases import ACTIVE, FACES, NAIVE, make_case
from retouch_common.testing.benchmarks import time_case

PRECISION = "auto"

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
on_gpu = [pytest.mark.cuda, no_gpu]
RUNS = (
    ("cpu", "small", 256),
    pytest.param("cuda", "small", 256, marks=on_gpu),
    pytest.param("cuda", "recommended", 512, marks=on_gpu),
)


@pytest.mark.parametrize("active", ACTIVE)
@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize(("device", "preset", "size"), RUNS)
@torch.inference_mode()
def test_restore(benchmark, device, preset, size, steps, active):
    where = torch.device(device)
    script = [mofrr_cases.__file__, preset, active, str(steps), str(size), device, PRECISION]
    about = {"package": "mofrr", "preset": preset, "experts": active, "steps": steps, "size": size}
    case = make_case(preset, active, steps, size, where, PRECISION)
    group = f"mofrr {preset} {device} {size} x {size}, {steps} steps"
    median = time_case(benchmark, case, where, script, group=group, about=about, name=active, reference=NAIVE)
    if median is not None:
        benchmark.extra_info["seconds_per_face"] = median / FACES

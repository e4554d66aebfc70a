"""Speed and memory of BPFRe on one face: every part and the whole, beside a plain version and the machine's limits.

``nox -s benchmark`` runs it; :mod:`retouch_common.testing.benchmarks` says what is in the JSON. Of the whole there is
also ``times_as_fast_as_reference``, against the same network with grouped convolutions, channels first, fp32, eager,
timed in the same run. The preset "small", which the bundled weights have, runs everywhere, "recommended", of the
paper's size, on GPUs.
"""

import bpfre_cases
import pytest
import torch
from bpfre_cases import CASES, REFERENCE, WHOLE, make_case
from retouch_common.testing.benchmarks import time_case

SIZES = (512, 1024)
PRECISION = "auto"

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
on_gpu = [pytest.mark.cuda, no_gpu]
RUNS = (
    ("cpu", "small"),
    pytest.param("cuda", "small", marks=on_gpu),
    pytest.param("cuda", "recommended", marks=on_gpu),
)


@pytest.mark.parametrize("stage", CASES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("device", "preset"), RUNS)
@torch.inference_mode()
def test_stage(benchmark, device, preset, size, stage):
    where = torch.device(device)
    script = [bpfre_cases.__file__, preset, stage, str(size), device, PRECISION]
    about = {"package": "bpfre", "preset": preset, "stage": stage, "size": size}
    case = make_case(preset, stage, size, where, PRECISION)
    reference = REFERENCE if stage in (REFERENCE, WHOLE) else None
    group = f"bpfre {preset} {device} {size} x {size}"
    time_case(benchmark, case, where, script, group=group, about=about, name=stage, reference=reference)

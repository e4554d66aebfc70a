"""Speed and memory of ABPN: every stage and the whole, beside a plain version and the machine's limits.

``nox -s benchmark`` runs it; :mod:`retouch_common.testing.benchmarks` says what is in the JSON. Of the whole there is
also ``times_as_fast_as_reference``, against the reference timed in the same run.
"""

import abpn_cases
import pytest
import torch
from abpn_cases import CASES, END_TO_END, REFERENCE, make_case
from retouch_common.testing.benchmarks import time_case

SIZES = (512, 1024, 2048, 4096)
PRECISION = "auto"

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ("cpu", pytest.param("cuda", marks=[pytest.mark.cuda, no_gpu]))


@pytest.mark.parametrize("stage", CASES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_stage(benchmark, device, size, stage):
    where = torch.device(device)
    case = make_case(stage, size, where, PRECISION)
    if stage in ("pyramid", "expansion") and not case.about["levels"]:
        pytest.skip(f"l = 0 at {size} x {size}: there is no {stage}")
    script = [abpn_cases.__file__, stage, str(size), device, PRECISION]
    about = {"package": "abpn", "preset": abpn_cases.PRESET, "stage": stage, "size": size}
    reference = REFERENCE if stage in (REFERENCE, END_TO_END) else None
    group = f"abpn {device} {size} x {size}"
    time_case(benchmark, case, where, script, group=group, about=about, name=stage, reference=reference)

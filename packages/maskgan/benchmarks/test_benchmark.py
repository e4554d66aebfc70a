"""Speed and memory of drawing one face, beside the naive form.

``nox -s benchmark`` runs it; :mod:`retouch_common.testing.benchmarks` says what is in the JSON. Every case also has
``times_as_fast_as_naive``: against the whole network every time, fp32, channels first, in the same run. The preset
"small", which the bundled weights have, runs everywhere, "recommended" and "paper" on GPUs.
"""

import maskgan_cases
import pytest
import torch
from maskgan_cases import FORMS, NAIVE, make_case
from retouch_common.testing.benchmarks import time_case

PRECISION = "auto"

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
on_gpu = [pytest.mark.cuda, no_gpu]
RUNS = (
    ("cpu", "small"),
    pytest.param("cuda", "small", marks=on_gpu),
    pytest.param("cuda", "recommended", marks=on_gpu),
    pytest.param("cuda", "paper", marks=on_gpu),
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("device", "preset"), RUNS)
@torch.inference_mode()
def test_draw(benchmark, device, preset, form):
    where = torch.device(device)
    script = [maskgan_cases.__file__, preset, form, device, PRECISION]
    about = {"package": "maskgan", "preset": preset, "form": form}
    case, group = make_case(preset, form, where, PRECISION), f"maskgan {preset} {device}"
    time_case(benchmark, case, where, script, group=group, about=about, name=form, reference=NAIVE)

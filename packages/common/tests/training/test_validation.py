"""Which samples of a validation set are measured."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from retouch_common.training import validation
from torch import Tensor


class Images:
    """A data set of ``number`` images, ``different`` samples of which differ."""

    def __init__(self, number, different):
        self.number, self.different, self.asked = number, different, []

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        self.asked.append(index)
        return {"raw": Tensor([[[0.5]]]).expand(3, 8, 8), "target": Tensor([[[0.5]]]).expand(3, 8, 8)}


@pytest.mark.parametrize(
    ("number", "different", "expected"),
    [
        (16, 16, list(range(16))),  # each once
        (48, 48, list(range(0, 48, 2))),  # spread over all
        (3, sys.maxsize, list(range(24))),  # every index shows something else
    ],
)
def test_no_sample_is_measured_twice_and_all_images_count(number, different, expected):
    data = Images(number, different)
    network = SimpleNamespace(training=False, eval=lambda: None, train=lambda mode: None)
    task = SimpleNamespace(
        validation=data, averaged=network, to_device=lambda batch: batch, runner=SimpleNamespace(autocast=nullcontext)
    )
    metrics, rows = validation.validate_pairs(
        task, lambda model, raw: raw, lambda output: {"output": output}, lambda raw, target, output: {"raw": raw[0]}
    )
    assert data.asked == expected
    assert metrics["val_psnr_identity"] == metrics["val_psnr_output"] and len(rows) == validation.SHEET_ROWS

"""Which samples of a validation set are measured, and where."""

import math
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from retouch_common.losses.region import CHANGED_LEVELS
from retouch_common.training import validation

GREY = torch.tensor([[[0.5]]])


class Images:
    """A data set of ``number`` images, ``different`` samples of which differ."""

    def __init__(self, number, different, raw=GREY):
        self.number, self.different, self.raw, self.asked = number, different, raw, []

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        self.asked.append(index)
        return {"raw": self.raw.expand(3, 8, 8), "target": GREY.expand(3, 8, 8)}


def measured(data, predict=lambda model, raw: raw):
    """Metrics of a network, in training, that returns its input."""
    network = torch.nn.Identity()
    task = SimpleNamespace(
        validation=data, averaged=network, to_device=lambda batch: batch, runner=SimpleNamespace(autocast=nullcontext)
    )
    return validation.validate_pairs(
        task, predict, lambda output: {"output": output}, lambda raw, target, output: {"raw": raw[0]}
    )


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
    metrics, rows = measured(data)
    assert data.asked == expected
    assert metrics["val_psnr_identity"] == metrics["val_psnr_output"] and len(rows) == validation.SHEET_ROWS


def test_input_and_output_are_compared_with_the_target():
    """Errors of 0.1 and 0.01."""
    metrics, _ = measured(Images(1, 1, GREY + 0.1), lambda model, raw: raw - 0.09)
    assert metrics["val_psnr_identity"] == pytest.approx(20, abs=0.01)
    assert metrics["val_psnr_output"] == pytest.approx(40, abs=0.01)


def test_the_network_is_in_evaluation_mode_meanwhile():
    networks, modes = [], []
    measured(Images(2, 2), lambda model, raw: networks.append(model) or modes.append(model.training) or raw)
    assert modes == [False, False] and networks[0].training


def test_inside_the_mask_is_what_differs_by_more_than_the_metrics_levels():
    levels = torch.tensor([CHANGED_LEVELS, CHANGED_LEVELS + 1]).repeat(4)
    metrics, _ = measured(Images(1, 1, GREY + levels / 255))
    assert metrics["val_psnr_identity_inside"] == pytest.approx(20 * math.log10(255 / (CHANGED_LEVELS + 1)), abs=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_in_evaluation_mode_meanwhile_whatever_happens(training):
    network, weight = torch.nn.Identity().train(training), torch.ones(1, requires_grad=True)
    with validation.evaluating(network):
        assert not network.training and not (2 * weight).requires_grad
    assert network.training == training
    with pytest.raises(ValueError, match="an image"), validation.evaluating(network):
        raise ValueError("an image cannot be read")
    assert network.training == training and (2 * weight).requires_grad

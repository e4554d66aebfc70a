"""Validation of networks that retouch, on pairs of raw and retouched images."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from retouch_common.losses.region import difference_mask
from retouch_common.training.task import Sheet, Task

SAMPLES, SHEET_ROWS = 24, 6


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a network in evaluation mode meanwhile, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def validate_pairs(
    task: Task,
    predict: Callable[[Any, Tensor], Any],
    images: Callable[[Any], Mapping[str, Tensor | None]],
    sheet_row: Callable[[Tensor, Tensor, Any], Mapping[str, Tensor]],
) -> tuple[dict[str, float], Sheet]:
    """Measure the network to keep on pairs of the validation set, with the identity for comparison.

    Args:
        task: Task whose network is measured, in evaluation mode meanwhile.
        predict: Calls the network on raw images (1, 3, H, W).
        images: Returns the retouched images of a model output by name; those that are None are skipped.
        sheet_row: Returns a row of the image sheet from raw image, target and model output.

    Returns:
        PSNR in dB over all samples, "val_psnr_NAME", and inside the mask of the differences, "val_psnr_NAME_inside";
        and rows of the image sheet.
    """
    model = task.averaged
    errors: dict[str, list[Tensor]] = {}
    rows: list[Mapping[str, Tensor]] = []
    with evaluating(model):
        for index in _spread(task.validation):
            sample = task.validation[index]
            batch = task.to_device({name: sample[name][None] for name in ("raw", "target")})
            raw, target = batch["raw"], batch["target"]
            with task.runner.autocast():
                output = predict(model, raw)
            inside = difference_mask(raw, target) > 0
            for name, image in {"identity": raw, **images(output)}.items():
                if image is None:
                    continue
                error = (image.clamp(0, 1) - target).square()
                errors.setdefault(name, []).append(error.mean())
                if inside.any():
                    errors.setdefault(f"{name}_inside", []).append(error[inside.expand_as(error)].mean())
            if len(rows) < SHEET_ROWS:
                rows.append(sheet_row(raw, target, output))
    means = {name: float(torch.stack(values).mean()) for name, values in errors.items()}
    return {f"val_psnr_{name}": -10 * math.log10(max(mean, 1e-12)) for name, mean in means.items()}, rows


def _spread(data: Any) -> list[int]:
    """Return the indices of up to ``SAMPLES`` different samples, spread over all images."""
    number = min(SAMPLES, data.different)
    count = max(number, len(data))
    return [index * count // number for index in range(number)]
